"""Range coding of integer symbols under the frozen tables.

constriction's 32-bit range coder with `Categorical(..., perfect=False)` over integer weights
minus one, which makes its cumulative distribution exactly the cumulative sum of our integer
frequencies: the stream is a function of integers only. constriction decodes garbage without
complaint, so counts come from the header and integrity from the chunk's CRC.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from formats.errors import CorruptError, MissingLibraryError
from formats.tables import GAUSSIAN, TABLES, TOTAL, ZERO, frequencies, support

__all__ = [
    "best_table",
    "constriction_stream",
    "decode_symbols",
    "encode_symbols",
    "model_weights",
    "symbol_bits",
    "table_bits",
]

Symbols = npt.NDArray[np.int32]


def constriction_stream() -> Any:
    """Imported late: everything but entropy coding works where it is not installed."""
    try:
        import constriction
    except ImportError as error:  # pragma: no cover - depends on the machine
        raise MissingLibraryError(
            "entropy coding needs the package constriction: pip install 'constriction>=0.5,<0.6'"
        ) from error
    return constriction.stream


@lru_cache(maxsize=TABLES)
def _model(table: int) -> Any:
    return constriction_stream().model.Categorical(model_weights(frequencies(table)), perfect=False)


def model_weights(table: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The parameters of constriction's Categorical for frequencies that sum to 2^24.

    It adds 1 to every weight, its floor.
    """
    return (table - 1).astype(np.float64)


@lru_cache(maxsize=TABLES)
def _bits(table: int) -> npt.NDArray[np.float64]:
    cost: npt.NDArray[np.float64] = np.log2(TOTAL) - np.log2(frequencies(table))
    cost.flags.writeable = False
    return cost


def table_bits(symbols: npt.NDArray[np.integer[Any]], table: int) -> float:
    """Bits that a table spends on these symbols; infinity if one is outside its support."""
    if table == ZERO:
        return 0.0 if not symbols.any() else float("inf")
    reach = support(table)
    if symbols.size and int(np.abs(symbols).max()) > reach:
        return float("inf")
    return float(_bits(table)[symbols.reshape(-1) + reach].sum())


@lru_cache(maxsize=1024)
def _candidates(laplace: int, gaussian: int) -> tuple[list[int], npt.NDArray[np.float64]]:
    """Tables around a scale of each family, and what each spends on |k| = 0..255.

    All tables are symmetric and know these symbols.
    """
    found = {63, GAUSSIAN + 63}
    for family, middle in ((0, laplace), (GAUSSIAN, gaussian)):
        found |= {family + s for s in range(max(0, middle - 4), min(63, middle + 4) + 1)}
    tables = sorted(found)
    return tables, np.array([_bits(t)[support(t) :][:256] for t in tables])


def best_table(symbols: npt.NDArray[np.integer[Any]]) -> tuple[int, float]:
    """The table that codes these symbols in the fewest bits, and those bits.

    Raises:
        CorruptError: a symbol is outside the support of every table (over 65535).
    """
    if not symbols.any():
        return ZERO, 0.0
    values = np.abs(symbols.astype(np.int64))
    first = float(values.mean())
    second = float(np.sqrt((values.astype(np.float64) ** 2).mean()))
    # b of the Laplace family is mean |k|; of the Gaussian family 2 sigma^2. Look around both.
    centres = (8 + 4 * np.log2(max(first, 0.05)), 8 + 4 * np.log2(max(2 * second**2, 0.05)))
    tables, near = _candidates(*(int(np.clip(round(float(c)), 0, 63)) for c in centres))
    if values.max() < near.shape[1]:
        costs = near @ np.bincount(values.reshape(-1), minlength=near.shape[1])
        best = int(costs.argmin())
        return tables[best], float(costs[best])
    cost, table = min((table_bits(symbols, t), t) for t in tables)
    if not np.isfinite(cost):
        raise CorruptError(
            f"weight symbols reach {int(values.max())}, tables code at most {support(63)}"
        )
    return table, cost


def symbol_bits(symbols: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """What the table that is best for these symbols spends on each symbol -T..T.

    Where all are zero and no table is needed, those of the narrowest one.
    """
    table, _ = best_table(symbols)
    return _bits(0 if table == ZERO else table)


def encode_symbols(groups: Sequence[tuple[Symbols, int]]) -> bytes:
    """Code groups of symbols, each under one table, into one stream.

    Args:
        groups: (symbols (n,) int32, table id); groups of table ZERO take no bits.

    Returns:
        Little-endian 32-bit words.
    """
    encoder = constriction_stream().queue.RangeEncoder()
    for symbols, table in groups:
        if table == ZERO or not symbols.size:
            continue
        indices = (symbols.reshape(-1) + support(table)).astype(np.int32)
        encoder.encode(np.ascontiguousarray(indices), _model(table))
    words: npt.NDArray[np.uint32] = encoder.get_compressed()
    return words.astype("<u4").tobytes()


def decode_symbols(data: bytes, groups: Sequence[tuple[int, int]], where: str) -> list[Symbols]:
    """Inverse of `encode_symbols`.

    Args:
        data: the stream.
        groups: (count, table id) of each group.
        where: for error messages.

    Raises:
        CorruptError: the stream is not whole words, or does not end with its last symbol.
    """
    if len(data) % 4:
        raise CorruptError(f"{where}: expected a whole number of 32-bit words, got {len(data)} B")
    words = np.frombuffer(data, dtype="<u4").astype(np.uint32)
    decoder = constriction_stream().queue.RangeDecoder(words)
    decoded: list[Symbols] = []
    for count, table in groups:
        if table == ZERO or not count:
            decoded.append(np.zeros(count, dtype=np.int32))
            continue
        try:
            indices = decoder.decode(_model(table), count)
        except (AssertionError, ValueError) as error:
            raise CorruptError(f"{where}: the entropy-coded stream is invalid: {error}") from error
        decoded.append((indices - support(table)).astype(np.int32))
    if not decoder.maybe_exhausted():
        raise CorruptError(f"{where}: the entropy-coded stream is longer than its symbols")
    return decoded
