"""Rate-distortion results as text in columns, for whoever prints them."""

from __future__ import annotations

from collections.abc import Sequence

from codec.evaluate.curves import Comparison, Curve, Metric

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


def bd_table(anchor: Curve, comparisons: Sequence[Comparison], metric: Metric) -> str:
    """BD-rate and BD-gain of each curve, and over which interval; or why there is none."""
    name = "PSNR" if metric == "psnr" else "MS-SSIM"
    rows: list[tuple[str, ...]] = [
        (f"against {anchor.name}", f"{name} interval", "BD-rate", f"BD-{name}")
    ]
    refused = []
    for c in comparisons:
        if c.bd_rate is None or c.low is None or c.high is None:
            refused.append(f"{c.name}: no BD-rate: {c.refused}\n")
            continue
        gain = "-" if c.bd_gain is None else f"{c.bd_gain:+.2f} dB"
        rows.append((c.name, f"{c.low:.2f} .. {c.high:.2f} dB", f"{c.bd_rate:+.2f} %", gain))
    return (columns(rows) if len(rows) > 1 else "") + "".join(refused)
