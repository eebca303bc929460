"""Rate-distortion curves: read from result files, compare by Bjøntegaard deltas.

`load_curves` reads three shapes of JSON: our result files (all codecs in one), CompressAI's
(one codec), and a mapping from names to {"bpp": [...], "psnr": [...]}, in which collections of
published curves are kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from codec.evaluate.bdrate import bd_psnr, bd_rate, shared_range
from formats.errors import InputError

__all__ = ["Comparison", "Curve", "Metric", "compare", "find_curve", "load_curves"]

Metric = Literal["psnr", "ms-ssim"]

# The keys of a metric, the first that is there counts: CompressAI's own files use both.
PSNR_KEYS = ("psnr-rgb", "psnr")
MS_SSIM_KEYS = ("ms-ssim-rgb", "ms-ssim")


@dataclass(frozen=True)
class Curve:
    """One codec's points.

    Attributes:
        name: of the codec.
        bpp: bits per pixel, above 0.
        psnr: dB, one a point; None where it is unknown or infinite.
        ms_ssim: 0..1, one a point; None where unknown. Empty when never measured.
    """

    name: str
    bpp: tuple[float, ...]
    psnr: tuple[float | None, ...] = ()
    ms_ssim: tuple[float | None, ...] = ()

    def points(self, metric: Metric = "psnr") -> tuple[list[float], list[float]]:
        """(bpp, dB) of the points that have the metric, by rising rate.

        MS-SSIM is given as -10 log10(1 - MS-SSIM) dB: near 1 the index itself shows nothing.
        """
        values = self.psnr if metric == "psnr" else [_decibels(v) for v in self.ms_ssim]
        pairs = zip(self.bpp, values, strict=bool(values))
        known = sorted((rate, value) for rate, value in pairs if value is not None)
        return [rate for rate, _ in known], [value for _, value in known]


@dataclass(frozen=True)
class Comparison:
    """A curve against the anchor.

    Attributes:
        name: of the curve.
        bd_rate: percent, None when refused.
        bd_gain: dB at equal rate (BD-PSNR), None when refused.
        low, high: the interval in dB that the BD-rate covers, None when refused.
        refused: why there is no BD-rate, or None.
    """

    name: str
    bd_rate: float | None = None
    bd_gain: float | None = None
    low: float | None = None
    high: float | None = None
    refused: str | None = None


def compare(curves: Sequence[Curve], anchor: Curve, metric: Metric = "psnr") -> list[Comparison]:
    """Each curve but the anchor itself against the anchor, in their order.

    Args:
        curves: any number, with or without the anchor.
        anchor: what the others are held against.
        metric: what is held equal.
    """
    return [_against(anchor, curve, metric) for curve in curves if curve is not anchor]


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
        InputError: no such file, not JSON, no curve in it, or a list that is not of numbers or
            not of the length of "bpp".
    """
    source = Path(path)
    try:
        data = json.loads(source.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{source}: expected a JSON file of results: {error}") from error
    curves = [_curve(source, name, results) for name, results in _tables(data, source.stem)]
    if not curves:
        raise InputError(
            f'{source}: expected results with "bpp" and "psnr-rgb", found no such table'
        )
    return curves


def _tables(data: Any, stem: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name, results) of each codec in a parsed file; stem names a nameless one."""
    if not isinstance(data, dict):
        return
    codecs = data.get("codecs")
    if isinstance(codecs, list):
        for entry in codecs:
            yield from _tables(entry, stem)
    elif isinstance(data.get("results"), dict):
        yield str(data.get("name", stem)), data["results"]
    elif "bpp" in data:
        yield str(data.get("name", stem)), data
    else:
        for name, results in data.items():
            if isinstance(results, dict) and "bpp" in results:
                yield name, results


def _curve(source: Path, name: str, results: Mapping[str, Any]) -> Curve:
    def numbers(keys: tuple[str, ...]) -> tuple[float | None, ...]:
        key = next((key for key in keys if results.get(key) is not None), None)
        if key is None:
            return ()
        values = results[key]
        if not isinstance(values, list) or not all(_is_number(v) or v is None for v in values):
            raise InputError(f"{source}: {name!r}: expected a list of numbers as {key!r}")
        return tuple(None if v is None else float(v) for v in values)

    rates, qualities, indices = numbers(("bpp",)), numbers(PSNR_KEYS), numbers(MS_SSIM_KEYS)
    bpp = tuple(rate for rate in rates if rate is not None and rate > 0)
    if len(bpp) < len(rates) or any(n not in (0, len(bpp)) for n in map(len, (qualities, indices))):
        raise InputError(
            f"{source}: {name!r}: expected rates above 0 and as many values of each metric, "
            f"got {len(rates)} rates ({len(bpp)} above 0), {len(qualities)} PSNR, "
            f"{len(indices)} MS-SSIM"
        )
    return Curve(name, bpp, qualities, indices)


def _against(anchor: Curve, curve: Curve, metric: Metric) -> Comparison:
    anchor_points, points = anchor.points(metric), curve.points(metric)
    try:
        percent = bd_rate(*anchor_points, *points)
        low, high = shared_range(anchor_points[1], points[1])
    except InputError as error:
        return Comparison(curve.name, refused=str(error))
    try:
        gain = bd_psnr(*anchor_points, *points)
    except InputError:  # an overlap in quality need not be one in rate
        gain = None
    return Comparison(curve.name, percent, gain, low, high)


def _decibels(index: float | None) -> float | None:
    return None if index is None or index >= 1 else -10 * math.log10(1 - index)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
