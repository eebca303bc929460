"""What rank features beside the latents could give at most: core fusion with and without them.

    python tools/ablate_rank.py KODAK [--items 8@384x256:0.001,20@384x256:0.004] [--steps 600]

A rank feature is the product of a function of y and a function of x, as in rank fusion; the tail
sees R of them beside the interpolated latents. Here both functions are free values at every row
and column, of which the networks of rank fusion are a special case, fitted by Adam from noise and
*not paid for*: more than coded ones could gain, as far as such a fit finds it. No prior and one
seed; J = MSE + lambda bpp is that of the rounded latents at the end of the soft stage, network
weights not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import soft_fits
import torch
from torch import Tensor

from codec.fit.core_config import CoreFitConfig
from codec.fit.core_distortion import CoreDistortion
from codec.fit.core_loop import CoreFitter
from codec.fit.progress import Progress
from codec.network.core import CoreCoordX
from codec.network.tail import Tail
from formats.core import CoreConfig

COLUMNS = (("tail.weight", "tail"), ("skip", "skip"))
"""Weights of the tail that rank features have columns of, and the names of these."""


class RankDistortion(CoreDistortion):
    """The distortion of a picture whose tail also sees rank features.

    Args:
        config, target: as of `CoreDistortion`.
        features: R. Their values and their columns of the tail are `free`, by name.
    """

    def __init__(self, config: CoreConfig, target: Tensor, features: int, seed: int = 0) -> None:
        super().__init__(config, target)
        self.fused = None  # machine code knows no features but those of the grids
        channels, height, width = target.shape
        draw = torch.Generator().manual_seed(seed)
        self.free = {
            "y": torch.randn(features, height, generator=draw),
            "x": torch.randn(features, width, generator=draw),
            "tail": torch.randn(config.hidden, features, generator=draw) / math.sqrt(config.grids),
            "skip": torch.zeros(channels, features),
        }
        self.grad: dict[str, Tensor] = {}

    def _features(self, planes: Sequence[Tensor]) -> Tensor:
        """The latents' features, the rank features and the ones: (grids + R + 1, h, w)."""
        rank = self.free["y"][:, :, None] * self.free["x"][:, None]
        return super()._features([*planes, *rank])

    def tail(self, weights: Mapping[str, Tensor]) -> Tail:
        """The tail with more inputs; the gain is the latents' alone."""
        wide = dict(weights)
        for name, own in COLUMNS:
            wide[name] = torch.cat([weights[name], self.free[own].to(wide[name]) / self.gain], 1)
        return super().tail(wide)

    def _tail_back(
        self, tail: Tail, grad: dict[str, Tensor], features: Tensor, back: Tensor
    ) -> Tensor:
        found = super()._tail_back(tail, grad, features, back)
        grids = self.config.grids
        for name, own in COLUMNS:
            grad[name], free = grad[name][:, :grids], grad[name][:, grids:]
            self.grad[own] = free / self.gain
        planes = found[grids:].view(-1, *self.target.shape[1:])
        self.grad["y"] = (planes * self.free["x"][:, None]).sum(2)
        self.grad["x"] = (planes * self.free["y"][:, :, None]).sum(1)
        return found[:grids]


class RankFitter(CoreFitter):
    """A fit that moves the free values of rank features too."""

    def __init__(
        self, net: CoreCoordX, target: Tensor, config: CoreFitConfig, features: int
    ) -> None:
        super().__init__(net, target, config)
        self.loss.distortion = self.rank = RankDistortion(net.config, target, features)
        self.adam_free = torch.optim.Adam(self.rank.free.values(), betas=(0.9, 0.99))

    def advance(self) -> Progress:
        """One step, of the free values too; their rate follows that of the networks."""
        rate = self.config.network_rate(self.step)
        report = super().advance()
        for name, value in self.rank.free.items():
            value.grad = self.rank.grad[name]
        for group in self.adam_free.param_groups:
            group["lr"] = rate
        self.adam_free.step()
        return report


def fit(samples: Tensor, lam: float, steps: int, features: int) -> tuple[float, float]:
    """Mean squared error and bits per pixel."""
    start = soft_fits.start(samples, lam, steps)
    return soft_fits.run(RankFitter(*start, features) if features else CoreFitter(*start))


def main() -> None:
    """Measure and print a table."""
    parser = soft_fits.parser(__doc__)
    parser.add_argument("--features", default="0,2,8", help="numbers of rank features")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| item | rank features | MSE | bpp | 1000 J |\n|---|---|---|---|---|")
    for item, lam, samples in soft_fits.pictures(args.folder, args.items):
        for features in map(int, args.features.split(",")):
            found = fit(samples, lam, args.steps, features)
            print(soft_fits.row(f"{item} | {features}", lam, *found), flush=True)


if __name__ == "__main__":
    main()
