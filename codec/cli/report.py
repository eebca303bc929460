"""coordx report: one self-contained HTML file of an evaluation."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from codec.cli.common import rectangle
from codec.cli.plot import distinct
from codec.evaluate.crops import SideBySide, compare_crops, find_source
from codec.evaluate.curves import curves_of, find_curve, read_json
from codec.evaluate.intact import check_results
from codec.evaluate.report import page_data, write_page
from codec.evaluate.runner import files_folder
from formats.atomic import check_target
from formats.errors import CoordXError, InputError

__all__ = ["add_parser", "run"]

EPILOG = """\
The page holds the curves with their figures at the pointer, the matrix of BD-rates, intervals,
every measurement in a table that sorts, decode times, and crops side by side at equal bytes.
It needs no network and no other file. Crops are made from the sources and from OUT.files/, as
`coordx eval` left them: image codecs other than coordx are encoded again at the budget.

examples:
  coordx report out.json -o report.html
  coordx report out.json published.json --anchor jpeg --crops 2 --bpp 0.5 -o report.html
  coordx report out.json --media /data/kodak --crop 200,100,256,256 -o report.html
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "report",
        help="one HTML file of an evaluation",
        description="Write results, measured and published, as one HTML file.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", nargs="+", metavar="RESULT.json", help="result files")
    parser.add_argument("-o", "--output", required=True, metavar="PAGE.html", help="to write")
    parser.add_argument(
        "--anchor",
        metavar="NAME",
        help="curve that intervals refer to, or the beginning of its name [the first]",
    )
    parser.add_argument("--title", default="Rate-distortion report", help="title of the page")
    parser.add_argument(
        "--crops", type=int, default=3, metavar="N", help="items to show crops of, 0 for none [3]"
    )
    parser.add_argument(
        "--crop",
        type=rectangle,
        metavar="X,Y,W,H",
        help="the part to show [320x320 in the centre]",
    )
    parser.add_argument(
        "--bpp",
        type=float,
        default=0.3,
        metavar="N",
        help="the budget is the file nearest to this rate of coordx, or of the first codec [0.3]",
    )
    parser.add_argument(
        "--media", action="append", metavar="FOLDER", help="where the sources are, if moved"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it; always 0: a crop that cannot be made is said on standard error.

    Raises:
        CoordXError: a file cannot be read, a name is unknown, the page cannot be written.
    """
    target = Path(args.output)
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"-o: expected a file name that ends in .html, got {target}")
    check_target(target)
    if not 0 < args.bpp < math.inf:
        raise InputError(f"--bpp: expected a number above 0, got {args.bpp:g}")
    files = [(path, read_json(path)) for path in map(Path, args.results)]
    curves = distinct([(path.stem, curves_of(data, path)) for path, data in files])
    curves = [curve for curve in curves if curve.bpp]
    if not curves:
        raise InputError("expected at least one curve with points, got none")
    anchor = curves[0] if args.anchor is None else find_curve(curves, args.anchor)
    for path, report in files:
        if "codecs" in report:
            check_results(report, path)
    crops = [
        crop
        for path, report in files
        if "sources" in report and "codecs" in report
        for crop in _crops(path, report, args)
    ]
    shown = [report for _, report in files if "codecs" in report]
    size = write_page(target, page_data(curves, anchor, shown, crops, args.title))
    print(f"{target}: {len(curves)} curves, {len(crops)} crops, {size:,} bytes")
    return 0


def _crops(path: Path, report: Mapping[str, Any], args: argparse.Namespace) -> list[SideBySide]:
    """Crops of the first items that can be had; why others cannot goes to standard error."""
    if args.crops < 0:
        raise InputError(f"--crops: expected at least 0, got {args.crops}")
    items = report["averaged_items"][: args.crops]
    folders = [Path(folder) for folder in args.media or ()]
    made = []
    for item in tqdm(items, unit="crop", file=sys.stderr, disable=None):
        try:
            source = find_source(report, item, path, folders)
            made.append(
                compare_crops(report, item, source, files_folder(path), bpp=args.bpp, box=args.crop)
            )
        except CoordXError as error:
            print(f"coordx report: no crop of {item}: {error}", file=sys.stderr)
    return made
