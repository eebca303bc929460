"""How sure a BD-rate is: the delta of every item, and an interval by resampling the items.

A BD-rate of mean curves over a few pictures says little of the next picture. The bootstrap
(Efron 1979) draws as many items as there are, with replacement, takes the mean curves of the
draw and their BD-rate, a thousand times: the middle 95% of these are the interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec.evaluate.bdrate import bd_rate
from codec.evaluate.comparison import shared_items
from codec.evaluate.curves import Curve, Metric
from formats.errors import InputError

__all__ = ["MIN_ITEMS", "ItemDeltas", "item_deltas"]

MIN_ITEMS = 3
"""Items below which an interval would be a pretence."""
RESAMPLES = 1000
CONFIDENCE = 0.95
# An interval from draws of which many had no BD-rate would be that of the easy ones.
REFUSED_SHARE = 0.05


@dataclass(frozen=True)
class ItemDeltas:
    """BD-rates item by item.

    Attributes:
        per_item: percent by item, of the items that have one.
        refused: the reason, by item, of those that have none.
        mean: of `per_item`, percent; None when empty.
        low, high: 95% interval of the BD-rate of the mean curves, percent; None when there
            are fewer than MIN_ITEMS items or too many draws without a BD-rate.
    """

    per_item: Mapping[str, float]
    refused: Mapping[str, str]
    mean: float | None
    low: float | None
    high: float | None


def item_deltas(
    anchor: Curve,
    test: Curve,
    metric: Metric = "psnr",
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ItemDeltas:
    """BD-rates of `test` against `anchor` on each item that both have, and an interval.

    Args:
        anchor, test: curves with items.
        metric: what is held equal.
        resamples: draws.
        seed: the same seed gives the same interval.
    """
    per_item, refused = {}, {}
    for item in shared_items(anchor, test):
        try:
            per_item[item] = bd_rate(
                *anchor.items[item].points(metric), *test.items[item].points(metric)
            )
        except InputError as error:
            refused[item] = str(error)
    mean = float(np.mean(list(per_item.values()))) if per_item else None
    low, high = _interval(anchor, test, metric, resamples, seed)
    return ItemDeltas(per_item, refused, mean, low, high)


def _interval(
    anchor: Curve, test: Curve, metric: Metric, resamples: int, seed: int
) -> tuple[float | None, float | None]:
    shared = shared_items(anchor, test)
    tables = [_table(curve, shared, metric) for curve in (anchor, test)]
    if len(shared) < MIN_ITEMS or any(table is None for table in tables):
        return None, None
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        drawn = generator.integers(len(shared), size=len(shared))
        means = [_mean(table[drawn], metric) for table in tables if table is not None]
        try:
            values.append(bd_rate(means[0][0], means[0][1], means[1][0], means[1][1]))
        except InputError:
            continue
    if len(values) < (1 - REFUSED_SHARE) * resamples:
        return None, None
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _table(curve: Curve, items: list[str], metric: Metric) -> NDArray[np.float64] | None:
    """(items, 2, points) of rate and quality; None when an item lacks a point."""
    rows = [curve.items[item].points(metric) for item in items]
    counts = {len(rates) for rates, _ in rows}
    return np.array(rows) if len(counts) == 1 and counts != {0} else None


def _mean(table: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """(2, points): the mean curve as results have it, of MS-SSIM the decibels of the mean index."""
    if metric != "ms-ssim":
        return np.asarray(table.mean(axis=0))
    distances = table.copy()
    distances[:, 1] = 10 ** (-distances[:, 1] / 10)
    mean = np.asarray(distances.mean(axis=0))
    mean[1] = -10 * np.log10(mean[1])
    return mean
