"""How the bits of the latents bend with the weights of the context network.

Gauss-Newton, on a sample of the latents: the outer products of the derivatives of both outputs,
times how the bits bend with that output. The latter are finite differences, as wide as outputs
move when weights are quantised: a latent that is all but certain costs nothing where it is, but a
little further it is behind a wall.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.rate.context import ContextRate, Evaluation, log_scale_of
from codec.rate.jobs import Job
from codec.rate.laplace import laplace_bits_each
from formats.blocks import FLAGS, WINDOW

__all__ = ["context_curvature"]

ROWS = 8
"""Sampled latents for each weight."""
LEAST = 16
"""Positions of a job that are sampled at least."""
MEAN_MOVE = 0.5
"""Symbols."""
SCALE_MOVE = 0.25
"""Of the second output; an index is an eighth of it."""
SLICE = 4096
"""Latents whose derivatives are held at a time."""


def context_curvature(
    rate: ContextRate, weights: Mapping[str, Tensor], latents: Tensor
) -> npt.NDArray[np.float64]:
    """Second derivatives of the bits of all latents, about.

    Args:
        rate: the picture's rate.
        weights: tensors "context.*" by name.
        latents: all grids as one vector.

    Returns:
        (n, n), n weights in the order of `weights`, each tensor's in row-major order.
    """
    return Collector(rate, weights, latents).curvature()


@dataclass
class Layers:
    """What the network's layers computed, and the way back from one of its outputs.

    Attributes:
        first, second: activations; see `Evaluation.activations`.
        out_back, second_back, through: gradients of the outputs (2, n), of the sums of the second
            layer and of those of the first (w, n).
    """

    first: Tensor
    second: Tensor
    out_back: Tensor
    second_back: Tensor
    through: Tensor


class Collector(Evaluation):
    """Walks over the jobs of the rate and takes a sample of each.

    `weigh` and `take` say what is collected.
    """

    def __init__(self, rate: ContextRate, weights: Mapping[str, Tensor], latents: Tensor) -> None:
        super().__init__(rate, weights, latents, 1.0, False, False)
        self.places: dict[str, slice] = {}
        end = 0
        for name, value in self.w.items():
            self.places[name] = slice(end, end + value.numel())
            end += value.numel()
        self.total = latents.new_zeros(end, end)
        self.share = min(1.0, ROWS * end / sum(job.size for job in rate.jobs))
        self.random = torch.Generator().manual_seed(0)

    def curvature(self) -> npt.NDArray[np.float64]:
        """The sum over all jobs."""
        for job in self.rate.jobs:
            self._sample(job)
        found: npt.NDArray[np.float64] = self.total.double().cpu().numpy()
        return found

    def weigh(self, targets: Tensor, mean: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """The factor on the derivatives of either output, each (n,)."""

        def bits(by_mean: float, by_index: float) -> Tensor:
            log_scale = log_scale_of(index + by_index)
            return laplace_bits_each(targets, mean + by_mean, log_scale)

        here = 2 * bits(0, 0)
        by_mean = (bits(MEAN_MOVE, 0) + bits(-MEAN_MOVE, 0) - here) / MEAN_MOVE**2
        by_scale = (bits(0, 8 * SCALE_MOVE) + bits(0, -8 * SCALE_MOVE) - here) / SCALE_MOVE**2
        return by_mean.clamp(min=0).sqrt(), by_scale.clamp(min=0).sqrt()

    def take(self, rows: Tensor, factor: float) -> None:
        """Add the outer products of derivatives (n, weights)."""
        self.total.addmm_(rows.t(), rows, alpha=factor)

    def _sampled(self, count: int) -> tuple[float, tuple[Tensor, ...]]:
        """How many each stands for, and which of so many positions of a job are looked at."""
        wanted = min(count, max(LEAST, round(self.share * count)))
        found = torch.randperm(count, generator=self.random)[:wanted].to(self.latents.device)
        return count / wanted, torch.split(found, SLICE)

    def _sample(self, job: Job) -> None:
        every = job.load(self.known)
        factor, sample = self._sampled(every.shape[1])
        for keep in sample:
            inputs, targets = every[:, keep], job.targets(self.latents)[keep]
            grids = job.grids if isinstance(job.grids, int) else job.grids[:, keep]
            for layer in self._layers(self.first(job), inputs, targets, grids):
                self._add(layer, inputs, job.parents, grids, factor)

    def _layers(
        self, weights: Tensor, inputs: Tensor, targets: Tensor, grids: int | Tensor
    ) -> list[Layers]:
        """From inputs of the first layer, whose weights these are, to the derivatives of each
        output, weighed."""
        first, second, out = self.activations(weights, inputs, grids)
        found = []
        for number, weight in enumerate(self.weigh(targets, out[0], 8 * out[1])):
            back = torch.zeros_like(out)
            back[number] = weight
            found.append(Layers(first, second, back, *self.backward(first, second, back)))
        return found

    def _add(
        self,
        layer: Layers,
        inputs: Tensor,
        parents: bool,
        grids: int | Tensor,
        factor: float,
    ) -> None:
        """Rows of derivatives, one a latent."""
        through, count = layer.through, inputs.shape[1]
        rows = inputs.new_zeros(count, self.total.shape[0])
        window, flags = inputs[: len(WINDOW)], inputs[-FLAGS:]
        self._put(rows, "first", through, window.index_select(0, self.rate.columns))
        if parents:
            self._put(rows, "parent", through, inputs[len(WINDOW) : -FLAGS])
        self._put(rows, "bias", through, flags[: self.config.flags])
        self._put(rows, "hidden", layer.second_back, layer.first[: self.width])
        rows[:, self.places["hidden_bias"]] = layer.second_back.t()
        self._put(rows, "out", layer.out_back, layer.second[: self.width])
        if isinstance(grids, int):
            hot = inputs.new_zeros(self.config.grids, count)
            hot[grids] = 1
            grids = hot
        self._put(rows, "level", layer.out_back, grids)
        self.take(rows, factor)

    def _put(self, rows: Tensor, name: str, back: Tensor, inputs: Tensor) -> None:
        rows[:, self.places[name]] = _outer(back, inputs).flatten(1)


def _outer(a: Tensor, b: Tensor) -> Tensor:
    """(m, n) and (k, n) to (n, m, k)."""
    return a.t()[:, :, None] * b.t()[:, None, :]
