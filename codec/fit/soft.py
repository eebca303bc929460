"""Soft rounding: a differentiable stand-in for the quantiser of the latents.

s_T(x) = floor(x) + 1/2 + tanh((x - floor(x) - 1/2) / T) / (2 tanh(1 / 2T)) is the identity for a
large T and rounding for T to 0 (Agustsson & Theis, arXiv 2006.09952). With noise between two of
them, s(s(x) + n), the gradient reaches across the bin's edge; both T and the noise shrink during
a fit (C3, section 3.2; Cool-chic 5 uses the same with Gaussian noise).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["soft_round", "soft_round_noisy"]


def soft_round(x: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """s_T(x) and its derivative."""
    middle = torch.floor(x) + 0.5
    t = torch.tanh((x - middle) / temperature)
    top = math.tanh(0.5 / temperature)
    return middle.add_(t, alpha=0.5 / top), (1 - t * t).mul_(0.5 / (temperature * top))


def soft_round_noisy(x: Tensor, temperature: float, noise: Tensor) -> tuple[Tensor, Tensor]:
    """s(s(x) + noise) and its derivative."""
    first, slope = soft_round(x, temperature)
    second, outer = soft_round(first.add_(noise), temperature)
    return second, slope.mul_(outer)
