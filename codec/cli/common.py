"""Argument types and small answers that several commands share."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

from formats.atomic import check_target
from formats.errors import InputError, MediaError, OutputError

__all__ = [
    "add_device",
    "add_overwrite",
    "dump_json",
    "frame_slice",
    "may_overwrite",
    "output_name",
    "read_input",
    "rectangle",
]

PIPE = "-"


def frame_slice(text: str) -> slice:
    """`a:b`, `a:`, `:b` or a single frame number to a slice."""
    try:
        if ":" not in text:
            number = int(text)
            return slice(number, number + 1 or None)
        start, stop = (int(part) if part else None for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected A:B, A:, :B or one frame number, got {text!r}"
        ) from None
    return slice(start, stop)


def rectangle(text: str) -> tuple[int, int, int, int]:
    """`x,y,width,height` to four integers."""
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected four integers x,y,width,height, got {text!r}"
        ) from None
    return x, y, width, height


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="auto (a CUDA GPU if there is one), cpu, cuda or cuda:N [auto]",
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """-y and --no-overwrite."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-y", "--yes", action="store_true", help="overwrite OUT without asking")
    group.add_argument(
        "--no-overwrite",
        action="store_true",
        help="fail if OUT exists (also what happens without a terminal to ask on)",
    )


def output_name(given: str | None, source: str, suffix: str) -> str:
    """OUT, or IN with another suffix; `-` for a pipe. Refuses to write over the input.

    Raises:
        InputError: IN is no file name, or OUT is the file IN.
    """
    if given is None and source != PIPE and not Path(source).name:
        raise InputError(f"IN: expected the name of a file, got {source!r}")
    if given is None:
        return PIPE if source == PIPE else str(Path(source).with_suffix(suffix))
    if PIPE not in (given, source):
        first, second = Path(source), Path(given)
        if first.exists() and second.exists() and first.samefile(second):
            raise InputError(f"OUT: {given} is the input itself; choose another name")
    return given


def may_overwrite(path: Path, args: argparse.Namespace) -> bool:
    """Whether `path` may be replaced; asks on a terminal. Checks that it can be written.

    Raises:
        OutputError: it cannot be written at all, or must not be replaced.
    """
    overwrite = bool(args.yes)
    if not overwrite and not args.no_overwrite and path.is_file() and sys.stdin.isatty():
        print(f"{path} exists. Overwrite? [y/N] ", end="", file=sys.stderr, flush=True)
        overwrite = sys.stdin.readline().strip().lower() in ("y", "yes")
    if path.is_file() and not overwrite:
        raise OutputError(f"cannot write {path}: it exists; -y overwrites it, or name another OUT")
    check_target(path, overwrite=overwrite)
    return overwrite


def read_input(name: str) -> bytes | str:
    """A path as it is; the bytes of standard input for `-`."""
    if name != PIPE:
        return name
    data = sys.stdin.buffer.read()
    if not data:
        raise MediaError("cannot read standard input: it is empty")
    return data


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # strict JSON has no Infinity: the PSNR of an exact copy is null
    return value


def dump_json(value: Any) -> str:
    """Strict JSON of dataclasses, dicts, lists and numbers."""
    return json.dumps(_plain(value), indent=2, allow_nan=False)
