"""Interpolation of all grids, forward and backward, in a kernel for each axis.

As `codec/network/kernels.py`: samples of a block of an axis are a product of latents and a banded
matrix whose entries are those of the composite kernel. Here blocks of all grids are one launch,
matrices are made where they are used, and nothing goes through autograd. A latent beyond the
edges is the outermost one: its slopes are added to that one's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from codec.gpu.sums import Sums
from formats.core import CoreConfig

__all__ = ["FusedInterpolation"]

STEP = 64
"""Samples of a block along the axis, and lines across it."""
NEAR = 16
"""Latents that are taken together."""
COPIES = 32
"""Of the slopes of composite kernels: few programs add to one place."""
LINES = 128
"""Lines whose products a program adds to those slopes."""
FORWARD, BACKWARD = "tf32x3", "tf32"
"""Precision of products: as float32, and with the mantissa of a half."""


@triton.jit
def _tap(half, row, k, HALF: tl.constexpr):
    """Tap k of a symmetric kernel of 8 (HALF) or 7 taps, of which `half` has 4."""
    if HALF:
        at = tl.where(k < 4, 3 - k, k - 4)
    else:
        at = tl.where(k < 3, 3 - k, k - 3)
    return tl.load(half + row * 4 + at)


@triton.jit
def _add_filter(filters, chain, kernels, grid, level: tl.constexpr, SIZE: tl.constexpr):
    """Kernel of a grid: all stages up to its level, and its filter."""
    n = tl.arange(0, SIZE)
    found = tl.load(chain + level * SIZE + n - 3 * 2**level, mask=n >= 3 * 2**level, other=0.0)
    for k in range(7):
        at = n - k * 2**level
        own = tl.load(chain + level * SIZE + at, mask=at >= 0, other=0.0)
        found += _tap(filters, grid, k, False) * own
    tl.store(kernels + grid * SIZE + n, found)


@triton.jit
def _compose(
    weights,
    at_kernel,
    at_filter,
    chain,
    kernels,
    LEVELS: tl.constexpr,
    COLOUR: tl.constexpr,
    COLOUR_LEVEL: tl.constexpr,
    SIZE: tl.constexpr,
):
    """The chain of all stages up to each level, and with the filter of each grid there."""
    stages, filters = weights + at_kernel, weights + at_filter
    n = tl.arange(0, SIZE)
    tl.store(chain + n, tl.where(n == 0, 1.0, 0.0))
    for level in tl.static_range(LEVELS):
        if level > 0:
            spacing = 2 ** (level - 1)
            tl.debug_barrier()
            found = tl.zeros([SIZE], tl.float32)
            for k in range(8):
                at = n - k * spacing
                before = tl.load(chain + (level - 1) * SIZE + at, mask=at >= 0, other=0.0)
                found += _tap(stages, level - 1, k, True) * before
            tl.store(chain + level * SIZE + n, found)
        tl.debug_barrier()
        _add_filter(filters, chain, kernels, level, level, SIZE)
        if (level >= COLOUR_LEVEL) and (level < COLOUR_LEVEL + COLOUR):
            _add_filter(filters, chain, kernels, LEVELS + level - COLOUR_LEVEL, level, SIZE)


@triton.jit
def _through_filter(
    carried, filters, chain, slopes, by_filter, grid, level: tl.constexpr, SIZE: tl.constexpr
):
    """What the kernel of a grid adds to the slopes `carried` by the chain of its level; slopes by
    its filter are stored."""
    n = tl.arange(0, SIZE)
    slope = tl.load(slopes + grid * SIZE + n)
    own = chain + level * SIZE + n
    ahead = slopes + grid * SIZE + n
    # Taps 3 - m and 3 + m are one weight.
    for m in tl.static_range(4):
        low, high = (3 - m) * 2**level, (3 + m) * 2**level
        weight = tl.load(filters + grid * 4 + m)
        seen = tl.load(own - low, mask=n >= low, other=0.0)
        later = tl.load(ahead + low, mask=n + low < SIZE, other=0.0)
        if m > 0:
            seen += tl.load(own - high, mask=n >= high, other=0.0)
            later += tl.load(ahead + high, mask=n + high < SIZE, other=0.0)
        else:
            carried += later  # the identity
        tl.store(by_filter + grid * 4 + m, tl.sum(slope * seen, 0))
        carried += weight * later
    return carried


@triton.jit
def _decompose(
    weights,
    at_kernel,
    at_filter,
    chain,
    slopes,
    scratch,
    found,
    LEVELS: tl.constexpr,
    COLOUR: tl.constexpr,
    COLOUR_LEVEL: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Slopes by the weights, from those by the kernels of the grids."""
    stages, filters = weights + at_kernel, weights + at_filter
    by_stage, by_filter = found + at_kernel, found + at_filter
    n = tl.arange(0, SIZE)
    carried = tl.zeros([SIZE], tl.float32)
    for level in tl.static_range(LEVELS - 1, -1, -1):
        carried = _through_filter(carried, filters, chain, slopes, by_filter, level, level, SIZE)
        if (level >= COLOUR_LEVEL) and (level < COLOUR_LEVEL + COLOUR):
            grid = LEVELS + level - COLOUR_LEVEL
            carried = _through_filter(carried, filters, chain, slopes, by_filter, grid, level, SIZE)
        if level > 0:
            spacing = 2 ** (level - 1)
            tl.store(scratch + level * SIZE + n, carried)
            tl.debug_barrier()
            below = tl.zeros([SIZE], tl.float32)
            own = chain + (level - 1) * SIZE + n
            ahead = scratch + level * SIZE + n
            # Taps 3 - m and 4 + m of a stage are one weight.
            for m in tl.static_range(4):
                low, high = (3 - m) * spacing, (4 + m) * spacing
                weight = tl.load(stages + (level - 1) * 4 + m)
                seen = tl.load(own - low, mask=n >= low, other=0.0)
                seen += tl.load(own - high, mask=n >= high, other=0.0)
                later = tl.load(ahead + low, mask=n + low < SIZE, other=0.0)
                later += tl.load(ahead + high, mask=n + high < SIZE, other=0.0)
                tl.store(by_stage + (level - 1) * 4 + m, tl.sum(carried * seen, 0))
                below += weight * later
            carried = below


@triton.jit
def _taps(kernels, grid, SIZE: tl.constexpr, at, near, inside, stride, offset):
    """Entries of the banded matrix for samples `at` and latents `near`, shaped alike."""
    tap = at - stride * near - offset
    real = (tap >= 0) & (tap < SIZE) & inside
    return tl.load(kernels + grid * SIZE + tap, mask=real, other=0.0)


@triton.jit
def _grid_of(layout, grid):
    """What a kernel needs to know of a grid: a row of the layout (see `_Axis`)."""
    row = layout + grid * 9
    source, source_stride, length = tl.load(row), tl.load(row + 1), tl.load(row + 2)
    lines, out, out_stride = tl.load(row + 3), tl.load(row + 4), tl.load(row + 5)
    samples, stride, offset = tl.load(row + 6), tl.load(row + 7), tl.load(row + 8)
    return source, source_stride, length, lines, out, out_stride, samples, stride, offset


@triton.jit
def _expand(
    source,
    kernels,
    out,
    layout,
    tiles,
    DOWN: tl.constexpr,
    SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
):
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
def _contract(
    slopes,
    kernels,
    into,
    layout,
    tiles,
    DOWN: tl.constexpr,
    SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
):
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
def _correlate(
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


@dataclass
class _Axis:
    """Tables of one axis.

    Attributes:
        layout: of each grid: start, stride and length of the input, lines, start, stride and
            length of the output, samples of a latent, offset of the kernel.
        expand, contract, correlate: the tiles of the kernels of these names.
    """

    layout: Tensor
    expand: Tensor
    contract: Tensor
    correlate: Tensor


class FusedInterpolation:
    """Interpolates the latents of one picture.

    Args:
        config: the network.
        height, width: of the picture.
        starts: where each tensor begins in the vector of all weights, by name.
        device: where the latents are.

    Attributes:
        features: (grids + 1, height, width), what `forward` finds; the last plane is ones.
        zeros: how many numbers `backward` adds to besides the gradients.
    """

    def __init__(
        self,
        config: CoreConfig,
        height: int,
        width: int,
        starts: Mapping[str, int],
        device: torch.device,
    ) -> None:
        self._starts = starts.get("kernel", 0), starts["filter"]
        self._size = 1 << (13 * 2 ** (config.levels - 1) - 7).bit_length()
        self._pyramids = {
            "LEVELS": config.levels,
            "COLOUR": config.colour,
            "COLOUR_LEVEL": config.colour_level,
            "SIZE": self._size,
        }
        down, across = [], []
        start = between = 0
        shapes = config.grid_shapes(height, width)
        for grid, (level, (h, w)) in enumerate(zip(config.grid_levels, shapes, strict=True)):
            kernel = 2**level, -3 * (2**level - 1) - 3 * 2**level
            down.append((start, w, h, w, between, w, height, *kernel))
            across.append((between, w, w, height, grid * height * width, width, width, *kernel))
            start, between = start + h * w, between + height * w
        self._down, self._across = (_axis(rows, device) for rows in (down, across))
        self.features = torch.ones(config.grids + 1, height, width, device=device)
        self._tall = torch.empty(between, device=device)
        # Chains and their slopes are of levels, kernels of grids.
        self._chain, self._scratch = torch.empty(
            2, config.levels, self._size, device=device
        ).unbind()
        self._kernels = torch.empty(config.grids, self._size, device=device)
        self._copies = COPIES, config.grids, self._size
        self.zeros = between + math.prod(self._copies)

    def forward(self, weights: Tensor, latents: Tensor) -> Tensor:
        """Latents at every sample: `features`.

        Args:
            weights: of the networks, one vector.
            latents: all grids as one vector.
        """
        size = self._size
        _compose[(1,)](weights, *self._starts, self._chain, self._kernels, **self._pyramids)
        for axis, source, out, down in (
            (self._down, latents, self._tall, True),
            (self._across, self._tall, self.features, False),
        ):
            _expand[(len(axis.expand),)](
                source,
                self._kernels,
                out,
                axis.layout,
                axis.expand,
                DOWN=down,
                SIZE=size,
                PRECISION=FORWARD,
            )
        return self.features

    def backward(
        self,
        weights: Tensor,
        latents: Tensor,
        planes: Tensor,
        grad: Tensor,
        sums: Sums,
        zeros: Tensor,
    ) -> None:
        """Add the gradients of the last `forward`.

        Args:
            weights, latents: of that.
            planes: (grids, height, width) gradients by its planes.
            grad: like latents.
            sums: gradients of weights; those of the interpolation are replaced.
            zeros: (`zeros`,) zeros, which are overwritten.
        """
        size = self._size
        tall, by_kernel = torch.split(zeros, [len(self._tall), math.prod(self._copies)])
        for axis, back, source, into, down in (
            (self._across, planes, self._tall, tall, False),
            (self._down, tall, latents, grad, True),
        ):
            _contract[(len(axis.contract),)](
                back,
                self._kernels,
                into,
                axis.layout,
                axis.contract,
                DOWN=down,
                SIZE=size,
                PRECISION=BACKWARD,
            )
            _correlate[(len(axis.correlate),)](
                back,
                source,
                by_kernel,
                axis.layout,
                axis.correlate,
                DOWN=down,
                GRIDS=len(self._kernels),
                LINES=LINES,
                COPIES=COPIES,
                SIZE=size,
                PRECISION=BACKWARD,
            )
        _decompose[(1,)](
            weights,
            *self._starts,
            self._chain,
            by_kernel.view(self._copies).sum(0),
            self._scratch,
            sums.weights,
            **self._pyramids,
            num_warps=8,
        )


def _axis(rows: Sequence[tuple[int, ...]], device: torch.device) -> _Axis:
    """Tables from the rows of a layout."""
    expand, contract, correlate = [], [], []
    for grid, (_, _, _, lines, _, _, samples, stride, offset) in enumerate(rows):
        taps = 13 * stride - 6
        for at in range(0, samples, STEP):
            # Latents that reach these samples.
            first = -(-(at - offset - taps + 1) // stride)
            last = (min(samples, at + STEP) - 1 - offset) // stride
            chunks = -(-(last + 1 - first) // NEAR)
            for line in range(0, lines, STEP):
                expand.append((grid, line, at, first, chunks))
            for line in range(0, lines, LINES):
                for chunk in range(chunks):
                    correlate.append((grid, line, at, first + chunk * NEAR, 0))
        first, last = -(-(-offset - taps + 1) // stride), (samples - 1 - offset) // stride
        for near in range(first, last + 1, NEAR):
            # Samples that these latents reach.
            low = max(0, stride * near + offset)
            high = min(samples, stride * (min(near + NEAR, last + 1) - 1) + offset + taps)
            for line in range(0, lines, STEP):
                contract.append((grid, line, near, low, -(-(high - low) // STEP)))
    tables = (rows, expand, contract, correlate)
    return _Axis(*(torch.tensor(t, dtype=torch.int32, device=device) for t in tables))
