"""Kodak with rank fusion at given rates beside JPEG, WebP and AVIF at equal bytes, for docs/.

    python tools/kodak_table.py run FOLDER --images 5,15,20,23 --bpp 0.15,0.3,0.6 -e 5 -o runs/kodak
    python tools/kodak_table.py report -o runs/kodak --plot docs/kodak.png

`run` resumes: a finished (image, rate) is kept in runs/kodak/*.json, its file beside it, and a
killed encode continues from its state. Several processes may share one folder (--share 0/2 and
--share 1/2): one thread each is the best use of two cores. Quality is measured on the decoded
file, rate is its size.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import kodak
import torch

import codec
from codec.evaluate import (
    Avif,
    Curve,
    Jpeg,
    QualityCodec,
    WebP,
    at_size,
    ms_ssim,
    plot_curves,
    psnr,
)
from codec.media import read_image

ANCHORS: dict[str, QualityCodec] = {"jpeg": Jpeg(), "webp": WebP(), "avif": Avif()}


def at_equal_bytes(anchor: QualityCodec, samples: Any, size: int) -> dict[str, Any]:
    """An anchor's quality at exactly `size` bytes.

    Qualities are integers, sizes jump by several percent between them: PSNR and MS-SSIM are
    interpolated linearly in log(bytes) between the last file that fits and the next one.
    """
    below = at_size(anchor, samples, size)
    points = []
    for quality in (below.q, below.q + 1):
        if quality > anchor.quality_range[1]:
            continue
        data = anchor.encode(samples, quality)
        back = anchor.decode(data)
        points.append((len(data), psnr(samples, back), ms_ssim(samples, back)))
    low, high = points[0], points[-1]
    share = 0.0
    if below.fits and high[0] > low[0]:
        share = math.log(size / low[0]) / math.log(high[0] / low[0])
    return {
        "bytes": [low[0], high[0]],
        "quality": below.q,
        "psnr": low[1] + share * (high[1] - low[1]),
        "ms_ssim": low[2] + share * (high[2] - low[2]),
        "too_large": not below.fits,
    }


def measure(path: Path, bpp: float, effort: int, out: Path) -> dict[str, Any]:
    """Encode one image at one rate, decode the file, and code it with the anchors."""
    samples = read_image(path).samples
    height, width = samples.shape[:2]
    name = f"{path.stem}_{bpp:g}_e{effort}"
    target = out / f"{name}.crdx"
    encoded = codec.encode(
        path,
        fusion="rank",
        target_bpp=bpp,
        effort=effort,
        device="cpu",
        state_path=out / f"{name}.state",
        resume=True,
    )
    encoded.save(target)
    started = time.perf_counter()
    decoded = codec.decode(target, device="cpu")
    decode_seconds = time.perf_counter() - started
    size = target.stat().st_size
    row: dict[str, Any] = {
        "image": path.stem,
        "target_bpp": bpp,
        "effort": effort,
        "steps": encoded.stats.steps,
        "weights": encoded.stats.parameters,
        "encode_seconds": encoded.stats.seconds,
        "decode_seconds": decode_seconds,
        "threads": torch.get_num_threads(),
        "coordx": {
            "bytes": size,
            "bpp": 8 * size / (width * height),
            "psnr": psnr(samples, decoded),
            "ms_ssim": ms_ssim(samples, decoded),
        },
    }
    for name, anchor in ANCHORS.items():
        row[name] = at_equal_bytes(anchor, samples, size)
    (out / f"{name}.state").unlink(missing_ok=True)
    return row


def run(args: argparse.Namespace) -> None:
    """Measure every (image, rate) that is not there yet."""
    args.out.mkdir(parents=True, exist_ok=True)
    jobs = [(i, b) for b in args.bpp for i in args.images]
    for image, bpp in kodak.own_jobs(jobs, args.share):
        result = args.out / f"kodim{image:02d}_{bpp:g}_e{args.effort}.json"
        if result.exists():
            continue
        row = measure(kodak.image_path(args.folder, image), bpp, args.effort, args.out)
        result.write_text(json.dumps(row, indent=1))
        ours, jpeg = row["coordx"], row["jpeg"]
        print(
            f"{result.stem}: {ours['bpp']:.4f} bpp {ours['psnr']:.2f} dB, "
            f"jpeg {jpeg['psnr']:.2f}, {row['encode_seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def report(args: argparse.Namespace) -> None:
    """Print the table as Markdown."""
    rows = [json.loads(p.read_text()) for p in sorted(args.out.glob("kodim*.json"))]
    rows.sort(key=lambda r: (r["effort"], r["target_bpp"], r["image"]))
    print(
        "| image | bpp | coordx dB | JPEG dB | WebP dB | AVIF dB | vs JPEG | MS-SSIM (JPEG) "
        "| weights | steps | encode s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    groups: dict[tuple[int, float], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["effort"], row["target_bpp"]), []).append(row)
    for (effort, bpp), group in groups.items():
        for row in group:
            print(_line(row["image"], [row]))
        print(_line(f"**mean of {len(group)} at {bpp:g}, effort {effort}**", group))

    if args.plot:
        plot_curves(curves(groups), args.plot, anchor="jpeg", title="Kodak 05, 15, 20, 23, means")


def curves(groups: dict[tuple[int, float], list[dict[str, Any]]]) -> list[Curve]:
    """Mean curves of every codec: ours at its rates, the anchors at the same bytes."""
    found = []
    for name in ("coordx", *ANCHORS):
        points = []
        for group in groups.values():
            rate = sum(r["coordx"]["bpp"] for r in group) / len(group)
            quality = sum(r[name]["psnr"] for r in group) / len(group)
            points.append((rate, quality))
        points.sort()
        found.append(Curve(name, tuple(p[0] for p in points), tuple(p[1] for p in points)))
    return found


def _line(name: str, rows: list[dict[str, Any]]) -> str:
    def mean(*keys: str) -> float:
        total = 0.0
        for row in rows:
            value: Any = row
            for key in keys:
                value = value[key]
            total += value
        return total / len(rows)

    cells = [name, f"{mean('coordx', 'bpp'):.4f}", f"{mean('coordx', 'psnr'):.2f}"]
    for anchor in ANCHORS:
        mark = "*" if any(row[anchor]["too_large"] for row in rows) else ""
        cells.append(f"{mean(anchor, 'psnr'):.2f}{mark}")
    cells.append(f"{mean('coordx', 'psnr') - mean('jpeg', 'psnr'):+.2f}")
    cells.append(f"{mean('coordx', 'ms_ssim'):.4f} ({mean('jpeg', 'ms_ssim'):.4f})")
    cells += [f"{mean('weights'):,.0f}", f"{mean('steps'):,.0f}", f"{mean('encode_seconds'):.0f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    runner = commands.add_parser("run", help="measure what is missing")
    runner.add_argument("folder", type=Path, help="folder with kodim01.png ... kodim24.png")
    runner.add_argument(
        "--images", type=lambda t: [int(x) for x in t.split(",")], default=[5, 15, 20, 23]
    )
    runner.add_argument(
        "--bpp", type=lambda t: [float(x) for x in t.split(",")], default=[0.3, 0.6, 0.15]
    )
    runner.add_argument("-e", "--effort", type=int, default=5)
    runner.add_argument(
        "--share", type=kodak.share, default="0/1", metavar="I/N", help="this process's share"
    )
    runner.set_defaults(action=run)
    reporter = commands.add_parser("report", help="print the table")
    reporter.add_argument("--plot", type=Path, help="also draw the mean curves")
    reporter.set_defaults(action=report)
    for command in (runner, reporter):
        command.add_argument("-o", "--out", type=Path, default=Path("runs/kodak"))
    args = parser.parse_args()
    args.action(args)


if __name__ == "__main__":
    main()
