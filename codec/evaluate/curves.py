"""Rate-distortion curves, read from result files.

`load_curves` takes three shapes of JSON: our result files (all codecs in one), CompressAI's
(one codec), and a mapping from names to {"bpp": [...], "psnr": [...]}, in which collections of
published curves are kept.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from formats.errors import InputError

__all__ = [
    "Curve",
    "Metric",
    "curves_of",
    "find_curve",
    "is_number",
    "label_of",
    "load_curves",
    "read_json",
]

Metric = Literal["psnr", "ms-ssim", "psnr-yuv", "vmaf", "lpips"]

FIELDS: Mapping[Metric, str] = {
    "psnr": "psnr",
    "ms-ssim": "ms_ssim",
    "psnr-yuv": "psnr_yuv",
    "vmaf": "vmaf",
    "lpips": "lpips",
}
"""The metrics that a curve may have, with the field of each."""

# Field of a curve: its keys in a result file, the first that is there counts. CompressAI's own
# files use both spellings.
KEYS = {
    "psnr": ("psnr-rgb", "psnr"),
    "ms_ssim": ("ms-ssim-rgb", "ms-ssim"),
    "psnr_yuv": ("psnr-yuv",),
    "vmaf": ("vmaf",),
    "lpips": ("lpips",),
    "encoding_time": ("encoding_time", "encoding_time_s"),
    "decoding_time": ("decoding_time", "decoding_time_s"),
}


@dataclass(frozen=True)
class Curve:
    """One codec's points.

    Attributes:
        name: of the codec.
        bpp: bits per pixel, above 0.
        psnr: dB over R'G'B', one a point; None where it is unknown or infinite.
        ms_ssim: 0..1, one a point; None where unknown. Empty when never measured.
        psnr_yuv: dB, vmaf: 0..100, lpips: 0.., in the same way.
        encoding_time, decoding_time: seconds, one a point or empty.
        published: taken from a publication, not measured here.
        source: where it was published, or the version of the codec; of an item's curve the
            digest of the item's file.
        items: the curves of the items that this one is the mean of, by item.
    """

    name: str
    bpp: tuple[float, ...]
    psnr: tuple[float | None, ...] = ()
    ms_ssim: tuple[float | None, ...] = ()
    psnr_yuv: tuple[float | None, ...] = ()
    vmaf: tuple[float | None, ...] = ()
    lpips: tuple[float | None, ...] = ()
    encoding_time: tuple[float | None, ...] = ()
    decoding_time: tuple[float | None, ...] = ()
    published: bool = False
    source: str = ""
    items: Mapping[str, Curve] = field(default_factory=dict, hash=False, compare=False)

    def points(self, metric: Metric = "psnr") -> tuple[list[float], list[float]]:
        """(bpp, quality) of the points that have the metric, by rising rate.

        MS-SSIM is given as -10 log10(1 - MS-SSIM) dB: near 1 the index itself shows nothing.
        LPIPS is given negated, so that more is better as for the others.
        """
        values: Sequence[float | None] = getattr(self, FIELDS[metric])
        if metric == "ms-ssim":
            values = [_decibels(v) for v in values]
        elif metric == "lpips":
            values = [None if v is None else -v for v in values]
        pairs = zip(self.bpp, values, strict=bool(values))
        known = sorted((rate, value) for rate, value in pairs if value is not None)
        return [rate for rate, _ in known], [value for _, value in known]

    @property
    def label(self) -> str:
        """The name, and whether it was published."""
        return label_of(self.name, self.published)


def find_curve(curves: Sequence[Curve], name: str) -> Curve:
    """The curve of this name, or the only one whose name begins with it.

    Raises:
        InputError: none or several.
    """
    exact = [curve for curve in curves if curve.name == name]
    found = exact or [curve for curve in curves if curve.name.startswith(name)]
    if len(found) != 1:
        names = ", ".join(repr(curve.name) for curve in found or curves)
        reason = f"{len(found)} begin with it: {names}" if found else f"there are {names}"
        raise InputError(f"curve: expected the name of one, got {name!r}; {reason}")
    return found[0]


def load_curves(path: str | Path) -> list[Curve]:
    """All curves of a result file, see the head of this module.

    Raises:
        InputError: what `read_json` and `curves_of` refuse.
    """
    source = Path(path)
    return curves_of(read_json(source), source)


def read_json(path: Path, *, strict: bool = True) -> Any:
    """The content of a file of results or curves.

    Args:
        path: the file.
        strict: refuse NaN and infinities, which JSON does not have but some files do.

    Raises:
        InputError: no such file, or not JSON.
    """
    constant = _refuse_constant if strict else None
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=constant)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a JSON file of results or curves: {error}") from error


def curves_of(data: Any, source: Path) -> list[Curve]:
    """All curves of a result file's content.

    Args:
        data: what the JSON says.
        source: the file, for error messages and the name of a nameless curve.

    Raises:
        InputError: no curve in it, an entry that is none, or a list that is not of numbers or
            not of the length of "bpp".
    """
    # Only files of our own say where and how they were measured; all others are somebody's.
    published = isinstance(data, dict) and (data.get("published") is True or "schema" not in data)
    shared = data.get("averaged_items", []) if isinstance(data, dict) else []
    curves = [
        dataclasses.replace(
            _curve(source, name, _results(entry)),
            published=published or entry.get("published") is True,
            source=str(entry.get("source") or entry.get("description") or ""),
            items=_item_curves(source, entry.get("items", []), shared),
        )
        for name, entry in _tables(data, source)
    ]
    if not curves:
        raise InputError(
            f'{source}: expected results with "bpp" and "psnr-rgb", found no such table'
        )
    return curves


def _tables(data: Any, source: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name, entry) of each codec in a parsed file; the file names a nameless one."""
    if not isinstance(data, dict):
        return
    codecs = data.get("codecs")
    if isinstance(codecs, list):
        for number, entry in enumerate(codecs, 1):
            if not _is_curve(entry):  # a codec that is left out without a word would be missed
                raise InputError(f"{source}: codec {number} of {len(codecs)} has no results")
            yield str(entry.get("name", source.stem)), entry
    elif _is_curve(data):
        yield str(data.get("name", source.stem)), data
    else:
        yield from ((name, entry) for name, entry in data.items() if _is_curve(entry))


def _is_curve(entry: Any) -> bool:
    return isinstance(entry, dict) and (isinstance(entry.get("results"), dict) or "bpp" in entry)


def _results(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    results = entry.get("results")
    return results if isinstance(results, dict) else entry


def _curve(source: Path, name: str, results: Mapping[str, Any]) -> Curve:
    def numbers(keys: tuple[str, ...]) -> tuple[float | None, ...]:
        key = next((key for key in keys if results.get(key) is not None), None)
        if key is None:
            return ()
        values = results[key]
        if not isinstance(values, list) or not all(is_number(v) or v is None for v in values):
            raise InputError(f"{source}: {name!r}: expected a list of numbers as {key!r}")
        return tuple(None if v is None else float(v) for v in values)

    rates = numbers(("bpp",))
    values: dict[str, Any] = {field_: numbers(keys) for field_, keys in KEYS.items()}
    bpp = tuple(rate for rate in rates if rate is not None and rate > 0)
    if len(bpp) < len(rates) or any(len(v) not in (0, len(bpp)) for v in values.values()):
        raise InputError(
            f"{source}: {name!r}: expected rates above 0 and as many values of each metric, "
            f"got {len(rates)} rates ({len(bpp)} above 0), {len(values['psnr'])} PSNR, "
            f"{len(values['ms_ssim'])} MS-SSIM"
        )
    return Curve(name, bpp, **values)


def _item_curves(source: Path, rows: Any, shared: Sequence[str]) -> dict[str, Curve]:
    """Each item's curve, by rising quality point, of the items that the means are over."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    try:
        for row in rows:
            if row["item"] in shared:
                groups.setdefault(row["item"], []).append(row)
        curves = {}
        for item, group in groups.items():
            group.sort(key=lambda row: row["quality"])
            # Our item rows are named as the fields of a curve are.
            table = {"bpp": [row["bpp"] for row in group]}
            for field_, keys in KEYS.items():
                table[keys[0]] = [row.get(field_) for row in group]
            digest = str(group[0].get("sha256", ""))
            curves[item] = dataclasses.replace(_curve(source, item, table), source=digest)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{source}: the table of items is damaged: {error!r}") from error
    return curves


def _decibels(index: float | None) -> float | None:
    return None if index is None or index >= 1 else -10 * math.log10(1 - index)


def label_of(name: str, published: bool) -> str:
    """A name, and whether it was published."""
    return f"{name} (published)" if published else name


def is_number(value: object) -> bool:
    """Whether a value of a JSON file is a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
