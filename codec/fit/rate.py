"""The bits of quantised weights as a differentiable function of the weights.

Symbols q of a tensor are modelled by a discretised Laplace distribution whose scale is the
tensor's own mean |q|: what the coder will choose among its frozen tables. At that scale the
derivative of the bits with respect to the scale vanishes, so the scale is treated as constant.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["laplace_bits"]

MIN_SCALE = 0.08
"""Below this a tensor is all but zero and costs next to nothing."""


def laplace_bits(q: Tensor) -> Tensor:
    """Bits to code symbols under the Laplace distribution that fits them, a scalar.

    Args:
        q: symbols, any shape: rounded (with a straight-through gradient) or continuous.

    The mass of a bin is 1 - exp(-1/2b) at zero and sinh(1/2b) exp(-|q|/b) elsewhere. Between
    0 and 1 the cost is interpolated linearly, so that a small weight feels what a zero saves.
    """
    magnitude = q.abs()
    scale = magnitude.detach().mean().clamp_min(MIN_SCALE)
    half = 0.5 / scale
    at_zero = -torch.log1p(-torch.exp(-half))
    # -log sinh(half), written without overflow.
    sinh = math.log(2) - half - torch.log1p(-torch.exp(-2 * half))
    elsewhere = magnitude / scale + sinh
    below_one = at_zero + (1 / scale + sinh - at_zero) * magnitude
    nats = torch.where(magnitude < 1, below_one, elsewhere)
    return nats.sum() / math.log(2)
