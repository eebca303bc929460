"""Whether a result file from a disk is whole: each part that is shown is of its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codec.evaluate.curves import is_number
from formats.errors import InputError

__all__ = ["check_results"]

Kind = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _or_none(kind: Kind) -> Kind:
    return lambda value: value is None or kind(value)


def _list_of(kind: Kind) -> Kind:
    return lambda value: isinstance(value, list) and all(map(kind, value))


def _mapping_to(kind: Kind) -> Kind:
    return lambda value: isinstance(value, dict) and all(map(kind, value.values()))


def _anything(_: Any) -> bool:
    return True


REPORT: Mapping[str, Kind] = {
    "kind": _text,
    "command": _text,
    "averaging": _text,
    "machine": _mapping_to(_anything),
    "sources": _mapping_to(_text),
    "averaged_items": _list_of(_text),
    "errors": _list_of(lambda value: isinstance(value, dict)),
    "codecs": _list_of(lambda value: isinstance(value, dict)),
}
FAILURE: Mapping[str, Kind] = {"item": _text, "error": _text, "codec": _or_none(_text)}
CODEC: Mapping[str, Kind] = {
    "name": _text,
    "description": _text,
    "spec": _or_none(_text),
    "results": _mapping_to(_anything),
    "items": _list_of(lambda value: isinstance(value, dict)),
}
NUMBERS = ("quality", "bytes", "bpp", "encoding_time", "decoding_time")
MAYBE_NUMBERS = ("peak_memory", "psnr", "psnr_yuv", "ms_ssim", "lpips", "vmaf")
ITEM: Mapping[str, Kind] = (
    {"item": _text, "sha256": _text, "codec": _text, "device": _text, "file": _or_none(_text)}
    | dict.fromkeys(NUMBERS, is_number)
    | dict.fromkeys(MAYBE_NUMBERS, _or_none(is_number))
)


def check_results(report: Mapping[str, Any], path: Path) -> None:
    """Refuse what a page cannot show of the content of a result file.

    Args:
        report: as `curves_of` took it, so that its curves are whole.
        path: the file, for the error message.

    Raises:
        InputError: a part is missing or not of its kind. Files of published curves and of
            others have fewer parts, of which those that are there count.
    """
    ours = "sources" in report
    need = {"kind", "averaged_items"} if ours else set()
    _check(report, REPORT, need, f"{path}: damaged result file")
    for failure in report.get("errors", []):
        _check(failure, FAILURE, set(FAILURE), f"{path}: damaged result file: a failure")
    for entry in report["codecs"]:
        name = f"{path}: damaged result file: codec {entry.get('name')!r}"
        _check(entry, CODEC, {"name", "results", "items"} if ours else {"name", "results"}, name)
        commands = entry["results"].get("command", [])
        _check({"command": commands}, {"command": _list_of(_text)}, set(), name)
        for row in entry.get("items", []):
            _check(row, ITEM, {"item", "codec", "sha256", *NUMBERS}, f"{name}: an item")


def _check(part: Mapping[str, Any], kinds: Mapping[str, Kind], need: set[str], where: str) -> None:
    for key, is_kind in kinds.items():
        if key not in part and key in need:
            raise InputError(f"{where} has no {key!r}")
        if key in part and not is_kind(part[key]):
            raise InputError(f"{where} has {part[key]!r:.40} as {key!r}")
