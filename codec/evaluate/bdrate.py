"""Bjøntegaard deltas: the mean gap between two rate-distortion curves.

Curves are interpolated by a monotone piecewise cubic (PCHIP) in (quality, log10 rate), as
JCTVC-L1100 and all current common test conditions do, not by the single cubic polynomial of
VCEG-M33, which overshoots between points that lie far apart. The slopes are those of Fritsch
and Butland, "A method for constructing local monotone piecewise cubic interpolants" (1984),
with the three-point end rule of SciPy and MATLAB; integrals are exact, not sampled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from formats.errors import InputError

__all__ = ["bd_psnr", "bd_rate", "pchip_integral", "pchip_slopes", "rate_at", "shared_range"]

Vector = NDArray[np.float64]

# Two points make a straight line whose slope says more about the choice of points than
# about the codec. Four are usual; three are the least from which a bend can be seen.
MIN_POINTS = 3


def bd_rate(
    rate_anchor: Sequence[float],
    psnr_anchor: Sequence[float],
    rate_test: Sequence[float],
    psnr_test: Sequence[float],
) -> float:
    """Mean rate difference at equal quality, in percent; negative: the test needs less.

    The mean of log10(rate) over the PSNR interval that both curves cover, no extrapolation.
    Points may come in any order; they are sorted by PSNR. A curve whose rate falls somewhere
    as its PSNR rises is accepted: it still is one rate for each PSNR.

    Args:
        rate_anchor, rate_test: above 0, in any one unit (bits per pixel, kbit/s).
        psnr_anchor, psnr_test: dB (or any quality scale), no value twice within a curve.

    Raises:
        InputError: fewer than 3 points, lengths that differ, a rate not above 0, a value that
            is not finite, a PSNR given twice, or curves whose PSNR ranges do not overlap.
    """
    x_anchor, y_anchor = _curve("anchor", psnr_anchor, rate_anchor, by="PSNR")
    x_test, y_test = _curve("test", psnr_test, rate_test, by="PSNR")
    low, high = shared_range(x_anchor, x_test, unit="dB")
    gap = pchip_integral(x_test, y_test, low, high) - pchip_integral(x_anchor, y_anchor, low, high)
    return float(100 * (10 ** (gap / (high - low)) - 1))


def bd_psnr(
    rate_anchor: Sequence[float],
    psnr_anchor: Sequence[float],
    rate_test: Sequence[float],
    psnr_test: Sequence[float],
) -> float:
    """Mean PSNR difference at equal rate, in dB; positive: the test is better.

    Arguments and errors as in `bd_rate`, with the roles exchanged: points are sorted by rate,
    no rate may be given twice, and the rate ranges must overlap.
    """
    y_anchor, x_anchor = _curve("anchor", psnr_anchor, rate_anchor, by="rate")
    y_test, x_test = _curve("test", psnr_test, rate_test, by="rate")
    low, high = shared_range(x_anchor, x_test, unit="log10 rate")
    gap = pchip_integral(x_test, y_test, low, high) - pchip_integral(x_anchor, y_anchor, low, high)
    return gap / (high - low)


def rate_at(rate: Sequence[float], psnr: Sequence[float], quality: float) -> float:
    """The rate of a curve at a quality between its ends.

    Args:
        rate, psnr: of the curve, as in `bd_rate`.
        quality: in the unit of `psnr`.

    Returns:
        In the unit of `rate`.

    Raises:
        InputError: as `bd_rate`, or the curve does not reach that quality.
    """
    x, y = _curve("this", psnr, rate, by="PSNR")
    if not x[0] <= quality <= x[-1]:
        raise InputError(
            f"quality: expected {x[0]:.2f} to {x[-1]:.2f} dB, which the curve covers, "
            f"got {quality:.2f}"
        )
    c0, c1, c2, c3, step = _cubics(x, y)
    segment = min(int(np.searchsorted(x, quality, "right")) - 1, len(step) - 1)
    s = quality - float(x[segment])
    value = c0[segment] + s * (c1[segment] + s * (c2[segment] + s * c3[segment]))
    return float(10**value)


def shared_range(
    anchor: Sequence[float] | Vector, test: Sequence[float] | Vector, unit: str = "dB"
) -> tuple[float, float]:
    """The interval that both sets of values span.

    Raises:
        InputError: there is none, or it is a single value; the message names both ranges.
    """
    low, high = float(max(min(anchor), min(test))), float(min(max(anchor), max(test)))
    if low >= high:
        raise InputError(
            "the curves do not overlap: "
            f"the anchor covers {min(anchor):.2f} to {max(anchor):.2f} {unit}, "
            f"the test {min(test):.2f} to {max(test):.2f} {unit}"
        )
    return low, high


def pchip_slopes(x: Vector, y: Vector) -> Vector:
    """Derivatives at the knots of the monotone piecewise cubic through (x, y).

    Args:
        x: (n,) strictly increasing, n >= 2.
        y: (n,).

    Returns:
        (n,) slopes: 0 at a local extremum, else a weighted harmonic mean of the two secants.
    """
    step = np.diff(x)
    secant = np.diff(y) / step
    if len(x) == 2:
        return np.array([secant[0], secant[0]])
    slopes = np.zeros(len(x))
    weight_left = 2 * step[1:] + step[:-1]
    weight_right = step[1:] + 2 * step[:-1]
    rising = secant[:-1] * secant[1:] > 0
    left, right = secant[:-1][rising], secant[1:][rising]
    weight_left, weight_right = weight_left[rising], weight_right[rising]
    slopes[1:-1][rising] = (weight_left + weight_right) / (
        weight_left / left + weight_right / right
    )
    slopes[0] = _end_slope(step[0], step[1], secant[0], secant[1])
    slopes[-1] = _end_slope(step[-1], step[-2], secant[-1], secant[-2])
    return slopes


def _end_slope(step: float, next_step: float, secant: float, next_secant: float) -> float:
    """Slope of the parabola through the three points at an end, limited to keep the shape."""
    slope = ((2 * step + next_step) * secant - step * next_secant) / (step + next_step)
    if slope * secant <= 0:
        return 0.0
    if secant * next_secant <= 0 and abs(slope) > 3 * abs(secant):
        return 3 * secant
    return slope


def pchip_integral(x: Vector, y: Vector, low: float, high: float) -> float:
    """Integral of the monotone piecewise cubic through (x, y) from `low` to `high`.

    Args:
        x: (n,) strictly increasing, n >= 2.
        y: (n,).
        low, high: within [x[0], x[-1]].
    """
    c0, c1, c2, c3, step = _cubics(x, y)
    start = np.clip(low - x[:-1], 0, step)
    end = np.clip(high - x[:-1], 0, step)

    def antiderivative(s: Vector) -> Vector:
        return s * (c0 + s * (c1 / 2 + s * (c2 / 3 + s * c3 / 4)))

    return float(np.sum(antiderivative(end) - antiderivative(start)))


def _cubics(x: Vector, y: Vector) -> tuple[Vector, Vector, Vector, Vector, Vector]:
    """The cubic through (x, y) by segment, y = c0 + c1 s + c2 s^2 + c3 s^3 with s measured from the
    left knot, and the segments' lengths."""
    step = np.diff(x)
    secant = np.diff(y) / step
    slopes = pchip_slopes(x, y)
    c2 = (3 * secant - 2 * slopes[:-1] - slopes[1:]) / step
    c3 = (slopes[:-1] + slopes[1:] - 2 * secant) / step**2
    return y[:-1], slopes[:-1], c2, c3, step


def _curve(
    name: str, psnr: Sequence[float], rate: Sequence[float], *, by: str
) -> tuple[Vector, Vector]:
    """Checked (PSNR, log10 rate), sorted by the one that is the axis of interpolation."""
    quality = np.asarray(psnr, dtype=np.float64)
    rates = np.asarray(rate, dtype=np.float64)
    if quality.ndim != 1 or quality.shape != rates.shape:
        raise InputError(
            f"{name} curve: expected as many rates as PSNR values, "
            f"got shapes {rates.shape} and {quality.shape}"
        )
    if len(quality) < MIN_POINTS:
        raise InputError(f"{name} curve: expected at least {MIN_POINTS} points, got {len(quality)}")
    if not (np.isfinite(quality).all() and np.isfinite(rates).all() and (rates > 0).all()):
        raise InputError(
            f"{name} curve: expected finite PSNR and rates above 0, "
            f"got PSNR {quality.tolist()} and rates {rates.tolist()}"
        )
    axis = quality if by == "PSNR" else rates
    order = np.argsort(axis)
    repeated = np.flatnonzero(np.diff(axis[order]) == 0)
    if repeated.size:
        value = float(axis[order][repeated[0]])
        raise InputError(f"{name} curve: two points have the same {by}, {value:g}")
    return quality[order], np.log10(rates[order])
