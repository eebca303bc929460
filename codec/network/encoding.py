"""Coordinates to the inputs of a branch's first linear layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from formats.network import Encoding, NetworkConfig, positional_octaves

__all__ = ["encode_axis", "first_layer_bounds", "normalise"]


def normalise(coords: Tensor, length: int) -> Tensor:
    """Pixel coordinates to [-1, 1], where -1 and 1 are the outer *edges* of the signal.

    Sample centres i = 0..length-1 go to (2 i + 1) / length - 1, so that a scaled grid of the
    same extent stays inside the interval the network was fitted on.
    """
    return (2 * coords + 1) / length - 1


def _frequencies(config: NetworkConfig, length: int) -> list[float]:
    """Angular frequencies, in radians per unit of the normalised coordinate."""
    if config.encoding == Encoding.POSITIONAL:
        return [math.pi * 2**k for k in range(positional_octaves(length))]
    # Log-spaced from half a period over the axis to the bandwidth.
    top = config.bandwidth / 64 * math.pi * length / 2
    low = math.pi / 2
    count = config.frequencies
    ratio = max(top / low, 1.0) ** (1 / max(count - 1, 1))
    return [low * ratio**k for k in range(count)]


def encode_axis(config: NetworkConfig, coords: Tensor, length: int) -> Tensor:
    """Inputs of one axis.

    Args:
        config: which encoding.
        coords: (n,) pixel coordinates.
        length: samples of the coded signal along this axis.

    Returns:
        (n, config.encoded_size(length)): u, then sines, then cosines.
    """
    u = normalise(coords, length)
    if config.encoding == Encoding.SINE:
        return u[:, None]
    frequencies = torch.tensor(_frequencies(config, length), dtype=u.dtype, device=u.device)
    phase = u[:, None] * frequencies
    return torch.cat([u[:, None], phase.sin(), phase.cos()], dim=1)


def first_layer_bounds(config: NetworkConfig, length: int) -> float:
    """Largest |weight| of a sine first layer at initialisation, in radians per unit of u.

    The paper's code draws frequencies up to 30 rad per unit whatever the size of the picture:
    0.12 rad a pixel at 512, 1/26 of Nyquist. Setting it from the length is the cheapest
    quality lever a split network has (docs/experiments.md).
    """
    return config.bandwidth / 64 * math.pi * length / 2
