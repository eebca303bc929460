"""Latents of one segment <-> one range-coded stream.

One walk, `_walk`, visits the levels from the coarsest to the finest and in each the passes of
`formats/lattice.py`; encoder, decoder and estimate differ only in what they do with a pass, so
they cannot disagree about what comes when. Within a pass the positions are grouped by table,
so that the range coder is called once a group and not once a symbol.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from formats.context import MEAN_LIMIT, ContextNetwork, Scratch
from formats.entropy import LatentDecoder, LatentEncoder, latent_bits
from formats.errors import InputError
from formats.lattice import passes, plane
from formats.tables import (
    LATENT_SCALES,
    LATENT_TABLES,
    MEAN_BITS,
    OFFSETS,
    coarseness,
    latent_support,
)

__all__ = ["MAX_LATENT", "decode_segment", "encode_segment", "level_bits"]

Grid = npt.NDArray[np.int32]
Codes = npt.NDArray[np.int32]

MAX_LATENT = (MEAN_LIMIT >> MEAN_BITS) + latent_support(LATENT_SCALES - 1)
"""No latent can be larger: the largest mean and the longest reach."""
_COARSENESS = np.array([coarseness(scale) for scale in range(LATENT_SCALES)], np.int16)
_HALF = (1 << _COARSENESS) >> 1
_REACH = np.array([0, *map(latent_support, range(1, LATENT_SCALES))], dtype=np.int32)


@dataclass(frozen=True)
class _Groups:
    """The positions of one pass, grouped by table.

    Attributes:
        nearest: (n,) int32, the integer nearest to the mean; raster order.
        order: (c,) positions that are coded, by ascending key, raster order within a key.
        sign: (c,) int32, -1 where the table is mirrored, else 1.
        reach: (c,) int32, T of each one's table.
        tables: (key, first, end) of each group in `order`.
    """

    nearest: Codes
    order: npt.NDArray[np.intp]
    sign: Codes
    reach: Codes
    tables: list[tuple[int, int, int]]

    def place(self, residuals: Codes) -> Codes:
        """The values (n,) whose residuals, in `order`, are these."""
        spread = np.zeros_like(self.nearest)
        spread[self.order] = residuals
        spread += self.nearest
        return spread


def _group(mean: npt.NDArray[np.int16], scale: npt.NDArray[np.uint8]) -> _Groups:
    nearest = (mean + 16) >> 5
    offset = mean - (nearest << 5)  # -16..15
    shift, half = _COARSENESS[scale], _HALF[scale]
    known = (np.abs(offset) + half) >> shift << shift
    key = (scale * np.int16(OFFSETS) + known).astype(np.uint16)
    if scale.all():
        order = np.argsort(key, kind="stable")  # keys of two bytes: a radix sort
    else:
        coded = np.flatnonzero(scale)
        order = coded[np.argsort(key[coded], kind="stable")]
    counts = np.bincount(key, minlength=LATENT_TABLES)
    counts[:OFFSETS] = 0
    keys = np.flatnonzero(counts)
    counts = counts[keys]
    ends = np.cumsum(counts)
    return _Groups(
        nearest.astype(np.int32),
        order,
        (offset >> 15 | 1)[order].astype(np.int32),
        np.repeat(_REACH[keys // OFFSETS], counts),
        list(zip(keys.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True)),
    )


def _write(
    emit: Callable[[list[tuple[int, Codes]]], None], groups: _Groups, values: Codes
) -> Codes:
    """Hand the residuals of a pass to `emit`; return the values as a decoder will see them."""
    residuals = (values - groups.nearest)[groups.order]
    np.clip(residuals, -groups.reach, groups.reach, out=residuals)
    indices = residuals * groups.sign + groups.reach
    emit([(key, indices[first:end]) for key, first, end in groups.tables])
    return groups.place(residuals)


def _read(coder: LatentDecoder, groups: _Groups, values: Codes) -> Codes:
    """Read the residuals of a pass; what `values` holds is not used."""
    if not groups.tables:
        return groups.nearest
    residuals = np.concatenate(
        coder.decode([(key, end - first) for key, first, end in groups.tables])
    )
    residuals -= groups.reach
    residuals *= groups.sign
    return groups.place(residuals)


def _walk(
    network: ContextNetwork,
    grids: Sequence[Grid],
    first: int,
    above: Grid | None,
    code: Callable[[_Groups, Codes], Codes],
    after_level: Callable[[], None] = lambda: None,
) -> None:
    """Visit every pass in coding order and put what `code` returns into the grids."""
    scratch = Scratch()
    parent = None if above is None else plane(above)
    for number in reversed(range(len(grids))):
        grid = grids[number]
        for step in passes(grid, network.config.octaves, parent):
            mean, scale = network.predict(step, first + number, scratch)
            values = grid[step.rows, step.cols]
            coded = code(_group(mean, scale), values.reshape(-1))
            values[...] = coded.reshape(values.shape)
        parent = plane(grid)
        after_level()


def _own(
    network: ContextNetwork,
    grids: Sequence[npt.NDArray[np.integer[Any]]],
    first: int,
    above: Grid | None,
) -> list[Grid]:
    """Copies that may be changed, in the range where no difference overflows."""
    shapes = [grid.shape for grid in (*grids, *([] if above is None else [above]))]
    left = network.config.levels - first
    if (
        not grids
        or (len(grids) >= left if above is not None else len(grids) != left)
        or any(len(shape) != 2 or 0 in shape for shape in shapes)
        or any(
            coarse != (-(-fine[0] // 2), -(-fine[1] // 2))
            for fine, coarse in itertools.pairwise(shapes)
        )
    ):
        raise InputError(
            f"latents: expected {left} grids from level {first} on, each half the size of the one "
            f"before, got shapes {shapes}"
        )
    return [np.clip(grid, -MAX_LATENT, MAX_LATENT).astype(np.int32) for grid in grids]


def encode_segment(
    network: ContextNetwork,
    grids: Sequence[npt.NDArray[np.integer[Any]]],
    first: int = 0,
    above: Grid | None = None,
) -> tuple[bytes, list[Grid]]:
    """Code the latents of one segment.

    Args:
        network: the unit's context network.
        grids: integer grids, each half the size of the one before. They are not changed.
        first: level of the first one.
        above: the part of the grid of the next coarser level that lies over the segment, as the
            decoder has it; None if there is no coarser level.

    Returns:
        The stream, and the grids as the decoder will see them: a latent becomes its prediction
        where the network says that nothing is coded, and is clamped to the reach of its table.

    Raises:
        InputError: the grids' number or shapes do not fit.
    """
    own = _own(network, grids, first, above)
    coder = LatentEncoder()
    _walk(network, own, first, above, partial(_write, coder.encode))
    return coder.done(), own


def decode_segment(
    network: ContextNetwork,
    shapes: Sequence[tuple[int, int]],
    data: bytes,
    where: str,
    first: int = 0,
    above: Grid | None = None,
) -> list[Grid]:
    """Inverse of `encode_segment`.

    Args:
        network: the unit's context network.
        shapes: of the segment's grids, limits already checked.
        data: the segment's stream.
        where: for error messages.
        first, above: as for `encode_segment`.

    Returns:
        The grids, (h, w) int32 each, finest first.

    Raises:
        CorruptError: the stream is not one that an encoder writes for these grids.
    """
    grids = [np.zeros(shape, np.int32) for shape in shapes]
    coder = LatentDecoder(data, where)
    _walk(network, grids, first, above, partial(_read, coder))
    coder.finish()
    return grids


def level_bits(
    network: ContextNetwork,
    grids: Sequence[npt.NDArray[np.integer[Any]]],
    first: int = 0,
    above: Grid | None = None,
) -> list[float]:
    """Bits that the tables spend on the latents of each level, finest first.

    Args:
        network, grids, first, above: as for `encode_segment`.

    Together they are what `encode_segment` takes, but for a few words.

    Raises:
        InputError: as `encode_segment`.
    """
    bits = [0.0]

    def emit(groups: list[tuple[int, Codes]]) -> None:
        bits[-1] += sum(float(latent_bits(key)[indices].sum()) for key, indices in groups)

    own = _own(network, grids, first, above)
    _walk(network, own, first, above, partial(_write, emit), lambda: bits.append(0.0))
    return bits[-2::-1]  # the walk is from the coarsest level to the finest
