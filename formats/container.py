"""The file: signature, version, and the order in which its chunks come.

    signature version | H header | a..z optional | X index | U unit 0 | U unit 1 ... | a..z | E

An upper-case chunk type is critical (a reader that does not know it must stop), a lower-case
one optional (skipped). The index comes before the units, so one read of the front of a file
finds any GOP; an image has one unit and no index. formats/SPEC.md is the normative text.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from formats import limits
from formats.chunks import ChunkReader, Span, pack_chunk
from formats.cursor import Reader, Writer
from formats.errors import (
    CorruptError,
    FormatError,
    InputError,
    MediaError,
    NotCrdxError,
    TruncatedError,
    VersionError,
)
from formats.header import Header, MediaKind, NetworkFamily
from formats.unit import CoreUnit, unpack_core_unit
from formats.weights import CodedTensor, unpack_unit

__all__ = ["METADATA", "SIGNATURE", "VERSION", "Container", "write_container"]

SIGNATURE = b"\x8aCRDX"
VERSION = 1
METADATA = {"icc": b"i", "exif": b"e", "xmp": b"x", "audio": b"a", "comment": b"c"}
"""Optional chunks with a meaning in version 1; audio comes after the units."""
_NAMES = {code.decode(): name for name, code in METADATA.items()}
_TRAILING = ("audio",)


def write_container(
    header: Header,
    units: Sequence[bytes],
    unit_frames: Sequence[int],
    metadata: Mapping[str, bytes] | None = None,
) -> bytes:
    """A complete `.crdx` file.

    Args:
        header: describes the whole file.
        units: payload of every unit (`formats.weights.pack_unit`), in order.
        unit_frames: frames of every unit; they sum to `header.frames`.
        metadata: optional chunks by name, keys of METADATA.

    Raises:
        InputError: counts that disagree, an unknown metadata name, or sound of an image.
    """
    metadata = dict(metadata or {})
    unknown = set(metadata) - set(METADATA)
    if unknown:
        raise InputError(f"metadata: expected {sorted(METADATA)}, got {sorted(unknown)}")
    if not units or len(units) != len(unit_frames) or sum(unit_frames) != header.frames:
        raise InputError(
            f"container: {len(units)} units of {sum(unit_frames)} frames for a header of "
            f"{header.frames} frames"
        )
    if header.kind == MediaKind.IMAGE and len(units) != 1:
        raise InputError(f"container: an image has one unit, got {len(units)}")
    if header.kind == MediaKind.IMAGE and "audio" in metadata:
        raise InputError("metadata: an image has no sound, got audio")
    out = [SIGNATURE, bytes([VERSION]), pack_chunk(b"H", header.pack())]
    out += [pack_chunk(METADATA[k], v) for k, v in metadata.items() if k not in _TRAILING]
    chunks = [pack_chunk(b"U", unit) for unit in units]
    if header.kind == MediaKind.VIDEO:
        index = Writer().varint(len(chunks))
        for chunk, frames in zip(chunks, unit_frames, strict=True):
            index.varint(frames).varint(len(chunk))
        out.append(pack_chunk(b"X", index.done()))
    out += chunks
    out += [pack_chunk(METADATA[k], v) for k, v in metadata.items() if k in _TRAILING]
    out.append(pack_chunk(b"E", b""))
    return b"".join(out)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the path in front of format errors."""
    try:
        yield
    except FormatError as error:
        if not name:
            raise
        raise type(error)(f"{name}: {error}") from error


@dataclass
class Container:
    """A `.crdx` file opened for reading. Only the front is read; units are read on demand.

    Attributes:
        header: the header.
        metadata: optional chunks before the units, by name (audio: see `audio`).
        unit_frames: frames of each unit.
        unit_spans: where each unit's chunk lies (offset, bytes).
        name: its path, if it was opened by path; errors start with it.
    """

    header: Header
    metadata: dict[str, bytes]
    unit_frames: list[int]
    unit_spans: list[tuple[int, int]]
    _chunks: ChunkReader = field(repr=False)
    name: str = ""

    # -- opening ---------------------------------------------------------------------------

    @classmethod
    def open(cls, source: bytes | str | os.PathLike[str] | BinaryIO) -> Container:
        """Parse the front of a file: bytes, a path, or a seekable binary stream.

        Raises:
            FormatError: one of its kinds, see formats/errors.py.
            MediaError: the path cannot be read. InputError: it is none of these.
        """
        if isinstance(source, bytes | bytearray | memoryview):
            return cls._parse(io.BytesIO(bytes(source)))
        if isinstance(source, str | os.PathLike):
            try:
                stream = Path(source).open("rb")  # noqa: SIM115 - the container owns it
            except OSError as error:
                raise MediaError(f"cannot read {source}: {error.strerror or error}") from error
            except ValueError as error:  # a null character
                raise MediaError(f"cannot read {os.fspath(source)!r}: {error}") from error
            try:
                with _named(os.fspath(source)):
                    box = cls._parse(stream)
            except BaseException:
                stream.close()
                raise
            box.name = os.fspath(source)
            return box
        if not hasattr(source, "seek"):
            raise InputError(
                f"expected a path, bytes or a binary stream, got {type(source).__name__}"
            )
        return cls._parse(source)

    @classmethod
    def _parse(cls, stream: BinaryIO) -> Container:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        start = stream.read(len(SIGNATURE) + 1)
        if not start:
            raise TruncatedError("expected a .crdx file, the input is empty (0 bytes)")
        if not SIGNATURE.startswith(start[: len(SIGNATURE)]):
            raise NotCrdxError(
                f"expected a .crdx file (first bytes {SIGNATURE.hex(' ')}), "
                f"got {start[: len(SIGNATURE)].hex(' ')}"
            )
        if len(start) <= len(SIGNATURE):
            raise TruncatedError(f"expected a signature and a version, got {len(start)} bytes")
        if start[-1] != VERSION:
            raise VersionError(
                f"version {start[-1]} of the .crdx format; this library reads version {VERSION}"
            )
        box = cls(None, {}, [], [], ChunkReader(stream, size))  # type: ignore[arg-type]
        box._read_front(len(start))
        return box

    def _read_front(self, offset: int) -> None:
        start = offset
        kind, payload, offset = self._chunks.read(offset)
        if kind != "H":
            raise CorruptError(f"expected the header chunk first, got {kind!r} at byte {start}")
        self.header = Header.unpack(payload, start)
        while True:
            span = self._chunks.span(offset)
            if span.kind in "XU":
                break
            kind, payload, end = self._chunks.read(offset)
            self._optional(kind, offset)
            name = _NAMES.get(kind)
            if name in _TRAILING:
                raise CorruptError(f"chunk {kind!r} at byte {offset} belongs after the units")
            if name in self.metadata:
                raise CorruptError(f"chunk {kind!r} at byte {offset} is there twice")
            if name is not None:
                self.metadata[name] = payload
            offset = end
        if (span.kind == "X") != (self.header.kind == MediaKind.VIDEO):
            raise CorruptError(
                f"expected {'an index' if span.kind == 'U' else 'a unit'} at byte {offset} of "
                f"{'a video' if span.kind == 'U' else 'an image'}, got chunk {span.kind!r}"
            )
        if span.kind == "U":
            self.unit_frames = [1]
            self.unit_spans = [(offset, span.total)]
        else:
            _, payload, end = self._chunks.read(offset)
            self._read_index(payload, offset, end)
        for frames in set(self.unit_frames):
            self.header.tensors(frames)  # limits

    def _read_index(self, payload: bytes, base: int, data_start: int) -> None:
        read = Reader(payload, "index", base)
        count = limits.check_limit("units", read.varint("unit count"), limits.MAX_UNITS)
        if not count:
            raise CorruptError("index: expected at least one unit, got 0")
        sizes = []
        for number in range(count):
            frames, size = read.varint("frames of a unit"), read.varint("bytes of a unit")
            if not frames or not size:
                raise CorruptError(f"index: unit {number} has {frames} frames in {size} bytes")
            limits.check_limit(f"bytes of unit {number}", size, limits.MAX_CHUNK_BYTES)
            self.unit_frames.append(frames)
            sizes.append(size)
        read.finish()
        if sum(self.unit_frames) != self.header.frames:
            raise CorruptError(
                f"index: its units hold {sum(self.unit_frames)} frames, "
                f"the header declares {self.header.frames}"
            )
        starts = accumulate(sizes, initial=data_start)
        self.unit_spans = list(zip(starts, sizes, strict=False))

    def _optional(self, kind: str, offset: int) -> None:
        if kind.isupper():
            raise CorruptError(f"critical chunk {kind!r} at byte {offset} is not expected here")

    # -- content ---------------------------------------------------------------------------

    def unit(self, number: int) -> list[CodedTensor]:
        """Weights of one unit; reads only that unit's bytes, and decodes no latents."""
        with _named(self.name):
            return self._unit(number)

    def core_unit(self, number: int) -> CoreUnit:
        """One unit of core fusion: its weights, and its latents, decoded when asked for.

        Raises:
            FormatError: the unit's bytes are not what the header announces.
            InputError: the file uses another fusion.
        """
        with _named(self.name):
            return replace(self._core_unit(number), name=self.name)

    def _unit(self, number: int) -> list[CodedTensor]:
        if self.header.family == NetworkFamily.CORE:
            return self._core_unit(number).tensors
        payload, base = self._payload(number)
        specs = self.header.tensors(self.unit_frames[number])
        return unpack_unit(payload, number, specs, base)

    def _core_unit(self, number: int) -> CoreUnit:
        payload, base = self._payload(number)
        return unpack_core_unit(payload, number, self.header, base)

    def _payload(self, number: int) -> tuple[bytes, int]:
        """Payload of a unit's chunk and its offset in the file."""
        offset, size = self.unit_spans[number]
        span = self._chunks.span(offset)
        if span.kind != "U" or span.total != size:
            raise CorruptError(
                f"unit {number}: the index points to a unit of {size} bytes at byte {offset}, "
                f"there is a chunk {span.kind!r} of {span.total}"
            )
        _, payload, end = self._chunks.read(offset)
        return payload, end - 4 - len(payload)

    def _tail(self) -> dict[str, bytes]:
        """Known chunks after the units by name, checked up to the file's end."""
        offset = sum(self.unit_spans[-1])
        found: dict[str, bytes] = {}
        while True:
            kind, payload, end = self._chunks.read(offset)
            if kind == "E":
                if payload or end != self.size:
                    raise CorruptError(
                        f"expected the file to end at byte {end}, it has {self.size} bytes"
                    )
                return found
            self._optional(kind, offset)
            name = _NAMES.get(kind)
            if name is not None:
                self._check_trailing(kind, offset, name in found)
                found[name] = payload
            offset = end

    def _check_trailing(self, kind: str, offset: int, again: bool) -> None:
        if _NAMES[kind] not in _TRAILING:
            raise CorruptError(f"chunk {kind!r} at byte {offset} belongs before the units")
        if again:
            raise CorruptError(f"chunk {kind!r} at byte {offset} is there twice")
        if self.header.kind != MediaKind.VIDEO:
            raise CorruptError(f"chunk {kind!r} at byte {offset}: an image has no sound")

    def audio(self) -> bytes | None:
        """The audio of a video (a Matroska file), None if there is none."""
        with _named(self.name):
            return self._tail().get("audio")

    def verify(self) -> list[Span]:
        """Read and decode every chunk to the last byte; returns where each one lies.

        Raises:
            FormatError: the first fault.
        """
        with _named(self.name):
            Container._parse(self._chunks.stream)
            for number in range(len(self.unit_spans)):
                if self.header.family == NetworkFamily.CORE:
                    self._core_unit(number).verify()
                else:
                    self._unit(number)
            self._tail()
            return self._chunks.spans(len(SIGNATURE) + 1)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._chunks.size

    def close(self) -> None:
        """Close the underlying stream."""
        self._chunks.stream.close()

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
