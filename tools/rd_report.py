"""Tables and the plot of what `tools/rd_table.py run` has measured."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from codec.evaluate import Avif, Curve, Jpeg, QualityCodec, WebP, bd_rate, plot_curves
from codec.evaluate.bdrate import MIN_POINTS, rate_at
from codec.evaluate.published import read_published
from formats.errors import InputError

__all__ = ["ANCHORS", "report"]

ANCHORS: dict[str, QualityCodec] = {
    "jpeg": Jpeg(qualities=(10, 20, 35, 50, 70, 85, 92, 96)),
    "webp": WebP(qualities=(1, 15, 35, 55, 75, 88, 94)),
    "avif": Avif(speed=0, subsampling="4:4:4", qualities=(10, 22, 34, 46, 56, 66, 78)),
}
"""The codecs beside this one, in the order of the columns."""
VTM = "VTM H.266 (CompressAI)"
"""Of the published curves, the goal of a fit of 10,000 steps."""
ALL = 24
"""Images of Kodak; published curves are means over them."""


def report(args: argparse.Namespace) -> None:
    """Print the tables as Markdown, and plot the mean curves."""
    rows = [json.loads(p.read_text()) for p in sorted(args.out.glob("kodim*.json"))]
    rows = [r for r in rows if r.get("lambda", args.lambdas[0]) in args.lambdas]
    items = sorted({r["item"] for r in rows}, key=_order)
    ours: dict[str, list[dict[str, Any]]] = {
        i: sorted((r for r in rows if r["item"] == i and "lambda" in r), key=lambda r: r["bpp"])
        for i in items
    }
    anchors = {r["item"]: r for r in rows if "lambda" not in r}
    print("| image | " + " | ".join(f"lambda {lam:g}" for lam in args.lambdas) + " | s |")
    print("|---|" + "---|" * (len(args.lambdas) + 1))
    most = max((r["steps"] for r in rows if "lambda" in r), default=0)
    for item in items:
        cells = []
        for lam in args.lambdas:
            found = [r for r in ours[item] if r["lambda"] == lam]
            cells.append(_point(found[0], most) if found else "")
        seconds = sum(r["seconds"] for r in ours[item]) / max(1, len(ours[item]))
        print(f"| {item} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    if fewer := sorted({r["steps"] for r in rows if r.get("steps", most) < most}):
        print(f"\n\\* {' or '.join(f'{steps:,}' for steps in fewer)} steps, others {most:,}")
    _print_anchors([i for i in items if len(ours[i]) >= MIN_POINTS], ours, anchors)
    encoded = [item for item in items if ours[item]]
    whole = [item for item in encoded if "@" not in item]
    published = read_published(args.published)[0] if args.published else []
    named = {curve.name: curve.results for curve in published}
    against = (args.against or [VTM]) if published else []
    for name in against:
        if name not in named and not any(other.startswith(f"{name}/") for other in named):
            known = ", ".join(sorted(named))
            raise SystemExit(f"{args.published}: no curve {name!r}; it has {known}")
        _print_published(whole, ours, named, name)
    if args.plot:
        fair = against if len(whole) == ALL else []
        means = [(name, named[name]) for name in fair if name in named]
        _plot(whole or encoded, ours, anchors, means, args.plot)


def _order(item: str) -> tuple[bool, int, str]:
    """Whole images first, by their numbers."""
    number, _, crop = item.partition("@")
    return bool(crop), int(number), crop


def _point(row: dict[str, Any], most: int) -> str:
    """A cell: rate and quality, and a star where the fit had fewer steps than others."""
    return f"{row['bpp']:.3f} bpp {row['psnr']:.2f} dB" + ("\\*" if row["steps"] < most else "")


def _print_anchors(items: list[str], ours: Any, anchors: Any) -> None:
    """BD-rates against what was measured beside."""
    if not any(item in anchors for item in items):
        return
    print("\n| image | vs JPEG % | vs WebP % | vs AVIF % |")
    print("|---|---|---|---|")
    groups: dict[bool, list[list[float]]] = {False: [], True: []}
    for item in items:
        if item not in anchors:
            continue
        points = [(r["bpp"], r["psnr"]) for r in ours[item]]
        others = [anchors[item][name]["points"] for name in ANCHORS]
        rates = [_bd_rate([(p["bpp"], p["psnr"]) for p in found], points) for found in others]
        if None not in rates:
            groups["@" in item].append(rates)
        print(f"| {item} |{_cells(rates)}")
    for crop, label in ((False, "whole images"), (True, "crops")):
        if groups[crop]:
            means = [sum(column) / len(column) for column in zip(*groups[crop], strict=True)]
            print(f"| **mean, {label}** | " + " | ".join(f"**{m:+.1f}**" for m in means) + " |")


def _print_published(items: list[str], ours: Any, named: Any, name: str) -> None:
    """Against a curve that others have published: BD-rates, and bytes at equal PSNR by lambda."""
    lambdas = sorted({row["lambda"] for item in items for row in ours[item]}, reverse=True)
    print(f"\n| image | vs {name}, published % | {' | '.join(f'at {lam:g}' for lam in lambdas)} |")
    print("|---|---|" + "---|" * len(lambdas))
    seen: list[list[float | None]] = []
    for item in items:
        if (results := named.get(f"{name}/kodim{int(item):02}")) is not None:
            points = [(row["lambda"], row["bpp"], row["psnr"]) for row in ours[item]]
            seen.append(_against(results, points, lambdas))
            print(f"| {item} |{_cells(seen[-1])}")
    if seen:
        print(f"| **mean (of)** |{_means(seen)}")
    elif name not in named:
        print(f"{name} has none of these images", file=sys.stderr)
    elif points := _mean_points(ours, items):
        fair = "" if len(items) == ALL else "; not comparable, it is a mean of 24"
        print(
            f"| mean curve of {len(items)}{fair} |{_cells(_against(named[name], points, lambdas))}"
        )
    else:
        print("no lambda that every whole image was encoded at", file=sys.stderr)


def _against(
    results: Any, points: list[tuple[float, float, float]], lambdas: list[float]
) -> list[float | None]:
    """Percent against a curve: the BD-rate, and the rate at equal PSNR for each of `lambdas`.

    `points`: lambda, rate, PSNR. None: not known.
    """
    rate, quality = results["bpp"], results["psnr-rgb"]
    found: list[float | None] = [None] * (len(lambdas) + 1)
    found[0] = _bd_rate(list(zip(rate, quality, strict=True)), [p[1:] for p in points])
    for lam, bpp, psnr_ in points:
        if min(quality) <= psnr_ <= max(quality):
            found[1 + lambdas.index(lam)] = 100 * (bpp / rate_at(rate, quality, psnr_) - 1)
    return found


def _bd_rate(others: list[tuple[float, float]], points: list[tuple[float, float]]) -> float | None:
    """Of pairs of rate and PSNR; None: too few of them, or no PSNR that both have."""
    with contextlib.suppress(InputError):
        return bd_rate(*zip(*others, strict=True), *zip(*points, strict=True))
    return None


def _cells(row: list[float | None]) -> str:
    """The cells of a row of a table."""
    return "".join(f" {'' if value is None else _percent(value)} |" for value in row)


def _means(rows: list[list[float | None]]) -> str:
    """The cells of the row of means, and of how many each is."""
    cells = []
    for column in zip(*rows, strict=True):
        known = [value for value in column if value is not None]
        cells.append(
            f" **{_percent(sum(known) / len(known))}** ({len(known)}) |" if known else "  |"
        )
    return "".join(cells)


def _percent(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"  # no -0.0


def _mean_points(ours: Any, items: list[str]) -> list[tuple[float, float, float]]:
    """Each lambda that all images have, and the mean rate and PSNR over them there, by rate."""
    lambdas = [{row["lambda"] for row in ours[item]} for item in items]
    found = []
    for lam in set.intersection(*lambdas) if lambdas else set():
        rows = [row for item in items for row in ours[item] if row["lambda"] == lam]
        rate, quality = (sum(r[key] for r in rows) / len(rows) for key in ("bpp", "psnr"))
        found.append((lam, rate, quality))
    return sorted(found, key=lambda point: point[1])


def _plot(items: list[str], ours: Any, anchors: Any, published: Any, path: Path) -> None:
    """Mean curves: at each point of a codec, the mean rate and PSNR over the images.

    All means are of the same images. Without published ones, which are of all 24, images without
    anchors are left out; and so is what was not encoded at the same lambdas as the others.
    """
    if not published:
        for item in items:
            if item not in anchors:
                print(f"{item}: not in the plot, it has no anchors yet", file=sys.stderr)
        items = [item for item in items if item in anchors]
        if not items:
            print(f"no plot in {path}: no image has anchors and encodes", file=sys.stderr)
            return
    points = _mean_points(ours, items)
    if not points:
        print(f"no plot in {path}: no lambda that every image was encoded at", file=sys.stderr)
        return
    curves = [_curve("coordx", [(bpp, quality) for _, bpp, quality in points])]
    for name in ANCHORS if all(item in anchors for item in items) else ():
        rows = zip(*(anchors[item][name]["points"] for item in items), strict=True)
        means = [[sum(p[key] for p in at) / len(at) for key in ("bpp", "psnr")] for at in rows]
        curves.append(_curve(name, sorted((bpp, quality) for bpp, quality in means)))
    for name, results in published:
        found = sorted(zip(results["bpp"], results["psnr-rgb"], strict=True))
        # Two points beyond, so that the curve in between is the same as with all of them.
        beyond = sum(bpp <= points[-1][1] for bpp, _ in found) + 2
        curves.append(replace(_curve(name, found[:beyond]), published=True))
    anchor = published[0][0] if published else "jpeg"
    what = "24 images" if len(items) == ALL else ", ".join(items)
    plot_curves(curves, path, anchor=anchor, title=f"Kodak, means of {what}")


def _curve(name: str, points: list[tuple[float, float]]) -> Curve:
    return Curve(name, tuple(p[0] for p in points), tuple(p[1] for p in points))
