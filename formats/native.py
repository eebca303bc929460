"""The decoder of latents in machine code, where it could be compiled.

`formats/_native.c` computes the integers of `formats/latents.py`, faster: positions of a pass are
predicted side by side in registers, and their order costs nothing. An installation compiles it if
it finds GCC or Clang and Python's headers. Without it numpy decodes.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from formats.blocks import WINDOW
from formats.context import ONE, ContextNetwork, all_inputs
from formats.errors import CorruptError, InputError
from formats.residuals import by_key, whole_words
from formats.tables import LATENT_SCALES, excess_frequencies, latent_frequencies

try:
    from formats import _native
except ImportError:  # not compiled
    _native = None  # type: ignore[assignment]

__all__ = ["SWITCH", "chosen", "decode_segment", "instruction_sets", "native_on", "numbers_of"]

Grid = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]

SWITCH = "COORDX_NATIVE"
"""Environment variable: 0 turns machine code off, the name of an instruction set chooses it."""
_GROUP = 8
"""Rows of a matrix that lie together, column by column."""
_ACROSS = [WINDOW.index(place) for place in ((-1, 2), (0, 1), (1, -1), (1, 0), (1, 1))]
"""Inputs that are zero unless they lie in a neighbouring block."""
_OWN = [place for place in range(len(WINDOW)) if place not in _ACROSS]


def numbers_of(module: Any) -> dict[str, int]:
    """Instruction sets that a module was compiled for and this processor has, the fastest first.

    Args:
        module: one in machine code; None: there is none.

    Returns:
        Their numbers, which its functions take.
    """
    found = [] if module is None else module.instructions()
    return {name: number for number, (name, there) in enumerate(found) if there}


def chosen(switch: str, known: Collection[str], otherwise: str | None) -> str | None:
    """The instruction set that an environment variable names; None if it is 0.

    Args:
        switch: the variable.
        known: names that are there.
        otherwise: what is taken where the variable says nothing.

    Raises:
        InputError: it names one that is not there.
    """
    wanted = os.environ.get(switch, "")
    if wanted in ("", "0"):
        return None if wanted else otherwise
    if wanted not in known:
        raise InputError(f"{switch}: expected 0 or one of {list(known)}, got {wanted!r}")
    return wanted


def instruction_sets() -> list[str]:
    """Those that latents can be decoded with, the fastest first."""
    return list(numbers_of(_native))


def native_on() -> str | None:
    """The instruction set that latents are decoded with; None: by numpy.

    Raises:
        InputError: the environment names one that is not there.
    """
    known = instruction_sets()
    return chosen(SWITCH, known, next(iter(known), None))


def _grouped(matrix: Integers) -> npt.NDArray[np.float32]:
    """A matrix (rows, columns) in groups of rows, each column by column; with rows of zeros."""
    rows, columns = matrix.shape
    padded = np.zeros((-(-rows // _GROUP), _GROUP, columns), np.float32)
    padded.reshape(-1, columns)[:rows] = matrix
    return np.ascontiguousarray(padded.transpose(0, 2, 1))


@dataclass(frozen=True)
class _Weights:
    """A context network as `_native.decode_grid` takes it.

    Attributes:
        first, coarsest: the first layer with parents and without; columns are the own grid's
            inputs, the parents', the own grid's across the border of a block, the flags.
        bias: of the first layer.
        hidden, hidden_bias: with the residual connection.
        out: (width, 2).
        level: (2, grids) in the units of `out`'s sums.
    """

    first: npt.NDArray[np.float32]
    coarsest: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    hidden: npt.NDArray[np.float32]
    hidden_bias: npt.NDArray[np.float32]
    out: npt.NDArray[np.float32]
    level: Integers

    @classmethod
    def of(cls, network: ContextNetwork) -> _Weights:
        fixed, width = network.fixed, network.config.width
        first, flags = all_inputs(network.config, fixed["context.first"], fixed["context.bias"])
        own, across, borders = first[:, _OWN], first[:, _ACROSS], flags[:, 1:]
        parent = fixed.get("context.parent", np.zeros((width, 0), np.int64))
        hidden = fixed["context.hidden"] + ONE * np.eye(width, dtype=np.int64)
        return cls(
            _grouped(np.concatenate([own, parent, across, borders], 1)),
            _grouped(np.concatenate([own, across, borders], 1)),
            _grouped(flags[:, :1]),
            _grouped(hidden),
            _grouped(fixed["context.hidden_bias"][:, None]),
            np.ascontiguousarray(fixed["context.out"].T.astype(np.float32)),
            4 * fixed["context.level"],
        )


@lru_cache(maxsize=1)
def _tables() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Integers]:
    """The ends of the symbols of every table: by key, of second symbols, and where these begin."""

    def ends(frequencies: Integers) -> Integers:
        return np.insert(frequencies.cumsum(-1), 0, 0, axis=-1)

    near = by_key(ends(latent_frequencies())).astype(np.int32)
    far = [ends(excess_frequencies(scale)) for scale in range(1, LATENT_SCALES)]
    start = np.cumsum([0, 0, *map(len, far)], dtype=np.int64)
    return near, np.concatenate(far).astype(np.int32), start


def decode_segment(
    network: ContextNetwork,
    shapes: Mapping[int, tuple[int, int]],
    data: bytes,
    where: str,
    known: Mapping[int, Grid],
    instructions: str,
) -> dict[int, Grid]:
    """As `formats.latents.decode_segment`, with one of `instruction_sets`.

    It refuses the same streams, at times with another message: numpy asks the range coder first.
    """
    words = whole_words(data, where)
    weights, width = _Weights.of(network), network.config.width
    start = [int(word) for word in words[:2]] + [0, 0]
    # low, range, point, steps, symbols: formats/SPEC.md, section 6.
    coder = np.array([0, 2**64 - 1, start[0] << 32 | start[1], 0, 0], np.uint64)
    found = dict(known)
    for number in sorted(shapes, reverse=True):
        shape, parent = shapes[number], network.config.parent(number)
        above = None if parent is None else found[parent]
        grid = np.empty(shape, np.int32)
        status = _native.decode_grid(
            coder,
            words,
            grid,
            None if above is None else np.ascontiguousarray(above),
            weights.coarsest if above is None else weights.first,
            weights.bias,
            weights.hidden,
            weights.hidden_bias,
            weights.out,
            *_tables(),
            (*shape, network.config.side(number)),
            (width, *weights.level[:, number].tolist(), network.full >> number & 1),
            numbers_of(_native)[instructions],
        )
        _check(status, len(data), where)
        found[number] = grid
    _finish(coder, len(data), where)
    return {number: found[number] for number in sorted(shapes)}


def _check(status: int, size: int, where: str) -> None:
    if status == _native.NO_MEMORY:
        raise MemoryError(f"{where}: no memory for the latents of a grid")
    if status == _native.SHORT:
        raise CorruptError(
            f"{where}: the entropy-coded stream has {size} bytes, its symbols need more"
        )
    if status != _native.DONE:
        raise CorruptError(f"{where}: the stream is invalid: no symbol has these bits")


def _finish(coder: npt.NDArray[np.uint64], size: int, where: str) -> None:
    """The stream has the length that an encoder gives it (formats/SPEC.md, 9.4)."""
    low, range_, _, steps, symbols = map(int, coder)
    high = low + 2**32 - 1 >> 32 & 2**32 - 1
    again = (low + range_ >> 32 & 2**32 - 1) == high
    needed = 4 * (steps + 1 + again) if symbols else 0
    if size != needed:
        raise CorruptError(
            f"{where}: the entropy-coded stream has {size} bytes, its symbols need {needed}"
        )
