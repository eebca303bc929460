"""What the interlaced order costs: the same fit with a serial context, row after row.

    python tools/ablate_order.py KODAK [--items 8@384x256:0.001,20@384x256:0.004] [--steps 600]

The serial network sees the 16 nearest latents that come before in raster order and the 3x3 window
of the coarser grid, as the networks of C3 and Cool-chic do; its layers, its start, the optimiser
and the schedule are those of the interlaced one. No prior: there is none for the serial one. There
is no serial decoder either, so J = MSE + lambda bpp is that of the rounded latents at the end of
the soft stage, with the rate that the real-valued network says, network weights not counted (the
serial one has a third of the weights in its first layer).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
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

NEAR = [(-2, x) for x in range(-2, 3)] + [(-1, x) for x in range(-3, 4)]
NEAR += [(0, x) for x in range(-4, 0)]
"""Rows and columns of the serial context: all come before in raster order."""


class SerialRate:
    """Stands in for `ContextRate`: bits and gradients of a serial context, by autograd.

    Its first layer is the last 16 columns of the interlaced one's, its bias that of the base pass.

    Args:
        shapes: rows and columns of the grids, finest first.
    """

    def __init__(self, shapes: list[tuple[int, int]]) -> None:
        starts = [0]
        for rows, columns in shapes:
            starts.append(starts[-1] + rows * columns)
        outside = starts[-1]
        near, parents, levels = [], [], []
        for level, (rows, columns) in enumerate(shapes):
            y = torch.arange(rows).repeat_interleave(columns)
            x = torch.arange(columns).repeat(rows)

            def index(n: int, y: Tensor, x: Tensor) -> Tensor:
                if n == len(shapes):
                    return torch.full_like(y, outside)
                h, w = shapes[n]
                inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
                return torch.where(inside, starts[n] + y * w + x, outside)

            near.append(torch.stack([index(level, y + i, x + j) for i, j in NEAR]))
            box = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            parents.append(torch.stack([index(level + 1, y // 2 + i, x // 2 + j) for i, j in box]))
            levels.append(torch.full_like(y, level))
        self.near, self.parents = torch.cat(near, 1), torch.cat(parents, 1)
        self.levels = torch.cat(levels)

    def divided(self, share: float) -> tuple[SerialRate, SerialRate]:
        """As of `ContextRate`; one thread takes all."""
        return self, self

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
            z = w["context.first"][:, -len(NEAR) :] @ known[self.near]
            z = z + w["context.parent"] @ known[self.parents] + w["context.bias"][:, -1:]
            a = z.clamp(0, LARGEST)
            z = w["context.hidden"] @ a + a + w["context.hidden_bias"][:, None]
            a = z.clamp(0, LARGEST)
            out = w["context.out"] @ a + w["context.level"][:, self.levels]
            bits = laplace_bits_each(q, out[0], log_scale_of(8 * out[1])).sum()
            if not gradient:
                return RateResult(bits.detach(), q.new_zeros(0), {})
            grads = torch.autograd.grad(scale * bits, [q, *w.values()], allow_unused=True)
        found = [
            torch.zeros_like(v) if g is None else g
            for v, g in zip(w.values(), grads[1:], strict=True)
        ]
        return RateResult(bits.detach(), grads[0], dict(zip(w, found, strict=True)))


def fit(samples: Tensor, lam: float, steps: int, octaves: int | None) -> tuple[float, float]:
    """Mean squared error and bits per pixel; octaves of the interlaced order, None: serial."""
    _, height, width = samples.shape
    config = replace(core_network(height, width, lam, 0), prior=0, octaves=octaves or 3)
    net = CoreCoordX(config, {"y": height, "x": width}, samples.shape[0], seed=0)
    fitter = CoreFitter(net, samples, replace(CoreFitConfig.of(lam, steps), warm_up=0.1))
    if octaves is None:
        fitter.rate = SerialRate(fitter.shapes)  # type: ignore[assignment]
        fitter._portions = fitter.rate.divided(1.0)
    while fitter.step < fitter.config.soft_steps:
        fitter.advance()
    found = fitter.distortion(
        {k: v for k, v in fitter.weights().items() if not k.startswith("context.")},
        fitter.split(fitter.latents.round()),
    )
    context = {k: v for k, v in fitter.weights().items() if k.startswith("context.")}
    rate = fitter.rate(context, fitter.latents.round(), gradient=False)
    return float(found.mse), float(rate.bits) / (height * width)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder with kodim01.png ... kodim24.png")
    parser.add_argument("--items", default="8@384x256:0.001,20@384x256:0.004")
    parser.add_argument("--steps", type=int, default=600)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| item | order | MSE | bpp | 1000 J | against serial |\n|---|---|---|---|---|---|")
    for item in args.items.split(","):
        where, text = item.split(":")
        lam = float(text)
        samples = to_signal(kodak.samples_of(args.folder, where), 8, torch.device("cpu"))
        serial = 0.0
        for octaves in (None, 2, 3, 4):
            mse, bpp = fit(samples, lam, args.steps, octaves)
            j = mse + lam * bpp
            serial = serial or j
            name = "serial" if octaves is None else f"interlaced, {octaves} octaves"
            print(
                f"| {item} | {name} | {mse:.6f} | {bpp:.4f} | {1e3 * j:.4f} "
                f"| {100 * (j / serial - 1):+.1f}% |",
                flush=True,
            )


if __name__ == "__main__":
    main()
