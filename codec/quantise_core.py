"""Weights of a core-fusion network to integer symbols, by measuring what each choice costs.

There are a score of tensors and an evaluation takes a fraction of a second, so nothing is
modelled: tensor by tensor, every power-of-two step (and a few dead zones) is tried on the
picture itself, with the latents rounded, and the choice with the least D + lambda R stays.
Context tensors change only the rate, the others only the distortion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.fit.core_distortion import CoreDistortion
from codec.network.core import CoreCoordX
from codec.rate import ContextRate
from formats.context import CONTEXT_BITS, ContextNetwork
from formats.entropy import best_table
from formats.errors import CorruptError
from formats.priors import prior_tensors
from formats.weights import CodedTensor

__all__ = [
    "finest_step",
    "prior_weights",
    "quantise_networks",
    "set_weights",
    "start_from_prior",
]

SYNTHESIS_FINEST = -14
INTERPOLATION = ("kernel", "filter")
BAND_PIXELS = 2_000_000
"""Of a picture of twice as many, a band of this size stands for the whole: a search takes some
two hundred evaluations."""
COARSEST = 1
PATIENCE = 3
"""A search that coarsens a step stops after this many choices worse than the best."""
ROUNDINGS = (0.5, 0.4, 0.3)
"""Offsets tried before the floor: 1/2 rounds to nearest, less sends more symbols to zero."""


def finest_step(name: str) -> int:
    """The finest step exponent tried for a tensor; for the context the format's limit."""
    return -CONTEXT_BITS[name] if name in CONTEXT_BITS else SYNTHESIS_FINEST


@torch.no_grad()
def quantise_networks(
    net: CoreCoordX,
    distortion: CoreDistortion,
    rate: ContextRate,
    latents: Tensor,
    grids: Sequence[Tensor],
    lam: float,
) -> list[CodedTensor]:
    """Choose symbols for every tensor, and set the network to what they mean.

    Args:
        net: the network; its weights are replaced by the quantised ones.
        distortion, rate: the two terms of the loss.
        latents: integer-valued, one vector; grids: the same by level.
        lam: mean squared error per bit per pixel.

    Returns:
        The tensors in coding order.
    """
    if (band := _band(net)) is not None:
        target = distortion.target[:, band.start : band.stop]
        grids = [grid[band.start >> n : -(-band.stop // 2**n)] for n, grid in enumerate(grids)]
        latents = torch.cat([grid.flatten() for grid in grids])
        distortion = CoreDistortion(net.config, target)
        rate = ContextRate(net.config, len(band), net.width, target.device)
    # Weights are paid for by the whole picture: a bit of theirs costs less than one of the band's.
    prices = lam / (distortion.target.shape[-1] * distortion.target.shape[-2]), lam / net.pixels
    prior = prior_weights(net)
    weights = {spec.name: net.parameter(spec.name).detach().clone() for spec in net.specs}
    while True:
        tensors = _quantise(net, weights, prior, distortion, rate, latents, grids, prices)
        set_weights(net, tensors)
        try:
            ContextNetwork(net.config, dict(zip(weights, tensors, strict=True)))
        except CorruptError:  # sums too large for the format: rare, and any smaller ones will do
            for name in CONTEXT_BITS.keys() & weights.keys():
                weights[name] = weights[name] * 0.8
        else:
            return tensors


def _quantise(
    net: CoreCoordX,
    weights: Mapping[str, Tensor],
    prior: Mapping[str, Tensor],
    distortion: CoreDistortion,
    rate: ContextRate,
    latents: Tensor,
    grids: Sequence[Tensor],
    prices: tuple[float, float],
) -> list[CodedTensor]:
    """One search over all tensors; `prices` are those of a bit of latents and of weights."""
    weights = dict(weights)
    for name, value in weights.items():  # the integer context network knows no finer values
        if name.startswith("context."):
            finest = 2.0 ** finest_step(name)
            weights[name] = (value / finest).round() * finest
    context = {k: v for k, v in weights.items() if k.startswith("context.")}
    synthesis = {k: v for k, v in weights.items() if not k.startswith("context.")}

    def context_cost(_: str) -> float:
        found = rate(context, latents, gradient=False, exact=True)
        return prices[0] * float(found.bits)

    # What the tensors before in the order below have settled is evaluated once.
    features = cache(lambda: distortion.features(synthesis, grids))
    smooth = cache(lambda: distortion.smooth(synthesis, features()))

    def synthesis_cost(name: str) -> float:
        if name in INTERPOLATION:
            found = distortion.features(synthesis, grids)
            return distortion.error(synthesis, distortion.smooth(synthesis, found))
        if name.startswith("residual"):
            return distortion.error(synthesis, smooth())
        return distortion.error(synthesis, distortion.smooth(synthesis, features()))

    coded = {}
    # Interpolation first, then the 1x1 layers, then the 3x3 layers.
    order = sorted((spec.name for spec in net.specs), key=lambda n: n not in INTERPOLATION)
    for name in order:
        if name.startswith("context."):
            coded[name] = _search(name, context, context_cost, prices[1], prior.get(name))
        else:
            coded[name] = _search(name, synthesis, synthesis_cost, prices[1], prior.get(name))
    return [coded[spec.name] for spec in net.specs]


def _band(net: CoreCoordX) -> range | None:
    """Rows in the middle of a large picture, enough to choose by; None for all of a small one."""
    block = 1 << net.config.levels
    rows = max(2, -(-BAND_PIXELS // (block * net.width))) * block
    if 2 * rows > net.height:
        return None
    top = (net.height - rows) // 2 // block * block
    return range(top, top + rows)


def prior_weights(net: CoreCoordX) -> dict[str, Tensor]:
    """What a network's coded weights are added to, by name, on its device.

    Tensors that start from zero are left out.
    """
    return {
        name: torch.from_numpy(tensor.weights.astype(np.float32)).to(net.parameter(name).detach())
        for name, tensor in prior_tensors(net.config, net.channels).items()
    }


@torch.no_grad()
def start_from_prior(net: CoreCoordX) -> None:
    """Replace the weights that the network's prior knows."""
    for name, value in prior_weights(net).items():
        net.parameter(name).copy_(value)


@torch.no_grad()
def set_weights(net: CoreCoordX, tensors: Sequence[CodedTensor]) -> None:
    """Set the network to what coded tensors mean."""
    prior = prior_weights(net)
    for spec, tensor in zip(net.specs, tensors, strict=True):
        parameter = net.parameter(spec.name)
        value = torch.from_numpy(tensor.values).to(parameter)
        parameter.copy_(value + prior[spec.name] if spec.name in prior else value)


def _search(
    name: str,
    weights: dict[str, Tensor],
    cost: Callable[[str], float],
    price: float,
    prior: Tensor | None,
) -> CodedTensor:
    """The cheapest symbols of one tensor; leaves `weights` at what they mean."""
    original = weights[name]
    base = torch.zeros_like(original) if prior is None else prior
    delta = (original - base).double().cpu().numpy()
    best: tuple[float, CodedTensor] | None = None
    silent: float | None = None  # the total of all zeros

    def attempt(step: int, offset: float) -> float:
        scaled = np.ldexp(delta, -step)
        symbols = np.sign(scaled) * np.floor(np.abs(scaled) + offset)
        return try_symbols(symbols.astype(np.int32), step)

    def try_symbols(symbols: npt.NDArray[np.int32], step: int) -> float:
        nonlocal best, silent
        if silent is not None and not symbols.any():
            return silent
        tensor = CodedTensor(symbols, step if symbols.any() else 0)
        weights[name] = base + torch.from_numpy(tensor.values).to(original)
        bits = best_table(symbols)[1] + (16 if symbols.any() else 8)
        total = cost(name) + price * bits
        if best is None or total < best[0]:
            best = total, tensor
        if not symbols.any():
            silent = total
        return total

    limit = finest_step(name)
    largest = float(np.abs(delta).max(initial=0.0))
    if largest > 0:
        limit = max(limit, math.ceil(math.log2(largest / 30_000)))
    worse = 0
    lowest = math.inf
    for step in range(limit, max(limit, COARSEST) + 1):
        found = attempt(step, 0.5)
        worse = 0 if found < lowest else worse + 1
        lowest = min(lowest, found)
        if worse >= PATIENCE:
            break
    assert best is not None
    chosen = best[1].step
    for offset in ROUNDINGS[1:]:
        for step in (chosen - 1, chosen):
            if step >= limit:
                attempt(step, offset)
    try_symbols(np.zeros(delta.shape, np.int32), 0)  # eight bits
    weights[name] = base + torch.from_numpy(best[1].values).to(original)
    return best[1]
