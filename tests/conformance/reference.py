"""A second implementation of formats/SPEC.md, sections 1 to 6, written from that text alone.

Plain Python integers, no numpy, no constriction, nothing from `formats` but the constants that
the specification refers to. Slow and short: if it and `formats` agree, the text says enough.
"""

from __future__ import annotations

import zlib
from itertools import pairwise

from formats.tables import THETA

PARTITIONS = [
    [["y", "x"]],
    [["y"], ["x"]],
    [["t", "y", "x"]],
    [["t"], ["y", "x"]],
    [["t"], ["y"], ["x"]],
    [["t", "y"], ["x"]],
    [["t", "x"], ["y"]],
]


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def u8(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value


def chunks(data: bytes) -> list[tuple[str, bytes]]:
    assert data[:6] == b"\x8aCRDX\x01"
    found, at = [], 6
    while at < len(data):
        read = Bytes(data[at:])
        kind, length = read.u8(), read.varint()
        payload = read.data[read.at : read.at + length]
        framed = read.data[: read.at + length]
        crc = int.from_bytes(read.data[read.at + length : read.at + length + 4], "little")
        assert zlib.crc32(framed) == crc
        found.append((chr(kind), payload))
        at += read.at + length + 4
    return found


def table(number: int) -> tuple[int, list[int]]:
    """Reach T and the frequencies of -T..T."""
    s, gaussian = number % 64, number >= 64
    theta = THETA[s]
    quarter = (s - 5) // 4
    if gaussian:
        reach = min(max(6 * 2 ** max((quarter + 1) // 2, 0), 255), 65535)
    else:
        reach = min(max(16 * 2 ** max(quarter, 0), 255), 65535)
    v, f, g = [2**62], theta, theta * theta >> 62
    for _ in range(reach):
        v.append(v[-1] * f >> 62)
        if gaussian:
            f = f * g >> 62
    total = v[0] + 2 * sum(v[1:])
    w = [1 + x * (2**24 - 2 * reach - 1) // total for x in v]
    w[0] = 2**24 - 2 * sum(w[1:])
    return reach, [w[abs(q)] for q in range(-reach, reach + 1)]


def range_decode(stream: bytes, groups: list[tuple[int, int]]) -> list[list[int]]:
    words = [int.from_bytes(stream[i : i + 4], "little") for i in range(0, len(stream), 4)]
    words += [0, 0]
    low, span, point, at = 0, 2**64 - 1, words[0] << 32 | words[1], 2
    out = []
    for count, number in groups:
        symbols: list[int] = []
        if number != 255:
            reach, frequencies = table(number)
            for _ in range(count):
                scale = span >> 24
                quantile = (point - low) % 2**64 // scale
                assert quantile < 2**24
                left = index = 0
                while left + frequencies[index] <= quantile:
                    left += frequencies[index]
                    index += 1
                symbols.append(index - reach)
                low = (low + scale * left) % 2**64
                span = scale * frequencies[index]
                if span < 2**32:
                    low, span = low * 2**32 % 2**64, span * 2**32
                    word = words[at] if at < len(words) else 0
                    point, at = (point * 2**32 + word) % 2**64, at + 1
        out.append(symbols or [0] * count)
    return out


def shapes(header: bytes, frames: int) -> list[tuple[int, ...]]:
    read = Bytes(header)
    kind = read.u8()
    width, height, channels = read.varint(), read.varint(), read.u8()
    read.at += 5  # depth, colour, range
    if kind == 1:
        read.varint(), read.varint(), read.varint()
    assert (read.u8(), read.u8()) == (1, 0)
    branches = PARTITIONS[read.u8()]
    encoding = read.u8() >> 4
    read.u8()
    layers = read.u8()
    before, after = layers >> 4, layers & 15
    breadth, features, rank = read.varint(), read.varint(), read.varint()
    read.u8()
    frequencies = read.varint()
    assert read.at == len(header)
    length = {"x": width, "y": height, "t": frames}

    def inputs(axis: str) -> int:
        if encoding == 1:
            return 1 + 2 * max(1, (max(length[axis], 2) // 2).bit_length())
        return 1 + 2 * frequencies if encoding == 2 else 1

    fused = (features if after else channels) * rank
    outs = [breadth] * (before - 1) + [fused]
    found: list[tuple[int, ...]] = []
    for branch in branches:
        found += [(sum(inputs(a) for a in branch), outs[0]), (outs[0],)]
    for a, b in pairwise(outs):
        found += [(a, b), (b,)]
    for number in range(after):
        last = channels if number == after - 1 else features
        found += [(features, last), (last,)]
    return found or [] if after else [*found, (channels,)]


def decode(data: bytes) -> list[list[tuple[int, list[int]]]]:
    """For each unit, (step exponent, symbols) of each tensor."""
    parts = chunks(data)
    header = parts[0][1]
    assert parts[0][0] == "H"
    assert parts[-1] == ("E", b"")
    frames = [1]
    for kind, payload in parts:
        if kind == "X":
            read = Bytes(payload)
            frames = []
            for _ in range(read.varint()):
                frames.append(read.varint())
                read.varint()
    units = []
    payloads = [payload for kind, payload in parts if kind == "U"]
    assert len(payloads) == len(frames)
    for number, (payload, count) in enumerate(zip(payloads, frames, strict=True)):
        read = Bytes(payload)
        assert read.varint() == number
        sizes, entries = [], []
        for shape in shapes(header, count):
            size = 1
            for side in shape:
                size *= side
            kind_of_table = read.u8()
            entries.append((kind_of_table, 0 if kind_of_table == 255 else read.u8() - 24))
            sizes.append(size)
        groups = [(s, t) for s, (t, _) in zip(sizes, entries, strict=True)]
        symbols = range_decode(payload[read.at :], groups)
        units.append([(step, q) for (_, step), q in zip(entries, symbols, strict=True)])
    return units
