"""The 3x3 layers as matrix products over windows, band by band.

For the three channels of a picture this is as fast as a convolution of torch, and in float32 on
every device: cuDNN rounds the inputs of convolutions to TF32 unless it is told not to.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["CHUNK", "GPU_CHUNK", "add_convolution", "chunk_of", "row_bands", "windows"]

CHUNK = 8192
"""Pixels of a band on a CPU: what is computed of one stays in the cache."""
GPU_CHUNK = 2**22


def chunk_of(device: torch.device) -> int:
    """Pixels of a band."""
    return CHUNK if device.type == "cpu" else GPU_CHUNK


def row_bands(height: int, width: int, chunk: int) -> list[slice]:
    """Rows in bands of about `chunk` pixels."""
    size = max(1, chunk // width)
    return [slice(top, min(height, top + size)) for top in range(0, height, size)]


def windows(plane: Tensor, rows: slice, width: int) -> Tensor:
    """3x3 windows of some rows of (C, h + 2, w + 2): (9 C, rows * w)."""
    channel, row, column = plane.stride()
    view = plane.as_strided(
        (plane.shape[0], 3, 3, rows.stop - rows.start, width),
        (channel, row, column, row, column),
        plane.storage_offset() + rows.start * row,
    )
    return view.reshape(plane.shape[0] * 9, -1)


def add_convolution(
    samples: Tensor, padded: Tensor, weight: Tensor, bias: Tensor, chunk: int
) -> Tensor:
    """Samples plus a 3x3 convolution.

    Args:
        samples: (channels, h, w).
        padded: (channels, h + 2, w + 2), what is convolved.
        weight: (channels, channels, 3, 3).
        bias: (channels,).
        chunk: pixels of a band.
    """
    channels, height, width = samples.shape
    out = torch.empty_like(samples, memory_format=torch.contiguous_format)
    for rows in row_bands(height, width, chunk):
        change = torch.addmm(bias[:, None], weight.flatten(1), windows(padded, rows, width))
        torch.add(samples[:, rows], change.view(channels, -1, width), out=out[:, rows])
    return out
