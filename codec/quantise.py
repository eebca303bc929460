"""Weights to integer symbols: the choice of a power-of-two step per tensor, and rounding.

A weight w becomes round(w / 2^k) * 2^k. The step of a tensor balances what its rounding costs
in distortion against what it costs in bits. With D the mean squared error, H its Hessian, N the
pixels and lambda the price of one bit per pixel, uniform rounding noise of variance step^2 / 12
in every weight adds (1/2) H_ii step^2 / 12 each, and one bit finer costs one bit a weight, so

    step^2 = 12 lambda / (N ln 2 mean(H_ii))

(reverse water-filling at high rate). mean(H_ii) is taken from the Gauss-Newton Hessian by
Hutchinson's estimator: backpropagating random signs v gives E[(J^T v)_i^2] = (J^T J)_ii.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from codec.network import CoordX
from formats.entropy import best_table
from formats.weights import MAX_STEP, MIN_STEP, CodedTensor

__all__ = ["MAX_SYMBOL", "coded_bits", "coded_tensors", "load_tensors", "round_ste", "water_fill"]

MAX_SYMBOL = 30_000
"""Symbols stay well inside the widest table (65535)."""


def round_ste(x: Tensor) -> Tensor:
    """Round to the nearest integer; the gradient passes as if nothing had happened."""
    return x + (x.round() - x).detach()


def water_fill(
    curvature: Mapping[str, float],
    weights: Mapping[str, Tensor],
    lam: float,
    pixels: int,
    coarseness: float = 1.0,
) -> dict[str, int]:
    """Step exponent of every tensor.

    Args:
        curvature: mean diagonal Hessian entry of the mean squared error, per tensor.
        weights: the tensors, for their range.
        lam: price of one bit per pixel in mean squared error (samples in [0, 1]).
        pixels: N.
        coarseness: factor on the step (fitting with the rounding in the loop undoes part of
            its harm, so the best step is coarser than the formula; docs/experiments.md).

    Returns:
        k per tensor, within the format's range and such that symbols fit the tables.
    """
    steps = {}
    for name, weight in weights.items():
        step = math.sqrt(12 * lam / (pixels * math.log(2) * max(curvature[name], 1e-20)))
        largest = float(weight.detach().abs().max())
        finest = math.ceil(math.log2(max(largest, 1e-30) / MAX_SYMBOL))
        wanted = round(math.log2(step * coarseness))
        steps[name] = int(np.clip(max(wanted, finest), MIN_STEP, MAX_STEP))
    return steps


def coded_tensors(net: CoordX, steps: Mapping[str, int]) -> list[CodedTensor]:
    """The network's weights, rounded, in coding order."""
    coded = []
    for spec in net.specs:
        weight = net.parameter(spec.name).detach().double().cpu().numpy()
        symbols = np.clip(np.rint(np.ldexp(weight, -steps[spec.name])), -65535, 65535)
        coded.append(CodedTensor(symbols.astype(np.int32), steps[spec.name]))
    return coded


def coded_bits(tensors: list[CodedTensor]) -> float:
    """Bits of the entropy-coded symbols and of the side information of each tensor."""
    return sum(best_table(t.symbols)[1] + 16 for t in tensors)


def load_tensors(net: CoordX, tensors: list[CodedTensor]) -> None:
    """Set the network's weights from decoded tensors."""
    with torch.no_grad():
        for spec, tensor in zip(net.specs, tensors, strict=True):
            net.parameter(spec.name).copy_(torch.from_numpy(tensor.values))
