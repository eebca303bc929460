"""Rate-distortion results as text in columns, for whoever prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codec.evaluate.bootstrap import ItemDeltas
from codec.evaluate.comparison import Comparison
from codec.evaluate.curves import Curve, Metric

__all__ = ["bd_table", "columns"]


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as lines, the first two columns left-aligned, the others right."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if n < 2 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "".join(f"{line}\n" for line in lines)


def bd_table(
    anchor: Curve,
    comparisons: Sequence[Comparison],
    metric: Metric,
    deltas: Mapping[str, ItemDeltas] | None = None,
) -> str:
    """BD-rate and BD-gain of each curve, and over which interval; or why there is none.

    Args:
        anchor: what the others were held against.
        comparisons: of `compare`.
        metric: which quality was held equal.
        deltas: per-item results by curve name; their interval makes two more columns.
    """
    name = {"psnr": "PSNR", "psnr-yuv": "YUV-PSNR"}.get(metric, metric.upper())
    unit = "" if metric in ("vmaf", "lpips") else " dB"
    heading = (f"against {anchor.label}", f"{name} interval", "BD-rate", f"BD-{name}")
    extra = () if deltas is None else ("95% interval", "mean of items")
    rows: list[tuple[str, ...]] = [(*heading, *extra)]
    refused = []
    for c in comparisons:
        if c.bd_rate is None or c.low is None or c.high is None:
            refused.append(f"{c.label}: no BD-rate: {c.refused}\n")
            continue
        gain = "-" if c.bd_gain is None else f"{c.bd_gain:+.2f}{unit}"
        row = (c.label, f"{c.low:.2f} .. {c.high:.2f}{unit}", f"{c.bd_rate:+.2f} %", gain)
        rows.append((*row, *(() if deltas is None else _interval(deltas.get(c.name)))))
    return (columns(rows) if len(rows) > 1 else "") + "".join(refused)


def _interval(delta: ItemDeltas | None) -> tuple[str, str]:
    if delta is None or delta.mean is None:
        return "-", "-"
    mean = f"{delta.mean:+.2f} % ({len(delta.per_item)})"
    if delta.low is None or delta.high is None:
        return "-", mean
    return f"{delta.low:+.2f} .. {delta.high:+.2f} %", mean
