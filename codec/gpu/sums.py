"""What the kernels of a step add up."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Sums"]


class Sums(NamedTuple):
    """Sums over latents or pixels; every kernel of a step adds its part.

    Attributes:
        bits: (1,) of all latents.
        error: (1,) mean squared error.
        weights: (n,) gradients by the weights of the networks, in the order of these.
    """

    bits: Tensor
    error: Tensor
    weights: Tensor
