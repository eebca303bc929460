"""Per-item deltas and the interval of a BD-rate."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest

from codec.evaluate.bdrate import bd_rate
from codec.evaluate.bootstrap import item_deltas
from codec.evaluate.comparison import compare
from codec.evaluate.curves import Curve
from codec.evaluate.table import bd_table

QUALITY = (28.0, 31.0, 34.0, 37.0)
RATES = np.array([0.1, 0.2, 0.4, 0.8])


def curve(name: str, factors: list[float]) -> Curve:
    """A curve of items that need `factors` times the rates."""
    items = {
        f"item{n}": Curve(f"item{n}", tuple(factor * RATES), QUALITY)
        for n, factor in enumerate(factors)
    }
    return Curve(name, tuple(np.mean(factors) * RATES), QUALITY, items=items)


def test_every_item_has_its_delta() -> None:
    deltas = item_deltas(curve("a", [1, 1, 2, 1]), curve("b", [0.5, 2, 2, 1]))
    assert deltas.per_item == pytest.approx({"item0": -50, "item1": 100, "item2": 0, "item3": 0})
    assert deltas.mean == pytest.approx(12.5)
    assert deltas.refused == {}


def test_an_interval_without_spread_is_a_point() -> None:
    deltas = item_deltas(curve("a", [1, 2, 3]), curve("b", [0.8, 1.6, 2.4]))
    assert (deltas.low, deltas.high) == pytest.approx((-20, -20))


def test_the_interval_holds_the_delta_of_the_means_and_shrinks_with_items() -> None:
    generator = np.random.default_rng(3)
    widths = []
    for count in (6, 96):
        factors = list(np.exp(0.3 * generator.standard_normal(count)))
        a, b = curve("a", [1.0] * count), curve("b", factors)
        deltas = item_deltas(a, b, resamples=300)
        means = bd_rate(a.bpp, QUALITY, b.bpp, QUALITY)
        assert deltas.low is not None
        assert deltas.high is not None
        assert deltas.low < means < deltas.high
        widths.append(deltas.high - deltas.low)
        assert item_deltas(a, b, resamples=300) == deltas  # seeded
        assert item_deltas(a, b, resamples=300, seed=1).low != deltas.low
    assert widths[1] < widths[0] / 2


def test_the_interval_of_ms_ssim_is_of_the_mean_index() -> None:
    points = {
        "x": (0.9, 0.97, 0.99, 0.997),
        "y": (0.8, 0.93, 0.95, 0.98),
        "z": (0.5, 0.8, 0.9, 0.99),
    }
    made = []
    for name, factor in (("a", 1.0), ("b", 1.5)):
        shrunk = {i: tuple(1 - factor * (1 - v) ** factor for v in p) for i, p in points.items()}
        items = {i: Curve(i, tuple(factor * RATES), ms_ssim=p) for i, p in shrunk.items()}
        made.append(Curve(name, tuple(RATES), items=items))

    def mean(curve: Curve, drawn: tuple[str, ...]) -> Curve:
        rows = [curve.items[item] for item in drawn]
        index = np.mean([np.array(row.ms_ssim, float) for row in rows], axis=0)
        return Curve(curve.name, rows[0].bpp, ms_ssim=tuple(index))

    a, b = made
    possible = []
    for drawn in product("xyz", repeat=3):
        (verdict,) = compare([mean(b, drawn)], mean(a, drawn), "ms-ssim")
        possible.append(verdict.bd_rate)
    for seed in range(8):  # of one draw: whichever it was, it is one of these
        low = item_deltas(a, b, "ms-ssim", resamples=1, seed=seed).low
        assert any(low == pytest.approx(rate) for rate in possible)


def test_too_few_items_have_no_interval() -> None:
    deltas = item_deltas(curve("a", [1, 1]), curve("b", [1, 2]))
    assert (deltas.low, deltas.high) == (None, None)
    assert deltas.mean == pytest.approx(50)


def test_items_without_overlap_are_refused_with_the_reason() -> None:
    a, b = curve("a", [1, 1, 1, 1]), curve("b", [1, 1, 1, 1])
    far = Curve("item2", tuple(RATES), tuple(q + 40 for q in QUALITY))
    b = dataclasses.replace(b, items={**b.items, "item2": far})
    deltas = item_deltas(a, b)
    assert set(deltas.per_item) == {"item0", "item1", "item3"}
    assert "do not overlap" in deltas.refused["item2"]


def test_only_items_that_both_have_count() -> None:
    a, b = curve("a", [1, 1, 1]), curve("b", [2, 2, 2, 9])
    assert item_deltas(a, b).per_item == pytest.approx({"item0": 100, "item1": 100, "item2": 100})
    nothing = item_deltas(a, Curve("b", tuple(RATES), QUALITY))
    assert (nothing.mean, nothing.low) == (None, None)


def test_the_table_shows_interval_and_mean() -> None:
    a, b, c = curve("a", [1, 1, 1]), curve("b", [0.8, 0.8, 0.8]), curve("c", [1, 1, 1])
    published = dataclasses.replace(c, published=True, items={})
    deltas = {"b": item_deltas(a, b)}
    text = bd_table(a, compare([b, published], a), "psnr", deltas)
    lines = text.splitlines()
    assert lines[0].split("  ")[-1].strip() == "mean of items"
    assert "-20.00 .. -20.00 %" in lines[1]
    assert "-20.00 % (3)" in lines[1]
    assert lines[2].startswith("c (published)")
