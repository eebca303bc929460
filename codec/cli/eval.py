"""coordx eval: measure codecs on images or videos, write rate-distortion results, print a table."""

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
from codec.evaluate.comparison import compare
from codec.evaluate.coordx import CoordXCodec
from codec.evaluate.curves import Curve, curves_of, find_curve
from codec.evaluate.inputs import Inputs, find_inputs
from codec.evaluate.interface import Codec
from codec.evaluate.registry import TEMPLATES, VIDEO_TEMPLATES, parse_codecs
from codec.evaluate.results import to_json
from codec.evaluate.runner import Progress, evaluate, files_folder, items_path
from codec.evaluate.table import bd_table, columns
from codec.options import DEFAULT_EFFORT
from formats.errors import InputError

__all__ = ["add_parser", "run"]

EPILOG = """\
codecs of images:
  coordx        this project's codec; its points are lambdas, larger means smaller files
  jpeg, jpeg2000, webp, avif    through Pillow
  jxl, hevc-intra, vvc-intra    libjxl, x265 and VVenC in the ffmpeg of imageio-ffmpeg
codecs of videos:
  coordx
  x264, x265, svt-av1, vp9, vvenc    the same ffmpeg; bare streams, no sound

  --codec NAME,NAME            several, each with its default points
  --codec NAME:ITEM,ITEM       one, with points (numbers) and settings (KEY=VALUE) of its own
                               jpeg: subsampling= scan=   webp: method=
                               avif: speed= subsampling=
                               jxl: effort=    hevc-intra: preset= chroma=   vvc-intra: preset=
                               x264 x265 svt-av1 vp9 vvenc: preset= keyint=
                               coordx: effort= steps= fusion= split= seed= device=

examples:
  coordx eval photos/ --codec coordx,jpeg,webp,avif -o out.json
  coordx eval photos/ --codec jpeg,webp,avif,hevc-intra,vvc-intra -j 2 -o out.json
  coordx eval a.png b.png --codec coordx:effort=6,0.004,0.001 --codec jpeg:10,20,40,80 -o out.json
  coordx eval clip.mp4 --codec x264,x265 --codec x265:preset=veryslow,keyint=16 -o clip.json
  coordx plot out.json -o rd.png && coordx report out.json -o report.html

Each measurement is kept in OUT.journal.jsonl as it comes: the same command, started again
after an interruption, goes on where it was; with more files or codecs it measures only what
is new. OUT.json (curves) and OUT.items.jsonl (one line a measurement) are replaced; the coded
files stay in OUT.files/. The exit status is 1 when a file failed at any point.
docs/evaluation.md states every convention.
"""

COLUMNS = {
    "psnr-rgb": ("PSNR dB", "{:.3f}"),
    "psnr-yuv": ("YUV dB", "{:.3f}"),
    "ms-ssim-rgb": ("MS-SSIM", "{:.5f}"),
    "lpips": ("LPIPS", "{:.4f}"),
    "vmaf": ("VMAF", "{:.2f}"),
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "eval",
        help="measure codecs on images or videos: rate, quality, seconds",
        description="Encode and decode images, or videos, with one or more codecs at several "
        "points each and report real bytes, quality, time and memory.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="images or videos, or folders of them"
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT.json", help="the result file to write"
    )
    parser.add_argument(
        "--codec",
        action="append",
        metavar="SPEC",
        help="codecs and their points, see below; may be repeated "
        "[coordx,jpeg for images, coordx,x264 for videos]",
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
        help="some of psnr, ms-ssim, lpips (images), vmaf (videos) [images: psnr,ms-ssim where "
        "pytorch-msssim is installed; videos: psnr,vmaf]",
    )
    parser.add_argument(
        "--anchor",
        metavar="NAME",
        help="codec that BD-rates refer to [the first that is not coordx]",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N files")
    parser.add_argument(
        "-j",
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="measurements at a time, each in a process of its own; seconds are comparable "
        "only while N is at most the number of idle cores [1]",
    )
    parser.add_argument(
        "--no-files", action="store_true", help="do not keep the coded files in OUT.files/"
    )
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
    if args.jobs < 1:
        raise InputError(f"--jobs: expected at least 1, got {args.jobs}")
    inputs = find_inputs(args.paths, args.limit)
    codecs = _codecs(args, inputs)
    anchor = _anchor(args.anchor, [codec.name for codec in codecs])
    out = Path(args.output)
    total = len(inputs.files) * sum(len(codec.qualities) for codec in codecs)
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
            inputs.files,
            codecs,
            out=out,
            video=inputs.video,
            resume=not args.no_resume,
            metrics=_metrics(args.metrics, inputs.video),
            workers=args.jobs,
            keep_files=not args.no_files,
            progress=show,
            command=_command(args),
        )
    if args.json:
        print(to_json(report), end="")
    else:
        files = None if args.no_files else files_folder(out)
        print(_tables(report, out, anchor, len(inputs.files), files), end="")
    return 1 if report["errors"] else 0


def _codecs(args: argparse.Namespace, inputs: Inputs) -> list[Codec]:
    """The codecs asked for; what the options say of coordx is the default of its SPECs."""
    templates = VIDEO_TEMPLATES if inputs.video else TEMPLATES
    template = templates["coordx"]
    assert isinstance(template, CoordXCodec)
    coordx = dataclasses.replace(template, effort=args.effort, device=args.device, seed=args.seed)
    if args.lambdas is not None:
        try:
            lambdas = tuple(float(text) for text in args.lambdas.split(","))
        except ValueError as error:
            raise InputError(
                f"--lambda: expected numbers separated by commas, got {args.lambdas!r}"
            ) from error
        coordx = dataclasses.replace(coordx, qualities=lambdas)
    default = "coordx,x264" if inputs.video else "coordx,jpeg"
    return parse_codecs(args.codec or [default], {**templates, "coordx": coordx})


def _anchor(asked: str | None, names: Sequence[str]) -> str | None:
    """The codec that BD-rates refer to; a slip is better found before the hours than after."""
    if asked is not None:
        return find_curve([Curve(name, ()) for name in names], asked).name
    return next((name for name in names if not name.startswith("coordx")), None)


def _metrics(text: str | None, video: bool) -> tuple[str, ...]:
    if text is not None:
        return tuple(text.split(","))
    if video:
        return ("psnr", "vmaf")
    return ("psnr", "ms-ssim") if importlib.util.find_spec("pytorch_msssim") else ("psnr",)


def _command(args: argparse.Namespace) -> str:
    """What would have to be typed to get the same measurements."""
    words = ["coordx", "eval", *map(str, args.paths), "-o", str(args.output)]
    for spec in args.codec or ():
        words += ["--codec", spec]
    for name in ("lambda", "effort", "device", "seed", "metrics", "limit", "jobs"):
        value = getattr(args, "lambdas" if name == "lambda" else name)
        if value is not None:
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def _tables(
    report: dict[str, Any], out: Path, anchor: str | None, count: int, files: Path | None
) -> str:
    """The means of each codec at each point, then BD-rates."""
    shown = [key for key in COLUMNS if any(key in entry["results"] for entry in report["codecs"])]
    headings = [COLUMNS[key][0] for key in shown]
    rows: list[Sequence[str]] = [("codec", "point", "bpp", *headings, "enc s", "dec ms")]
    for entry in report["codecs"]:
        results = entry["results"]
        for n, bpp in enumerate(results["bpp"]):
            values = [results.get(key, [None] * len(results["bpp"]))[n] for key in shown]
            rows.append(
                (
                    entry["name"],
                    f"{entry['point']} {results[entry['point']][n]:g}",
                    f"{bpp:.4f}",
                    *(
                        "-" if value is None else COLUMNS[key][1].format(value)
                        for key, value in zip(shown, values, strict=True)
                    ),
                    f"{results['encoding_time'][n]:.3f}",
                    f"{1000 * results['decoding_time'][n]:.1f}",
                )
            )
    averaged, kind = len(report["averaged_items"]), f"{report['kind']}s"
    text = f"{columns(rows)}\nmeans over {averaged} of {count} {kind}, see {out}"
    text += f" (items: {items_path(out)}{'' if files is None else f', coded files: {files}'})\n"
    curves = [curve for curve in curves_of(report, out) if curve.bpp]
    base = next((curve for curve in curves if curve.name == anchor), None)
    if base is not None and len(curves) > 1:
        text += "\n" + bd_table(base, compare(curves, base), "psnr")
    return text
