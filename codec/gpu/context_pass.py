"""The kernel of the rate and its gradients, and the one that packs its weights.

A program takes blocks of 64 latents of one grid. It gathers what the context network sees of
them, runs the layers forward and backward in registers, adds the slopes to the gradients of the
latents that were seen, and keeps the sums for the gradients of the weights until it ends.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["context_pass", "pack"]


@triton.jit
def _places(
    i,
    at_first,
    at_parent,
    at_flags,
    PARENT: tl.constexpr,
    OWN: tl.constexpr,
    SEEN: tl.constexpr,
    FLAGS: tl.constexpr,
):
    """The first layer's weights of an input are three tensors side by side: where its column of
    one begins, from row to row, and whether there is one."""
    own, seen = i < OWN, i < SEEN
    start = tl.where(own, at_first + i, tl.where(seen, at_parent + i - OWN, at_flags + i - SEEN))
    step = tl.where(own, OWN, tl.where(seen, SEEN - OWN, FLAGS))
    there = i < SEEN + FLAGS
    if not PARENT:
        there = there & (own | (i >= SEEN))
    return start, step, there


@triton.jit
def pack(
    weights,
    packed,
    at_first,
    at_parent,
    at_flags,
    at_hidden,
    at_bias,
    at_out,
    width,
    PARENT: tl.constexpr,
    WIDTH: tl.constexpr,
    OWN: tl.constexpr,
    SEEN: tl.constexpr,
    FLAGS: tl.constexpr,
):
    """Layers padded to powers of two, the residual connection part of the second one's."""
    i, w, v = tl.arange(0, 32), tl.arange(0, WIDTH), tl.arange(0, WIDTH)
    unit = w < width
    start, step, there = _places(i, at_first, at_parent, at_flags, PARENT, OWN, SEEN, FLAGS)
    first = tl.load(
        weights + start[None, :] + w[:, None] * step[None, :],
        mask=unit[:, None] & there[None, :],
        other=0.0,
    )
    tl.store(packed + w[:, None] * 32 + i[None, :], first)
    packed += WIDTH * 32
    hidden = tl.load(
        weights + at_hidden + w[:, None] * width + v[None, :],
        mask=unit[:, None] & (v < width)[None, :],
        other=0.0,
    )
    hidden += tl.where(w[:, None] == v[None, :], 1.0, 0.0)
    tl.store(packed + w[:, None] * WIDTH + v[None, :], hidden)
    packed += WIDTH * WIDTH
    tl.store(packed + w, tl.load(weights + at_bias + w, mask=unit, other=0.0))
    for row in tl.static_range(2):
        packed += WIDTH
        value = tl.load(weights + at_out + row * width + w, mask=unit, other=0.0)
        tl.store(packed + w, value)


@triton.jit(do_not_specialize=["blocks"])
def context_pass(
    latents,
    targets,
    parents,
    known,
    geometry,
    places,
    weights,
    packed,
    grad,
    slopes,
    bits,
    at_first,
    at_parent,
    at_flags,
    at_hidden,
    at_bias,
    at_out,
    at_level,
    blocks,
    grids,
    width,
    scale,
    PARENT: tl.constexpr,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    OWN: tl.constexpr,
    SEEN: tl.constexpr,
    FLAGS: tl.constexpr,
    LIMIT: tl.constexpr,
    LARGEST: tl.constexpr,
    LEAST: tl.constexpr,
    MOST: tl.constexpr,
    UNIT: tl.constexpr,
    NATS: tl.constexpr,
    FLOOR: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Bits of all latents, and the slopes by latents and weights; both are added."""
    i = tl.arange(0, 32)
    w = tl.arange(0, WIDTH)
    v = tl.arange(0, WIDTH)
    n = tl.arange(0, SIZE)
    r = tl.arange(0, 16)[:, None]
    own, seen = i < OWN, i < SEEN
    down = tl.load(places + i)
    right = tl.load(places + 32 + i)
    second = packed + WIDTH * 32
    first_sum = tl.zeros([WIDTH, 32], tl.float32)
    hidden_sum = tl.zeros([WIDTH, WIDTH], tl.float32)
    bias_sum = tl.zeros([WIDTH, SIZE], tl.float32)
    out_sum = tl.zeros([16, WIDTH], tl.float32)
    bits_sum = tl.zeros([SIZE], tl.float32)
    mean_sum = tl.zeros([SIZE], tl.float32)
    scale_sum = tl.zeros([SIZE], tl.float32)
    block = tl.program_id(0)
    last = tl.load(geometry + block * 3)
    while block < blocks:
        # Inputs.
        here = block * SIZE + n
        target = tl.load(targets + here)
        parent = tl.load(parents + here)
        bit = (tl.load(known + here)[None, :] >> i[:, None]) & 1
        number = tl.load(geometry + block * 3)
        if number != last:
            tl.atomic_add(slopes + at_level + last, tl.sum(mean_sum, 0), sem="relaxed")
            tl.atomic_add(slopes + at_level + grids + last, tl.sum(scale_sum, 0), sem="relaxed")
            mean_sum = tl.zeros([SIZE], tl.float32)
            scale_sum = tl.zeros([SIZE], tl.float32)
            last = number
        across = tl.where(own, tl.load(geometry + block * 3 + 1), tl.load(geometry + block * 3 + 2))
        move = down * across + right
        at = tl.where(own[:, None], target[None, :], parent[None, :]) + move[:, None]
        loaded = (bit == 1) & seen[:, None]
        x = tl.load(latents + at, mask=loaded, other=0.0)
        x = tl.minimum(tl.maximum(x, -LIMIT), LIMIT)
        x = tl.where(seen[:, None], x, bit.to(tl.float32))
        # Forward. Weights are loaded again where they are needed: registers are scarce.
        by_input = tl.load(packed + w[:, None] * 32 + i[None, :])
        a0 = tl.dot(by_input, x, input_precision=PRECISION)
        a0 = tl.minimum(tl.maximum(a0, 0.0), LARGEST)
        by_first = tl.load(second + w[:, None] * WIDTH + v[None, :])
        offset = tl.load(second + WIDTH * WIDTH + w)
        a1 = tl.dot(by_first, a0, input_precision=PRECISION) + offset[:, None]
        a1 = tl.minimum(tl.maximum(a1, 0.0), LARGEST)
        to_mean = tl.load(second + WIDTH * WIDTH + WIDTH + w)
        to_scale = tl.load(second + WIDTH * WIDTH + 2 * WIDTH + w)
        mean = tl.sum(a1 * to_mean[:, None], 0) + tl.load(weights + at_level + number)
        index = tl.sum(a1 * to_scale[:, None], 0)
        index = 8 * (index + tl.load(weights + at_level + grids + number))
        # Bits of a Laplace distribution and their slopes (codec/rate/laplace.py).
        inside = target >= 0
        q = tl.load(latents + target, mask=inside, other=0.0)
        held = tl.minimum(tl.maximum(index, LEAST), MOST)
        inverse = tl.exp(-(held + UNIT) * NATS)
        d = q - mean
        u = tl.abs(d)
        a = u - 0.5
        e1 = tl.exp(-tl.abs(a) * inverse)
        e2 = tl.exp(-(u + 0.5) * inverse)
        p = tl.where(a >= 0, 0.5 * (e1 - e2), 1 - 0.5 * (e1 + e2))
        p = tl.maximum(p, FLOOR)
        bits_sum -= tl.where(inside, tl.log2(p), 0.0)
        slope = tl.where(inside, 0.7213475204444817 * scale * inverse / p, 0.0)
        sign = tl.where(d > 0, 1.0, tl.where(d < 0, -1.0, 0.0))
        by_latent = slope * (e1 - e2) * sign
        by_scale = slope * ((u + 0.5) * e2 - a * e1) * (8 * NATS)
        by_scale = tl.where((held - index) * by_scale <= 0, by_scale, 0.0)
        # Backward. Rows of `go` are the outputs; products take sixteen.
        mean_sum -= by_latent
        scale_sum += by_scale
        go = tl.where(r == 0, -by_latent[None, :], tl.where(r == 1, by_scale[None, :], 0.0))
        out_sum += tl.dot(go, tl.trans(a1), input_precision=PRECISION)
        g1 = to_scale[:, None] * by_scale[None, :] - to_mean[:, None] * by_latent[None, :]
        g1 = tl.where(a1 > 0, g1, 0.0)
        bias_sum += g1
        hidden_sum += tl.dot(g1, tl.trans(a0), input_precision=PRECISION)
        by_a1 = tl.load(second + w[None, :] * WIDTH + v[:, None])
        g0 = tl.dot(by_a1, g1, input_precision=PRECISION)
        g0 = tl.where(a0 > 0, g0, 0.0)
        first_sum += tl.dot(g0, tl.trans(x), input_precision=PRECISION)
        by_a0 = tl.load(packed + w[None, :] * 32 + i[:, None])
        back = tl.dot(by_a0, g0, input_precision=PRECISION)
        tl.atomic_add(grad + at, back, mask=loaded, sem="relaxed")
        tl.atomic_add(grad + target, by_latent, mask=inside, sem="relaxed")
        block += tl.num_programs(0)
    unit = w < width
    square = unit[:, None] & (v < width)[None, :]
    start, step, there = _places(i, at_first, at_parent, at_flags, PARENT, OWN, SEEN, FLAGS)
    tl.atomic_add(bits, tl.sum(bits_sum, 0), sem="relaxed")
    tl.atomic_add(slopes + at_level + last, tl.sum(mean_sum, 0), sem="relaxed")
    tl.atomic_add(slopes + at_level + grids + last, tl.sum(scale_sum, 0), sem="relaxed")
    tl.atomic_add(
        slopes + start[None, :] + w[:, None] * step[None, :],
        first_sum,
        mask=unit[:, None] & there[None, :],
        sem="relaxed",
    )
    tl.atomic_add(
        slopes + at_hidden + w[:, None] * width + v[None, :], hidden_sum, mask=square, sem="relaxed"
    )
    tl.atomic_add(slopes + at_bias + w, tl.sum(bias_sum, 1), mask=unit, sem="relaxed")
    tl.atomic_add(
        slopes + at_out + r * width + w[None, :],
        out_sum,
        mask=(r < 2) & unit[None, :],
        sem="relaxed",
    )
