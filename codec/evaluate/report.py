"""One HTML file that holds everything of an evaluation: curves, BD-rates, items, crops.

Style sheet, script and pictures are inside; it opens without a network. What the script shows
is a block of JSON, put there by `page_data`; nothing in it is ever executed.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from codec.evaluate.bootstrap import item_deltas
from codec.evaluate.comparison import compare
from codec.evaluate.crops import SideBySide, View
from codec.evaluate.curves import FIELDS, Curve, Metric
from codec.evaluate.plot import LABELS
from codec.media import ImageMedia, image_bytes
from formats.atomic import atomic_path
from formats.errors import InputError

__all__ = ["page_data", "write_page"]

UNITS: dict[Metric, str] = {"psnr": "dB", "ms-ssim": "dB", "psnr-yuv": "dB"}

# What the item table shows: field of a measurement, heading, digits after the point.
COLUMNS: tuple[tuple[str, str, int], ...] = (
    ("item", "item", 0),
    ("codec", "codec", 0),
    ("quality", "point", 4),
    ("bytes", "bytes", 0),
    ("bpp", "bpp", 4),
    ("psnr", "PSNR dB", 2),
    ("psnr_yuv", "YUV dB", 2),
    ("ms_ssim", "MS-SSIM", 4),
    ("lpips", "LPIPS", 4),
    ("vmaf", "VMAF", 2),
    ("encoding_time", "encode s", 3),
    ("decoding_time", "decode s", 4),
    ("peak_memory", "peak MiB", 1),
    ("device", "device", 0),
)


def page_data(
    curves: Sequence[Curve],
    anchor: Curve,
    reports: Sequence[dict[str, Any]],
    crops: Sequence[SideBySide] = (),
    title: str = "Rate-distortion report",
) -> dict[str, Any]:
    """What the page shows, as plain values.

    Args:
        curves: at least one, names that differ.
        anchor: the one that intervals and per-item BD-rates refer to.
        reports: contents of the result files that the curves are from.
        crops: side-by-side comparisons.
        title: of the page.

    Raises:
        InputError: no curve has a value of any metric.
    """
    metrics: list[Metric] = [m for m in FIELDS if any(c.points(m)[0] for c in curves)]
    rows = [
        row for report in reports for entry in report["codecs"] for row in entry.get("items", [])
    ]
    if not metrics:
        exact = sorted({row["item"] for row in rows if row.get("mse") == 0})
        why = f": no error at all, so no PSNR, in {', '.join(exact)}" if exact else ""
        raise InputError(f"expected at least one curve with values of a metric, got none{why}")
    shown = [c for c in COLUMNS if any(row.get(c[0]) is not None for row in rows)]
    return {
        "title": title,
        "anchor": anchor.name,
        "metrics": [{"key": m, "label": LABELS[m], "unit": UNITS.get(m, "")} for m in metrics],
        "curves": [_curve(curve, metrics) for curve in curves],
        "bd": {m: [[_cell(a, b, m) for b in curves] for a in curves] for m in metrics},
        "items": {m: _item_rows(curves, anchor, m) for m in metrics},
        "columns": [{"key": key, "label": label, "digits": n} for key, label, n in shown],
        "rows": [[_value(row, key) for key, _, _ in shown] for row in rows],
        "crops": [_crop(crop) for crop in crops],
        "provenance": [_provenance(report) for report in reports if not report.get("published")],
    }


def write_page(path: Path, data: dict[str, Any]) -> int:
    """Write the page; returns its size in bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    folder = resources.files("codec.evaluate") / "page"
    page = (folder / "report.html").read_text(encoding="utf-8")
    # In a script element only "</script" and "<!--" mean anything: no "<", neither of them.
    block = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": html.escape(data["title"]),
        "style": (folder / "report.css").read_text(encoding="utf-8"),
        "script": (folder / "report.js").read_text(encoding="utf-8"),
        "data": block,
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], page)  # one pass
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return len(page.encode())


def _curve(curve: Curve, metrics: Sequence[Metric]) -> dict[str, Any]:
    times = zip(curve.bpp, curve.decoding_time, strict=bool(curve.decoding_time))
    return {
        "name": curve.name,
        "label": curve.label,
        "published": curve.published,
        "source": curve.source,
        "points": {m: list(zip(*curve.points(m), strict=True)) for m in metrics},
        "decode": sorted((rate, seconds) for rate, seconds in times if seconds),
    }


def _cell(anchor: Curve, test: Curve, metric: Metric) -> dict[str, Any]:
    if anchor is test:
        return {"same": True}
    (verdict,) = compare([test], anchor, metric)
    return {"rate": verdict.bd_rate, "gain": verdict.bd_gain, "refused": verdict.refused}


def _item_rows(curves: Sequence[Curve], anchor: Curve, metric: Metric) -> list[dict[str, Any]]:
    """BD-rate against the anchor with its interval, and that of each item."""
    rows = []
    for verdict in compare(curves, anchor, metric):
        test = next(curve for curve in curves if curve.name == verdict.name)
        deltas = item_deltas(anchor, test, metric) if test.items and anchor.items else None
        rows.append(
            {
                "name": test.label,
                "rate": verdict.bd_rate,
                "gain": verdict.bd_gain,
                "low": deltas.low if deltas else None,
                "high": deltas.high if deltas else None,
                "mean": deltas.mean if deltas else None,
                "perItem": dict(deltas.per_item) if deltas else {},
                "refused": verdict.refused,
            }
        )
    return rows


def _value(row: dict[str, Any], key: str) -> Any:
    value = row.get(key)
    return value / 2**20 if key == "peak_memory" and value is not None else value


def _crop(crop: SideBySide) -> dict[str, Any]:
    return {
        "item": crop.item,
        "title": crop.title,
        "budget": crop.budget,
        "missing": dict(crop.missing),
        "views": [_view(view) for view in crop.views],
    }


def _view(view: View) -> dict[str, Any]:
    png = image_bytes(ImageMedia(view.samples.copy()), ".png")
    return {
        "codec": view.codec,
        "bytes": view.bytes,
        "bpp": view.bpp,
        "psnr": view.psnr,
        "note": view.note,
        "width": view.samples.shape[1],
        "height": view.samples.shape[0],
        "src": f"data:image/png;base64,{base64.b64encode(png).decode()}",
    }


def _provenance(report: dict[str, Any]) -> dict[str, Any]:
    return {
        "command": report.get("command", ""),
        "averaging": report.get("averaging", ""),
        "machine": report.get("machine", {}),
        "items": report.get("averaged_items", []),
        "errors": [
            f"{e['item']} {e['codec'] or ''}: {e['error']}" for e in report.get("errors", [])
        ],
        "codecs": [
            {
                "name": e["name"],
                "version": e.get("description", ""),
                "commands": e["results"].get("command", []),
            }
            for e in report["codecs"]
        ],
    }
