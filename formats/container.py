"""The file: signature, version, chunks with length and CRC-32, and the order they come in.

    signature version | H header | a..z optional | X index | U unit 0 | U unit 1 ... | a..z | E

An upper-case chunk type is critical (a reader that does not know it must stop), a lower-case
one optional (skipped). The index comes before the units, so one read of the front of a file
finds any GOP; an image has one unit and no index. formats/SPEC.md is the normative text.
"""

from __future__ import annotations

import contextlib
import io
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from formats import limits
from formats.cursor import Reader, Writer
from formats.errors import (
    ChecksumError,
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
_CHUNK_HEAD = 1 + 9  # type, longest varint


def _chunk(kind: bytes, payload: bytes) -> bytes:
    limits.check_limit(f"bytes of chunk {kind.decode()}", len(payload), limits.MAX_CHUNK_BYTES)
    framed = Writer().raw(kind).varint(len(payload)).raw(payload).done()
    return framed + zlib.crc32(framed).to_bytes(4, "little")


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
    out = [SIGNATURE, bytes([VERSION]), _chunk(b"H", header.pack())]
    out += [_chunk(METADATA[k], v) for k, v in metadata.items() if k not in _TRAILING]
    chunks = [_chunk(b"U", unit) for unit in units]
    if header.kind == MediaKind.VIDEO:
        index = Writer().varint(len(chunks))
        for chunk, frames in zip(chunks, unit_frames, strict=True):
            index.varint(frames).varint(len(chunk))
        out.append(_chunk(b"X", index.done()))
    out += chunks
    out += [_chunk(METADATA[k], v) for k, v in metadata.items() if k in _TRAILING]
    out.append(_chunk(b"E", b""))
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


@dataclass(frozen=True)
class Span:
    """Where a chunk lies: type, offset of its first byte, payload bytes, chunk bytes."""

    kind: str
    offset: int
    payload: int
    total: int


@dataclass
class Container:
    """A `.crdx` file opened for reading. Only the front is read; units are read on demand.

    Attributes:
        header: the header.
        metadata: optional chunks before the units, by name (audio: see `audio`).
        unit_frames: frames of each unit.
        unit_spans: where each unit's chunk lies (offset, bytes).
        size: bytes of the file.
        name: its path, if it was opened by path; errors start with it.
    """

    header: Header
    metadata: dict[str, bytes]
    unit_frames: list[int]
    unit_spans: list[tuple[int, int]]
    size: int
    name: str = ""
    _stream: BinaryIO = field(default_factory=io.BytesIO, repr=False)

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
        box = cls(None, {}, [], [], size, _stream=stream)  # type: ignore[arg-type]
        box._read_front(len(start))
        return box

    def _read_front(self, offset: int) -> None:
        start = offset
        kind, payload, offset = self._next(offset)
        if kind != "H":
            raise CorruptError(f"expected the header chunk first, got {kind!r} at byte {start}")
        self.header = Header.unpack(payload, start)
        while True:
            span = self._span(offset)
            if span.kind in "XU":
                break
            kind, payload, end = self._next(offset)
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
            _, payload, end = self._next(offset)
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

    # -- chunks ----------------------------------------------------------------------------

    def _span(self, offset: int) -> Span:
        """Type and length of the chunk at `offset`, checked against the file's size."""
        self._stream.seek(offset)
        read = Reader(self._stream.read(_CHUNK_HEAD), "chunk", offset)
        kind = chr(read.u8("chunk type"))
        if not (kind.isascii() and kind.isalpha()):
            raise CorruptError(f"expected a chunk type at byte {offset}, got byte {ord(kind):#04x}")
        length = limits.check_limit(
            f"bytes of chunk {kind!r}", read.varint("chunk length"), limits.MAX_CHUNK_BYTES
        )
        total = read.position + length + 4
        if offset + total > self.size:
            raise TruncatedError(
                f"chunk {kind!r} at byte {offset} needs {total} bytes, "
                f"{self.size - offset} are left of the file's {self.size}"
            )
        return Span(kind, offset, length, total)

    def _spans(self) -> list[Span]:
        """Where every chunk lies, of a file that was found whole."""
        spans, offset = [], len(SIGNATURE) + 1
        while offset < self.size:
            spans.append(self._span(offset))
            offset += spans[-1].total
        return spans

    def _next(self, offset: int) -> tuple[str, bytes, int]:
        """Read the chunk at `offset`: its type, its payload, the offset after it."""
        span = self._span(offset)
        self._stream.seek(offset)
        framed = self._stream.read(span.total)
        if len(framed) != span.total:
            raise TruncatedError(f"chunk {span.kind!r} at byte {offset}: the file became shorter")
        stored = int.from_bytes(framed[-4:], "little")
        actual = zlib.crc32(framed[:-4])
        if stored != actual:
            raise ChecksumError(
                f"chunk {span.kind!r} at byte {offset}: its CRC-32 is {actual:08x}, "
                f"the file says {stored:08x}: the bytes have changed since they were written"
            )
        return span.kind, framed[span.total - 4 - span.payload : -4], offset + span.total

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
        span = self._span(offset)
        if span.kind != "U" or span.total != size:
            raise CorruptError(
                f"unit {number}: the index points to a unit of {size} bytes at byte {offset}, "
                f"there is a chunk {span.kind!r} of {span.total}"
            )
        _, payload, end = self._next(offset)
        return payload, end - 4 - len(payload)

    def _tail(self) -> dict[str, bytes]:
        """Known chunks after the units by name, checked up to the file's end."""
        offset = sum(self.unit_spans[-1])
        found: dict[str, bytes] = {}
        while True:
            kind, payload, end = self._next(offset)
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
            Container._parse(self._stream)
            for number in range(len(self.unit_spans)):
                if self.header.family == NetworkFamily.CORE:
                    self._core_unit(number).verify()
                else:
                    self._unit(number)
            self._tail()
            return self._spans()

    def close(self) -> None:
        """Close the underlying stream."""
        self._stream.close()

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
