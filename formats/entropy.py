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
from formats.tables import (
    FAR,
    GAUSSIAN,
    LATENT_SCALES,
    OFFSETS,
    TABLES,
    TOTAL,
    ZERO,
    excess_frequencies,
    frequencies,
    latent_frequencies,
    support,
)

__all__ = [
    "LatentDecoder",
    "LatentEncoder",
    "best_table",
    "decode_symbols",
    "encode_symbols",
    "latent_bits",
    "symbol_bits",
    "table_bits",
]

Symbols = npt.NDArray[np.int32]


def _constriction() -> Any:
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
    return _categorical(frequencies(table))


@lru_cache(maxsize=1)
def _latent_models() -> tuple[Any, npt.NDArray[np.float32]]:
    """The family of all tables of latents, and its parameters, one row a key.

    Integers up to 2^24, and all their partial sums, are exact in single precision.
    """
    family = _constriction().model.Categorical(perfect=False)
    rows = _weights(latent_frequencies().reshape(-1, 2 * FAR + 1)).astype(np.float32)
    return family, rows


class _Parameters:
    """The rows of `_latent_models` for the keys of a pass, in a buffer that is used again."""

    def __init__(self) -> None:
        self._buffer = np.empty((0, 2 * FAR + 1), np.float32)

    def __call__(self, keys: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """(n, 17), valid until the next call. Fresh memory would take ten times as long."""
        if len(keys) > len(self._buffer):
            self._buffer = np.empty((len(keys), 2 * FAR + 1), np.float32)
        found = self._buffer[: len(keys)]
        # Keys come from the network and are in range; "clip" writes without a copy between.
        np.take(_latent_models()[1], keys, axis=0, out=found, mode="clip")
        return found


@lru_cache(maxsize=LATENT_SCALES)
def _excess_model(scale: int) -> Any:
    return _categorical(excess_frequencies(scale))


def _weights(table: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    # constriction adds 1 to every weight (its floor); frequencies are >= 1 and sum to 2^24.
    return (table - 1).astype(np.float64)


def _categorical(table: npt.NDArray[np.int64]) -> Any:
    return _constriction().model.Categorical(_weights(table), perfect=False)


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
    candidates = set()
    for family, centre in zip((0, GAUSSIAN), centres, strict=True):
        middle = int(np.clip(round(float(centre)), 0, 63))
        candidates |= {family + s for s in range(max(0, middle - 4), min(63, middle + 4) + 1)}
    candidates |= {63, GAUSSIAN + 63}
    cost, table = min((table_bits(symbols, t), t) for t in sorted(candidates))
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
    encoder = _constriction().queue.RangeEncoder()
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
    decoder = _constriction().queue.RangeDecoder(words)
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


@lru_cache(maxsize=1)
def _latent_costs() -> npt.NDArray[np.float64]:
    return np.asarray(np.log2(TOTAL) - np.log2(latent_frequencies().clip(1)))


def latent_bits(keys: npt.NDArray[np.intp], residuals: Symbols) -> float:
    """Bits that the tables spend on residuals, see `LatentEncoder.encode`."""
    near = np.clip(residuals, -FAR, FAR) + FAR
    bits = float(_latent_costs().reshape(-1, 2 * FAR + 1)[keys, near].sum())
    for scale, places in _far(keys, np.abs(residuals) >= FAR):
        found = excess_frequencies(scale)[np.abs(residuals[places]) - FAR]
        bits += float((np.log2(TOTAL) - np.log2(found)).sum())
    return bits


def _far(
    keys: npt.NDArray[np.intp], far: npt.NDArray[np.bool_]
) -> list[tuple[int, npt.NDArray[np.intp]]]:
    """The positions where `far`, by scale, ascending, and in their order within a scale."""
    places = np.flatnonzero(far)
    if not places.size:
        return []
    scales = keys[places] // OFFSETS
    return [(int(scale), places[scales == scale]) for scale in np.unique(scales)]


class LatentEncoder:
    """Collects the residuals of one segment, pass by pass, in one stream."""

    def __init__(self) -> None:
        self._coder = _constriction().queue.RangeEncoder()
        self._parameters = _Parameters()

    def encode(self, keys: npt.NDArray[np.intp], residuals: Symbols) -> None:
        """Code the residuals of a pass.

        Args:
            keys: (n,) scale * OFFSETS + mean in 1/32.
            residuals: (n,) int32, within the reach of their scales.
        """
        if keys.size:
            self._encode(keys, residuals, self._parameters(keys))

    def _encode(
        self, keys: npt.NDArray[np.intp], residuals: Symbols, parameters: npt.NDArray[np.float32]
    ) -> None:
        near = np.clip(residuals, -FAR, FAR) + np.int32(FAR)
        self._coder.encode(near, _latent_models()[0], parameters)
        for scale, places in _far(keys, np.abs(residuals) >= FAR):
            self._coder.encode(np.abs(residuals[places]) - np.int32(FAR), _excess_model(scale))

    def done(self) -> bytes:
        """The stream: little-endian 32-bit words, none if nothing was coded."""
        words: npt.NDArray[np.uint32] = self._coder.get_compressed()
        return words.astype("<u4").tobytes()


class LatentDecoder:
    """Inverse of `LatentEncoder`.

    It encodes what it decodes: that shows a stream of another length than its symbols need,
    which the decoder cannot see by itself.

    Raises:
        CorruptError: the stream is not whole words.
    """

    def __init__(self, data: bytes, where: str) -> None:
        if len(data) % 4:
            raise CorruptError(
                f"{where}: expected a whole number of 32-bit words, got {len(data)} bytes"
            )
        words = np.frombuffer(data, dtype="<u4").astype(np.uint32)
        self._coder = _constriction().queue.RangeDecoder(words)
        self._again = LatentEncoder()
        self._parameters = _Parameters()
        self._size = len(data)
        self._where = where

    def decode(self, keys: npt.NDArray[np.intp]) -> Symbols:
        """Residuals (n,) int32 of a pass from its keys (n,).

        Raises:
            CorruptError: the stream ends early or holds what no encoder writes.
        """
        if not keys.size:
            return np.zeros(0, np.int32)
        parameters = self._parameters(keys)
        try:
            found: Symbols = self._coder.decode(_latent_models()[0], parameters)
            found -= FAR
            for scale, places in _far(keys, np.abs(found) == FAR):
                excess = self._coder.decode(_excess_model(scale), len(places))
                found[places] += np.sign(found[places]) * excess
        except (AssertionError, ValueError) as error:
            raise CorruptError(f"{self._where}: the stream is invalid: {error}") from error
        self._again._encode(keys, found, parameters)
        return found

    def finish(self) -> None:
        """Check the stream's length.

        Raises:
            CorruptError: it is not the length that its symbols need.
        """
        needed = len(self._again.done())
        if self._size != needed:
            raise CorruptError(
                f"{self._where}: the entropy-coded stream has {self._size} bytes, its symbols "
                f"need {needed}"
            )
