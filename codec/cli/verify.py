"""`coordx verify`: read every byte of a file and say whether all is well."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from codec.cli.common import read_input
from formats.container import Container
from formats.errors import CoordXError

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "verify",
        help="check that .crdx files are complete and undamaged",
        description="Check structure, limits, checksums and the entropy-coded symbols of .crdx "
        "files. The exit code is 1 if any of them is damaged.",
    )
    parser.add_argument("inputs", metavar="FILE", nargs="+", help=".crdx files, or -")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    damaged = 0
    for name in args.inputs:
        try:
            with Container.open(read_input(name)) as container:
                chunks = container.verify()
                count = len(container.unit_spans)
                units = "1 unit" if count == 1 else f"{count} units"
                size = f"{container.size:,} bytes"
                print(f"{name}: ok, {size}, {len(chunks)} chunks, {units}")
        except CoordXError as error:
            damaged += 1
            message = str(error)
            where = "" if name in message else f"{name}: "
            print(f"coordx: error: {where}{message}", file=sys.stderr)
    return 1 if damaged else 0
