"""coordx import: published curves, from others' files, into one that says they are published."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

from codec.evaluate.curves import Curve, find_curve
from codec.evaluate.published import Published, published_report, read_published
from codec.evaluate.results import check_report_target, write_report
from formats.errors import InputError

__all__ = ["add_parser", "run"]

EPILOG = """\
A file may be a result file of CompressAI, {"name": ..., "results": {"bpp": [...], "psnr-rgb":
[...]}}, or a collection of curves at any depth, {"DATASET": {"CODEC": {"bpp": [...], "psnr":
[...], "source": ...}}}. The output keeps name, source and averaging of each curve; plots,
tables and reports mark it as published, because nothing of it was measured on this machine.

examples:
  coordx import CompressAI/results/image/kodak/*.json -o published.json
  coordx import kodak.json --curve VTM --curve "C3 (Adaptive)" -o published.json
  coordx import kodak.json --list
  coordx plot out.json published.json --anchor jpeg -o rd.png
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "import",
        help="take over published curves, labelled as published",
        description="Read rate-distortion curves that others have published and write them as "
        "one result file, for coordx plot and coordx report.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE.json", help="files of curves")
    parser.add_argument("-o", "--output", metavar="OUT.json", help="the result file to write")
    parser.add_argument(
        "--curve",
        action="append",
        metavar="NAME",
        help="take only this curve, or the only one whose name begins so; may be repeated [all]",
    )
    parser.add_argument(
        "--list", action="store_true", help="print names and sources, write nothing"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it; always 0.

    Raises:
        CoordXError: a file cannot be read, a name is unknown, the output cannot be written.
    """
    if not args.list:
        if args.output is None:
            raise InputError("expected -o OUT.json (or --list)")
        check_report_target(Path(args.output))
    curves: list[Published] = []
    for name in args.files:
        found, skipped = read_published(name)
        curves += found
        if skipped:
            print(
                f"coordx import: {name}: {len(skipped)} tables without lists of rates and "
                f"qualities are left out: {', '.join(skipped)}",
                file=sys.stderr,
            )
    curves = _distinct(curves)
    if args.curve:
        handles = [Curve(curve.name, ()) for curve in curves]
        wanted = [find_curve(handles, name).name for name in args.curve]
        curves = [curve for curve in curves if curve.name in wanted]
    if args.list:
        for curve in curves:
            print(f"{curve.name}\t{len(curve.results['bpp'])} points\t{curve.source}")
        return 0
    write_report(Path(args.output), published_report(curves, _command(args)))
    print(f"{len(curves)} published curves in {args.output}")
    return 0


def _command(args: argparse.Namespace) -> str:
    """What would have to be typed to get the same file."""
    picked = [word for name in args.curve or () for word in ("--curve", name)]
    return shlex.join(["coordx", "import", *args.files, *picked, "-o", args.output])


def _distinct(curves: list[Published]) -> list[Published]:
    """The same curves, those of one name numbered."""
    seen: dict[str, int] = {}
    result = []
    for curve in curves:
        number = seen[curve.name] = seen.get(curve.name, 0) + 1
        name = curve.name if number == 1 else f"{curve.name} #{number}"
        result.append(dataclasses.replace(curve, name=name))
    return result
