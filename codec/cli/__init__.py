"""The command `coordx`: sub-commands, and the one place where errors become exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from codec import __version__
from codec.cli import decode, encode, eval, import_, info, plot, report, verify
from formats.errors import CoordXError, InputError

__all__ = ["main"]

DESCRIPTION = """\
A neural codec for images and videos: `encode` fits a small CoordX network to the media and
stores its weights, exactly, in a .crdx file; `decode` evaluates the network, wholly or for a
crop, some frames or another size, on a CPU or a GPU.
"""
EPILOG = """\
examples:
  coordx encode photo.png                      writes photo.crdx
  coordx encode photo.png small.crdx --target-size 12000
  coordx decode photo.crdx back.png
  coordx encode clip.mp4 clip.crdx -q 40 --gop 16
  coordx decode clip.crdx - --frames 0:48 | ffplay -
  coordx info photo.crdx
  coordx eval photos/ --codec coordx,jpeg,webp -o out.json && coordx plot out.json -o rd.png

exit codes: 0 done, 1 an error (one line on stderr), 2 wrong usage, 130 interrupted
"""


class _Version(argparse.Action):
    """Looks at the machine only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *args: object) -> None:
        from codec.cpu import machine_code

        try:
            found = machine_code()
        except InputError as error:
            parser.error(str(error))
        print(f"coordx {__version__} (machine code: {found})")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands."""
    parser = argparse.ArgumentParser(
        prog="coordx",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show the version and what machine code it uses"
    )
    parser.add_argument(
        "--debug", action="store_true", help="show the Python traceback of an error"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (encode, decode, info, verify, eval, import_, plot, report):
        module.add_parser(commands)
    return parser


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line, with OUT allowed after options too.

    argparse gives up an optional positional at the first option it meets: without this,
    `coordx encode photo.png -q 40 small.crdx` would be a usage error.
    """
    parser = build_parser()
    args, extra = parser.parse_known_args(arguments)
    missing = hasattr(args, "output") and args.output is None and "input" in args
    if missing and len(extra) == 1 and (extra[0] == "-" or not extra[0].startswith("-")):
        args.output = extra[0]
    elif extra:
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    args = parse(arguments)
    try:
        code = args.run(args)
        sys.stdout.flush()
        return int(code or 0)
    except CoordXError as error:
        if args.debug:
            raise
        return _fail(str(error))
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except MemoryError:
        return _fail("not enough memory for this picture on this device")
    except OSError as error:
        if args.debug:
            raise
        return _fail(str(error))


def _fail(message: str, code: int = 1) -> int:
    print(f"coordx: error: {' '.join(message.split())}", file=sys.stderr)
    return code
