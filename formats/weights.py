"""A unit: the weights of one image or one GOP as integer symbols.

Payload: unit number, then one (table id, step exponent) pair per tensor, then one range-coded
stream of all symbols. A weight is symbol * 2^step exactly (formats/SPEC.md, section 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from formats import limits
from formats.cursor import Reader, Writer
from formats.entropy import best_table, decode_symbols, encode_symbols
from formats.errors import CorruptError, InputError
from formats.network import TensorSpec
from formats.tables import TABLES, ZERO

__all__ = [
    "MAX_STEP",
    "MIN_STEP",
    "CodedTensor",
    "pack_tensors",
    "pack_unit",
    "read_entries",
    "unpack_tensors",
    "unpack_unit",
]

MIN_STEP, MAX_STEP = -24, 8


@dataclass(frozen=True)
class CodedTensor:
    """One quantised weight tensor.

    Attributes:
        symbols: int32, of the tensor's shape.
        step: exponent: weight = symbol * 2^step, -24..8.
    """

    symbols: npt.NDArray[np.int32]
    step: int

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """The weights: exact in float32, |symbol| <= 65535 takes 17 bits."""
        return np.ldexp(self.symbols.astype(np.float32), self.step)


def pack_unit(number: int, tensors: Sequence[CodedTensor]) -> bytes:
    """Payload of unit `number`; the table of each tensor is the cheapest one."""
    entries, stream = pack_tensors(tensors)
    return Writer().varint(number).raw(entries).raw(stream).done()


def unpack_unit(
    payload: bytes | memoryview, number: int, specs: Sequence[TensorSpec], base: int = 0
) -> list[CodedTensor]:
    """Inverse of `pack_unit`.

    Args:
        payload: the chunk's payload.
        number: the unit number expected here.
        specs: tensors that the header announces, limits already checked.
        base: offset of the payload in the file, for messages.

    Raises:
        CorruptError, TruncatedError, LimitError: see formats/errors.py.
    """
    where = f"unit {number}"
    read = Reader(payload, where, base)
    entries = read_entries(read, number, specs)
    return unpack_tensors(read.rest(), specs, entries, where)


def pack_tensors(tensors: Sequence[CodedTensor]) -> tuple[bytes, bytes]:
    """The table and step of each tensor, and the stream of their symbols.

    Raises:
        InputError: a step outside 2^-24..2^8.
        CorruptError: a symbol that no table codes.
    """
    out = Writer()
    groups = []
    for tensor in tensors:
        if not MIN_STEP <= tensor.step <= MAX_STEP:
            raise InputError(f"step: expected {MIN_STEP}..{MAX_STEP}, got {tensor.step}")
        table, _ = best_table(tensor.symbols)
        out.u8(table)
        if table != ZERO:
            out.u8(tensor.step - MIN_STEP)
        groups.append((tensor.symbols.reshape(-1).astype(np.int32), table))
    return out.done(), encode_symbols(groups)


def read_entries(read: Reader, number: int, specs: Sequence[TensorSpec]) -> list[tuple[int, int]]:
    """The front of a unit: its number, then (table, step) of each tensor.

    Args:
        read: at the first byte of the payload.
        number, specs: as for `unpack_unit`.

    Raises:
        CorruptError, TruncatedError, LimitError: see formats/errors.py.
    """
    where, base, size = f"unit {number}", read.offset, read.remaining
    found = read.varint("unit number")
    if found != number:
        raise CorruptError(f"{where} at byte {base}: expected its number, got {found}")
    limits.check_limit(
        f"weights of {where} ({size} bytes)",
        sum(spec.size for spec in specs),
        limits.MAX_WEIGHTS_PER_BYTE * size,
    )
    entries = []
    for spec in specs:
        table = read.u8(f"table of {spec.name}")
        step = 0
        if table != ZERO:
            if table >= TABLES:
                raise CorruptError(f"{where}: {spec.name} uses the unknown table {table}")
            step = read.u8(f"step of {spec.name}") + MIN_STEP
            if step > MAX_STEP:
                raise CorruptError(f"{where}: {spec.name} has the step 2^{step}, at most 2^8")
        entries.append((table, step))
    return entries


def unpack_tensors(
    stream: bytes, specs: Sequence[TensorSpec], entries: Sequence[tuple[int, int]], where: str
) -> list[CodedTensor]:
    """Inverse of `pack_tensors`.

    Raises:
        CorruptError: the stream is invalid or longer than its symbols need.
    """
    groups = [(spec.size, table) for spec, (table, _) in zip(specs, entries, strict=True)]
    decoded = decode_symbols(stream, groups, where)
    # The decoder cannot see one word too many; encoding again can.
    needed = len(encode_symbols([(s, t) for s, (_, t) in zip(decoded, groups, strict=True)]))
    if len(stream) > needed:
        raise CorruptError(
            f"{where}: the entropy-coded stream is longer than its symbols need: {len(stream)} "
            f"bytes for {needed}"
        )
    return [
        CodedTensor(_shaped(symbols, spec), step)
        for symbols, spec, (_, step) in zip(decoded, specs, entries, strict=True)
    ]


def _shaped(symbols: npt.NDArray[Any], spec: TensorSpec) -> npt.NDArray[np.int32]:
    shaped: npt.NDArray[np.int32] = symbols.reshape(spec.shape)
    return shaped
