"""coordx eval: measure codecs on images, write rate-distortion results, print a table."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from codec.cli.common import add_device
from codec.evaluate.coordx import CoordXCodec
from codec.evaluate.curves import Curve, compare, find_curve, load_curves
from codec.evaluate.inputs import find_images
from codec.evaluate.interface import ImageCodec
from codec.evaluate.registry import TEMPLATES, parse_codecs
from codec.evaluate.results import to_json
from codec.evaluate.runner import METRICS, Progress, evaluate, journal_path
from codec.evaluate.table import bd_table, columns
from codec.options import DEFAULT_EFFORT
from formats.errors import InputError

__all__ = ["add_parser", "run"]

EPILOG = """\
codecs:
  jpeg, webp, avif    through Pillow, at these qualities unless told otherwise
  coordx              this project's codec; its points are lambdas, larger means smaller files

  --codec NAME,NAME            several, each with its default points
  --codec NAME:ITEM,ITEM       one, with points (numbers) and settings (KEY=VALUE) of its own
                               jpeg: subsampling=    webp: method=    avif: speed= subsampling=
                               coordx: effort= steps= split= seed= device=

examples:
  coordx eval photos/ --codec coordx,jpeg,webp,avif -o out.json
  coordx eval a.png b.png --codec coordx:effort=6,0.004,0.001 --codec jpeg:10,20,40,80 -o out.json
  coordx eval photos/ --codec avif:speed=8 --codec avif:speed=0 --limit 4 -o speeds.json
  coordx plot out.json -o rd.png

Each measurement is kept in OUT.journal.jsonl as it comes: the same command, started again
after an interruption, goes on where it was; with more files or codecs it measures only what
is new. OUT.json is replaced. The exit status is 1 when a file failed. Videos: not yet.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "eval",
        help="measure codecs on images: rate, PSNR, MS-SSIM, seconds",
        description="Encode and decode images with one or more codecs at several points each "
        "and report real bytes, quality and time.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="image files, folders of images")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT.json", help="the result file to write"
    )
    parser.add_argument(
        "--codec",
        action="append",
        metavar="SPEC",
        help="codecs and their points, see below; may be repeated [coordx,jpeg]",
    )
    parser.add_argument(
        "--lambda",
        dest="lambdas",
        metavar="LIST",
        help="points of coordx where SPEC gives none, e.g. 0.004,0.001",
    )
    parser.add_argument(
        "-e",
        "--effort",
        type=int,
        default=DEFAULT_EFFORT,
        metavar="N",
        help=f"effort of coordx [{DEFAULT_EFFORT}]",
    )
    add_device(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of coordx [0]")
    parser.add_argument(
        "--metrics",
        metavar="LIST",
        help="psnr, ms-ssim or both [both, where pytorch-msssim is installed]",
    )
    parser.add_argument(
        "--anchor",
        metavar="NAME",
        help="codec that BD-rates refer to [the first that is not coordx]",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument(
        "--no-resume", action="store_true", help="measure again what is in the journal"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the result file's content, not a table"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it; 0 when every file went through every codec, 1 otherwise.

    Raises:
        CoordXError: the request itself is wrong, or the result cannot be written.
    """
    codecs = _codecs(args)
    anchor = _anchor(args.anchor, [codec.name for codec in codecs])
    files = find_images(args.paths, args.limit)
    out = Path(args.output)
    total = len(files) * sum(len(codec.qualities) for codec in codecs)
    reported: set[tuple[str, str]] = set()
    # disable=None: no bar where stderr is not a terminal.
    with tqdm(total=total, unit="point", file=sys.stderr, disable=None) as bar:

        def show(progress: Progress) -> None:
            point = f"{progress.item} {progress.codec} {progress.quality:g}"
            bar.set_postfix_str(point)
            bar.update()
            # An unreadable file fails at every point of every codec: say it once.
            if progress.error is not None and (progress.item, progress.error) not in reported:
                reported.add((progress.item, progress.error))
                bar.write(f"coordx eval: {point}: {progress.error}", file=sys.stderr)

        report = evaluate(
            files,
            codecs,
            out=out,
            resume=not args.no_resume,
            metrics=_metrics(args.metrics),
            progress=show,
            command=_command(args),
        )
    print(to_json(report) if args.json else _tables(report, out, anchor, len(files)), end="")
    return 1 if report["errors"] else 0


def _codecs(args: argparse.Namespace) -> list[ImageCodec]:
    """The codecs asked for; what the options say of coordx is the default of its SPECs."""
    coordx = CoordXCodec(effort=args.effort, device=args.device, seed=args.seed)
    if args.lambdas is not None:
        try:
            lambdas = tuple(float(text) for text in args.lambdas.split(","))
        except ValueError as error:
            raise InputError(
                f"--lambda: expected numbers separated by commas, got {args.lambdas!r}"
            ) from error
        coordx = dataclasses.replace(coordx, qualities=lambdas)
    return parse_codecs(args.codec or ["coordx,jpeg"], {**TEMPLATES, "coordx": coordx})


def _anchor(asked: str | None, names: Sequence[str]) -> str | None:
    """The codec that BD-rates refer to; a slip is better found before the hours than after."""
    if asked is not None:
        return find_curve([Curve(name, ()) for name in names], asked).name
    return next((name for name in names if not name.startswith("coordx")), None)


def _metrics(text: str | None) -> tuple[str, ...]:
    if text is not None:
        return tuple(text.split(","))
    return METRICS if importlib.util.find_spec("pytorch_msssim") else ("psnr",)


def _command(args: argparse.Namespace) -> str:
    """What would have to be typed to get the same measurements."""
    words = ["coordx", "eval", *map(str, args.paths), "-o", str(args.output)]
    for spec in args.codec or ():
        words += ["--codec", spec]
    for name in ("lambda", "effort", "device", "seed", "metrics", "limit"):
        value = getattr(args, "lambdas" if name == "lambda" else name)
        if value is not None:
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def _tables(report: dict[str, Any], out: Path, anchor: str | None, count: int) -> str:
    """The means of each codec at each point, then BD-rates."""
    rows: list[Sequence[str]] = [("codec", "point", "bpp", "PSNR dB", "MS-SSIM", "enc s", "dec ms")]
    for entry in report["codecs"]:
        results = entry["results"]
        indices = results.get("ms-ssim-rgb", [None] * len(results["bpp"]))
        for n, bpp in enumerate(results["bpp"]):
            quality, index = results["psnr-rgb"][n], indices[n]
            rows.append(
                (
                    entry["name"],
                    f"{entry['point']} {results[entry['point']][n]:g}",
                    f"{bpp:.4f}",
                    "-" if quality is None else f"{quality:.3f}",
                    "-" if index is None else f"{index:.5f}",
                    f"{results['encoding_time'][n]:.3f}",
                    f"{1000 * results['decoding_time'][n]:.1f}",
                )
            )
    averaged = len(report["averaged_items"])
    text = f"{columns(rows)}\nmeans over {averaged} of {count} images, see {out}"
    text += f" (measurements: {journal_path(out)})\n"
    curves = [curve for curve in load_curves(out) if curve.bpp]
    base = next((curve for curve in curves if curve.name == anchor), None)
    if base is not None and len(curves) > 1:
        text += "\n" + bd_table(base, compare(curves, base), "psnr")
    return text
