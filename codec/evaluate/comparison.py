"""Curves against an anchor by Bjøntegaard deltas, or the reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codec.evaluate.bdrate import bd_psnr, bd_rate, shared_range
from codec.evaluate.curves import Curve, Metric, label_of
from formats.errors import InputError

__all__ = ["Comparison", "compare", "shared_items"]


@dataclass(frozen=True)
class Comparison:
    """A curve against the anchor.

    Attributes:
        name: of the curve.
        bd_rate: percent, None when refused.
        bd_gain: dB at equal rate (BD-PSNR), None when refused.
        low, high: the interval in dB that the BD-rate covers, None when refused.
        refused: why there is no BD-rate, or None.
        published: whether the curve was published, not measured here.
    """

    name: str
    bd_rate: float | None = None
    bd_gain: float | None = None
    low: float | None = None
    high: float | None = None
    refused: str | None = None
    published: bool = False

    @property
    def label(self) -> str:
        """The name of the curve, and whether it was published."""
        return label_of(self.name, self.published)


def compare(curves: Sequence[Curve], anchor: Curve, metric: Metric = "psnr") -> list[Comparison]:
    """Each curve but the anchor itself against the anchor, in their order.

    Means over different items are refused: they would tell items apart, not codecs. Curves
    without items (published ones) are taken at their word.

    Args:
        curves: any number, with or without the anchor.
        anchor: what the others are held against.
        metric: what is held equal.
    """
    return [_against(anchor, curve, metric) for curve in curves if curve is not anchor]


def shared_items(anchor: Curve, curve: Curve) -> list[str]:
    """The items that both curves have, of the same name and content, in the anchor's order."""
    return [
        item
        for item, ours in anchor.items.items()
        if item in curve.items and curve.items[item].source == ours.source
    ]


def _against(anchor: Curve, curve: Curve, metric: Metric) -> Comparison:
    anchor_points, points = anchor.points(metric), curve.points(metric)
    if anchor.items and curve.items:
        counts = len(curve.items), len(anchor.items), len(shared_items(anchor, curve))
        if len(set(counts)) > 1:
            refused = (
                "the curves are means over different items: {} and {}, of which {} are the same"
            )
            return Comparison(
                curve.name, refused=refused.format(*counts), published=curve.published
            )
    try:
        percent = bd_rate(*anchor_points, *points)
        low, high = shared_range(anchor_points[1], points[1])
    except InputError as error:
        return Comparison(curve.name, refused=str(error), published=curve.published)
    try:
        gain = bd_psnr(*anchor_points, *points)
    except InputError:  # an overlap in quality need not be one in rate
        gain = None
    return Comparison(curve.name, percent, gain, low, high, published=curve.published)
