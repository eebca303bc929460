"""Bjøntegaard deltas: against SciPy, against cases with a known answer, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from codec.evaluate.bdrate import (
    bd_psnr,
    bd_rate,
    pchip_integral,
    pchip_slopes,
    rate_at,
    shared_range,
)
from formats.errors import InputError

PSNR = [28.0, 31.0, 34.5, 38.0]
RATE = [0.1, 0.25, 0.6, 1.4]


@pytest.mark.parametrize("seed", range(30))
def test_interpolation_equals_scipy(seed: int) -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    x = np.cumsum(rng.uniform(0.05, 3, n))
    y = rng.normal(size=n)  # rises and falls: every branch of the slope rule
    if seed % 3 == 0:
        y = np.round(y)  # level stretches
    if seed % 3 == 1:
        y = np.sort(y)
    reference = interpolate.PchipInterpolator(x, y)
    assert pchip_slopes(x, y) == pytest.approx(reference(x, 1), abs=1e-12)
    low, high = np.sort(rng.uniform(x[0], x[-1], 2))
    assert pchip_integral(x, y, low, high) == pytest.approx(
        float(reference.integrate(low, high)), abs=1e-12
    )


def test_the_rate_at_a_quality_is_that_of_the_same_curve() -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    psnr, rate = [33.0, 28.5, 30.0, 36.2], [0.8, 0.2, 0.3, 1.7]
    order = np.argsort(psnr)
    reference = interpolate.PchipInterpolator(np.array(psnr)[order], np.log(rate)[order])
    for quality in (28.5, 29.0, 30.0, 31.7, 36.0, 36.2):
        assert rate_at(rate, psnr, quality) == pytest.approx(np.exp(reference(quality)))
    for outside in (28.4, 36.3, float("nan")):
        with pytest.raises(InputError, match=r"quality: expected 28.50 to 36.20 dB"):
            rate_at(rate, psnr, outside)


@pytest.mark.parametrize("seed", range(10))
def test_bd_rate_and_bd_psnr_equal_their_definition_by_scipy(seed: int) -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    rng = np.random.default_rng(100 + seed)
    curves = []
    for _ in range(2):
        n = int(rng.integers(3, 8))
        quality = 28 + np.cumsum(rng.uniform(0.5, 3, n))
        curves.append((0.05 * np.exp(np.cumsum(rng.uniform(0.1, 0.8, n))), quality))
    (rate_a, psnr_a), (rate_b, psnr_b) = curves
    low, high = max(psnr_a[0], psnr_b[0]), min(psnr_a[-1], psnr_b[-1])
    a, b = (interpolate.PchipInterpolator(q, np.log10(r)) for r, q in curves)
    gap = (b.integrate(low, high) - a.integrate(low, high)) / (high - low)
    assert bd_rate(rate_a, psnr_a, rate_b, psnr_b) == pytest.approx(100 * (10**gap - 1), abs=1e-9)
    low, high = max(np.log10(rate_a[0]), np.log10(rate_b[0])), np.log10(min(rate_a[-1], rate_b[-1]))
    a, b = (interpolate.PchipInterpolator(np.log10(r), q) for r, q in curves)
    gap = (b.integrate(low, high) - a.integrate(low, high)) / (high - low)
    assert bd_psnr(rate_a, psnr_a, rate_b, psnr_b) == pytest.approx(float(gap), abs=1e-9)


@pytest.mark.parametrize(("factor", "percent"), [(0.5, -50), (1, 0), (2, 100), (1.07, 7)])
def test_a_rate_scaled_everywhere_is_that_percentage(factor: float, percent: float) -> None:
    scaled = [factor * rate for rate in RATE]
    assert bd_rate(RATE, PSNR, scaled, PSNR) == pytest.approx(percent, abs=1e-9)


def test_a_psnr_shifted_everywhere_is_that_gain() -> None:
    assert bd_psnr(RATE, PSNR, RATE, [q + 1.5 for q in PSNR]) == pytest.approx(1.5, abs=1e-12)


def test_straight_lines_are_compared_exactly_over_what_they_share() -> None:
    # log10 rate = psnr / 20 - 2 and = psnr / 10 - 3.5: the gap at 32 dB, the middle, is 0.1.
    anchor, test = np.array([25.0, 29.0, 34.0]), np.array([30.0, 31.0, 33.0, 40.0])
    percent = bd_rate(10 ** (anchor / 20 - 2), anchor, 10 ** (test / 10 - 3.5), test)
    assert percent == pytest.approx(100 * (10**0.1 - 1), abs=1e-9)


def test_points_may_come_in_any_order() -> None:
    order = [2, 0, 3, 1]
    mixed = [RATE[n] for n in order], [PSNR[n] for n in order]
    test = [1.3 * rate for rate in RATE], [q + 0.4 for q in PSNR]
    assert bd_rate(*mixed, *test) == bd_rate(RATE, PSNR, *test)
    assert bd_psnr(*mixed, *test) == bd_psnr(RATE, PSNR, *test)


def test_a_rate_that_falls_as_quality_rises_is_accepted() -> None:
    bent = [0.1, 0.3, 0.28, 1.4]
    assert bd_rate(bent, PSNR, [rate / 2 for rate in bent], PSNR) == pytest.approx(-50)


@pytest.mark.parametrize(
    ("rate", "psnr", "message"),
    [
        (RATE[:2], PSNR[:2], "at least 3 points, got 2"),
        (RATE, PSNR[:3], "as many rates as PSNR values"),
        ([0.0, *RATE[1:]], PSNR, "rates above 0"),
        (RATE, [float("inf"), *PSNR[1:]], "finite PSNR"),
        (RATE, [28.0, 31.0, 31.0, 38.0], "same PSNR, 31"),
        (RATE, [50.0, 51.0, 52.0, 53.0], r"anchor covers 28.00 to 38.00 dB, .* 50.00 to 53.00"),
    ],
)
def test_what_has_no_bd_rate_is_refused(rate: list[float], psnr: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bd_rate(RATE, PSNR, rate, psnr)


def test_bd_psnr_refuses_a_rate_given_twice_and_rates_apart() -> None:
    with pytest.raises(InputError, match=r"same rate, 0\.1"):
        bd_psnr([0.1, 0.1, 0.6, 1.4], PSNR, RATE, PSNR)
    with pytest.raises(InputError, match="log10 rate"):
        bd_psnr(RATE, PSNR, [100 * rate for rate in RATE], PSNR)


def test_curves_that_only_touch_do_not_overlap() -> None:
    with pytest.raises(InputError, match="do not overlap"):
        shared_range([30, 35], [35, 40])
    assert shared_range([30, 35], [34, 40]) == (34, 35)


@pytest.mark.parametrize("seed", range(20))
def test_deltas_equal_those_of_the_package_bjontegaard(seed: int) -> None:
    reference = pytest.importorskip("bjontegaard")
    rng = np.random.default_rng(200 + seed)
    curves = []
    for _ in range(2):
        n = int(rng.integers(4, 9))
        rate = np.cumsum(rng.uniform(0.02, 0.6, n))
        quality = 26 + np.cumsum(rng.uniform(0.2, 4, n))
        curves += [rate, quality]
    settings = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}
    assert bd_rate(*curves) == pytest.approx(reference.bd_rate(*curves, **settings), abs=1e-6)
    assert bd_psnr(*curves) == pytest.approx(reference.bd_psnr(*curves, **settings), abs=1e-6)
