"""Latents of one segment <-> one range-coded stream.

One walk, `_walk`, visits the levels from the coarsest to the finest and in each the passes of
`formats/blocks.py`; encoder, decoder and estimate differ only in what they do with a pass, so
they cannot disagree about what comes when. All latents of a pass are coded by one call.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from formats import native
from formats.blocks import BlockGrid
from formats.context import MEAN_LIMIT, ContextNetwork, Scratch
from formats.errors import InputError
from formats.residuals import LatentDecoder, LatentEncoder, keys_of, latent_bits, scales_of
from formats.tables import LATENT_SCALES, MEAN_BITS, latent_support

__all__ = [
    "MAX_LATENT",
    "decode_by_passes",
    "decode_segment",
    "encode_segment",
    "level_bits",
    "lossy_levels",
]

Grid = npt.NDArray[np.int32]
Codes = npt.NDArray[np.intp]

MAX_LATENT = (MEAN_LIMIT >> MEAN_BITS) + latent_support(LATENT_SCALES - 1)
"""No latent can be larger: the largest mean and the longest reach."""
_REACH = np.array([0, *map(latent_support, range(1, LATENT_SCALES))], dtype=np.int32)


@dataclass
class _Coded:
    """What is coded of the positions of one pass.

    Attributes:
        nearest: (n,) the integer nearest to the mean; 0 outside the grid.
        places: (c,) positions that are coded; None if all are.
        keys: (c,) the table of each (formats/residuals.py).
        sign: (c,) -1 where the table is mirrored, else 1.
    """

    nearest: Codes
    places: npt.NDArray[np.intp] | None
    keys: Codes
    sign: Codes

    def of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Those of (n,) values that are coded."""
        return values if self.places is None else values[self.places]

    def place(self, residuals: npt.NDArray[np.int32]) -> Codes:
        """The values (n,) whose residuals at `places` are these, in the memory of `nearest`.

        To be called once.
        """
        if self.places is None:
            self.nearest += residuals * self.sign
        else:
            self.nearest[self.places] += residuals * self.sign
        return self.nearest


def _coded(mean: Codes, scale: Codes, inside: npt.NDArray[np.bool_] | None) -> _Coded:
    mean = mean + 16
    nearest = mean >> MEAN_BITS
    if inside is not None:
        nearest *= inside
        scale = scale * inside
    keys = keys_of(scale, mean)
    sign = (mean >> MEAN_BITS - 2 & 2) - 1  # the offset is -16..15
    if np.count_nonzero(scale) == len(scale):
        return _Coded(nearest, None, keys, sign)
    places = scale.nonzero()[0]
    return _Coded(nearest, places, keys[places], sign[places])


def _write(
    emit: Callable[[Codes, npt.NDArray[np.int32]], None], coded: _Coded, values: Codes
) -> Codes:
    """Hand the residuals of a pass to `emit`; return the values as a decoder will see them."""
    residuals = ((coded.of(values) - coded.of(coded.nearest)) * coded.sign).astype(np.int32)
    reach = _REACH[scales_of(coded.keys)]
    np.clip(residuals, -reach, reach, out=residuals)
    emit(coded.keys, residuals)
    return coded.place(residuals)


def _walk(
    network: ContextNetwork,
    shapes: Sequence[tuple[int, ...]],
    first: int,
    above: Grid | None,
    code: Callable[[_Coded, Codes], Codes],
    given: Sequence[Grid] | None = None,
    after_level: Callable[[], None] = lambda: None,
) -> list[Grid]:
    """Visit every pass in coding order; the latents are what `code` returns.

    Args:
        network, first, above: as for `encode_segment`.
        shapes: of the grids, finest first.
        code: gets what is coded of a pass and the values of `given` at its positions.
        given: None if there are none: the values then mean nothing.
        after_level: called after each.
    """
    scratch, found = Scratch(), list[Grid]()
    for number, (rows, columns) in reversed(list(enumerate(shapes))):
        known = BlockGrid((rows, columns), network.config.side(first + number), above)
        planes = None if given is None else known.split(given[number])
        for step in known.passes():
            mean, scale = network.predict(step, first + number, scratch)
            coded = _coded(mean, scale, step.inside)
            values = coded.nearest if planes is None else step.of(planes).reshape(-1)
            known.put(step, code(coded, values))
        above = known.grid()
        found.append(above)
        after_level()
    return found[::-1]


def _own(
    network: ContextNetwork,
    grids: Sequence[npt.NDArray[np.integer[Any]]],
    first: int,
    above: Grid | None,
) -> list[Grid]:
    """The grids, checked, in the range where no difference overflows."""
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
        count = f"{left}" if above is None else f"fewer than {left}, and the next coarser one,"
        raise InputError(
            f"latents: expected {count} grids from level {first} on, each half the size of the one "
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
        where the network says that nothing is coded (`lossy_levels` tells where that matters),
        and is clamped to the reach of its table.

    Raises:
        InputError: the grids' number or shapes do not fit.
    """
    own = _own(network, grids, first, above)
    coder = LatentEncoder()
    code = partial(_write, coder.encode)
    seen = _walk(network, [grid.shape for grid in own], first, above, code, own)
    return coder.done(), seen


def lossy_levels(
    network: ContextNetwork,
    grids: Sequence[npt.NDArray[np.integer[Any]]],
    first: int = 0,
    above: Grid | None = None,
) -> tuple[int, list[Grid]]:
    """Find out where skipping latents of scale index 0 would lose some.

    Args:
        network: one that codes no level in full.
        grids, first, above: as for `encode_segment`.

    Returns:
        Bit l: a latent of level l is not the prediction although the network is certain of it;
        and the grids as a decoder sees them if all those levels are coded in full.

    Raises:
        InputError: as `encode_segment`.
    """
    lossy = [False]

    def look(coded: _Coded, values: Codes) -> Codes:
        if coded.places is None:
            return _write(lambda *_: None, coded, values)
        skipped = np.ones(len(values), bool)
        skipped[coded.places] = False
        residuals = np.clip(values - coded.nearest, -_REACH[1], _REACH[1])
        lossy[-1] |= bool(residuals[skipped].any())
        kept = coded.nearest + residuals
        return np.where(skipped, kept, _write(lambda *_: None, coded, values))

    own = _own(network, grids, first, above)
    shapes = [grid.shape for grid in own]
    seen = _walk(network, shapes, first, above, look, own, lambda: lossy.append(False))
    levels = enumerate(lossy[-2::-1], first)  # the walk is from the coarsest to the finest
    return sum(found << level for level, found in levels), seen


def decode_segment(
    network: ContextNetwork,
    shapes: Sequence[tuple[int, int]],
    data: bytes,
    where: str,
    first: int = 0,
    above: Grid | None = None,
) -> list[Grid]:
    """Inverse of `encode_segment`, in machine code where it is there (`formats/native.py`).

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
    if type(network) is ContextNetwork and (instructions := native.native_on()):
        return native.decode_segment(network, shapes, data, where, first, above, instructions)
    return decode_by_passes(network, shapes, data, where, first, above)


def decode_by_passes(
    network: ContextNetwork,
    shapes: Sequence[tuple[int, int]],
    data: bytes,
    where: str,
    first: int = 0,
    above: Grid | None = None,
) -> list[Grid]:
    """`decode_segment` by numpy, the reference; the network may predict in another way."""
    coder = LatentDecoder(data, where)
    grids = _walk(
        network, shapes, first, above, lambda coded, _: coded.place(coder.decode(coded.keys))
    )
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

    def emit(keys: Codes, residuals: npt.NDArray[np.int32]) -> None:
        bits[-1] += latent_bits(keys, residuals)

    own = _own(network, grids, first, above)
    shapes = [grid.shape for grid in own]
    _walk(network, shapes, first, above, partial(_write, emit), own, lambda: bits.append(0.0))
    return bits[-2::-1]  # the walk is from the coarsest level to the finest
