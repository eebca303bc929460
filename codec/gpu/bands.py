"""Kernels of products with banded matrices, whose entries are made where they are used.

A matrix has a row for each sample of an axis and a column for each latent; its entries are those
of the composite kernel (`codec/network/kernels.py`). DOWN: the axis is that of rows. A program
has a row of `tiles`: the grid, the first line, the first sample or latent, the first of what is
summed over, and how many chunks of that there are; for `correlate` first sample and first latent.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["contract", "correlate", "expand"]


@triton.jit
def _taps(kernels, grid, SIZE: tl.constexpr, at, near, inside, stride, offset):
    """Entries of the banded matrix for samples `at` and latents `near`, shaped alike."""
    tap = at - stride * near - offset
    real = (tap >= 0) & (tap < SIZE) & inside
    return tl.load(kernels + grid * SIZE + tap, mask=real, other=0.0)


@triton.jit
def _grid_of(layout, grid):
    """What a kernel needs to know of a grid: a row of the layout (see `_Axis` in
    `codec/gpu/interpolation.py`)."""
    row = layout + grid * 9
    source, source_stride, length = tl.load(row), tl.load(row + 1), tl.load(row + 2)
    lines, out, out_stride = tl.load(row + 3), tl.load(row + 4), tl.load(row + 5)
    samples, stride, offset = tl.load(row + 6), tl.load(row + 7), tl.load(row + 8)
    return source, source_stride, length, lines, out, out_stride, samples, stride, offset


@triton.jit
def expand(
    source,
    kernels,
    out,
    layout,
    tiles,
    DOWN: tl.constexpr,
    SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Samples of a block: a product of latents and a matrix."""
    tile = tiles + tl.program_id(0) * 5
    grid = tl.load(tile)
    line = tl.load(tile + 1) + tl.arange(0, 64)
    at = tl.load(tile + 2) + tl.arange(0, 64)
    start = tl.load(tile + 3)
    chunks = tl.load(tile + 4)
    of = _grid_of(layout, grid)
    source, source_stride, length, lines = source + of[0], of[1], of[2], of[3]
    out, out_stride, samples, stride, offset = out + of[4], of[5], of[6], of[7], of[8]
    total = tl.zeros([64, 64], tl.float32)
    chunk = 0
    while chunk < chunks:
        near = start + chunk * 16 + tl.arange(0, 16)
        held = tl.minimum(tl.maximum(near, 0), length - 1)
        if DOWN:
            values = tl.load(
                source + held[:, None] * source_stride + line[None, :],
                mask=(line < lines)[None, :],
                other=0.0,
            )
            band = _taps(kernels, grid, SIZE, at[:, None], near[None, :], True, stride, offset)
            total = tl.dot(band, values, total, input_precision=PRECISION)
        else:
            values = tl.load(
                source + line[:, None] * source_stride + held[None, :],
                mask=(line < lines)[:, None],
                other=0.0,
            )
            band = _taps(kernels, grid, SIZE, at[None, :], near[:, None], True, stride, offset)
            total = tl.dot(values, band, total, input_precision=PRECISION)
        chunk += 1
    if DOWN:
        tl.store(
            out + at[:, None] * out_stride + line[None, :],
            total,
            mask=(at < samples)[:, None] & (line < lines)[None, :],
        )
    else:
        tl.store(
            out + line[:, None] * out_stride + at[None, :],
            total,
            mask=(line < lines)[:, None] & (at < samples)[None, :],
        )


@triton.jit
def contract(
    slopes,
    kernels,
    into,
    layout,
    tiles,
    DOWN: tl.constexpr,
    SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Slopes by latents: a product of those by samples and the matrix, turned; added."""
    tile = tiles + tl.program_id(0) * 5
    grid = tl.load(tile)
    line = tl.load(tile + 1) + tl.arange(0, 64)
    near = tl.load(tile + 2) + tl.arange(0, 16)
    start = tl.load(tile + 3)
    chunks = tl.load(tile + 4)
    of = _grid_of(layout, grid)
    into, into_stride, length, lines = into + of[0], of[1], of[2], of[3]
    slopes, slopes_stride, samples, stride, offset = slopes + of[4], of[5], of[6], of[7], of[8]
    if DOWN:
        total = tl.zeros([16, 64], tl.float32)
    else:
        total = tl.zeros([64, 16], tl.float32)
    chunk = 0
    while chunk < chunks:
        at = start + chunk * 64 + tl.arange(0, 64)
        inside = at < samples
        if DOWN:
            values = tl.load(
                slopes + at[:, None] * slopes_stride + line[None, :],
                mask=inside[:, None] & (line < lines)[None, :],
                other=0.0,
            )
            band = _taps(
                kernels,
                grid,
                SIZE,
                at[None, :],
                near[:, None],
                inside[None, :],
                stride,
                offset,
            )
            total = tl.dot(band, values, total, input_precision=PRECISION)
        else:
            values = tl.load(
                slopes + line[:, None] * slopes_stride + at[None, :],
                mask=(line < lines)[:, None] & inside[None, :],
                other=0.0,
            )
            band = _taps(
                kernels,
                grid,
                SIZE,
                at[:, None],
                near[None, :],
                inside[:, None],
                stride,
                offset,
            )
            total = tl.dot(values, band, total, input_precision=PRECISION)
        chunk += 1
    held = tl.minimum(tl.maximum(near, 0), length - 1)
    if DOWN:
        tl.atomic_add(
            into + held[:, None] * into_stride + line[None, :],
            total,
            mask=(line < lines)[None, :],
            sem="relaxed",
        )
    else:
        tl.atomic_add(
            into + line[:, None] * into_stride + held[None, :],
            total,
            mask=(line < lines)[:, None],
            sem="relaxed",
        )


@triton.jit
def correlate(
    slopes,
    source,
    by_kernel,
    layout,
    tiles,
    DOWN: tl.constexpr,
    GRIDS: tl.constexpr,
    LINES: tl.constexpr,
    COPIES: tl.constexpr,
    SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Slopes by composite kernels: products of slopes by samples and latents, added up along
    the diagonals of the matrix."""
    tile = tiles + tl.program_id(0) * 5
    grid = tl.load(tile)
    first = tl.load(tile + 1)
    at = tl.load(tile + 2) + tl.arange(0, 64)
    near = tl.load(tile + 3) + tl.arange(0, 16)
    of = _grid_of(layout, grid)
    source, source_stride, length, lines = source + of[0], of[1], of[2], of[3]
    slopes, slopes_stride, samples, stride, offset = slopes + of[4], of[5], of[6], of[7], of[8]
    held = tl.minimum(tl.maximum(near, 0), length - 1)
    total = tl.zeros([64, 16], tl.float32)
    for chunk in range(LINES // 64):
        line = first + chunk * 64 + tl.arange(0, 64)
        if DOWN:
            back = tl.load(
                slopes + at[:, None] * slopes_stride + line[None, :],
                mask=(at < samples)[:, None] & (line < lines)[None, :],
                other=0.0,
            )
            values = tl.load(
                source + held[:, None] * source_stride + line[None, :],
                mask=(line < lines)[None, :],
                other=0.0,
            )
            total = tl.dot(back, tl.trans(values), total, input_precision=PRECISION)
        else:
            back = tl.load(
                slopes + line[:, None] * slopes_stride + at[None, :],
                mask=(line < lines)[:, None] & (at < samples)[None, :],
                other=0.0,
            )
            values = tl.load(
                source + line[:, None] * source_stride + held[None, :],
                mask=(line < lines)[:, None],
                other=0.0,
            )
            total = tl.dot(tl.trans(back), values, total, input_precision=PRECISION)
    tap = at[:, None] - stride * near[None, :] - offset
    copy = tl.program_id(0) % COPIES
    tl.atomic_add(
        by_kernel + (copy * GRIDS + grid) * SIZE + tap,
        total,
        mask=(tap >= 0) & (tap < SIZE) & (at < samples)[:, None],
        sem="relaxed",
    )
