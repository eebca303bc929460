"""Weights of a core-fusion network to integer symbols, by what they cost in the picture at hand.

The context network changes only the rate, the synthesis only the distortion, so each is quantised
by itself (`codec/fit/weight_search.py`), with the latents rounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.fit.core_curvature import distortion_curvature
from codec.fit.core_distortion import CoreDistortion
from codec.fit.weight_search import Loss, search_symbols
from codec.network.coded import prior_weights, set_weights
from codec.network.core import CoreCoordX
from codec.rate import ContextRate
from codec.rate.curvature import context_curvature
from formats.context import CONTEXT_BITS, EXACT, largest_sums
from formats.weights import CodedTensor

__all__ = ["largest_share", "quantise_networks", "shrink_rows", "within_limits"]

BAND_PIXELS = 2_000_000
"""Of a picture of twice as many, a band of this size stands for the whole."""
ROOM = 0.9
"""Share of the format's limits that weights use; quantisation may add to it."""

Floats = npt.NDArray[np.float64]


class _ContextLoss:
    """The bits of the latents; `factor`: of how many like these."""

    damping = 0.3

    def __init__(self, rate: ContextRate, latents: Tensor, factor: float) -> None:
        self._rate, self._latents, self._factor = rate, latents, factor

    def value(self, weights: Mapping[str, Tensor]) -> float:
        """The bits; infinite for weights that the format refuses."""
        if largest_share(weights) >= 1:
            return math.inf
        found = self._rate(weights, self._latents, gradient=False, exact=True)
        return float(found.bits) * self._factor

    def gradient(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return self._rate(weights, self._latents, self._factor, exact=True).weights

    def curvature(self, weights: Mapping[str, Tensor]) -> Floats:
        return context_curvature(self._rate, weights, self._latents) * self._factor


class _SynthesisLoss:
    """The mean squared error; `factor`: bits that are worth as much as an error of 1."""

    damping = 0.01

    def __init__(self, distortion: CoreDistortion, grids: Sequence[Tensor], factor: float) -> None:
        self._distortion, self._grids, self._factor = distortion, grids, factor

    def value(self, weights: Mapping[str, Tensor]) -> float:
        features = self._distortion.features(weights, self._grids)
        samples = self._distortion.smooth(weights, features)
        return self._distortion.error(weights, samples) * self._factor

    def gradient(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        found = self._distortion(weights, self._grids).weights
        return {name: found[name] * self._factor for name in weights}

    def curvature(self, weights: Mapping[str, Tensor]) -> Floats:
        return distortion_curvature(self._distortion, weights, self._grids) * self._factor


@torch.no_grad()
def quantise_networks(
    net: CoreCoordX,
    distortion: CoreDistortion,
    rate: ContextRate,
    latents: Tensor,
    grids: Sequence[Tensor],
    lam: float,
    start: Sequence[CodedTensor] | None = None,
) -> list[CodedTensor]:
    """Choose symbols for every tensor, and set the network to what they mean.

    Args:
        net: the network; its weights are replaced by the quantised ones.
        distortion, rate: the two terms of the loss.
        latents: integer-valued, one vector; grids: the same by grid.
        lam: mean squared error per bit per pixel.
        start: symbols that the network has already; better ones with the same steps are looked
            for. None: it has real-valued weights.

    Returns:
        The tensors in coding order.
    """
    if (band := _band(net)) is not None:
        target = distortion.target[:, band.start : band.stop]
        grids = [
            grid[band.start >> level : -(-band.stop // 2**level)]
            for grid, level in zip(grids, net.config.grid_levels, strict=True)
        ]
        latents = torch.cat([grid.flatten() for grid in grids])
        distortion = CoreDistortion(net.config, target)
        rate = ContextRate(net.config, len(band), net.width, target.device)
    # Weights are paid for by the whole picture.
    whole = net.pixels / (distortion.target.shape[-1] * distortion.target.shape[-2])
    losses: dict[bool, Loss] = {
        True: _ContextLoss(rate, latents, whole),
        False: _SynthesisLoss(distortion, grids, net.pixels / lam),
    }
    prior = prior_weights(net)
    weights = within_limits(net.by_name())
    coded: dict[str, CodedTensor] = {}
    before = None if start is None else dict(zip(weights, start, strict=True))
    for kind, loss in losses.items():
        part = {n: value for n, value in weights.items() if n.startswith("context.") == kind}
        coded |= search_symbols(loss, part, prior, before)
    tensors = [coded[spec.name] for spec in net.specs]
    set_weights(net, tensors)
    return tensors


def _band(net: CoreCoordX) -> range | None:
    """Rows in the middle of a large picture, enough to choose by; None for all of a small one."""
    block = 1 << net.config.levels
    rows = max(2, -(-BAND_PIXELS // (block * net.width))) * block
    if 2 * rows > net.height:
        return None
    top = (net.height - rows) // 2 // block * block
    return range(top, top + rows)


def _sums(weights: Mapping[str, Tensor]) -> dict[tuple[str, ...], Tensor]:
    """The bounds of `largest_sums`: of the context's tensors, on their device."""
    fixed = {
        name: value.double() * 2.0 ** CONTEXT_BITS[name]
        for name, value in weights.items()
        if name in CONTEXT_BITS
    }
    return largest_sums(fixed, lambda rows: rows.amax(1))


def largest_share(weights: Mapping[str, Tensor]) -> float:
    """Below 1 for weights of a context network that the format allows."""
    return max(float(bound.max()) for bound in _sums(weights).values()) / EXACT


def within_limits(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights, rows of the context network made smaller where its sums could get too large.

    Fits from a prior use about half of what there is; long ones from none would use more.
    """
    found = {name: value.clone() for name, value in weights.items()}
    shrink_rows(found)
    return found


def shrink_rows(weights: Mapping[str, Tensor]) -> None:
    """Make rows smaller in place, as `within_limits` does, without waiting for the device."""
    # The residual connection is part of a sum, but no weight.
    fixed = _sums({name: torch.zeros_like(value) for name, value in weights.items()})
    for names, bound in _sums(weights).items():
        factor = ((ROOM * EXACT - fixed[names]) / (bound - fixed[names])).clamp(max=1)
        for name in set(names) & weights.keys():
            value = weights[name]
            value.mul_(factor.view(-1, *[1] * (value.dim() - 1)))
