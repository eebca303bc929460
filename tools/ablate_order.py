"""What the order of the latents costs: blocks of several sizes against a serial context.

    python tools/ablate_order.py KODAK [--items 8@384x256:0.001,20@384x256:0.004] [--steps 600]

serial     row after row; the 16 nearest latents that come before, as in C3 and Cool-chic
blocks B   all blocks of BxB side by side (formats/blocks.py): 3 B - 2 passes do a grid; above 32
           those of the finest grids (`CoreConfig.side`)

All see the 3x3 window of the coarser grid too; layers, start, optimiser and schedule are the
same. No prior: there is none for the serial order. Nor is there a decoder, so J = MSE + lambda bpp
is that of the rounded latents at the end of the soft stage, with the rate that the real-valued
network says, network weights not counted.
"""

from __future__ import annotations

from collections.abc import Mapping

import soft_fits
import torch
from torch import Tensor

from codec.fit.core_loop import CoreFitter
from codec.rate.context import LARGEST, RateResult, log_scale_of
from codec.rate.laplace import laplace_bits_each
from formats.blocks import LIMIT, WINDOW

NEAR = [(-2, x) for x in range(-2, 3)] + [(-1, x) for x in range(-3, 4)]
NEAR += [(0, x) for x in range(-4, 0)]
assert len(NEAR) == len(WINDOW)


class SerialRate:
    """Stands in for `ContextRate`: bits and gradients under a serial order, by autograd.

    Args:
        shapes: rows and columns of the grids, finest first.
    """

    def __init__(self, shapes: list[tuple[int, int]]) -> None:
        starts = [0]
        for rows, columns in shapes:
            starts.append(starts[-1] + rows * columns)

        def number(level: int, y: Tensor, x: Tensor) -> Tensor:
            if level == len(shapes):
                return torch.full_like(y, starts[-1])
            rows, columns = shapes[level]
            inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
            return torch.where(inside, starts[level] + y * columns + x, starts[-1])

        near, parents, levels = [], [], []
        for level, (rows, columns) in enumerate(shapes):
            y = torch.arange(rows).repeat_interleave(columns)
            x = torch.arange(columns).repeat(rows)
            near.append(torch.stack([number(level, y + i, x + j) for i, j in NEAR]))
            box = [(y // 2 + i, x // 2 + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            parents.append(torch.stack([number(level + 1, *p) for p in box]))
            levels.append(torch.full_like(y, level))
        self.near, self.parents = torch.cat(near, 1), torch.cat(parents, 1)
        self.levels = torch.cat(levels)

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
            z = w["context.first"] @ known[self.near] + w["context.bias"][:, :1]
            z = z + w["context.parent"] @ known[self.parents]
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


ORDERS: dict[str, int | None] = {
    "serial": None,
    "blocks 8": 3,
    "blocks 16": 4,
    "blocks 32": 5,
    "blocks 64": 6,
    "blocks 128": 7,
    "blocks 256": 8,
}


def fit(samples: Tensor, lam: float, steps: int, width: int, order: str) -> tuple[float, float]:
    """Mean squared error and bits per pixel."""
    block = ORDERS[order]
    shape = {"width": width} if block is None else {"width": width, "block": block}
    fitter = CoreFitter(*soft_fits.start(samples, lam, steps, **shape))
    if block is None:
        rate = SerialRate(fitter.shapes)
        fitter.rate, fitter._portions = rate, (rate, rate)  # type: ignore[assignment]
    return soft_fits.run(fitter)


def main() -> None:
    """Measure and print a table."""
    parser = soft_fits.parser(__doc__)
    parser.add_argument("--width", type=int, default=16, help="units of the context's layers")
    parser.add_argument("--orders", help=f"names among: {'; '.join(ORDERS)}", metavar="A;B;...")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| item | order | MSE | bpp | 1000 J | against the first |\n|---|---|---|---|---|---|")
    for item, lam, samples in soft_fits.pictures(args.folder, args.items):
        first = 0.0
        for order in args.orders.split(";") if args.orders else ORDERS:
            mse, bpp = fit(samples, lam, args.steps, args.width, order)
            j = mse + lam * bpp
            first = first or j
            row = soft_fits.row(f"{item} | {order}", lam, mse, bpp)
            print(f"{row} {100 * (j / first - 1):+.1f}% |", flush=True)


if __name__ == "__main__":
    main()
