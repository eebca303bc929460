"""A chunk: a letter for its type, its length, its payload, and a CRC-32 of all of that.

type u8 | length varint | payload | CRC-32 of the bytes before, little-endian
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import BinaryIO

from formats import limits
from formats.cursor import Reader, Writer
from formats.errors import ChecksumError, CorruptError, TruncatedError

__all__ = ["ChunkReader", "Span", "pack_chunk"]

_HEAD = 1 + 9  # type, longest varint


def pack_chunk(kind: bytes, payload: bytes) -> bytes:
    """A whole chunk.

    Args:
        kind: one letter.
        payload: what it holds.

    Raises:
        LimitError: it holds more than a chunk may.
    """
    limits.check_limit(f"bytes of chunk {kind.decode()}", len(payload), limits.MAX_CHUNK_BYTES)
    framed = Writer().raw(kind).varint(len(payload)).raw(payload).done()
    return framed + zlib.crc32(framed).to_bytes(4, "little")


@dataclass(frozen=True)
class Span:
    """Where a chunk lies: type, offset of its first byte, payload bytes, chunk bytes."""

    kind: str
    offset: int
    payload: int
    total: int


class ChunkReader:
    """Reads chunks of a file where one asks for them.

    Args:
        stream: the file, seekable.
        size: its bytes.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.size = stream, size

    def span(self, offset: int) -> Span:
        """Type and length of the chunk at `offset`, checked against the file's size.

        Raises:
            FormatError: there is no chunk, or only a part of one.
        """
        self.stream.seek(offset)
        read = Reader(self.stream.read(_HEAD), "chunk", offset)
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

    def spans(self, offset: int) -> list[Span]:
        """Where every chunk lies from `offset` to the file's end.

        Raises:
            FormatError: as `span`.
        """
        found = []
        while offset < self.size:
            found.append(self.span(offset))
            offset += found[-1].total
        return found

    def read(self, offset: int) -> tuple[str, bytes, int]:
        """The chunk at `offset`: its type, its payload, the offset after it.

        Raises:
            FormatError: as `span`, or its bytes are not those that were written.
        """
        span = self.span(offset)
        self.stream.seek(offset)
        framed = self.stream.read(span.total)
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
