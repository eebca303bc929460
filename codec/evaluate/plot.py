"""Draw rate-distortion curves: bits per pixel against dB, BD-rate in the legend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from codec.evaluate.comparison import Comparison, compare
from codec.evaluate.curves import Curve, Metric, find_curve
from formats.atomic import atomic_path
from formats.errors import InputError, MissingLibraryError, OutputError

__all__ = ["LABELS", "plot_curves"]

SUFFIXES = (".png", ".svg", ".pdf")

# Okabe and Ito's palette without its yellow: told apart by colour-blind readers, dark enough
# on white. Shapes tell curves apart in grey print, and continue where the colours repeat.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "os^Dv<>P"
STYLES = ("-", "--", "-.")

LABELS: dict[str, str] = {
    "psnr": "PSNR (RGB), dB",
    "ms-ssim": "MS-SSIM (RGB), −10 log₁₀(1 − index), dB",
    "psnr-yuv": "PSNR (YUV, weights 4:1:1), dB",
    "vmaf": "VMAF",
    "lpips": "−LPIPS",
}


def plot_curves(
    curves: Sequence[Curve],
    out_path: str | Path,
    metric: Metric = "psnr",
    *,
    anchor: str | None = None,
    title: str | None = None,
) -> list[Comparison]:
    """Write the picture; nothing is shown and no state of matplotlib is touched.

    Args:
        curves: at least one with points of the metric; others are left out.
        out_path: `.png`, `.svg` or `.pdf`.
        metric: a key of LABELS.
        anchor: the curve that BD-rates in the legend refer to; the first drawn when None.
        title: above the axes.

    Returns:
        What the legend says: each curve drawn but the anchor against the anchor, in their order.

    Raises:
        InputError: no curve has the metric, an unknown metric or anchor, another suffix.
        OutputError: the file cannot be written.
        MissingLibraryError: matplotlib is not installed.
    """
    target = Path(out_path)
    if metric not in LABELS:
        raise InputError(f"metric: expected one of {', '.join(LABELS)}, got {metric!r}")
    if target.suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"cannot write {target}: expected a file name that ends in {', '.join(SUFFIXES)}"
        )
    drawn = [curve for curve in curves if curve.points(metric)[0]]
    if not drawn:
        raise InputError(f"expected at least one curve with {metric} values, got none")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingLibraryError(
            "a plot needs matplotlib: pip install 'coordx-codec[plots]'"
        ) from error

    base = drawn[0] if anchor is None else find_curve(drawn, anchor)
    comparisons = compare(drawn, base, metric)
    verdicts = iter(comparisons)
    # Figure without pyplot: no window, no global list of figures, safe in threads.
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for number, curve in enumerate(drawn):
        axes.plot(
            *curve.points(metric),
            label=_anchor_label(curve, drawn) if curve is base else _label(next(verdicts)),
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            linestyle=_style(number, curve),
            linewidth=1.0 if curve.published else 1.6,
            markersize=4.5,
            # What was published, not measured here, has hollow marks on a thin dotted line.
            markerfacecolor="white" if curve.published else None,
        )
    axes.set_xlabel("bits per pixel")
    axes.set_ylabel(LABELS[metric])
    axes.set_xlim(left=0)
    axes.grid(visible=True, color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    heading = f"BD-rate against {base.name}" if len(drawn) > 1 else None
    axes.legend(title=heading, loc="lower right", framealpha=0.9, fontsize="small")
    if title is not None:
        axes.set_title(title)
    with atomic_path(target) as temporary:
        kind = target.suffix.lower()[1:]
        # No date in the file: the same curves give the same bytes.
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
        figure.savefig(temporary, format=kind, dpi=160, metadata=undated)
    return comparisons


def _style(number: int, curve: Curve) -> str:
    return ":" if curve.published else STYLES[number // len(COLOURS) % len(STYLES)]


def _anchor_label(anchor: Curve, drawn: Sequence[Curve]) -> str:
    return f"{anchor.label} (anchor)" if len(drawn) > 1 else anchor.label


def _label(verdict: Comparison) -> str:
    if verdict.bd_rate is not None:
        return f"{verdict.label}  {verdict.bd_rate:+.1f} %"
    reason = "no overlap" if "overlap" in (verdict.refused or "") else "no BD-rate"
    return f"{verdict.label}  ({reason})"
