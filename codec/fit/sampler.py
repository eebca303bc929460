"""Which samples a step sees: the whole grid, or a Cartesian sub-grid of it.

The accelerated sampler of CoordX (section 3.3): points drawn independently would push every
one of them through every branch and cost more than the plain network; a product of per-axis
draws keeps the split. Here a step of a video sees some frames and some rows, whole columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from codec.network import AxisGrid

__all__ = ["Sampler"]


class Sampler:
    """Draws a sub-grid a step.

    Args:
        grid: the whole signal.
        target: (channels, *grid.shape).
        batch: samples a step at most (at least one row of one frame is drawn).
        seed: together with the step number it decides the draw, so a resumed fit continues
            as an uninterrupted one would.
    """

    def __init__(self, grid: AxisGrid, target: Tensor, batch: int, seed: int) -> None:
        self.grid = grid
        self.target = target
        self.seed = seed
        self.counts: dict[str, int] = {}
        share = min(1.0, batch / math.prod(grid.shape))
        if share < 1:
            # Half of the thinning (in octaves) on t, half on y: both stay well covered.
            axes = grid.axes[:-1]
            for position, axis in enumerate(axes):
                size = grid.shape[position]
                part = share ** (1 / (len(axes) - position))
                count = max(1, min(size, math.ceil(size * part)))
                self.counts[axis] = count
                share = min(1.0, share * size / count)

    def draw(self, step: int) -> tuple[AxisGrid, Tensor]:
        """The grid and the target of one step."""
        if not self.counts:
            return self.grid, self.target
        generator = torch.Generator().manual_seed(self.seed * 7919 + step)
        grid, target = self.grid, self.target
        for position, axis in enumerate(grid.axes[:-1]):
            size = grid.shape[position]
            count = self.counts[axis]
            if count == size:
                continue
            # Stratified: one draw in each of `count` equal strata, so coverage is even.
            edges = torch.arange(count, dtype=torch.float64) * (size / count)
            offset = torch.rand(count, generator=generator, dtype=torch.float64) * (size / count)
            index = (edges + offset).long().clamp_(max=size - 1).to(target.device)
            grid = grid.select(axis, index)
            target = target.index_select(position + 1, index)
        return grid, target
