"""A unit of core fusion: weights, then the latents of every segment as a stream of its own.

Payload: unit number, one (table id, step exponent) pair per tensor, the grids that are coded in
full, the length of the weights' stream, that stream, the length of every segment's stream, those
streams (formats/SPEC.md, 9.5).
A tile needs the coarse grids of the whole image, and no other tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from formats import limits
from formats.context import ContextNetwork
from formats.core import CoreConfig, Segment
from formats.cursor import Reader, Writer
from formats.errors import CorruptError, InputError
from formats.header import Header
from formats.latents import decode_segment, encode_segment, lossy_grids
from formats.weights import CodedTensor, pack_tensors, read_entries, unpack_tensors

__all__ = ["CoreUnit", "pack_core_unit", "unpack_core_unit"]

Grid = npt.NDArray[np.int32]
Grids = dict[int, Grid]
T = TypeVar("T")


@dataclass(frozen=True)
class CoreUnit:
    """One unit of core fusion, its latents still coded.

    Attributes:
        number: 0, 1, 2 ... in the file.
        tensors: all weight tensors in coding order.
        network: the context network they hold.
        height, width: pixels of the image.
        segments: in coding order: first the coarse grids of the whole image if there are tiles.
        streams: their range-coded latents.
        name: the file's path, if it has one; errors start with it.
    """

    number: int
    tensors: list[CodedTensor]
    network: ContextNetwork
    height: int
    width: int
    segments: list[Segment]
    streams: list[bytes]
    name: str = ""

    def segment(self, index: int, shared: Mapping[int, Grid] | None = None) -> Grids:
        """Decode the latents of one segment: (h, w) int32 grids, by number.

        Args:
            index: its number.
            shared: the whole image's coarse grids, by number; what a tile needs.

        Raises:
            CorruptError: its stream is not one that an encoder writes.
            InputError: there is no such segment.
        """
        if not 0 <= index < len(self.segments):
            raise InputError(f"segment: expected 0..{len(self.segments) - 1}, got {index}")
        box = self.segments[index]
        known = self._known(box, {} if shared is None else shared)
        where = f"unit {self.number}, segment {index}"
        return decode_segment(
            self.network,
            box.shapes(),
            self.streams[index],
            f"{self.name}: {where}" if self.name else where,
            known,
        )

    def _known(self, box: Segment, shared: Mapping[int, Grid]) -> Grids:
        """The parts of the whole image's grids that lie over a segment."""
        missing = [grid for grid in box.parents() if grid not in shared]
        if missing:
            raise InputError(f"segment: a tile needs the grids {missing} of the whole image")
        return {grid: shared[grid][box.crop(grid)] for grid in box.parents()}

    def decode(
        self, wanted: Callable[[Segment], bool] = lambda box: True
    ) -> Iterator[tuple[Segment, Grids, Grids]]:
        """Decode segment by segment.

        Args:
            wanted: whether a tile is; what belongs to the whole image always is.

        Yields:
            The segment, its grids and those of the whole image that it was coded with.

        Raises:
            CorruptError: a stream is not one that an encoder writes.
        """
        shared: Grids = {}
        for index, box in enumerate(self.segments):
            if box.tile and not wanted(box):
                continue
            grids = self.segment(index, shared)
            yield box, grids, self._known(box, shared)
            if not box.tile:
                shared = grids

    def grids(self, wanted: Callable[[Segment], bool] = lambda box: True) -> list[Grid]:
        """Decode the latents: (h, w) int32 grids of the whole image, level 0 first, colour last.

        Args:
            wanted: tiles for which this is False stay zero.

        Raises:
            CorruptError: a stream is not one that an encoder writes.
        """
        if not self.network.config.tile:
            return list(self.segment(0).values())
        shapes = self.network.config.grid_shapes(self.height, self.width)
        whole = [np.zeros(shape, np.int32) for shape in shapes]
        for box, grids, _ in self.decode(wanted):
            for number, grid in grids.items():
                whole[number][box.crop(number)] = grid
        return whole

    def verify(self) -> None:
        """Decode every segment, one at a time, and keep none.

        Raises:
            CorruptError: the first fault.
        """
        for _ in self.decode():
            pass


def _named(config: CoreConfig, tensors: Sequence[CodedTensor]) -> dict[str, CodedTensor]:
    """Tensors by name, shapes checked."""
    names = [spec.name for spec in config.tensors({}, 1)]
    if len(names) != len(tensors):
        raise InputError(f"unit: expected {len(names)} tensors, got {len(tensors)}")
    by_name = dict(zip(names, tensors, strict=True))
    for spec in config.tensors({}, by_name["output.bias"].symbols.size):
        shape = by_name[spec.name].symbols.shape
        if shape != spec.shape:
            raise InputError(f"unit: {spec.name} has the shape {spec.shape}, got {shape}")
    return by_name


def pack_core_unit(
    number: int,
    config: CoreConfig,
    tensors: Sequence[CodedTensor],
    grids: Sequence[npt.NDArray[np.integer[Any]]],
    height: int,
    width: int,
) -> tuple[bytes, list[Grid]]:
    """Payload of unit `number` of core fusion.

    Args:
        number: its number in the file.
        config: the network.
        tensors: all weight tensors in coding order (`CoreConfig.tensors`).
        grids: integer latents of the whole image, `config.grid_shapes(height, width)`.
        height, width: pixels of the image.

    Returns:
        The payload, and the grids as a decoder will see them (`encode_segment`).

    Raises:
        InputError: tensors or grids that do not fit the configuration.
        CorruptError: weights that the format cannot hold, or that its context network forbids.
        LimitError: more latents than a payload of this size may hold: use tiles, each takes a
            byte.
    """
    by_name = _named(config, tensors)
    shapes = config.grid_shapes(height, width)
    if [grid.shape for grid in grids] != shapes:
        raise InputError(f"unit: expected grids {shapes}, got {[g.shape for g in grids]}")
    entries, stream = pack_tensors(tensors)
    seen = [np.zeros(shape, np.int32) for shape in shapes]

    def each(visit: Callable[..., tuple[T, Grids]], network: ContextNetwork) -> Iterator[T]:
        for box in config.segments(height, width):
            parts = {grid: grids[grid][box.crop(grid)] for grid in box.grids}
            known = {grid: seen[grid][box.crop(grid)] for grid in box.parents()}
            found, own = visit(network, parts, known)
            for grid, part in own.items():
                seen[grid][box.crop(grid)] = part
            yield found

    full = 0
    for lossy in each(lossy_grids, ContextNetwork(config, by_name)):
        full |= lossy
    streams = list(each(encode_segment, ContextNetwork(config, by_name, full)))
    out = Writer().varint(number).raw(entries).varint(full).varint(len(stream)).raw(stream)
    for data in streams:
        out.varint(len(data))
    payload = out.raw(b"".join(streams)).done()
    _check_latents(number, config, height, width, len(payload))
    return payload, seen


def unpack_core_unit(
    payload: bytes | memoryview, number: int, header: Header, base: int = 0
) -> CoreUnit:
    """Inverse of `pack_core_unit`; the latents stay coded until they are asked for.

    Args:
        payload: the chunk's payload.
        number: the unit number expected here.
        header: the file's header; its network is a `CoreConfig`.
        base: offset of the payload in the file, for messages.

    Raises:
        CorruptError, TruncatedError, LimitError: see formats/errors.py.
        InputError: the header describes another fusion.
    """
    config = header.network
    if not isinstance(config, CoreConfig):
        raise InputError(f"unit {number}: expected a file of core fusion, got rank fusion")
    specs = header.tensors(1)
    where = f"unit {number}"
    _check_latents(number, config, header.height, header.width, len(payload))
    read = Reader(payload, where, base)
    entries = read_entries(read, number, specs)
    full = read.varint("grids coded in full")
    if full >> config.grids:
        raise CorruptError(
            f"{where}: grids coded in full: expected a mask of {config.grids} bits, got {full:#x}"
        )
    stream = read.take(read.varint("length of the weights"), "weights")
    tensors = unpack_tensors(stream, specs, entries, f"{where}, weights")
    # Every segment has a length of at least one byte: too many end as a TruncatedError.
    count = config.segment_count(header.height, header.width)
    sizes = [read.varint(f"length of segment {index}") for index in range(count)]
    streams = [read.take(size, f"segment {index}") for index, size in enumerate(sizes)]
    read.finish()
    names = [spec.name for spec in specs]
    return CoreUnit(
        number,
        tensors,
        ContextNetwork(config, dict(zip(names, tensors, strict=True)), full),
        header.height,
        header.width,
        config.segments(header.height, header.width),
        streams,
    )


def _check_latents(number: int, config: CoreConfig, height: int, width: int, size: int) -> None:
    limits.check_limit(
        f"latents of unit {number} ({size} bytes)",
        config.latents(height, width),
        limits.MAX_LATENTS_PER_BYTE * size,
    )
