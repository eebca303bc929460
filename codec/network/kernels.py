"""Interpolation along one axis: from a latent grid of stride 2^l to samples.

Level l is upsampled l times by two. Each stage convolves with a symmetric kernel of 8 taps
(4 weights, learned), and a symmetric 7-tap filter (4 weights, learned, added to the identity)
acts on the latents themselves: Cool-chic's upsampler (arXiv 2411.19249). All stages together are
one kernel in units of samples, so the whole chain is one banded matrix an axis - the "branch" of
that axis, evaluated once - and never a pyramid of intermediate images. Latents beyond the edges
repeat the outermost one.

Sample n of an axis depends on latent j by kernel[n - 2^l j]. Rows n and n + block of the matrix
are the same moved by block / 2^l latents, so a block of rows stands for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["BLOCK", "INITIAL", "Band", "axis_matrix", "bands", "expand", "interpolate"]

BLOCK = 64
"""Rows of a block, a multiple of every stride up to 2^6."""
INITIAL = (0.879, 0.262, -0.106, -0.035)
"""Half of the upsampling kernel at the start, from its centre outwards; scaled to sum 1."""


@dataclass(frozen=True)
class Band:
    """The matrix of one level as the rows of one block.

    Attributes:
        matrix: (block, window) weights of the latents that start `left` before the block's own.
        left: latents before the block.
        stride: samples of a latent, 2^l.
        kernel: (taps,) composite kernel.
        offset: n - 2^l j of its first tap.
    """

    matrix: Tensor
    left: int
    stride: int
    kernel: Tensor
    offset: int

    @property
    def block(self) -> int:
        """Rows of the matrix."""
        return self.matrix.shape[0]


def _convolve(a: Tensor, b: Tensor, spacing: int) -> Tensor:
    """Full convolution of two kernels, the second with `spacing` between its taps."""
    spread = a.new_zeros((b.numel() - 1) * spacing + 1)
    spread[::spacing] = b
    exact = a.dtype if a.device.type == "cpu" else torch.float64  # cuDNN rounds float32 to TF32
    flipped = spread.flip(0)[None, None].to(exact)
    return F.conv1d(a[None, None].to(exact), flipped, padding=spread.numel() - 1)[0, 0].to(a.dtype)


def bands(kernel: Tensor | None, prefilter: Tensor) -> list[Band]:
    """The matrices of all levels, finest first.

    Args:
        kernel: (levels - 1, 4) half kernels of the stages, from the centre outwards; None if
            there is one level.
        prefilter: (levels, 4) centre and one side of the filters, without the identity.
    """
    result = []
    composite, offset = prefilter.new_ones(1), 0
    for level in range(prefilter.shape[0]):
        stride = 1 << level
        if level:
            assert kernel is not None
            half = kernel[level - 1]
            composite = _convolve(composite, torch.cat([half.flip(0), half]), stride // 2)
            offset -= 3 * (stride // 2)
        side = prefilter[level, 1:]
        own = torch.cat([side.flip(0), 1 + prefilter[level, :1], side])
        result.append(_band(_convolve(composite, own, stride), offset - 3 * stride, stride))
    return result


def _band(kernel: Tensor, offset: int, stride: int) -> Band:
    block = max(BLOCK, stride)
    taps = kernel.numel()
    first = -((offset + taps - 1) // stride)  # the first latent that reaches row 0
    last = (block - 1 - offset) // stride
    rows = torch.arange(block, device=kernel.device)
    columns = torch.arange(first, last + 1, device=kernel.device)
    index = rows[:, None] - stride * columns[None] - offset
    inside = (index >= 0) & (index < taps)
    matrix = torch.where(inside, kernel[index.clamp(0, taps - 1)], kernel.new_zeros(()))
    return Band(matrix, -first, stride, kernel, offset)


def expand(x: Tensor, band: Band, start: int, stop: int) -> Tensor:
    """Interpolate rows of latents to samples start..stop: (rows, m) -> (rows, stop - start).

    `start` is a multiple of the block. Windows of consecutive blocks are one GEMM.
    """
    blocks = -(-(stop - start) // band.block)
    step, window = band.block // band.stride, band.matrix.shape[1]
    begin = start // band.stride - band.left
    wanted = torch.arange(begin, begin + (blocks - 1) * step + window, device=x.device)
    source = x.index_select(1, wanted.clamp(0, x.shape[1] - 1))
    windows = source.unfold(1, window, step)  # (rows, blocks, window)
    out = torch.mm(windows.reshape(-1, window), band.matrix.t())
    return out.view(x.shape[0], blocks * band.block)[:, : stop - start]


def interpolate(
    latents: Sequence[Tensor], found: Sequence[Band], rows: range, columns: range
) -> list[Tensor]:
    """Latents of every level at a rectangle of samples: one (rows, columns) each.

    Both ranges start at multiples of the largest block.
    """
    planes = []
    for grid, band in zip(latents, found, strict=True):
        tall = expand(grid.t(), band, rows.start, rows.stop)  # (w_l, rows)
        planes.append(expand(tall.t(), band, columns.start, columns.stop))
    return planes


def axis_matrix(band: Band, latents: int, coords: Tensor, length: int) -> Tensor:
    """The matrix of any coordinates: (n,) positions in samples -> (n, latents).

    Between samples, the rows of the four nearest ones are combined by the cubic of Keys (1981,
    a = -1/2): exact at samples, and as smooth as the kernels themselves.
    """
    base = torch.floor(coords)
    t = (coords - base).to(band.kernel.dtype)
    cubic = torch.stack(
        [
            ((-0.5 * t + 1) * t - 0.5) * t,
            (1.5 * t - 2.5) * t * t + 1,
            ((-1.5 * t + 2) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t,
        ]
    )
    matrix = band.kernel.new_zeros(coords.numel(), latents)
    # Latents, also those beyond the edges, that reach the samples around the coordinates.
    near = (float(base.min()) - 1, float(base.max()) + 2)
    low, high = (min(max(0, int(row)), length - 1) - band.offset for row in near)
    first, last = -((band.kernel.numel() - 1 - low) // band.stride), high // band.stride
    columns = torch.arange(first, last + 1, device=coords.device)
    owner = columns.clamp(0, latents - 1)
    for tap in range(4):
        rows = (base.long() + tap - 1).clamp(0, length - 1)
        index = rows[:, None] - band.stride * columns[None] - band.offset
        inside = (index >= 0) & (index < band.kernel.numel())
        values = band.kernel[index.clamp(0, band.kernel.numel() - 1)] * inside
        matrix.index_add_(1, owner, values * cubic[tap][:, None])
    return matrix
