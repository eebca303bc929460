"""Tables and words of docs/paper.md. Used by paper_tables.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

SVD_AGAINST = "CoordX-A, low start"

Row = dict[str, Any]
Run = tuple[Sequence[Row], Row | None]

# What others report. [paper]: arXiv 2201.12425; [repro]: an independent reproduction,
# AndrewChai878/eecs6322_project, 12 DIV2K crops of 512x512, 20,000 steps; [calc]: arithmetic on the
# layers that the paper names.
PUBLISHED_IMAGES = {
    "SIREN, low start": "32.71 dB, 668 s [repro]",
    "PE-MLP": "about 1 dB over SIREN [paper]",
    "CoordX, low start": "34.92 dB, 204 s with the whole grid a step [repro]",
    "CoordX-A, low start": "about 3 dB under SIREN, 4 dB under PE-MLP [paper]",
}
PUBLISHED_RANKS = {
    "CoordX-A, R = 1": "34.92 dB [repro]",
    "CoordX-A, R = 2": "36.58 dB [repro]",
}
PUBLISHED_DEPTH = {
    "partially split, R = 1": "better [paper]",
    "fully split, R = 1": "clearly worse [paper]",
}
PUBLISHED_VIDEOS = {
    "CoordX-A, xy+t": "better than x+y+t [paper]",
    "CoordX-A, x+y+t": "nearly 2 dB under SIREN [paper]",
}
PUBLISHED_SPEED = {
    "SIREN": "1; 197,888 MAC/px [calc]",
    "CoordX": "1.67 times SIREN's MACs in training [calc]",
    "CoordX-A": "up to 2.92x [paper]; 67,073 MAC/px [calc]",
}

INTRODUCTION = """\
# The CoordX paper, rerun

CoordX (arXiv 2201.12425) splits a coordinate MLP by axis. `tools/paper_tables.py` reruns its
experiments with this project's network; this page is what its `report` wrote and changes only with
it. "Published" are figures of others: [paper] the paper's own, [repro] an independent
reproduction on other pictures (12 DIV2K crops), [calc] arithmetic on the paper's layers.

Fits, not files: float32 weights, no rate in the loss, PSNR of the 8-bit samples over R, G and B
together. "Low start" starts the first layer at the radians per unit nearest to the 30 of the
paper's code that our networks have (25 at 512 samples), "our start" at half of Nyquist; the sweeps
and the videos have the low start. CoordX draws points independently and pushes each through
every branch; CoordX-A draws Cartesian products (section 3.3 of the paper). Training seconds are
steps times the median step, of the item that trained fastest: the processor may be shared."""

WHY = """\
## Why figures differ

- **Pictures and steps.** The paper's twelve pictures are not these. A budget of a few hundred steps
  is far from convergence: it ranks methods by how fast they get somewhere, not by where they end.
  The line above each table says which it is.
- **The start of the first layer.** With the paper's 30 radians per unit the highest frequency a
  branch starts with is 0.12 rad a pixel at 512 pixels, 1/26 of Nyquist. Starting at half of
  Nyquist is what this project's coding networks gain from in thousands of steps on every sample
  (docs/experiments.md); after a few hundred steps on a few samples it has fitted noise between
  them, the plain network most of all: compare the rows. The paper reports CoordX-A about 3 dB
  under SIREN, the reproduction CoordX 2 dB over it: an order that depends on budget and start.
- **Points against grids.** With independent points the split saves nothing in training: every
  point runs through every branch (1.67 times SIREN's multiply-accumulates for x+y). With grids a
  step costs what the layers after the fusion cost; the samples of a step are correlated, which a
  small budget feels more than a large one.
- **Videos.** The paper trains for 100,000 steps and finds SIREN ahead of both splits and xy+t ahead
  of x+y+t. After hundreds of steps, the order is that of the start: a branch of one
  axis has little to learn and is quick, whatever it ends at.
- **The ceiling of the speed-up.** Two of three hidden products run before the fusion: 2.95 is all
  there is in multiply-accumulates. Times above or below it are caches and kernels.
- **Fully split** networks are a sum of products of one-dimensional functions, as a truncated SVD
  is: R is their rank and nothing after the fusion can make up for it. A large R needs more
  steps than a small one: the sum of its terms starts as noise.
- **SVD** has as many numbers as the network has weights, and at 8 bits a number the same rate
  before entropy coding. It needs no training and is the best possible sum of products of free
  vectors; the network's products are made by shared layers and mixed by a nonlinear tail."""


def document(runs: Sequence[Run]) -> str:
    """The page."""
    parts = [INTRODUCTION]
    for rows, speed in runs:
        first = rows[0]
        threads = f", {first['threads']} threads" if first["device"] == "CPU" else ""
        parts.append(f"## {first['device']}{threads}, torch {first['torch']}")
        for name, heading, published in (
            ("images", "Images", PUBLISHED_IMAGES),
            ("ranks", "Rank", PUBLISHED_RANKS),
            ("depth", "Where the split ends", PUBLISHED_DEPTH),
            ("videos", "Videos", PUBLISHED_VIDEOS),
        ):
            mine = [row for row in rows if row["experiment"] == name]
            if mine:
                parts.append(f"### {heading}\n\n{fits_table(mine, published)}")
        against = [row for row in rows if "svd" in row]
        if against:
            parts.append(f"### SVD at equal rate\n\n{svd_table(against)}")
        if speed is not None:
            parts.append(f"### Speed, {speed['size']}x{speed['size']}\n\n{speed_table(speed)}")
    return "\n\n".join([*parts, WHY]) + "\n"


def fits_table(rows: Sequence[Row], published: dict[str, str]) -> str:
    """Means over the items that every method has, and each item's value."""
    methods = list(dict.fromkeys(row["method"] for row in sorted(rows, key=_order)))
    items = sorted({row["item"] for row in rows})
    found = {(row["method"], row["item"]): row for row in rows}
    whole = [item for item in items if all((method, item) in found for method in methods)]
    head = ["method", "weights", "MAC a sample", "PSNR dB", "train s", "published"]
    lines = [head]
    for method in methods:
        mine = [found[method, item] for item in whole]
        if not mine:
            continue
        lines.append(
            [
                method,
                f"{_mean(mine, 'weights'):,.0f}",
                f"{_mean(mine, 'macs'):,.0f}",
                f"{_mean(mine, 'psnr'):.2f}",
                f"{min(row['steps'] * row['step_ms'] / 1000 for row in mine):.0f}",
                published.get(method, ""),
            ]
        )
    one = rows[0]
    samples = "all samples" if not one["samples"] else f"{one['samples']:,} samples"
    note = (
        f"Means over {len(whole)} of {len(items)} items ({', '.join(whole)}), "
        f"{one['steps']:,} steps of {samples}, Adam at {one['rate']:g} in a cosine to 0."
    )
    return f"{note}\n\n{markdown(lines)}"


def svd_table(rows: Sequence[Row]) -> str:
    """The network against the SVD with as many numbers."""
    lines = [
        ["item", "numbers", "SVD rank", "SVD dB", "network dB", "SVD 8 bits", "network 8 bits"]
    ]

    def cells(name: str, mine: Sequence[Row]) -> list[str]:
        def value(read: Callable[[Row], float]) -> float:
            return fmean(read(row) for row in mine)

        return [
            name,
            f"{value(lambda r: r['svd']['float']['numbers']):,.0f}",
            f"{value(lambda r: r['svd']['float']['rank']):.0f}",
            f"{value(lambda r: r['svd']['float']['psnr']):.2f}",
            f"{value(lambda r: r['psnr']):.2f}",
            f"{value(lambda r: r['svd']['8 bits']['psnr']):.2f}",
            f"{value(lambda r: r['svd']['network at 8 bits']):.2f}",
        ]

    lines += [cells(row["item"], [row]) for row in rows]
    lines.append(cells(f"**mean of {len(rows)}**", rows))
    return markdown(lines)


def speed_table(speed: Row) -> str:
    """Steps and evaluations against SIREN's."""
    base = next(row for row in speed["rows"] if row["method"] == "SIREN")
    head = ["method", "weights", "MAC/px", "step ms", "against SIREN", "evaluation ms"]
    lines = [[*head, "against SIREN", "published"]]
    for row in speed["rows"]:
        lines.append(
            [
                row["method"],
                f"{row['weights']:,}",
                f"{row['macs']:,.0f}",
                f"{row['step_ms']:.1f}",
                f"{base['step_ms'] / row['step_ms']:.2f}x",
                f"{row['inference_ms']:.1f}",
                f"{base['inference_ms'] / row['inference_ms']:.2f}x",
                PUBLISHED_SPEED.get(row["method"], ""),
            ]
        )
    samples = speed["rows"][0]["samples"]
    note = f"Training steps of {samples:,} samples; evaluations of the whole picture."
    return f"{note}\n\n{markdown(lines)}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table, the first row its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _mean(rows: Sequence[Row], key: str) -> float:
    return fmean(row[key] for row in rows)


def _order(row: Row) -> int:
    """Plain networks first, then as the paper names them."""
    ranking = ("SIREN", "PE-MLP", "CoordX,", "CoordX-A", "partially", "fully")
    return next((n for n, name in enumerate(ranking) if row["method"].startswith(name)), 9)
