"""How many bits a signal deserves at a given lambda, before anything is fitted.

The size of the network must be chosen first, and the right size depends on the content: a
flat picture wants few weights, a busy one many. The measure is what an ideal transform coder
would spend: an orthonormal 8x8 DCT (and a DCT along time) of the signal, quantised uniformly
with the step that has slope lambda, costed at the zeroth-order entropy of each coefficient
position. It takes milliseconds a megapixel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["NETWORK_SHARE", "lambda_of_bits", "network_bits", "transform_bits"]

BLOCK = 8
NETWORK_SHARE = 0.5
"""Bits that a network spends where the transform coder would spend one, at the same slope: 0.46
to 0.55 on four Kodak images between 0.3 and 0.6 bpp (docs/experiments.md)."""


def network_bits(signal: Tensor, lam: float) -> float:
    """Bits that a network of the right size spends on a signal at a lambda."""
    return NETWORK_SHARE * transform_bits(signal, lam)


def _dct(size: int, device: torch.device) -> Tensor:
    """Orthonormal DCT-II matrix, (size, size), rows are basis functions."""
    n = torch.arange(size, dtype=torch.float32, device=device)
    basis = torch.cos(math.pi / size * (n + 0.5) * n[:, None]) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def transform_bits(signal: Tensor, lam: float) -> float:
    """Bits that the transform coder spends on a signal.

    Args:
        signal: (C, [T,] H, W) in [0, 1].
        lam: mean squared error per bit per pixel.

    At high rate D = step^2 / 12 per sample with C samples a pixel, so a bit per pixel buys
    dD = -ln(2) step^2 / (6 C): step^2 = 6 C lambda / ln 2.
    """
    channels, *_, height, width = signal.shape
    video = signal.reshape(channels, -1, height, width)
    if video.shape[1] > 1:
        video = torch.einsum("st,cthw->cshw", _dct(video.shape[1], signal.device), video)
    if channels >= 3:
        # An orthonormal luma-chroma rotation decorrelates R, G and B as the network may.
        rotation = torch.tensor(
            [[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float32, device=signal.device
        )
        rotation = rotation / rotation.square().sum(1, keepdim=True).sqrt()
        colour = torch.einsum("dc,cthw->dthw", rotation, video[:3])
        video = torch.cat([colour, video[3:]])
    pad = (0, -width % BLOCK, 0, -height % BLOCK)
    mode = "replicate" if pad[1] < width and pad[3] < height else "constant"
    video = torch.nn.functional.pad(video, pad, mode=mode)
    blocks = video.unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK)
    basis = _dct(BLOCK, signal.device)
    coefficients = torch.einsum("ui,vj,cthwij->cuvthw", basis, basis, blocks)
    step = math.sqrt(6 * channels * lam / math.log(2))
    symbols = (coefficients / step).round().long().flatten(3)  # (C, 8, 8, T * blocks)
    bits = 0.0
    for position in symbols.flatten(0, 2):
        counts = torch.unique(position, return_counts=True)[1].double()
        share = counts / counts.sum()
        bits += float(-(counts * share.log2()).sum())
    # Scaled to the samples that exist: padding is not coded.
    return bits * (height * width) / (video.shape[2] * video.shape[3])


def lambda_of_bits(signal: Tensor, bits: float) -> float:
    """The lambda at which the transform estimate spends these bits, by bisection."""
    low, high = math.log(1e-6), math.log(1.0)
    for _ in range(10):
        middle = (low + high) / 2
        spent = transform_bits(signal, math.exp(middle))
        low, high = (middle, high) if spent > bits else (low, middle)
    return math.exp((low + high) / 2)
