"""Kernels of the composite interpolation kernels, and back to their weights.

The stages up to a level and the filter of a grid are one kernel in units of samples
(`codec/network/kernels.py`): a vector for each grid, made by one program.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["compose", "decompose"]


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
def compose(
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
def decompose(
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
