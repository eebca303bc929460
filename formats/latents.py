"""Latents of one segment <-> one range-coded stream.

One walk, `_walk`, visits the levels from the coarsest to level 0 and in each the passes of
`formats/lattice.py`; encoder, decoder and estimate differ only in what they do with a pass, so
they cannot disagree about what comes when. Within a pass the positions are grouped by table,
so that the range coder is called once a group and not once a symbol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from formats.context import ContextNetwork, Scratch
from formats.entropy import LatentDecoder, LatentEncoder, latent_bits
from formats.errors import InputError
from formats.lattice import passes, plane
from formats.tables import LATENT_SCALES, LATENT_TABLES, OFFSETS, latent_support

__all__ = ["MAX_LATENT", "decode_segment", "encode_segment", "level_bits", "segment_bits"]

Grid = npt.NDArray[np.int32]
Codes = npt.NDArray[np.int32]

MAX_LATENT = 2047 + latent_support(LATENT_SCALES - 1)
"""No latent can be larger: the largest mean and the longest reach."""
_REACH = np.array([0, *map(latent_support, range(1, LATENT_SCALES))], dtype=np.int32)


@dataclass(frozen=True)
class _Groups:
    """The positions of one pass, grouped by table.

    Attributes:
        nearest: (n,) int32, the integer nearest to the mean; raster order.
        order: (c,) positions that are coded, by ascending key, raster order within a key.
        flip: (c,) True where the table is mirrored.
        reach: (c,) T of each one's table.
        tables: (key, first, end) of each group in `order`.
    """

    nearest: Codes
    order: npt.NDArray[np.intp]
    flip: npt.NDArray[np.bool_]
    reach: Codes
    tables: list[tuple[int, int, int]]


def _group(mean: npt.NDArray[np.int16], scale: npt.NDArray[np.uint8]) -> _Groups:
    nearest = (mean + 4) >> 3
    offset = mean - (nearest << 3)
    key = scale.astype(np.uint16) * np.uint16(OFFSETS) + np.abs(offset).astype(np.uint16)
    coded = np.flatnonzero(scale)
    if len(coded) == len(key):
        order = np.argsort(key, kind="stable")  # two bytes: a radix sort
    else:
        order = coded[np.argsort(key[coded], kind="stable")]
    counts = np.bincount(key, minlength=LATENT_TABLES)
    counts[:OFFSETS] = 0
    keys = np.flatnonzero(counts)
    ends = np.cumsum(counts[keys])
    return _Groups(
        nearest.astype(np.int32),
        order,
        (offset < 0)[order],
        np.repeat(_REACH[keys // OFFSETS], counts[keys]),
        list(zip(keys.tolist(), (ends - counts[keys]).tolist(), ends.tolist(), strict=True)),
    )


class _Encoder:
    """Codes the grids' values; values out of reach become the nearest within it."""

    def __init__(self) -> None:
        self.coder = LatentEncoder()

    def __call__(self, groups: _Groups, values: Codes) -> Codes:
        wanted = (values - groups.nearest)[groups.order]
        residual = np.clip(wanted, -groups.reach, groups.reach)
        indices = np.where(groups.flip, -residual, residual) + groups.reach
        self.code([(key, indices[first:end]) for key, first, end in groups.tables])
        result = groups.nearest.copy()
        result[groups.order] += residual
        return result

    def code(self, groups: list[tuple[int, Codes]]) -> None:
        self.coder.encode(groups)


class _Meter(_Encoder):
    """Counts the bits instead of writing them."""

    def __init__(self) -> None:
        self.bits = 0.0

    def code(self, groups: list[tuple[int, Codes]]) -> None:
        self.bits += sum(float(latent_bits(key)[indices].sum()) for key, indices in groups)


class _Decoder:
    """Reads the values; those it is given are not used."""

    def __init__(self, data: bytes, where: str) -> None:
        self.coder = LatentDecoder(data, where)

    def __call__(self, groups: _Groups, values: Codes) -> Codes:
        result = groups.nearest.copy()
        if groups.tables:
            parts = self.coder.decode([(key, end - first) for key, first, end in groups.tables])
            residual = np.concatenate(parts) - groups.reach
            result[groups.order] += np.where(groups.flip, -residual, residual)
        return result


def _walk(
    network: ContextNetwork,
    grids: Sequence[Grid],
    code: Callable[[_Groups, Codes], Codes],
    after_level: Callable[[int], Any] = lambda level: None,
) -> None:
    """Visit every pass in coding order and put what `code` returns into the grids."""
    scratch, parent = Scratch(), None
    for level in reversed(range(len(grids))):
        grid = grids[level]
        for step in passes(grid, network.config.octaves, parent):
            mean, scale = network.predict(step, level, scratch)
            values = grid[step.rows, step.cols]
            coded = code(_group(mean, scale), values.reshape(-1))
            values[...] = coded.reshape(values.shape)
        parent = plane(grid)
        after_level(level)


def _own(network: ContextNetwork, grids: Sequence[npt.NDArray[np.integer[Any]]]) -> list[Grid]:
    """Copies that may be changed, in the range where no difference overflows."""
    shapes = [grid.shape for grid in grids]
    if (
        len(grids) != network.config.levels
        or any(len(shape) != 2 for shape in shapes)
        or shapes != network.config.level_shapes(*shapes[0])
    ):
        raise InputError(
            f"latents: expected {network.config.levels} grids, each half the size of the one "
            f"before, got shapes {shapes}"
        )
    return [np.clip(grid, -MAX_LATENT, MAX_LATENT).astype(np.int32) for grid in grids]


def encode_segment(
    network: ContextNetwork, grids: Sequence[npt.NDArray[np.integer[Any]]]
) -> tuple[bytes, list[Grid]]:
    """Code the latents of one segment.

    Args:
        network: the unit's context network.
        grids: integer grids of the shapes `CoreConfig.level_shapes`, level 0 first. They are
            not changed.

    Returns:
        The stream, and the grids as the decoder will see them: a latent becomes its prediction
        where the network says that nothing is coded, and is clamped to the reach of its table.

    Raises:
        InputError: the grids' number or shapes do not fit.
    """
    own = _own(network, grids)
    encoder = _Encoder()
    _walk(network, own, encoder)
    return encoder.coder.done(), own


def decode_segment(
    network: ContextNetwork, shapes: Sequence[tuple[int, int]], data: bytes, where: str
) -> list[Grid]:
    """Inverse of `encode_segment`.

    Args:
        network: the unit's context network.
        shapes: `CoreConfig.level_shapes` of the segment, limits already checked.
        data: the segment's stream.
        where: for error messages.

    Returns:
        The grids, (h, w) int32 each, level 0 first.

    Raises:
        CorruptError: the stream is not one that an encoder writes for these grids.
    """
    grids = [np.zeros(shape, np.int32) for shape in shapes]
    decoder = _Decoder(data, where)
    _walk(network, grids, decoder)
    decoder.coder.finish()
    return grids


def level_bits(
    network: ContextNetwork, grids: Sequence[npt.NDArray[np.integer[Any]]]
) -> list[float]:
    """Bits that the tables spend on the latents of each level, level 0 first.

    Raises:
        InputError: as `encode_segment`.
    """
    meter, bits = _Meter(), [0.0] * len(grids)

    def after(level: int) -> None:
        bits[level], meter.bits = meter.bits, 0.0

    _walk(network, _own(network, grids), meter, after)
    return bits


def segment_bits(network: ContextNetwork, grids: Sequence[npt.NDArray[np.integer[Any]]]) -> float:
    """Bits that the tables spend on a segment: what `encode_segment` takes, but for a few words.

    Raises:
        InputError: as `encode_segment`.
    """
    return sum(level_bits(network, grids))
