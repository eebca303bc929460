"""Range coding of the residuals of latents, a pass at a time.

All residuals of a pass are coded by one call, each under the table of its own key: constriction
takes a row of parameters a symbol. What lies beyond +-FAR follows as second symbols, in a call for
each scale that has any (formats/SPEC.md, 9.4).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from formats.entropy import constriction_stream, model_weights
from formats.errors import CorruptError
from formats.tables import (
    FAR,
    LATENT_SCALES,
    MEAN_BITS,
    TOTAL,
    excess_frequencies,
    latent_frequencies,
)

__all__ = [
    "LatentDecoder",
    "LatentEncoder",
    "by_key",
    "keys_of",
    "latent_bits",
    "scales_of",
    "whole_words",
]

Symbols = npt.NDArray[np.int32]
Places = npt.NDArray[np.intp]

_MEANS = 1 << MEAN_BITS
_NONE = np.zeros(0, np.intp)


def keys_of(scale: Places, mean: Places) -> Places:
    """Which table a latent has: scale * 32 + the last five bits of its mean + 16.

    Args:
        scale: (n,) indices.
        mean: (n,) in 1/32, plus 16: the last five bits are then 16 more than its distance from
            the nearest integer.
    """
    return (scale << MEAN_BITS) + (mean & _MEANS - 1)


def scales_of(keys: Places) -> Places:
    """The scale indices of keys."""
    return keys >> MEAN_BITS


def by_key(tables: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Tables (scales, |offset|, symbols) in the order of keys: (keys, symbols)."""
    offsets = np.abs(np.arange(_MEANS) - _MEANS // 2)
    return tables[:, offsets].reshape(-1, tables.shape[-1])


@lru_cache(maxsize=1)
def _latent_models() -> tuple[Any, npt.NDArray[np.float32]]:
    """The family of all tables of latents, and its parameters, one row a key.

    Integers up to 2^24, and all their partial sums, are exact in single precision.
    """
    family = constriction_stream().model.Categorical(perfect=False)
    return family, by_key(model_weights(latent_frequencies()).astype(np.float32))


class _Parameters:
    """The rows of `_latent_models` for the keys of a pass, in a buffer that is used again."""

    def __init__(self) -> None:
        self._buffer = np.empty((0, 2 * FAR + 1), np.float32)

    def __call__(self, keys: Places) -> npt.NDArray[np.float32]:
        """(n, 17), valid until the next call. Fresh memory would take ten times as long."""
        if len(keys) > len(self._buffer):
            self._buffer = np.empty((len(keys), 2 * FAR + 1), np.float32)
        found = self._buffer[: len(keys)]
        # Keys come from the network and are in range; "clip" writes without a copy between.
        _latent_models()[1].take(keys, 0, found, "clip")
        return found


@lru_cache(maxsize=LATENT_SCALES)
def _excess_model(scale: int) -> Any:
    weights = model_weights(excess_frequencies(scale))
    return constriction_stream().model.Categorical(weights, perfect=False)


@lru_cache(maxsize=1)
def _latent_costs() -> npt.NDArray[np.float64]:
    return by_key(np.log2(TOTAL) - np.log2(latent_frequencies().clip(1)))


def latent_bits(keys: Places, residuals: Symbols) -> float:
    """Bits that the tables spend on residuals, see `LatentEncoder.encode`."""
    near, places = _near(residuals)
    bits = float(_latent_costs()[keys, near].sum())
    for scale, far in _by_scale(keys, places):
        found = excess_frequencies(scale)[np.abs(residuals[far]) - FAR]
        bits += float((np.log2(TOTAL) - np.log2(found)).sum())
    return bits


def _near(residuals: Symbols) -> tuple[Symbols, Places]:
    """The first symbol of each residual, and the places of those that have a second one."""
    near = np.minimum(np.maximum(residuals, -FAR), FAR)
    near += FAR
    return near, _ends(near)


def _ends(near: Symbols) -> Places:
    """Where a first symbol is the first or the last one of its table."""
    inner = near & 2 * FAR - 1
    if np.count_nonzero(inner) == len(inner):  # faster than to look for places
        return _NONE
    found: Places = (inner == 0).nonzero()[0]
    return found


def _by_scale(keys: Places, places: Places) -> list[tuple[int, Places]]:
    """Places by the scale of their keys, ascending, in their order within a scale."""
    if not places.size:
        return []
    scales = scales_of(keys[places])
    return [(int(scale), places[scales == scale]) for scale in np.unique(scales)]


class LatentEncoder:
    """Collects the residuals of one segment, pass by pass, in one stream."""

    def __init__(self) -> None:
        self._coder = constriction_stream().queue.RangeEncoder()
        self._parameters = _Parameters()

    def encode(self, keys: Places, residuals: Symbols) -> None:
        """Code the residuals of a pass.

        Args:
            keys: (n,) of `keys_of`.
            residuals: (n,) int32, within the reach of their scales.
        """
        if not keys.size:
            return
        near, places = _near(residuals)
        far = [
            (scale, np.abs(residuals[part]) - np.int32(FAR))
            for scale, part in _by_scale(keys, places)
        ]
        self.encode_symbols(self._parameters(keys), near, far)

    def encode_symbols(
        self,
        parameters: npt.NDArray[np.float32],
        near: Symbols,
        far: list[tuple[int, Symbols]],
    ) -> None:
        """As `encode`: the rows of the keys, the first symbols, and by scale the second ones."""
        self._coder.encode(near, _latent_models()[0], parameters)
        for scale, excess in far:
            self._coder.encode(excess, _excess_model(scale))

    @property
    def words(self) -> int:
        """32-bit words that `done` would return now."""
        found: int = self._coder.num_words()
        return found

    def done(self) -> bytes:
        """The stream: little-endian 32-bit words, none if nothing was coded."""
        words: npt.NDArray[np.uint32] = self._coder.get_compressed()
        return words.astype("<u4").tobytes()


def whole_words(data: bytes, where: str) -> npt.NDArray[np.uint32]:
    """The 32-bit words of a stream.

    Raises:
        CorruptError: it is not whole words.
    """
    if len(data) % 4:
        raise CorruptError(
            f"{where}: expected a whole number of 32-bit words, got {len(data)} bytes"
        )
    return np.frombuffer(data, dtype="<u4").astype(np.uint32)


class LatentDecoder:
    """Inverse of `LatentEncoder`.

    It encodes what it decodes: that shows a stream of another length than its symbols need,
    which the decoder cannot see by itself.

    Raises:
        CorruptError: the stream is not whole words.
    """

    def __init__(self, data: bytes, where: str) -> None:
        words = whole_words(data, where)
        self._coder = constriction_stream().queue.RangeDecoder(words)
        self._again = LatentEncoder()
        self._parameters = _Parameters()
        self._size = len(data)
        self._where = where

    def decode(self, keys: Places) -> Symbols:
        """Residuals (n,) int32 of a pass from its keys (n,).

        Raises:
            CorruptError: the stream ends early or holds what no encoder writes.
        """
        if not keys.size:
            return np.zeros(0, np.int32)
        parameters, far = self._parameters(keys), []
        try:
            near: Symbols = self._coder.decode(_latent_models()[0], parameters)
            found = near - np.int32(FAR)
            for scale, part in _by_scale(keys, _ends(near)):
                excess = self._coder.decode(_excess_model(scale), len(part))
                found[part] += np.sign(found[part]) * excess
                far.append((scale, excess))
        except (AssertionError, ValueError) as error:
            raise CorruptError(f"{self._where}: the stream is invalid: {error}") from error
        self._again.encode_symbols(parameters, near, far)
        if self._again.words > self._size // 4 + 1:  # the last word may become unnecessary
            raise CorruptError(
                f"{self._where}: the entropy-coded stream has {self._size} bytes, its symbols "
                "need more"
            )
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
