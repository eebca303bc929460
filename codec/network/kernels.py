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

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "BLOCK",
    "INITIAL",
    "Band",
    "Kernel",
    "Windows",
    "axis_matrix",
    "band_of",
    "bands",
    "composites",
    "expand",
    "interpolate",
]

BLOCK = 64
"""Rows of a block, a multiple of every stride up to 2^6."""
INITIAL = (0.879, 0.262, -0.106, -0.035)
"""Half of the upsampling kernel at the start, from its centre outwards; scaled to sum 1."""


@dataclass(frozen=True)
class Kernel:
    """The composite kernel of one grid.

    Attributes:
        taps: (n,).
        offset: n - 2^l j of the first tap.
        stride: samples of a latent, 2^l.
    """

    taps: Tensor
    offset: int
    stride: int


@dataclass(frozen=True)
class Band:
    """The matrix of one grid as the rows of one block.

    Attributes:
        matrix: (block, window) weights of the latents that start `left` before the block's own.
        left: latents before the block.
        kernel: what it is made of.
    """

    matrix: Tensor
    left: int
    kernel: Kernel

    @property
    def block(self) -> int:
        """Rows of the matrix."""
        return self.matrix.shape[0]

    @property
    def stride(self) -> int:
        """Samples of a latent."""
        return self.kernel.stride


Windows = dict[tuple[int, ...], Tensor]
"""Places that `expand` reads from, by what they depend on. A fit, whose steps all read from the
same ones, keeps its own: a recording of a step holds nothing but their addresses."""


@functools.cache
def _constant(make: Callable[..., Tensor], device: torch.device, *sizes: int) -> Tensor:
    """What `make` returns for these sizes, on a device.

    They follow from the number of levels alone: there are few, and none is ever let go.
    """
    with torch.inference_mode(False):  # a decode may come first, and a fit needs their gradients
        return make(*sizes).to(device)


def _overlaps(first: int, second: int, spacing: int) -> Tensor:
    """Places in a kernel of `first` taps that meet each tap of a second one in a convolution.

    (taps of the result + 1, second); `first` where there is none, and so in the last row.
    """
    taps = torch.arange(first + (second - 1) * spacing + 1)
    place = taps[:, None] - spacing * torch.arange(second)
    place[(place < 0) | (place > first)] = first
    place[-1] = first
    return place


def _convolve(a: Tensor, b: Tensor, spacing: int) -> Tensor:
    """Full convolution of two kernels, the second with `spacing` between its taps.

    The first has a zero as its last tap, and so has the result. A product of a matrix and a
    vector: cuDNN's convolutions round to TF32.
    """
    place = _constant(_overlaps, a.device, a.numel() - 1, b.numel(), spacing)
    return torch.mv(a.index_select(0, place.flatten()).view(place.shape), b)


def composites(
    kernel: Tensor | None, prefilter: Tensor, levels: Sequence[int] = (0,)
) -> list[Kernel]:
    """The kernels of all grids.

    Args:
        kernel: (levels - 1, 4) half kernels of the stages, from the centre outwards; None if
            there is one level.
        prefilter: (grids, 4) centre and one side of the filters, without the identity.
        levels: of every grid.
    """
    chain = [_constant(_unit, prefilter.device).to(prefilter)]
    stages = () if kernel is None else torch.cat([kernel.flip(1), kernel], 1).unbind()
    for level, stage in enumerate(stages):
        chain.append(_convolve(chain[-1], stage, 1 << level))
    filters = torch.cat([prefilter[:, 1:].flip(1), prefilter], 1)
    filters = filters + _constant(_centre, prefilter.device).to(prefilter)
    result = []
    for level, own in zip(levels, filters.unbind(), strict=True):
        stride = 1 << level
        # Each stage begins 3 of its spacings before, the filter 3 strides.
        offset = -3 * (stride - 1) - 3 * stride
        result.append(Kernel(_convolve(chain[level], own, stride)[:-1], offset, stride))
    return result


def bands(kernel: Tensor | None, prefilter: Tensor, levels: Sequence[int] = (0,)) -> list[Band]:
    """The matrices of all grids; see `composites`."""
    return [band_of(found) for found in composites(kernel, prefilter, levels)]


def _unit() -> Tensor:
    """A kernel that does nothing, and its zero."""
    return torch.eye(2)[0]


def _centre() -> Tensor:
    """The identity as a filter of 7 taps."""
    return torch.eye(7)[3]


def _reach(taps: int, offset: int, stride: int) -> range:
    """Latents that reach the rows of the first block."""
    block = max(BLOCK, stride)
    return range(-((offset + taps - 1) // stride), (block - 1 - offset) // stride + 1)


def _taps_of_rows(taps: int, offset: int, stride: int) -> Tensor:
    """(block, window) places in a kernel; `taps` where it does not reach."""
    columns = torch.tensor(_reach(taps, offset, stride))
    place = torch.arange(max(BLOCK, stride))[:, None] - stride * columns - offset
    return place.masked_fill_((place < 0) | (place > taps), taps)


def band_of(kernel: Kernel) -> Band:
    """The band of a composite kernel."""
    taps = kernel.taps.numel()
    place = _constant(_taps_of_rows, kernel.taps.device, taps, kernel.offset, kernel.stride)
    with_zero = torch.nn.functional.pad(kernel.taps, (0, 1))
    matrix = with_zero.index_select(0, place.flatten()).view(place.shape)
    return Band(matrix, -_reach(taps, kernel.offset, kernel.stride).start, kernel)


def expand(x: Tensor, band: Band, start: int, stop: int, windows: Windows | None = None) -> Tensor:
    """Interpolate rows of latents to samples start..stop: (rows, m) -> (rows, stop - start).

    `start` is a multiple of the block. Windows of consecutive blocks are one GEMM.
    """
    blocks = -(-(stop - start) // band.block)
    step, window = band.block // band.stride, band.matrix.shape[1]
    begin = start // band.stride - band.left
    sizes = x.shape[1], begin, blocks, step, window
    wanted = None if windows is None else windows.get(sizes)
    if wanted is None:
        starts = begin + step * torch.arange(blocks, device=x.device)
        wanted = starts[:, None] + torch.arange(window, device=x.device)
        wanted = wanted.clamp_(0, x.shape[1] - 1).flatten()  # beyond the edges the outermost
        if windows is not None:
            windows[sizes] = wanted
    out = torch.mm(x.index_select(1, wanted).view(-1, window), band.matrix.t())
    return out.view(x.shape[0], blocks * band.block)[:, : stop - start]


def interpolate(
    latents: Sequence[Tensor],
    found: Sequence[Band],
    rows: range,
    columns: range,
    windows: Windows | None = None,
) -> list[Tensor]:
    """Latents of every grid at a rectangle of samples: one (rows, columns) each.

    Both ranges start at multiples of the largest block. `windows`: see there.
    """
    planes = []
    for grid, band in zip(latents, found, strict=True):
        tall = expand(grid.t(), band, rows.start, rows.stop, windows)  # (w_l, rows)
        planes.append(expand(tall.t(), band, columns.start, columns.stop, windows))
    return planes


def axis_matrix(band: Band, latents: int, coords: Tensor, length: int) -> Tensor:
    """The matrix of any coordinates: (n,) positions in samples -> (n, latents).

    Between samples, the rows of the four nearest ones are combined by the cubic of Keys (1981,
    a = -1/2): exact at samples, and as smooth as the kernels themselves.
    """
    kernel, offset = band.kernel.taps, band.kernel.offset
    base = torch.floor(coords)
    t = (coords - base).to(kernel.dtype)
    cubic = torch.stack(
        [
            ((-0.5 * t + 1) * t - 0.5) * t,
            (1.5 * t - 2.5) * t * t + 1,
            ((-1.5 * t + 2) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t,
        ]
    )
    matrix = kernel.new_zeros(coords.numel(), latents)
    # Latents, also those beyond the edges, that reach the samples around the coordinates.
    near = (float(base.min()) - 1, float(base.max()) + 2)
    low, high = (min(max(0, int(row)), length - 1) - offset for row in near)
    first, last = -((kernel.numel() - 1 - low) // band.stride), high // band.stride
    columns = torch.arange(first, last + 1, device=coords.device)
    owner = columns.clamp(0, latents - 1)
    for tap in range(4):
        rows = (base.long() + tap - 1).clamp(0, length - 1)
        index = rows[:, None] - band.stride * columns[None] - offset
        inside = (index >= 0) & (index < kernel.numel())
        values = kernel[index.clamp(0, kernel.numel() - 1)] * inside
        matrix.index_add_(1, owner, values * cubic[tap][:, None])
    return matrix
