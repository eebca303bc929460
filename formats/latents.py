"""Latents of one segment <-> one range-coded stream.

One walk, `_walk`, visits the grids from the last to the first, so that each comes after the coarser
one it depends on, and in each the passes of `formats/blocks.py`; encoder, decoder and estimate
differ only in what they do with a pass, so they cannot disagree about what comes when. All latents
of a pass are coded by one call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    "grid_bits",
    "lossy_grids",
]

Grid = npt.NDArray[np.int32]
Grids = Mapping[int, npt.NDArray[np.integer[Any]]]
NOTHING: Mapping[int, Grid] = {}
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
    shapes: Mapping[int, tuple[int, int]],
    known: Mapping[int, Grid],
    code: Callable[[int, _Coded, Codes], Codes],
    given: Mapping[int, Grid] | None = None,
) -> dict[int, Grid]:
    """Visit every pass in coding order; the latents are what `code` returns.

    Args:
        network, known: as for `encode_segment`.
        shapes: of the grids, by number.
        code: gets the grid's number, what is coded of a pass and the values of `given` at its
            positions.
        given: None if there are none: the values then mean nothing.
    """
    scratch, found = Scratch(), dict(known)
    for number in sorted(shapes, reverse=True):
        parent = network.config.parent(number)
        above = None if parent is None else found[parent]
        grid = BlockGrid(shapes[number], network.config.side(number), above)
        planes = None if given is None else grid.split(given[number])
        for step in grid.passes():
            mean, scale = network.predict(step, number, scratch)
            coded = _coded(mean, scale, step.inside)
            values = coded.nearest if planes is None else step.of(planes).reshape(-1)
            grid.put(step, code(number, coded, values))
        found[number] = grid.grid()
    return {number: found[number] for number in sorted(shapes)}


def _own(network: ContextNetwork, grids: Grids, known: Mapping[int, Grid]) -> dict[int, Grid]:
    """The grids, checked, in the range where no difference overflows."""
    config = network.config
    shapes = {number: grid.shape for number, grid in (*grids.items(), *known.items())}
    if not grids or any(number not in range(config.grids) for number in shapes):
        raise InputError(f"latents: expected some of {config.grids} grids, got {sorted(shapes)}")
    for number in grids:
        shape, parent = shapes[number], config.parent(number)
        if len(shape) != 2 or 0 in shape:
            raise InputError(f"latents: expected a grid, got the shape {shape}")
        half = -(-shape[0] // 2), -(-shape[1] // 2)
        if parent is not None and shapes.get(parent) != half:
            raise InputError(
                f"latents: grid {number}, {shape}, needs grid {parent}, half the size, "
                f"got {shapes.get(parent)}"
            )
    return {n: np.clip(g, -MAX_LATENT, MAX_LATENT).astype(np.int32) for n, g in grids.items()}


def _shapes_of(grids: Mapping[int, Grid]) -> dict[int, tuple[int, int]]:
    return {number: (grid.shape[0], grid.shape[1]) for number, grid in grids.items()}


def encode_segment(
    network: ContextNetwork, grids: Grids, known: Mapping[int, Grid] = NOTHING
) -> tuple[bytes, dict[int, Grid]]:
    """Code the latents of one segment.

    Args:
        network: the unit's context network.
        grids: integer grids, by number. They are not changed.
        known: those from elsewhere that are the parents of some (`CoreConfig.parent`): the parts
            that lie over the segment, as the decoder has them.

    Returns:
        The stream, and the grids as the decoder will see them: a latent becomes its prediction
        where the network says that nothing is coded (`lossy_grids` tells where that matters),
        and is clamped to the reach of its table.

    Raises:
        InputError: grids are missing, or their shapes do not fit.
    """
    own = _own(network, grids, known)
    coder = LatentEncoder()
    seen = _walk(network, _shapes_of(own), known, lambda _, *a: _write(coder.encode, *a), own)
    return coder.done(), seen


def lossy_grids(
    network: ContextNetwork, grids: Grids, known: Mapping[int, Grid] = NOTHING
) -> tuple[int, dict[int, Grid]]:
    """Find out where skipping latents of scale index 0 would lose some.

    Args:
        network: one that codes no grid in full.
        grids, known: as for `encode_segment`.

    Returns:
        Bit n: a latent of grid n is not the prediction although the network is certain of it;
        and the grids as a decoder sees them if all those grids are coded in full.

    Raises:
        InputError: as `encode_segment`.
    """
    lossy = set[int]()

    def look(number: int, coded: _Coded, values: Codes) -> Codes:
        if coded.places is None:
            return _write(lambda *_: None, coded, values)
        skipped = np.ones(len(values), bool)
        skipped[coded.places] = False
        residuals = np.clip(values - coded.nearest, -_REACH[1], _REACH[1])
        if residuals[skipped].any():
            lossy.add(number)
        kept = coded.nearest + residuals
        return np.where(skipped, kept, _write(lambda *_: None, coded, values))

    own = _own(network, grids, known)
    seen = _walk(network, _shapes_of(own), known, look, own)
    return sum(1 << number for number in lossy), seen


def decode_segment(
    network: ContextNetwork,
    shapes: Mapping[int, tuple[int, int]],
    data: bytes,
    where: str,
    known: Mapping[int, Grid] = NOTHING,
) -> dict[int, Grid]:
    """Inverse of `encode_segment`, in machine code where it is there (`formats/native.py`).

    Args:
        network: the unit's context network.
        shapes: of the segment's grids, by number, limits already checked.
        data: the segment's stream.
        where: for error messages.
        known: as for `encode_segment`.

    Returns:
        The grids, (h, w) int32 each, by number.

    Raises:
        CorruptError: the stream is not one that an encoder writes for these grids.
    """
    if type(network) is ContextNetwork and (instructions := native.native_on()):
        return native.decode_segment(network, shapes, data, where, known, instructions)
    return decode_by_passes(network, shapes, data, where, known)


def decode_by_passes(
    network: ContextNetwork,
    shapes: Mapping[int, tuple[int, int]],
    data: bytes,
    where: str,
    known: Mapping[int, Grid] = NOTHING,
) -> dict[int, Grid]:
    """`decode_segment` by numpy, the reference; the network may predict in another way."""
    coder = LatentDecoder(data, where)
    grids = _walk(
        network, shapes, known, lambda _, coded, __: coded.place(coder.decode(coded.keys))
    )
    coder.finish()
    return grids


def grid_bits(
    network: ContextNetwork, grids: Grids, known: Mapping[int, Grid] = NOTHING
) -> dict[int, float]:
    """Bits that the tables spend on the latents of each grid, by number.

    Args:
        network, grids, known: as for `encode_segment`.

    Together they are what `encode_segment` takes, but for a few words.

    Raises:
        InputError: as `encode_segment`.
    """
    bits = dict.fromkeys(grids, 0.0)

    def price(number: int, coded: _Coded, values: Codes) -> Codes:
        def emit(keys: Codes, residuals: npt.NDArray[np.int32]) -> None:
            bits[number] += latent_bits(keys, residuals)

        return _write(emit, coded, values)

    own = _own(network, grids, known)
    _walk(network, _shapes_of(own), known, price, own)
    return bits
