"""The rate of all latents and its gradients in one kernel: `codec/rate/context.py`, fused.

A program takes blocks of 64 latents of one grid. It gathers what the context network sees of
them, runs the layers forward and backward in registers, adds the slopes to the gradients of the
latents that were seen, and keeps the sums for the gradients of the weights until it ends.

Where the inputs of a latent are follows from its number, the width of its grid and the place of
its parent; which of at most 25 a decoder knows, and the flags, are 30 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from codec.gpu import tile_side
from codec.gpu.sums import Sums
from codec.rate.context import LARGEST, LEAST, NATS, UNIT
from codec.rate.jobs import GatherJob
from codec.rate.laplace import FLOOR
from formats.blocks import LIMIT, WINDOW
from formats.context import MIDDLE, TOP_SCALE
from formats.core import PARENTS, CoreConfig

__all__ = ["FusedContext"]

BLOCK = 64
"""Latents of a block."""
PROGRAMS = 396
"""At most as many programs: three for each multiprocessor of an H100."""
OPTIONS = {"num_warps": 4, "maxnreg": 168}
"""Of a launch: with more registers there is room for two."""
ROWS = 32
"""Inputs of the first layer, latents and flags, padded to a power of two."""
PRECISION = "tf32"
"""Of products: latents carry noise of a tenth of a step, 200 times what is rounded away."""


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
def _pack(
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
def _context_pass(
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


class FusedContext:
    """Evaluates the rate of the latents of one picture, not rounding anywhere.

    Args:
        config: the network.
        jobs: that hold every latent once, all addressed by index.
        shapes: rows and columns of the grids.
        starts: where each tensor begins in the vector of all weights, by name.
    """

    def __init__(
        self,
        config: CoreConfig,
        jobs: Sequence[GatherJob],
        shapes: Sequence[tuple[int, int]],
        starts: Mapping[str, int],
    ) -> None:
        self.config = config
        self.constants = {
            "LIMIT": float(LIMIT),
            "LARGEST": LARGEST,
            "LEAST": float(LEAST),
            "MOST": float(TOP_SCALE - MIDDLE),
            "UNIT": float(MIDDLE - UNIT),
            "NATS": NATS,
            "FLOOR": FLOOR,
        }
        prefix = "context."
        self.starts = {
            name.removeprefix(prefix): start
            for name, start in starts.items()
            if name.startswith(prefix)
        }
        self.width = tile_side(config.width)
        size = self.width * (ROWS + self.width + 3)
        self.packed = torch.empty(size, device=jobs[0].target_numbers.device)
        parts = [_addresses(config, job, shapes) for job in jobs]
        grid, target, parent, known = (torch.cat(p) for p in zip(*parts, strict=True))
        device = target.device
        # Blocks of one grid: the last of each ends with numbers of nothing.
        counts = torch.bincount(grid, minlength=config.grids).tolist()
        order = torch.argsort(grid, stable=True)
        sizes = [-(-count // BLOCK) * BLOCK for count in counts]
        gaps = [sum(sizes[:n]) - sum(counts[:n]) for n in range(config.grids)]
        spread = torch.arange(len(order), device=device)
        spread += torch.repeat_interleave(
            torch.tensor(gaps, device=device), torch.tensor(counts, device=device)
        )

        def in_blocks(values: Tensor, empty: int) -> Tensor:
            found = torch.full((sum(sizes),), empty, dtype=torch.int32, device=device)
            found[spread] = values[order].to(torch.int32)
            return found

        self.targets, self.parents, self.known = (
            in_blocks(values, empty) for values, empty in ((target, -1), (parent, 0), (known, 0))
        )
        self.blocks = sum(sizes) // BLOCK
        columns = [shape[1] for shape in shapes]
        rows = [(n, columns[n], columns[above]) for n, above in enumerate(_above(config))]
        self.geometry = torch.tensor(
            [row for row, size in zip(rows, sizes, strict=True) for _ in range(size // BLOCK)],
            dtype=torch.int32,
            device=device,
        ).flatten()
        seen = [WINDOW[n] for n in config.window]
        seen += [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        places = torch.zeros(2, ROWS, dtype=torch.int32)
        places[:, : len(seen)] = torch.tensor(seen).t()
        self.places = places.flatten().to(device)

    def __call__(
        self, weights: Tensor, latents: Tensor, scale: float, grad: Tensor, sums: Sums
    ) -> None:
        """Evaluate, and add what is found.

        Args:
            weights: of the networks, one vector.
            latents: all grids, one vector.
            scale: factor on the gradients.
            grad: like latents: their gradients of `scale * bits` are added.
            sums: bits, and the gradients of weights.
        """
        at = self.starts
        layers = {
            "at_first": at["first"],
            "at_parent": at.get("parent", 0),
            "at_flags": at["bias"],
            "at_hidden": at["hidden"],
            "at_bias": at["hidden_bias"],
            "at_out": at["out"],
            "width": self.config.width,
            "PARENT": "parent" in at,
            "WIDTH": self.width,
            "OWN": len(self.config.window),
            "SEEN": len(self.config.window) + PARENTS,
            "FLAGS": self.config.flags,
        }
        _pack[(1,)](weights, self.packed, **layers)
        _context_pass[(min(PROGRAMS, self.blocks),)](
            latents,
            self.targets,
            self.parents,
            self.known,
            self.geometry,
            self.places,
            weights,
            self.packed,
            grad,
            sums.weights,
            sums.bits,
            **layers,
            at_level=at["level"],
            blocks=self.blocks,
            grids=self.config.grids,
            scale=scale,
            SIZE=BLOCK,
            PRECISION=PRECISION,
            **self.constants,
            **OPTIONS,
        )


def _above(config: CoreConfig) -> list[int]:
    """Of every grid the one whose places its parents have: itself where nothing is read."""
    parents = (config.parent(grid) for grid in range(config.grids))
    return [grid if parent is None else parent for grid, parent in enumerate(parents)]


def _addresses(
    config: CoreConfig, job: GatherJob, shapes: Sequence[tuple[int, int]]
) -> tuple[Tensor, ...]:
    """Of every position of a job: grid, own number, number of the parent, known inputs as bits."""
    outside = sum(height * width for height, width in shapes)
    grid = job.grids.argmax(0)
    target = job.target_numbers
    device = target.device
    starts = [0]
    for height, width in shapes:
        starts.append(starts[-1] + height * width)
    start = torch.tensor(starts, device=device)
    columns = torch.tensor([width for _, width in shapes], device=device)
    inside = target - start[grid]
    row, column = inside // columns[grid], inside % columns[grid]
    above = torch.tensor(_above(config), device=device)[grid]
    parent = start[above] + row // 2 * columns[above] + column // 2
    known = torch.zeros_like(target)
    inputs = job.input_numbers
    for bit, place in enumerate([*config.window, *range(len(WINDOW), len(inputs))]):
        known |= (inputs[place] != outside).long() << bit
    for bit, flag in enumerate(job.flags[: config.flags], len(config.window) + PARENTS):
        known |= (flag > 0).long() << bit
    return grid, target, parent, known
