"""Kernels of the 3x3 layers and of the error, and back.

There are three channels or so: a thread has a sample. Beyond the edges the outermost samples
repeat; what falls there on the way back is theirs.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["convolve", "convolve_back", "correlate", "edges_back", "error"]


@triton.jit
def convolve(
    samples,
    weights,
    out,
    at_weight,
    at_bias,
    height,
    width,
    CHANNELS: tl.constexpr,
    PADDED: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Samples plus their 3x3 convolution."""
    pixels = height * width
    n = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = n < pixels
    o = tl.arange(0, PADDED)
    real = o < CHANNELS
    y, x = n // width, n % width
    whole = real[:, None] & inside[None, :]
    here = o[:, None] * pixels + n[None, :]
    total = tl.load(samples + here, mask=whole, other=0.0)
    total += tl.load(weights + at_bias + o, mask=real, other=0.0)[:, None]
    for i in tl.static_range(CHANNELS):
        for k in tl.static_range(9):
            row = tl.minimum(tl.maximum(y + (k // 3 - 1), 0), height - 1)
            column = tl.minimum(tl.maximum(x + (k % 3 - 1), 0), width - 1)
            value = tl.load(samples + i * pixels + row * width + column, mask=inside, other=0.0)
            taps = tl.load(weights + at_weight + (o * CHANNELS + i) * 9 + k, mask=real, other=0.0)
            total += taps[:, None] * value[None, :]
    tl.store(out + here, total, mask=whole)


@triton.jit
def error(samples, target, back, error, count, factor, SIZE: tl.constexpr):
    """Mean squared error of clamped samples, and its slope; gradients pass the clamp."""
    n = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = n < count
    found = tl.load(samples + n, mask=inside, other=0.0)
    found = tl.minimum(tl.maximum(found, 0.0), 1.0)
    d = found - tl.load(target + n, mask=inside, other=0.0)
    tl.store(back + n, 2 * factor * d, mask=inside)
    tl.atomic_add(error, factor * tl.sum(d * d, 0), sem="relaxed")


@triton.jit
def convolve_back(
    back,
    weights,
    out,
    at_weight,
    height,
    width,
    CHANNELS: tl.constexpr,
    PADDED: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Slopes by the samples that `convolve` was given."""
    pixels = height * width
    n = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = n < pixels
    i = tl.arange(0, PADDED)
    real = i < CHANNELS
    y, x = n // width, n % width
    whole = real[:, None] & inside[None, :]
    here = i[:, None] * pixels + n[None, :]
    total = tl.load(back + here, mask=whole, other=0.0)
    for o in tl.static_range(CHANNELS):
        for k in tl.static_range(9):
            # Tap (v, u) of the samples at (y - v, x - u) saw this one.
            v, u = k // 3 - 1, k % 3 - 1
            row, column = y - v, x - u
            there = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
            value = tl.load(back + o * pixels + row * width + column, mask=there, other=0.0)
            taps = tl.load(weights + at_weight + (o * CHANNELS + i) * 9 + k, mask=real, other=0.0)
            total += taps[:, None] * value[None, :]
    tl.store(out + here, total, mask=whole)


@triton.jit
def edges_back(
    back,
    weights,
    out,
    at_weight,
    height,
    width,
    CHANNELS: tl.constexpr,
    PADDED: tl.constexpr,
    SIZE: tl.constexpr,
):
    """What taps beyond the edges saw: the outermost samples."""
    pixels = height * width
    n = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    # Rows 0 and height - 1, then the columns 0 and width - 1 between them.
    between = tl.maximum(height - 2, 0)
    rows = tl.minimum(height, 2)
    columns = tl.minimum(width, 2)
    count = rows * width + columns * between
    inside = n < count
    side = n - rows * width
    y = tl.where(side < 0, n // width * (height - 1), 1 + side % tl.maximum(between, 1))
    x = tl.where(side < 0, n % width, side // tl.maximum(between, 1) * (width - 1))
    i = tl.arange(0, PADDED)
    real = i < CHANNELS
    total = tl.zeros([PADDED, SIZE], tl.float32)
    # A tap of -1, 0 or 1 that stays inside, or one of -1 or 1 that is pulled back to the edge.
    for a in tl.static_range(5):
        v = a - 1 if a < 3 else 2 * a - 7
        row = y - v if a < 3 else y
        down = (row >= 0) & (row < height) if a < 3 else y == (0 if v < 0 else height - 1)
        for b in tl.static_range(5):
            if (a >= 3) or (b >= 3):
                u = b - 1 if b < 3 else 2 * b - 7
                column = x - u if b < 3 else x
                right = (
                    (column >= 0) & (column < width) if b < 3 else x == (0 if u < 0 else width - 1)
                )
                there = inside & down & right
                for o in tl.static_range(CHANNELS):
                    value = tl.load(back + o * pixels + row * width + column, mask=there, other=0.0)
                    tap = at_weight + (o * CHANNELS + i) * 9 + (v + 1) * 3 + u + 1
                    taps = tl.load(weights + tap, mask=real, other=0.0)
                    total += taps[:, None] * value[None, :]
    here = out + i[:, None] * pixels + (y * width + x)[None, :]
    whole = real[:, None] & inside[None, :]
    tl.store(here, tl.load(here, mask=whole, other=0.0) + total, mask=whole)


@triton.jit
def correlate(
    samples,
    back,
    slopes,
    at_weight,
    at_bias,
    height,
    width,
    CHANNELS: tl.constexpr,
    TAPS: tl.constexpr,
    SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Slopes by the weights of `convolve`: products of slopes and windows."""
    k = tl.arange(0, TAPS)
    c = tl.arange(0, 16)
    real, channel = (k < 9 * CHANNELS)[:, None], c < CHANNELS
    pixels = height * width
    plane = (k // 9 * pixels)[:, None]
    down, right = (k % 9 // 3 - 1)[:, None], (k % 3 - 1)[:, None]
    total = tl.zeros([16, TAPS], tl.float32)
    sums = tl.zeros([16, SIZE], tl.float32)
    block = tl.program_id(0)
    while block * SIZE < pixels:
        n = block * SIZE + tl.arange(0, SIZE)
        inside = (n < pixels)[None, :]
        row = tl.minimum(tl.maximum((n // width)[None, :] + down, 0), height - 1)
        column = tl.minimum(tl.maximum((n % width)[None, :] + right, 0), width - 1)
        seen = tl.load(samples + plane + row * width + column, mask=real & inside, other=0.0)
        g = tl.load(
            back + c[:, None] * pixels + n[None, :], mask=channel[:, None] & inside, other=0.0
        )
        total += tl.dot(g, tl.trans(seen), input_precision=PRECISION)
        sums += g
        block += tl.num_programs(0)
    tl.atomic_add(
        slopes + at_weight + c[:, None] * (9 * CHANNELS) + k[None, :],
        total,
        mask=channel[:, None] & (k < 9 * CHANNELS)[None, :],
        sem="relaxed",
    )
    tl.atomic_add(slopes + at_bias + c, tl.sum(sums, 1), mask=channel, sem="relaxed")
