"""coordx plot: draw rate-distortion curves and print their BD-rates."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from codec.evaluate.bootstrap import ItemDeltas, item_deltas
from codec.evaluate.comparison import Comparison
from codec.evaluate.curves import Curve, find_curve, load_curves
from codec.evaluate.plot import LABELS, plot_curves
from codec.evaluate.results import to_json
from codec.evaluate.table import bd_table
from formats.errors import InputError

__all__ = ["add_parser", "distinct", "run"]

EPILOG = """\
A file may be the output of `coordx eval` or of `coordx import`, a result file of CompressAI, or
a JSON object of curves by name, {"NAME": {"bpp": [...], "psnr": [...]}, ...}. The suffix of the
picture says what it is: .png, .svg or .pdf. Published curves (of `coordx import`) are dotted.
The 95% interval of a BD-rate is a bootstrap over the items; the mean of items is that of the
BD-rates of each, with their number.

examples:
  coordx plot out.json -o rd.png
  coordx plot out.json --anchor jpeg --metric ms-ssim -o rd.svg
  coordx plot out.json published.json --curve coordx --curve VTM --anchor VTM -o rd.pdf
"""


CAVEAT = """\
published curves are means over the items of their publications: against a measured curve their
BD-rate counts only where the items are the same"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "plot",
        help="draw rate-distortion curves and print BD-rates",
        description="Draw the curves of one or more result files into one picture and print "
        "the BD-rate of each against an anchor.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", nargs="+", metavar="RESULT.json", help="result files")
    parser.add_argument(
        "-o", "--output", required=True, metavar="PICTURE", help=".png, .svg or .pdf to write"
    )
    parser.add_argument(
        "--anchor",
        metavar="NAME",
        help="curve that BD-rates refer to, or the beginning of its name [the first]",
    )
    parser.add_argument(
        "--curve",
        action="append",
        metavar="NAME",
        help="draw only this curve; may be repeated [all]",
    )
    parser.add_argument(
        "--metric",
        choices=tuple(LABELS),
        default="psnr",
        help="quality to draw; MS-SSIM in dB [psnr]",
    )
    parser.add_argument("--title", help="title of the picture")
    parser.add_argument("--json", action="store_true", help="print the BD-rates as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it; always 0.

    Raises:
        CoordXError: a file cannot be read, a name is unknown, the picture cannot be written.
    """
    curves = distinct([(Path(name).stem, load_curves(name)) for name in args.results])
    if args.curve:
        curves = list(dict.fromkeys(find_curve(curves, name) for name in args.curve))
    curves = [curve for curve in curves if curve.points(args.metric)[0]]
    if not curves:
        raise InputError(f"expected at least one curve with {args.metric} values, got none")
    anchor = curves[0] if args.anchor is None else find_curve(curves, args.anchor)
    comparisons = plot_curves(
        curves, args.output, args.metric, anchor=anchor.name, title=args.title
    )
    deltas = {
        curve.name: item_deltas(anchor, curve, args.metric)
        for curve in curves
        if curve is not anchor and curve.items and anchor.items
    }
    if args.json:
        print(to_json(_as_json(anchor, comparisons, args.metric, deltas)), end="")
    else:
        print(bd_table(anchor, comparisons, args.metric, deltas or None), end="")
        if len({curve.published for curve in curves}) > 1:
            print(CAVEAT)
    return 0


def distinct(files: list[tuple[str, list[Curve]]]) -> list[Curve]:
    """All curves of all files, with names that differ.

    A name found in several is preceded by that of its file; where files too are of one name,
    the second and later ones are numbered.
    """
    names = [curve.name for _, curves in files for curve in curves]
    found: dict[str, Curve] = {}
    for stem, curves in files:
        for curve in curves:
            name = curve.name if names.count(curve.name) == 1 else f"{stem}: {curve.name}"
            number = next(n for n in count(1) if _numbered(name, n) not in found)
            name = _numbered(name, number)
            found[name] = dataclasses.replace(curve, name=name)
    return list(found.values())


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} #{number}"


def _as_json(
    anchor: Curve,
    comparisons: list[Comparison],
    metric: str,
    deltas: Mapping[str, ItemDeltas],
) -> dict[str, Any]:
    return {
        "anchor": anchor.name,
        "metric": metric,
        "curves": [
            dataclasses.asdict(comparison)
            | {
                "items": dataclasses.asdict(deltas[name])
                if (name := comparison.name) in deltas
                else None
            }
            for comparison in comparisons
        ],
    }
