"""Read and write the primitive fields of the format: bytes and LEB128 varints."""

from __future__ import annotations

from formats.errors import CorruptError, TruncatedError

__all__ = ["Reader", "Writer"]

MAX_VARINT_BYTES = 9  # 63 bits: every value fits a signed 64-bit integer


class Reader:
    """A bounds-checked cursor over untrusted bytes.

    Args:
        data: the bytes.
        where: what they are, for error messages, e.g. "header chunk".
        base: offset of `data` in the file, so that messages give file offsets.
    """

    def __init__(self, data: bytes | memoryview, where: str, base: int = 0) -> None:
        self._data = memoryview(data)
        self._where = where
        self._base = base
        self.position = 0

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self.position

    @property
    def offset(self) -> int:
        """Position in the file."""
        return self._base + self.position

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes."""
        if count > self.remaining:
            raise TruncatedError(
                f"{self._where}: {what} at byte {self.offset} needs {count} bytes, "
                f"{self.remaining} are left"
            )
        start = self.position
        self.position += count
        return bytes(self._data[start : self.position])

    def u8(self, what: str) -> int:
        """One byte."""
        return self.take(1, what)[0]

    def varint(self, what: str) -> int:
        """An unsigned LEB128 integer of at most 63 bits, in its shortest form."""
        start = self.offset
        value = 0
        for number in range(MAX_VARINT_BYTES):
            byte = self.u8(what)
            value |= (byte & 0x7F) << (7 * number)
            if byte < 0x80:
                if byte == 0 and number:
                    raise CorruptError(
                        f"{self._where}: {what} at byte {start} is a varint with padding, "
                        "expected the shortest form"
                    )
                return value
        raise CorruptError(
            f"{self._where}: {what} at byte {start} is a varint of over {MAX_VARINT_BYTES} bytes"
        )

    def rest(self) -> bytes:
        """All bytes not read yet."""
        return self.take(self.remaining, "payload")

    def finish(self) -> None:
        """Raise CorruptError if bytes are left over."""
        if self.remaining:
            raise CorruptError(
                f"{self._where}: expected its end at byte {self.offset}, "
                f"{self.remaining} bytes are left over"
            )


class Writer:
    """Collects the fields that a `Reader` reads."""

    def __init__(self) -> None:
        self._parts = bytearray()

    def raw(self, data: bytes) -> Writer:
        """Bytes as they are."""
        self._parts += data
        return self

    def u8(self, value: int) -> Writer:
        """One byte."""
        return self.raw(value.to_bytes(1, "little"))

    def varint(self, value: int) -> Writer:
        """An unsigned LEB128 integer, shortest form."""
        if not 0 <= value < 2**63:
            raise ValueError(f"varint: expected 0 <= value < 2^63, got {value}")
        while value >= 0x80:
            self._parts.append(value & 0x7F | 0x80)
            value >>= 7
        self._parts.append(value)
        return self

    def done(self) -> bytes:
        """Everything written."""
        return bytes(self._parts)
