"""The 3x3 layers as matrix products over windows, band by band.

For the three channels of a picture this is as fast as a convolution of torch, and in float32 on
every device: cuDNN rounds the inputs of convolutions to TF32 unless it is told not to.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

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


def add_convolution(padded: Tensor, weight: Tensor, bias: Tensor, chunk: int) -> Tensor:
    """Samples plus their 3x3 convolution: (channels, h, w); without gradients.

    Args:
        padded: (channels, h + 2, w + 2) samples and what is around them.
        weight: (channels, channels, 3, 3).
        bias: (channels,).
        chunk: pixels of a band.
    """
    channels, height, width = padded.shape[0], padded.shape[1] - 2, padded.shape[2] - 2
    # In the order of (column of the kernel, output; input, row): its columns are products of their
    # own, since rows of pixels can be copied whole, and three times as many need not be. The
    # samples themselves are part of the middle column.
    by_column = weight.permute(3, 0, 1, 2).clone(memory_format=torch.contiguous_format)
    by_column[1, :, :, 1].diagonal().add_(1)
    by_column = by_column.view(3 * channels, -1)
    biases = F.pad(bias, (channels, channels))[:, None]
    out = padded.new_empty(channels, height, width)
    channel, row, column = padded.stride()
    for rows in row_bands(height, width, chunk):
        size = rows.stop - rows.start
        seen = padded.as_strided(
            (channels, 3, size, width + 2),
            (channel, row, row, column),
            padded.storage_offset() + rows.start * row,
        )
        found = torch.addmm(biases, by_column, seen.reshape(3 * channels, -1))
        left, middle, right = found.view(3, channels, size, width + 2)
        part = torch.add(left[..., :-2], middle[..., 1:-1], out=out[:, rows])
        part += right[..., 2:]
    return out
