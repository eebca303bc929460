"""Distortion of a network on a grid, and its gradient, in bounded memory.

The grid is cut into tiles. Each tile's graph is built, differentiated and freed before the
next one; gradients meet in leaves, which are the axis features (computed once, O(W + H + T))
and the weights. One backward pass through the axis branches ends the step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from codec.network import AxisGrid, CoordX
from codec.network.tiles import tiles

__all__ = ["backward_through", "distortion", "tile_samples"]


def tile_samples(net: CoordX, device: torch.device) -> int:
    """Samples of a tile: activations that fit the cache of a core, or fill a GPU."""
    floats = 2**20 if device.type == "cpu" else 2**25
    return max(1024, floats // max(net.config.features, 8))


def backward_through(
    net: CoordX,
    grid: AxisGrid,
    weights: Mapping[str, Tensor],
    tile_loss: Callable[[Tensor, tuple[slice, ...]], Tensor],
) -> Tensor:
    """Sum a loss over the tiles of a grid and accumulate its gradient into `weights`' graph.

    Args:
        net: the network.
        grid: where to evaluate it.
        weights: the weights to use, by name; gradients flow into whatever they came from.
        tile_loss: maps (samples of a tile (channels, *tile shape), its ranges in the grid) to
            a scalar.

    Returns:
        The sum, detached, on the network's device.
    """
    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    single = {  # branches of one axis are evaluated once, for all tiles
        number: net.config.axes.index(branch[0])
        for number, branch in enumerate(net.config.branches)
        if len(branch) == 1
    }
    with net.using(leaves):
        features = {n: net.branch_features(n, grid) for n in single}
        cached = {n: f.detach().requires_grad_() for n, f in features.items()}
        total = torch.zeros((), device=grid.coords[0].device)
        for tile in tiles(grid, tile_samples(net, grid.coords[0].device)):
            parts = [
                cached[n][:, tile.ranges[single[n]]]
                if n in single
                else net.branch_features(n, tile.grid)
                for n in range(len(net.config.branches))
            ]
            samples = net.to_grid(net.tail(net.fuse(parts)), tile.grid)
            loss = tile_loss(samples, tile.ranges)
            torch.autograd.backward([loss])
            total += loss.detach()
    if features:
        torch.autograd.backward(list(features.values()), [_gradient(cached[n]) for n in features])
    used = [
        name for name in weights if leaves[name].grad is not None and weights[name].requires_grad
    ]
    if used:
        torch.autograd.backward(
            [weights[name] for name in used], [_gradient(leaves[name]) for name in used]
        )
    return total


def _gradient(leaf: Tensor) -> Tensor:
    return leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)


@torch.no_grad()
def distortion(
    net: CoordX,
    grid: AxisGrid,
    target: Tensor,
    weights: Mapping[str, Tensor],
    levels: int | None = None,
) -> float:
    """Mean squared error on a grid, samples in [0, 1].

    Args:
        net: the network.
        grid: where.
        target: (channels, *grid.shape).
        weights: the weights to use.
        levels: if given, samples are clamped and rounded to multiples of 1/levels first, as
            the decoder does (255 for 8 bits).
    """
    total = 0.0
    with net.using(weights):
        for tile in tiles(grid, tile_samples(net, grid.coords[0].device)):
            samples = net(tile.grid)
            if levels is not None:
                samples = (samples.clamp(0, 1) * levels).round() / levels
            error = samples - target[(slice(None), *tile.ranges)]
            total += float(error.square().sum(dtype=torch.float64))
    return total / target.numel()
