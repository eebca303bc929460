"""What the order of the latents costs: the same fit with other contexts than the interlaced one.

    python tools/ablate_order.py KODAK [--items 8@384x256:0.001,20@384x256:0.004] [--steps 600]

serial      row after row; the 16 nearest latents that come before, as in C3 and Cool-chic
interlaced  the codec's: 10 passes a grid with three octaves, whatever the grid's size
blocks B    all blocks of BxB side by side, each row after row with a lag of two columns, so that
            3 B - 2 passes do a grid; the 5x5 window, of which a latent sees what came before,
            in other blocks too, and six inputs that say which of its neighbours did

All see the 3x3 window of the coarser grid too; layers, start, optimiser and schedule are the same.
No prior: there is none but for the interlaced order. Nor is there a decoder, so J = MSE + lambda
bpp is that of the rounded latents at the end of the soft stage, with the rate that the real-valued
network says, network weights not counted (the interlaced first layer has 40 inputs a unit, the
serial one 16, that of blocks 30).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import kodak
import torch
from torch import Tensor

from codec.fit.core_loop import CoreFitConfig, CoreFitter
from codec.network.core import CoreCoordX
from codec.network.presets import core_network
from codec.rate.context import LARGEST, RateResult, log_scale_of
from codec.rate.laplace import laplace_bits_each
from codec.signal import to_signal
from formats.lattice import LIMIT

Time = Callable[[Tensor, Tensor], Tensor]
"""When a latent is coded, from its row and column."""

NEAR = [(-2, x) for x in range(-2, 3)] + [(-1, x) for x in range(-3, 4)]
NEAR += [(0, x) for x in range(-4, 0)]
AROUND = [(y, x) for y in range(-2, 3) for x in range(-2, 3) if (y, x) != (0, 0)]
FLAGGED = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, 0)]


def row_by_row(y: Tensor, x: Tensor) -> Tensor:
    """Raster order."""
    return y * 2**20 + x


def in_blocks(side: int) -> Time:
    """All blocks together; a row starts when the one above is two columns ahead."""
    return lambda y, x: 2 * (y % side) + x % side


class OrderRate:
    """Stands in for `ContextRate`: bits and gradients under any order, by autograd.

    Its first layer uses columns of the interlaced one's, its bias is that of the base pass.

    Args:
        shapes: rows and columns of the grids, finest first.
        time: the order.
        window: rows and columns, relative to a latent, of what it sees if that came before.
        flagged: those of the window of which it is also told whether they did.
    """

    def __init__(
        self,
        shapes: list[tuple[int, int]],
        time: Time,
        window: list[tuple[int, int]],
        flagged: list[tuple[int, int]],
    ) -> None:
        starts = [0]
        for rows, columns in shapes:
            starts.append(starts[-1] + rows * columns)

        def number(level: int, y: Tensor, x: Tensor, seen: Tensor | None = None) -> Tensor:
            if level == len(shapes):
                return torch.full_like(y, starts[-1])
            rows, columns = shapes[level]
            inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
            inside = inside if seen is None else inside & seen
            return torch.where(inside, starts[level] + y * columns + x, starts[-1])

        near, parents, levels = [], [], []
        for level, (rows, columns) in enumerate(shapes):
            y = torch.arange(rows).repeat_interleave(columns)
            x = torch.arange(columns).repeat(rows)
            own = time(y, x)
            places = [(y + i, x + j) for i, j in window]
            near.append(torch.stack([number(level, *p, time(*p) < own) for p in places]))
            box = [(y // 2 + i, x // 2 + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            parents.append(torch.stack([number(level + 1, *p) for p in box]))
            levels.append(torch.full_like(y, level))
        self.near, self.parents = torch.cat(near, 1), torch.cat(parents, 1)
        self.levels = torch.cat(levels)
        rows_flagged = [window.index(place) for place in flagged]
        self.flags = (self.near[rows_flagged] < starts[-1]).float() - 0.5

    def __call__(
        self,
        weights: Mapping[str, Tensor],
        latents: Tensor,
        scale: float = 1.0,
        *,
        gradient: bool = True,
        exact: bool = False,
    ) -> RateResult:
        """Bits, and the gradients of `scale * bits`."""
        with torch.enable_grad():
            q = latents.detach().requires_grad_()
            w = {k: v.detach().requires_grad_() for k, v in weights.items()}
            known = torch.cat([q.clamp(-LIMIT, LIMIT), q.new_zeros(1)])
            inputs = torch.cat([known[self.near], self.flags])
            z = w["context.first"][:, : inputs.shape[0]] @ inputs
            z = z + w["context.parent"] @ known[self.parents] + w["context.bias"][:, -1:]
            a = z.clamp(0, LARGEST)
            z = w["context.hidden"] @ a + a + w["context.hidden_bias"][:, None]
            a = z.clamp(0, LARGEST)
            out = w["context.out"] @ a + w["context.level"][:, self.levels]
            bits = laplace_bits_each(q, out[0], log_scale_of(8 * out[1])).sum()
            if not gradient:
                return RateResult(bits.detach(), q.new_zeros(0), {})
            grads = torch.autograd.grad(
                scale * bits, [q, *w.values()], allow_unused=True, materialize_grads=True
            )
        return RateResult(bits.detach(), grads[0], dict(zip(w, grads[1:], strict=True)))


ORDERS: dict[str, tuple[Time, list[tuple[int, int]], list[tuple[int, int]]] | int] = {
    "serial": (row_by_row, NEAR, []),
    "interlaced, 2 octaves": 2,
    "interlaced, 3 octaves": 3,
    "interlaced, 4 octaves": 4,
    "blocks 8": (in_blocks(8), AROUND, FLAGGED),
    "blocks 16": (in_blocks(16), AROUND, FLAGGED),
    "blocks 32": (in_blocks(32), AROUND, FLAGGED),
}


def fit(samples: Tensor, lam: float, steps: int, width: int, order: str) -> tuple[float, float]:
    """Mean squared error and bits per pixel."""
    _, height, columns = samples.shape
    config = replace(core_network(height, columns, lam, 0), prior=0, width=width)
    chosen = ORDERS[order]
    if isinstance(chosen, int):
        config = replace(config, octaves=chosen)
    net = CoreCoordX(config, {"y": height, "x": columns}, samples.shape[0], seed=0)
    fitter = CoreFitter(net, samples, replace(CoreFitConfig.of(lam, steps), warm_up=0.1))
    if not isinstance(chosen, int):
        rate = OrderRate(fitter.shapes, *chosen)
        fitter.rate, fitter._portions = rate, (rate, rate)  # type: ignore[assignment]
    while fitter.step < fitter.config.soft_steps:
        fitter.advance()
    rounded, weights = fitter.latents.round(), fitter.weights()
    context = {k: v for k, v in weights.items() if k.startswith("context.")}
    synthesis = {k: v for k, v in weights.items() if not k.startswith("context.")}
    bits = fitter.rate(context, rounded, gradient=False).bits
    mse = fitter.distortion(synthesis, fitter.split(rounded)).mse
    return float(mse), float(bits) / (height * columns)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder with kodim01.png ... kodim24.png")
    parser.add_argument("--items", default="8@384x256:0.001,20@384x256:0.004")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--width", type=int, default=16, help="units of the context's layers")
    parser.add_argument("--orders", help=f"names among: {'; '.join(ORDERS)}", metavar="A;B;...")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| item | order | MSE | bpp | 1000 J | against the first |\n|---|---|---|---|---|---|")
    for item in args.items.split(","):
        where, text = item.split(":")
        lam = float(text)
        samples = to_signal(kodak.samples_of(args.folder, where), 8, torch.device("cpu"))
        first = 0.0
        for order in args.orders.split(";") if args.orders else ORDERS:
            mse, bpp = fit(samples, lam, args.steps, args.width, order)
            j = mse + lam * bpp
            first = first or j
            print(
                f"| {item} | {order} | {mse:.6f} | {bpp:.4f} | {1e3 * j:.4f} "
                f"| {100 * (j / first - 1):+.1f}% |",
                flush=True,
            )


if __name__ == "__main__":
    main()
