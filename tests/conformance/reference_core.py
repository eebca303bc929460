"""A second implementation of formats/SPEC.md, section 9, written from that text alone.

Plain Python integers, no numpy, no constriction, nothing from `formats` but the constants that
the specification refers to: the same purpose as `reference.py`, for core fusion.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from formats.tables import PHI
from tests.conformance.reference import Bytes, chunks, range_decode

Grid = list[list[int]]
MASK = 2**64 - 1


@dataclass
class Config:
    width: int
    height: int
    channels: int
    levels: int
    hidden: int
    residuals: int
    w: int
    block: int
    tile: int
    prior: int = 0
    colour: int = 0
    colour_level: int = 0

    def levels_of(self) -> list[int]:
        """The level of every grid."""
        return [*range(self.levels), *(self.colour_level + i for i in range(self.colour))]


@dataclass
class Tensor:
    shape: tuple[int, ...]
    step: int
    symbols: list[int]
    prior: list[int] | None = None  # in the fixed point of the tensor

    def fixed(self, bits: int) -> list[list[int]]:
        """Rows of the integers weight * 2^bits."""
        values = [q << (self.step + bits) for q in self.symbols]
        if self.prior is not None:
            values = [a + b for a, b in zip(values, self.prior, strict=True)]
        columns = self.shape[1] if len(self.shape) > 1 else 1
        return [values[i : i + columns] for i in range(0, len(values), columns)]


def clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def read_header(header: bytes) -> Config:
    read = Bytes(header)
    assert read.u8() == 0
    width, height, channels = read.varint(), read.varint(), read.u8()
    read.at += 5  # depth, colour, range
    assert (read.u8(), read.u8()) == (5, 1)
    levels, hidden, residuals, w, block, prior, tile, gain = (read.u8() for _ in range(8))
    colour_level, colour = divmod(read.u8(), 16)
    assert gain < 128
    assert colour <= 5
    assert colour_level + colour <= levels
    assert colour or not colour_level
    assert read.at == len(header)
    assert block == 0 or 3 <= block <= 8
    return Config(
        width,
        height,
        channels,
        levels,
        hidden,
        residuals,
        w,
        block,
        tile,
        prior,
        colour,
        colour_level,
    )


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    grids = c.levels + c.colour
    found: dict[str, tuple[int, ...]] = {
        "context.first": (c.w, 16 if c.block else 11),
        "context.parent": (c.w, 9),
        "context.bias": (c.w, 5 if c.block else 1),
        "context.hidden": (c.w, c.w),
        "context.hidden_bias": (c.w,),
        "context.out": (2, c.w),
        "context.level": (2, grids),
        "kernel": (c.levels - 1, 4),
        "filter": (grids, 4),
        "tail.weight": (c.hidden, grids),
        "tail.bias": (c.hidden,),
        "output.weight": (c.channels, c.hidden),
        "output.bias": (c.channels,),
        "skip": (c.channels, grids),
    }
    for i in range(c.residuals):
        found[f"residual{i}.weight"] = (c.channels, c.channels, 3, 3)
        found[f"residual{i}.bias"] = (c.channels,)
    if c.levels == 1:
        del found["context.parent"], found["kernel"]
    return found


@cache
def powers(s: int, count: int) -> tuple[list[int], list[int]]:
    """t[0..32] and e[0..count - 1]."""
    t = [2**62]
    for _ in range(32):
        t.append(t[-1] * PHI[s] >> 62)
    e = [2**62]
    while len(e) < count:
        e.append(e[-1] * t[32] >> 62)
    return t, e


@cache
def table(s: int, f: int) -> list[int]:
    """Frequencies of "-8 or less", -7..7, "8 or more"."""
    t, e = powers(s, 8)
    free = 2**24 - 17
    sides = []
    for shift in (16 + f, 16 - f):
        tail = [x * t[shift] >> 62 for x in e]
        masses = [tail[r - 1] - tail[r] for r in range(1, 8)] + [tail[7]]
        sides.append([1 + ((mass >> 23) * free >> 40) for mass in masses])
    return [*reversed(sides[0]), 2**24 - sum(sides[0]) - sum(sides[1]), *sides[1]]


@cache
def excess_table(s: int) -> list[int]:
    """Frequencies of |r| - 8 = 0, 1 .. T - 8."""
    reach = max(255, 16 * 2 ** max((s - 18) // 5, 0))
    count = reach - 7
    _, e = powers(s, count + 1)
    others = [1 + ((e[k] - e[k + 1] >> 23) * (2**24 - count) >> 39) for k in range(1, count)]
    return [2**24 - sum(others), *others]


class RangeDecoder:
    def __init__(self, stream: bytes) -> None:
        assert len(stream) % 4 == 0
        self.size = len(stream) // 4
        words = [int.from_bytes(stream[i : i + 4], "little") for i in range(0, len(stream), 4)]
        self.words = iter([*words, 0, 0])
        self.low, self.range = 0, MASK
        self.point = next(self.words) << 32 | next(self.words)
        self.steps = self.symbols = 0

    def symbol(self, frequencies: list[int]) -> int:
        """The index of a symbol."""
        scale = self.range >> 24
        quantile = (self.point - self.low & MASK) // scale
        assert quantile < 2**24
        left = index = 0
        while left + frequencies[index] <= quantile:
            left += frequencies[index]
            index += 1
        self.low = self.low + scale * left & MASK
        self.range = scale * frequencies[index]
        if self.range < 2**32:
            self.low, self.range = self.low << 32 & MASK, self.range << 32
            self.point = self.point << 32 & MASK | next(self.words, 0)
            self.steps += 1
        self.symbols += 1
        return index

    def finish(self) -> None:
        """The stream has the length that the encoder gives it."""
        if not self.symbols:
            assert self.size == 0
            return
        high = (self.low + 2**32 - 1 & MASK) >> 32
        again = (self.low + self.range & MASK) >> 32 == high
        assert self.size == self.steps + 1 + again


# (y, x) of the context inputs.
INPUTS = [(y, x) for y in (-2, -1) for x in (-2, -1, 0, 1, 2)]
INPUTS += [(0, -2), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
WITHIN = [INPUTS.index((y, x)) for y, x in INPUTS if x + 2 * y < 0]


def time(i: int, j: int, side: int) -> int:
    """The pass of a position."""
    return j % side + 2 * (i % side)


def positions(h: int, w: int, side: int) -> Iterator[list[tuple[int, int]]]:
    """For each pass its positions in their order."""
    for t in range(3 * side - 2):
        places = [(i, j) for i in range(h) for j in range(w) if time(i, j, side) == t]
        yield sorted(places, key=lambda p: (p[0] % side, p[0] // side, p[1] // side))


def inputs(
    grid: Grid, above: Grid | None, i: int, j: int, side: int
) -> tuple[list[int], list[int], list[int]]:
    """Context inputs, parents and flags of a position, not clamped."""

    def at(values: Grid, row: int, column: int) -> int:
        inside = 0 <= row < len(values) and 0 <= column < len(values[0])
        return values[row][column] if inside else 0

    here = time(i, j, side)
    x = [at(grid, i + dy, j + dx) if time(i + dy, j + dx, side) < here else 0 for dy, dx in INPUTS]
    p = []
    if above is not None:
        p = [at(above, i // 2 + y, j // 2 + x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    v, u = i % side, j % side
    return x, p, [1, int(u == 0), int(v == 0), int(u == side - 1), int(v == side - 1)]


class Network:
    """Section 9.3."""

    def __init__(self, c: Config, tensors: dict[str, Tensor], full: int = 0) -> None:
        self.c, self.full = c, full
        self.first = tensors["context.first"].fixed(7)
        self.parent = tensors["context.parent"].fixed(7) if c.levels > 1 else [[]] * c.w
        self.bias = tensors["context.bias"].fixed(7)
        self.hidden = tensors["context.hidden"].fixed(7)
        self.hidden_bias = [row[0] for row in tensors["context.hidden_bias"].fixed(14)]
        self.out = tensors["context.out"].fixed(7)
        self.level = tensors["context.level"].fixed(12)

    def predict(self, grid: int, x: list[int], p: list[int], e: list[int]) -> tuple[int, int]:
        """mu and s from context inputs, parents and flags."""
        w = range(self.c.w)
        if self.c.block == 0:
            x, e = [x[i] for i in WITHIN], e[:1]
        a0 = []
        for r in w:
            total = sum(self.first[r][i] * clamp(v, -127, 127) for i, v in enumerate(x))
            total += sum(self.parent[r][i] * clamp(v, -127, 127) for i, v in enumerate(p))
            total += sum(self.bias[r][i] * v for i, v in enumerate(e))
            a0.append(clamp(total, 0, 4095))
        a1 = []
        for r in w:
            total = sum(self.hidden[r][i] * a0[i] for i in w) + 128 * a0[r] + self.hidden_bias[r]
            a1.append(clamp(total + 64 >> 7, 0, 4095))
        y = [sum(self.out[r][i] * a1[i] for i in w) + 4 * self.level[r][grid] for r in (0, 1)]
        m = self.full >> grid & 1
        return clamp(y[0] + 256 >> 9, -32736, 32736), clamp(44 + (y[1] + 1024 >> 11), m, 63)


def decode_segment(
    network: Network,
    height: int,
    width: int,
    stream: bytes,
    numbers: list[int] | None = None,
    known: dict[int, Grid] | None = None,
) -> dict[int, Grid]:
    """Grids by number; `known` are parts of grids of the whole image."""
    decoder = RangeDecoder(stream)
    level_of, b = network.c.levels_of(), network.c.block
    numbers = list(range(len(level_of))) if numbers is None else numbers
    found = dict(known or {})
    for number in sorted(numbers, reverse=True):
        level = level_of[number]
        grid = [[0] * -(-width // 2**level) for _ in range(-(-height // 2**level))]
        # The last grid of either pyramid has none above it.
        above = None if number in (network.c.levels - 1, len(level_of) - 1) else found[number + 1]
        side = 2 ** max(min(b, 5), b - level // 2) if b else max(len(grid), len(grid[0])) + 1
        for places in positions(len(grid), len(grid[0]), side):
            work = []
            for i, j in places:
                mu, s = network.predict(number, *inputs(grid, above, i, j, side))
                n = mu + 16 >> 5
                work.append((i, j, n, mu - 32 * n, s))
            far = []
            for i, j, n, f, s in work:
                r = decoder.symbol(table(s, abs(f))) - 8 if s else 0
                grid[i][j] = n + (r if f >= 0 else -r)
                if abs(r) == 8:
                    far.append((s, len(far), i, j, r if f >= 0 else -r))
            for s, _, i, j, r in sorted(far):
                grid[i][j] += (1 if r > 0 else -1) * decoder.symbol(excess_table(s))
        found[number] = grid
    decoder.finish()
    return {number: found[number] for number in numbers}


def add_prior(c: Config, tensors: dict[str, Tensor]) -> None:
    """Section 9.7, for the tensors of the context network: all that the integers need."""
    path = Path(__file__).parents[2] / "formats" / "data" / f"prior{c.prior}.json"
    prior = json.loads(path.read_text())
    stored, last = prior["tensors"], prior["levels"] - 1
    assert (c.colour, c.colour_level) in ((0, 0), (prior["colour"], prior["colour_level"]))
    taken = [min(n, last) for n in range(c.levels)] + [last + 1 + i for i in range(c.colour)]
    for name, tensor in tensors.items():
        if not name.startswith("context."):
            continue
        values, columns = stored[name]["values"], stored[name]["shape"][-1]
        if name == "context.level":
            rows = [values[i : i + columns] for i in range(0, len(values), columns)]
            values = [row[n] for row in rows for n in taken]
        tensor.prior = values


def decode(data: bytes) -> tuple[dict[str, Tensor], list[dict[int, Grid]]]:
    """Tensors by name, and the grids of every segment by number."""
    parts = chunks(data)
    assert [kind for kind, _ in parts] == ["H", "U", "E"]
    c = read_header(parts[0][1])
    payload = parts[1][1]
    read = Bytes(payload)
    assert read.varint() == 0
    entries = {}
    for name in shapes(c):
        number = read.u8()
        entries[name] = (number, 0 if number == 255 else read.u8() - 24)
    full = read.varint()
    level_of = c.levels_of()
    assert full < 2 ** len(level_of)
    size = read.varint()
    sizes = dict.fromkeys(entries, 1)
    for name, shape in shapes(c).items():
        for side in shape:
            sizes[name] *= side
    groups = [(sizes[name], number) for name, (number, _) in entries.items()]
    symbols = range_decode(payload[read.at : read.at + size], groups)
    read.at += size
    tensors = {
        name: Tensor(shape, entries[name][1], q)
        for (name, shape), q in zip(shapes(c).items(), symbols, strict=True)
    }
    if c.prior:
        add_prior(c, tensors)
    tiled = min(c.levels, c.tile - 5) if c.tile else 0
    coarse = [n for n, level in enumerate(level_of) if level >= tiled]
    boxes = [(0, 0, c.height, c.width, coarse)] if coarse else []
    if tiled:
        side = 2**c.tile
        fine = [n for n, level in enumerate(level_of) if level < tiled]
        boxes += [
            (y, x, min(side, c.height - y), min(side, c.width - x), fine)
            for y in range(0, c.height, side)
            for x in range(0, c.width, side)
        ]
    lengths = [read.varint() for _ in boxes]
    network, segments = Network(c, tensors, full), []
    for (y, x, height, width, numbers), length in zip(boxes, lengths, strict=True):
        stream = payload[read.at : read.at + length]
        over = {}
        for n in coarse if numbers is not coarse else []:
            stride = 2 ** level_of[n]
            over[n] = [
                row[x // stride : -(-(x + width) // stride)]
                for row in segments[0][n][y // stride : -(-(y + height) // stride)]
            ]
        segments.append(decode_segment(network, height, width, stream, numbers, over))
        read.at += length
    assert read.at == len(payload)
    return tensors, segments
