"""Rate-distortion of core fusion beside JPEG, WebP and AVIF, all measured in one run.

    python tools/rd_table.py run KODAK -o runs/rd --jobs 2
    python tools/rd_table.py run KODAK -o runs/rd --device cuda --jobs 4 --fits 3 --steps 10000
    python tools/rd_table.py report -o runs/rd --plot docs/rd.png
    python tools/rd_table.py report -o runs/rd --published kodak.json --against NAME

KODAK holds kodim01.png ... kodim24.png; items are NUMBER (the whole image) or NUMBER@WxH (a centre
crop). Every result is a JSON file, the .crdx beside it; what is there is not measured again, and a
killed encode goes on from its state. Rate is the size of the file, PSNR that of the decoded 8-bit
R'G'B' samples; the BD-rate (PCHIP on log rate) is taken image by image and averaged. A published
curve, in any file that `coordx import` reads, is compared image by image where the file has a curve
NAME/kodimNN, else with the mean curve of the whole images: that is fair for all 24 only.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import threading
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import kodak
import torch

import codec
from codec.evaluate import Avif, Curve, Jpeg, QualityCodec, WebP, bd_rate, plot_curves, psnr
from codec.evaluate.published import read_published
from codec.network.presets import core_network
from codec.signal import Samples
from formats.atomic import write_bytes

ANCHORS: dict[str, QualityCodec] = {
    "jpeg": Jpeg(qualities=(10, 20, 35, 50, 70, 85, 92, 96)),
    "webp": WebP(qualities=(1, 15, 35, 55, 75, 88, 94)),
    "avif": Avif(speed=0, subsampling="4:4:4", qualities=(10, 22, 34, 46, 56, 66, 78)),
}
Job = tuple[str, float | None]
"""An item and a lambda; None: the anchors."""
DEFAULT_ITEMS = "5,15,1@384x256,8@384x256,20@384x256,23@384x256"
DEFAULT_LAMBDAS = "0.01,0.004,0.001,0.0004"


def measure(samples: Samples, name: str, lam: float, args: argparse.Namespace) -> dict[str, Any]:
    """Encode at one lambda and decode the file."""
    state = args.out / f"{name}.state"
    network = None
    if args.network is not None:
        preset = core_network(*samples.shape[:2], lam, math.inf, args.steps, samples.shape[2])
        network = replace(preset, prior=0, width=args.network[0], hidden=args.network[1])
    encoded = codec.encode(
        samples,
        lam=lam,
        steps=args.steps,
        network=network,
        device=args.device,
        state_path=state,
        resume=True,
    )
    path = args.out / f"{name}.crdx"
    encoded.save(path)
    decoded = codec.decode(path, device="cpu")
    state.unlink(missing_ok=True)
    size = path.stat().st_size
    return {
        "lambda": lam,
        "bytes": size,
        "bpp": 8 * size / (samples.shape[0] * samples.shape[1]),
        "psnr": psnr(samples, decoded),
        "seconds": encoded.stats.seconds,
        "steps": encoded.stats.steps,
        "device": encoded.stats.device,
        "network": args.network,
        "threads": torch.get_num_threads(),
    }


def anchor_points(samples: Samples) -> dict[str, Any]:
    """Rate and quality of every anchor at its qualities."""
    pixels = samples.shape[0] * samples.shape[1]
    found: dict[str, Any] = {}
    for name, anchor in ANCHORS.items():
        points = []
        for quality in anchor.qualities:
            data = anchor.encode(samples, quality)
            points.append(
                {
                    "quality": quality,
                    "bpp": 8 * len(data) / pixels,
                    "psnr": psnr(samples, anchor.decode(data)),
                }
            )
        found[name] = {"version": anchor.version(), "points": points}
    return found


def run(args: argparse.Namespace) -> None:
    """Measure what is missing, the short encodes first, then lambda by lambda."""
    args.out.mkdir(parents=True, exist_ok=True)
    items = args.items.split(",")
    jobs: list[Job] = [(item, lam) for lam in args.lambdas for item in items]
    jobs.sort(key=lambda job: "@" not in job[0])
    jobs += [(item, None) for item in items if not args.no_anchors]
    jobs = [job for job in kodak.own_jobs(jobs, args.share) if not _result(args, job).exists()]
    if args.jobs * args.fits == 1:
        for job in jobs:
            _do(args, job)
        return
    context = multiprocessing.get_context("spawn")
    waiting = context.Queue()
    for job in [*jobs, *[None] * (args.jobs * args.fits)]:
        waiting.put(job)
    workers = [context.Process(target=_work, args=(args, waiting)) for _ in range(args.jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("some were not measured: see above, and run the command again")


def _work(args: argparse.Namespace, waiting: Any) -> None:
    """A process with some fits at once: on a GPU their kernels overlap."""
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // args.jobs // args.fits))
    sys.setswitchinterval(5e-4)  # a fit waits for a GPU in between; another one must not keep it
    failed = []

    def one_after_the_other() -> None:
        own = torch.cuda.Stream(args.device) if args.device.startswith("cuda") else None
        with torch.cuda.stream(own):
            while (job := waiting.get()) is not None:
                try:
                    _do(args, job)
                except Exception:
                    traceback.print_exc()
                    failed.append(job)

    threads = [threading.Thread(target=one_after_the_other) for _ in range(args.fits)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.exit(bool(failed))


def _result(args: argparse.Namespace, job: Job) -> Path:
    item, lam = job
    stem = f"kodim{item.replace('@', '_')}"
    path: Path = args.out / f"{stem}_{'anchors' if lam is None else format(lam, 'g')}.json"
    return path


def _do(args: argparse.Namespace, job: Job) -> None:
    """Measure one thing, and write it down."""
    item, lam = job
    result = _result(args, job)
    samples = kodak.samples_of(args.folder, item)
    row = anchor_points(samples) if lam is None else measure(samples, result.stem, lam, args)
    write_bytes(result, json.dumps({"item": item, **row}, indent=1).encode())
    if lam is not None:
        print(
            f"{result.stem}: {row['bpp']:.4f} bpp {row['psnr']:.2f} dB, {row['seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def report(args: argparse.Namespace) -> None:
    """Print the tables as Markdown, and plot the mean curves."""
    rows = [json.loads(p.read_text()) for p in sorted(args.out.glob("kodim*.json"))]
    items = sorted({r["item"] for r in rows}, key=lambda i: ("@" in i, i))
    ours: dict[str, list[dict[str, Any]]] = {
        i: sorted((r for r in rows if r["item"] == i and "lambda" in r), key=lambda r: r["bpp"])
        for i in items
    }
    anchors = {r["item"]: r for r in rows if "lambda" not in r}
    print("| image | " + " | ".join(f"lambda {lam:g}" for lam in args.lambdas) + " | s |")
    print("|---|" + "---|" * (len(args.lambdas) + 1))
    for item in items:
        cells = []
        for lam in args.lambdas:
            found = [r for r in ours[item] if r["lambda"] == lam]
            cells.append(f"{found[0]['bpp']:.3f} bpp {found[0]['psnr']:.2f} dB" if found else "")
        seconds = sum(r["seconds"] for r in ours[item]) / max(1, len(ours[item]))
        print(f"| {item} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    print()
    print("| image | vs JPEG % | vs WebP % | vs AVIF % |")
    print("|---|---|---|---|")
    groups: dict[bool, list[list[float]]] = {False: [], True: []}
    for item in items:
        if item not in anchors or len(ours[item]) < 3:  # too few for a BD-rate
            continue
        rates = [
            bd_rate(
                [p["bpp"] for p in anchors[item][name]["points"]],
                [p["psnr"] for p in anchors[item][name]["points"]],
                [r["bpp"] for r in ours[item]],
                [r["psnr"] for r in ours[item]],
            )
            for name in ANCHORS
        ]
        groups["@" in item].append(rates)
        print(f"| {item} | " + " | ".join(f"{r:+.1f}" for r in rates) + " |")
    for crop, label in ((False, "whole images"), (True, "crops")):
        if groups[crop]:
            means = [sum(column) / len(column) for column in zip(*groups[crop], strict=True)]
            print(f"| **mean, {label}** | " + " | ".join(f"**{m:+.1f}**" for m in means) + " |")
    whole = [item for item in items if "@" not in item]
    if args.published:
        _print_published(whole, ours, args.published, args.against)
    if args.plot:
        _plot(whole or items, ours, anchors, args.plot)


def _print_published(items: list[str], ours: Any, path: Path, name: str) -> None:
    """BD-rates against a curve that others have published."""
    curves, _ = read_published(path)
    named = {curve.name: curve.results for curve in curves}
    if name not in named and not any(other.startswith(f"{name}/") for other in named):
        raise SystemExit(f"{path}: no curve {name!r}; it has {', '.join(sorted(named))}")
    print(f"\n| image | vs {name}, published % |\n|---|---|")
    rates = []
    for item in items:
        if (results := named.get(f"{name}/kodim{int(item):02}")) is not None:
            points = [r["bpp"] for r in ours[item]], [r["psnr"] for r in ours[item]]
            rates.append(bd_rate(results["bpp"], results["psnr-rgb"], *points))
            print(f"| {item} | {rates[-1]:+.1f} |")
    if rates:
        print(f"| **mean of {len(rates)}** | **{sum(rates) / len(rates):+.1f}** |")
    elif points := _mean_points(ours, items):
        results = named[name]
        rate = bd_rate(results["bpp"], results["psnr-rgb"], *zip(*points, strict=True))
        fair = "" if len(items) == 24 else "; not comparable, it is a mean of 24"
        print(f"| mean curve of {len(items)}{fair} | {rate:+.1f} |")
    else:
        print("no lambda that every whole image was encoded at", file=sys.stderr)


def _mean_points(ours: Any, items: list[str]) -> list[tuple[float, float]]:
    """Mean rate and PSNR over the images at each lambda that all of them have, by rate."""
    lambdas = [{row["lambda"] for row in ours[item]} for item in items]
    found = []
    for lam in set.intersection(*lambdas) if lambdas else set():
        rows = [row for item in items for row in ours[item] if row["lambda"] == lam]
        rate, quality = (sum(r[key] for r in rows) / len(rows) for key in ("bpp", "psnr"))
        found.append((rate, quality))
    return sorted(found)


def _plot(items: list[str], ours: Any, anchors: Any, path: Path) -> None:
    """Mean curves: at each point of a codec, the mean rate and PSNR over the images.

    All means are of the same images: those without anchors are left out, and so is what was not
    encoded at the same lambdas as the others.
    """
    for item in items:
        if item not in anchors:
            print(f"{item}: not in the plot, it has no anchors yet", file=sys.stderr)
    items = [item for item in items if item in anchors and ours[item]]
    if not items:
        print(f"no plot in {path}: no image has anchors and encodes", file=sys.stderr)
        return
    points = _mean_points(ours, items)
    if not points:
        print(f"no plot in {path}: no lambda that every image was encoded at", file=sys.stderr)
        return
    curves = [_curve("coordx", points)]
    for name in ANCHORS:
        rows = zip(*(anchors[item][name]["points"] for item in items), strict=True)
        means = [[sum(p[key] for p in at) / len(at) for key in ("bpp", "psnr")] for at in rows]
        curves.append(_curve(name, sorted((bpp, quality) for bpp, quality in means)))
    plot_curves(curves, path, anchor="jpeg", title=f"Kodak {', '.join(items)}, means")


def _curve(name: str, points: list[tuple[float, float]]) -> Curve:
    return Curve(name, tuple(p[0] for p in points), tuple(p[1] for p in points))


def _count(text: str) -> int:
    """A number of at least one; for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def _units(text: str) -> tuple[int, int]:
    """WIDTH/HIDDEN; for argparse."""
    width, _, hidden = text.partition("/")
    if not (width.isdecimal() and hidden.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected WIDTH/HIDDEN, got {text!r}")
    return int(width), int(hidden)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    runner = commands.add_parser("run", help="measure what is missing")
    runner.add_argument("folder", type=Path, help="folder with kodim01.png ... kodim24.png")
    runner.add_argument("--steps", type=int, default=2000)
    runner.add_argument("--device", default="cpu")
    runner.add_argument(
        "--share", type=kodak.share, default="0/1", metavar="I/N", help="this process's share"
    )
    runner.add_argument(
        "--network",
        type=_units,
        metavar="WIDTH/HIDDEN",
        help="units of the context and of the synthesis, without a prior, instead of the preset's",
    )
    runner.add_argument("--jobs", type=_count, default=1, help="processes [%(default)s]")
    runner.add_argument(
        "--fits", type=_count, default=1, help="fits at once in each, for a GPU [%(default)s]"
    )
    runner.add_argument("--no-anchors", action="store_true", help="neither JPEG, WebP nor AVIF")
    runner.add_argument("--items", default=DEFAULT_ITEMS)
    runner.set_defaults(run=run)
    reporter = commands.add_parser("report", help="print the tables")
    reporter.add_argument("--plot", type=Path, metavar="PNG")
    reporter.add_argument("--published", type=Path, metavar="JSON", help="curves of others")
    reporter.add_argument("--against", default="VTM H.266 (CompressAI)", metavar="NAME")
    reporter.set_defaults(run=report)
    for command in (runner, reporter):
        command.add_argument(
            "--lambdas",
            type=lambda text: [float(x) for x in text.split(",")],
            default=DEFAULT_LAMBDAS,
        )
        command.add_argument("-o", "--out", type=Path, default=Path("runs/rd"))
    args = parser.parse_args(arguments)
    args.run(args)


if __name__ == "__main__":
    main()
