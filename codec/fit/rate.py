"""The bits of quantised weights as a differentiable function of the weights.

Symbols q of a tensor are modelled by the Laplace tables of `formats/tables.py`, a two-sided
geometric distribution p(q) = (1 - theta) / (1 + theta) theta^|q|, at the theta that fits them
best: the coder will choose the nearest of its frozen tables. E|q| = 2 theta / (1 - theta^2)
gives theta = (sqrt(1 + m^2) - 1) / m for m = mean |q|; there the derivative of the bits with
respect to theta vanishes, so theta is treated as constant.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["laplace_bits", "laplace_theta"]

MIN_MEAN = 1e-3
"""Mean |q| below which a tensor is all but zero and costs next to nothing."""


def laplace_theta(mean: Tensor) -> Tensor:
    """The theta that fits symbols of this mean magnitude best."""
    mean = mean.clamp_min(MIN_MEAN)
    return (torch.sqrt(1 + mean * mean) - 1) / mean


def laplace_bits(q: Tensor) -> Tensor:
    """Bits to code symbols under the distribution that fits them, a scalar.

    Args:
        q: symbols, any shape: rounded (with a straight-through gradient) or continuous. The
            bits are linear in |q| for a given theta, so that every weight feels what a
            smaller one saves.
    """
    magnitude = q.abs()
    theta = laplace_theta(magnitude.detach().mean())
    normaliser = torch.log1p(theta) - torch.log1p(-theta)
    nats = q.numel() * normaliser - magnitude.sum() * torch.log(theta)
    return nats / math.log(2)
