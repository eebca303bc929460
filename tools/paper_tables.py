"""The CoordX paper's experiments, rerun with this project's network; writes docs/paper.md.

    python tools/paper_tables.py run --budget small -o runs/paper          a CPU, about an hour
    python tools/paper_tables.py run --budget full --device cuda -o runs/paper-full
    python tools/paper_tables.py report runs/paper runs/paper-full -o docs/paper.md

`run` keeps one file a fit and resumes: what is there is not done again. Twelve pictures of
512x512, cut from the centre of Kodak and other images, and two clips; --images, --size, --steps,
--samples, --width and --only make it smaller. Speeds are measured with `run` on the same device.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import paper_fits as fits
import paper_text as text
import torch
from torch import Tensor

from codec.media import open_video, read_image
from codec.network import CoordX

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = REPOSITORY.parent / "shared" / "data"
PICTURES = (
    *(f"kodak/kodim{n:02d}.png" for n in (1, 5, 7, 13, 15, 20, 21, 23)),
    "images/photo_astronaut_512x512.png",
    "images/art_kimono_722x1024.png",
    "images/photo_flower_2268x1512.png",
    "images/photo_friends_1028x1544.png",
)
CLIPS = {  # with the length of the longest axis
    "video/carphone_pristine_176x144_120f.mp4": 176,
    "video/cars_128x96_60f_yuv420.y4m": 128,
}
# small: enough to rank methods, far from converged. full: the paper's (whole picture a step;
# 0.38% of the voxels of a clip a step, but never fewer samples than make a step worth a GPU).
BUDGETS = {
    "small": {
        "image": fits.Budget(200, 4096, 1e-3),
        "video": fits.Budget(200, 4096, 1e-3),
    },
    "full": {
        "image": fits.Budget(10_000, 0, 1e-4),
        "video": fits.Budget(100_000, 16_384, 1e-4),
    },
}
WIDTHS = {"small": (256, 256), "full": (256, 1024)}
EXPERIMENTS = ("images", "ranks", "depth", "videos", "speed")
SWEEP_PICTURES = 3  # of the rank and depth sweeps


def picture(path: Path, size: int) -> Tensor:
    """(3, size, size) in [0, 1] from the centre of a picture."""
    samples = read_image(path).samples[..., :3]
    height, width = samples.shape[:2]
    if min(height, width) < size:
        raise SystemExit(f"{path}: expected at least {size}x{size}, got {width}x{height}")
    y, x = (height - size) // 2, (width - size) // 2
    part = np.ascontiguousarray(samples[y : y + size, x : x + size])
    return torch.from_numpy(part).permute(2, 0, 1).float() / 255


def clip(path: Path, frames: int) -> Tensor:
    """(3, T, H, W) in [0, 1], the first frames of a clip."""
    with open_video(path) as source:
        stack = np.stack(list(islice(source, frames)))
    return torch.from_numpy(stack).permute(3, 0, 1, 2).float() / 255


def jobs(args: argparse.Namespace) -> Iterator[tuple[str, str, fits.Method, Path]]:
    """(experiment, item, method, file) of every fit, picture by picture."""
    image_width, video_width = WIDTHS[args.budget]
    if args.width:
        image_width = video_width = args.width
    pictures = [args.data / name for name in PICTURES[: args.images]]
    for number, path in enumerate(pictures):
        if "images" in args.only:
            for method in fits.image_methods(image_width):
                yield "images", path.stem, method, path
        if number < SWEEP_PICTURES:
            for name, methods in (
                ("ranks", fits.rank_methods(image_width)),
                ("depth", fits.depth_methods(image_width)),
            ):
                if name in args.only:
                    for method in methods:
                        yield name, path.stem, method, path
    if "videos" in args.only:
        for name, longest in CLIPS.items():
            for method in fits.video_methods(video_width, longest):
                yield "videos", Path(name).stem, method, args.data / name


def run(args: argparse.Namespace) -> None:
    """Do every fit that is not there yet, then the speeds."""
    args.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(args.device)
    for experiment, item, method, path in jobs(args):
        slug = "".join(c if c.isalnum() else "-" for c in f"{item} {method.name}")
        target = args.out / f"{experiment}.{slug}.json"
        if target.exists():
            continue
        video = experiment == "videos"
        signal = (clip(path, args.frames) if video else picture(path, args.size)).to(device)
        axes = ("t", "y", "x") if video else ("y", "x")
        lengths = dict(zip(axes, signal.shape[1:], strict=True))
        budget = BUDGETS[args.budget]["video" if video else "image"]
        budget = replace(
            budget,
            steps=args.steps or budget.steps,
            samples=budget.samples if args.samples is None else args.samples,
        )
        row = fits.fit(method, signal, lengths, budget)
        network = row.pop("network")
        if experiment == "images" and method.name == text.SVD_AGAINST:
            row["svd"] = against_svd(method, network, signal, lengths, row)
        row |= {"experiment": experiment, "item": item, "method": method.name, **facts(device)}
        target.write_text(json.dumps(row, indent=1))
        print(f"{target.stem}: {row['psnr']:.2f} dB, {row['seconds']:.0f} s", file=sys.stderr)
    if "speed" in args.only:
        speed(args, device)


def against_svd(
    method: fits.Method,
    network: CoordX,
    signal: Tensor,
    lengths: dict[str, int],
    row: dict[str, Any],
) -> dict[str, Any]:
    """SVD with as many numbers as the network has weights: as floats, and 8 bits each."""
    return {
        "float": fits.svd(signal, row["weights"]),
        "8 bits": fits.svd(signal, row["weights"], bits=8),
        "network at 8 bits": fits.quantised_quality(method, network, signal, lengths, 8),
    }


def speed(args: argparse.Namespace, device: torch.device) -> None:
    """Training steps and full evaluations of split and plain networks of equal size."""
    target = args.out / "speed.json"
    if target.exists():
        return
    width = args.width or 256
    lengths = {"y": args.size, "x": args.size}
    signal = torch.rand(3, args.size, args.size, device=device)
    rows = []
    for method in fits.image_methods(width):
        if "low start" in method.name and "SIREN" not in method.name:
            continue  # the same work as with our start
        samples = 0 if args.budget == "full" else 16_384
        if args.samples is not None:
            samples = args.samples
        budget = fits.Budget(args.speed_steps, samples, 1e-4)
        row = fits.fit(method, signal, lengths, budget)
        rows.append(
            {
                "method": method.name.split(",")[0],
                "step_ms": row["step_ms"],
                "samples": samples or args.size**2,
                "inference_ms": fits.inference_ms(method.config, lengths, device),
                "macs": row["macs"],
                "weights": row["weights"],
            }
        )
    distinct = {row["method"]: row for row in rows}
    target.write_text(
        json.dumps({"rows": list(distinct.values()), "size": args.size, **facts(device)}, indent=1)
    )


def facts(device: torch.device) -> dict[str, Any]:
    """Where it was measured."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def report(args: argparse.Namespace) -> None:
    """Write the tables of one or more runs."""
    runs = []
    for folder in args.runs:
        rows = [json.loads(p.read_text()) for p in sorted(folder.glob("*.*.json"))]
        timing = folder / "speed.json"
        if not rows:
            raise SystemExit(f"{folder}: no fits there; `run` makes them")
        runs.append((rows, json.loads(timing.read_text()) if timing.exists() else None))
    args.out.write_text(text.document(runs), encoding="utf-8")
    print(f"{args.out}: {sum(len(rows) for rows, _ in runs)} fits")


def experiments(text: str) -> tuple[str, ...]:
    """The names of a list, each of EXPERIMENTS; for argparse."""
    names = tuple(text.split(","))
    unknown = sorted(set(names) - set(EXPERIMENTS))
    if unknown:
        raise argparse.ArgumentTypeError(
            f"expected some of {', '.join(EXPERIMENTS)}, got {', '.join(unknown)}"
        )
    return names


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    runner = commands.add_parser("run", help="do the fits that are missing")
    runner.add_argument("--budget", choices=tuple(BUDGETS), default="small")
    runner.add_argument("--device", default="cpu")
    runner.add_argument("--data", type=Path, default=DATA, help="folder of the media")
    runner.add_argument("--images", type=int, default=len(PICTURES), help="the first N pictures")
    runner.add_argument("--size", type=int, default=512, help="side of the pictures [512]")
    runner.add_argument("--frames", type=int, default=60, help="of each clip [60]")
    runner.add_argument("--steps", type=int, help="instead of the budget's")
    runner.add_argument("--samples", type=int, help="a step, instead of the budget's; 0: all")
    runner.add_argument("--width", type=int, help="instead of the paper's")
    runner.add_argument("--speed-steps", type=int, default=8, help="timed training steps [8]")
    runner.add_argument(
        "--only",
        type=experiments,
        default=EXPERIMENTS,
        metavar="LIST",
        help=f"some of {','.join(EXPERIMENTS)}; the SVD comes with images [all]",
    )
    runner.add_argument("-o", "--out", type=Path, default=Path("runs/paper"))
    runner.set_defaults(call=run)
    writer = commands.add_parser("report", help="write the tables")
    writer.add_argument("runs", nargs="+", type=Path)
    writer.add_argument("-o", "--out", type=Path, default=REPOSITORY / "docs" / "paper.md")
    writer.set_defaults(call=report)
    args = parser.parse_args(arguments)
    args.call(args)


if __name__ == "__main__":
    main()
