"""Published curves: read from others' files, written as one result file that says so.

Read are files of CompressAI ({"name", "description", "results": {"bpp": [...], ...}}), bare
curves ({"bpp": [...], "psnr": [...]}), our own result files, and collections of any of these
at any depth, such as {"dataset": {"codec": {"bpp": [...], "psnr": [...]}}}: there a curve is
called by the names on the way to it. What is published stays labelled as published in plots,
tables and reports, with its source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codec.evaluate.curves import KEYS, is_number, read_json
from codec.evaluate.results import SCHEMA
from formats.errors import InputError

__all__ = ["Published", "published_report", "read_published"]

# Keys by which collections name a metric, with ours.
RENAMED = {key: keys[0] for keys in KEYS.values() for key in keys} | {
    "ms_ssim": "ms-ssim-rgb",
    "psnr_rgb": "psnr-rgb",
    "psnr_yuv": "psnr-yuv",
    "psnr_yuv420": "psnr-yuv",
}
QUALITIES = ("psnr-rgb", "psnr-yuv", "ms-ssim-rgb", "vmaf", "lpips")
SOURCES = ("source", "src", "_note")


@dataclass(frozen=True)
class Published:
    """One curve that others have published.

    Attributes:
        name: of the codec, with the names of the collections it was in.
        results: lists by the keys of a result file, all as long as "bpp".
        source: where it comes from, as far as the file says.
        averaging: how it is a mean, as far as the file says.
        description: whatever else is said of it.
    """

    name: str
    results: Mapping[str, Sequence[float | None]]
    source: str = ""
    averaging: str = ""
    description: str = ""


def read_published(path: str | Path) -> tuple[list[Published], list[str]]:
    """The curves of a file, and the names of tables that look like curves and are none.

    Raises:
        InputError: no such file, not JSON, or no curve in it.
    """
    source = Path(path)
    data = read_json(source, strict=False)  # a table with a NaN is left out, the others are not
    curves: list[Published] = []
    skipped: list[str] = []
    for found in _walk(data, (), {"source": source.name}):
        if isinstance(found, Published):
            curves.append(found)
        else:
            skipped.append(found)
    if not curves:
        raise InputError(f'{source}: expected curves with "bpp" and a quality, found none')
    return _unnamed(curves, source.stem), skipped


def published_report(curves: Sequence[Published], command: str = "") -> dict[str, Any]:
    """The content of a result file that `coordx plot` and `coordx report` take.

    Raises:
        InputError: two curves of one name.
    """
    names = [curve.name for curve in curves]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"expected curves of different names, got twice: {', '.join(twice)}")
    return {
        "schema": SCHEMA,
        "published": True,
        "command": command,
        "codecs": [
            {
                "name": curve.name,
                "description": curve.description,
                "source": curve.source,
                "averaging": curve.averaging,
                "results": {key: list(values) for key, values in curve.results.items()},
            }
            for curve in curves
        ],
    }


def _walk(
    data: Any, names: tuple[str, ...], inherited: Mapping[str, str]
) -> Iterator[Published | str]:
    """Every curve below `data`, and the name of every table that has a rate but is none."""
    if isinstance(data, list):
        for entry in data:
            yield from _walk(entry, names, inherited)
        return
    if not isinstance(data, dict):
        return
    known = dict(inherited)
    for key in (*SOURCES, "averaging", "description"):
        if isinstance(data.get(key), str):
            known["source" if key in SOURCES else key] = data[key]
    own = data.get("name")
    here = (*names, own) if isinstance(own, str) and names[-1:] != (own,) else names
    results = data["results"] if isinstance(data.get("results"), dict) else data
    if "bpp" in results:
        table = _table(results)
        name = "/".join(here)
        if table is None:
            yield name
        else:
            about = (known.get(key, "") for key in ("source", "averaging", "description"))
            yield Published(name, table, *about)
    elif isinstance(data.get("codecs"), list):
        yield from _walk(data["codecs"], names, known)
    else:
        for key, value in data.items():
            yield from _walk(value, (*here, key), known)


def _table(results: Mapping[str, Any]) -> dict[str, list[float | None]] | None:
    """Rates and qualities under our names; None without at least one quality list."""
    rates = results["bpp"]
    if not isinstance(rates, list) or not rates:
        return None
    if not all(is_number(rate) and rate > 0 for rate in rates):
        return None
    table: dict[str, list[float | None]] = {"bpp": [float(rate) for rate in rates]}
    for key, values in results.items():
        ours = RENAMED.get(key)
        if ours is None or ours in table or not isinstance(values, list):
            continue
        if len(values) == len(rates) and all(v is None or is_number(v) for v in values):
            table[ours] = [None if v is None else float(v) for v in values]
    return table if any(key in table for key in QUALITIES) else None


def _unnamed(curves: list[Published], stem: str) -> list[Published]:
    return [curve if curve.name else replace(curve, name=stem) for curve in curves]
