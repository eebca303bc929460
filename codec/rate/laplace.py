"""Bits of a latent under a Laplace distribution integrated over unit bins, and its slopes.

With u = |q - mu|, b = exp(log_scale) and F the Laplace distribution function,

    p = F(u + 1/2) - F(u - 1/2) = (e1 - e2) / 2           for u >= 1/2
                                  1 - (e1 + e2) / 2       for u <  1/2
    e1 = exp(-|u - 1/2| / b)      e2 = exp(-(u + 1/2) / b)

and in both cases dp/du = -(e1 - e2) / 2b and dp/dlog b = ((u - 1/2) e1 - (u + 1/2) e2) / 2b: one
formula, no branch. Written out by hand because these few lines on every latent are a large part
of a fit's time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["FLOOR", "laplace_bits_each", "laplace_rate"]

FLOOR = 2.0**-20
"""Smallest probability: caps the bits of an outlier, and keeps its gradient finite."""


def laplace_rate(q: Tensor, mu: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bits and their slopes.

    Args:
        q, mu, log_scale: same shape; log_scale is the natural logarithm of b.

    Returns:
        Sum of bits (a scalar tensor), d bits / d q (that of mu is its negative) and
        d bits / d log_scale, both of q's shape.
    """
    inverse = torch.exp(-log_scale)
    d = q - mu
    u = d.abs()
    a = u - 0.5
    e1 = torch.exp(-a.abs() * inverse)
    e2 = torch.exp(-(u + 0.5) * inverse)
    difference = e1 - e2
    p = torch.where(a >= 0, 0.5 * difference, 1 - 0.5 * (e1 + e2)).clamp_min_(FLOOR)
    slope = (0.5 / math.log(2)) * inverse / p
    by_q = slope * difference * torch.sign(d)
    by_log_scale = slope * ((u + 0.5) * e2 - a * e1)
    return -torch.log2(p).sum(), by_q, by_log_scale


def laplace_bits_each(q: Tensor, mu: Tensor, log_scale: Tensor) -> Tensor:
    """Bits of every latent, without a floor: arguments as of `laplace_rate`.

    Beyond half a symbol p = exp(-(u - 1/2) / b) (1 - exp(-1 / b)) / 2, whose logarithm needs no p.
    """
    inverse = torch.exp(-log_scale)
    u = (q - mu).abs()
    beyond = (u - 0.5).clamp_min(0) * inverse - torch.log(0.5 * (1 - torch.exp(-inverse)))
    within = 0.5 * (torch.exp((u - 0.5).clamp_max(0) * inverse) + torch.exp(-(u + 0.5) * inverse))
    return torch.where(u < 0.5, -torch.log1p(-within), beyond) / math.log(2)
