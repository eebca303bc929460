"""The order of the latents of a grid, and what each position may see.

A grid is coded row after row, a row starting when the one above is two columns ahead: pass t takes
the positions (v, u) with u + 2 v = t, and whatever came in an earlier pass may be seen. That is
what a serial decoder would see, and no latent of a pass depends on another: columns + 2 rows
passes.

For fewer ones a grid is cut into blocks of B x B from its top left corner, which are coded at the
same time, each in this order. Other blocks may be seen too: at the right and lower border of a
block that is even a little more than a serial decoder would see, at its left and upper border less.
So a grid of any size takes at most 3 B - 2 passes (formats/SPEC.md, section 9.2).

While a grid is coded it is held as planes, one for each position of a block, of that position's
values in all blocks: the neighbours of all positions of a pass are then contiguous runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "BEFORE",
    "BOXED",
    "BOXES",
    "FLAGS",
    "LIMIT",
    "WHOLE",
    "WINDOW",
    "BlockGrid",
    "Pass",
]

Grid = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

LIMIT = 127
"""The context network sees latents clipped to -127..127."""
WINDOW = (
    *((-2, x) for x in range(-2, 3)),
    *((-1, x) for x in range(-2, 3)),
    (0, -2),
    (0, -1),
    (0, 1),
    (1, -1),
    (1, 0),
    (1, 1),
)
"""Context inputs from the own grid, in the order of the weights' columns: row and column relative
to a latent. One that is not known yet, or outside the grid, is 0. Inside a block the first ones of
each row are known; (-1, 2) and those after (0, -1) only across the border of a block."""
BEFORE = tuple(n for n, (y, x) in enumerate(WINDOW) if x + 2 * y < 0)
"""Those that are known inside a block: all that a grid of one block has to see."""
WHOLE = 1 << 30
"""Side of a block that any grid fits into."""
BOXES = ((-2, 5), (0, 4))
"""Boxes of two rows that hold the window: first row, columns; both begin two columns to the left.
Two copies of many latents are faster than one for each run of neighbours."""
_INPUTS = [(y + row, x) for y, columns in BOXES for row in (0, 1) for x in range(-2, columns - 2)]
BOXED = tuple(_INPUTS.index(place) for place in WINDOW)
"""Where the window's inputs are among those of the boxes, which have two more."""
FLAGS = 5
"""Inputs that tell where in its block a latent is: 1, and whether it is in the left column, the
top row, the right column, the bottom row."""
_ABOVE, _BELOW, _LEFT, _RIGHT = 2, 1, 2, 2  # what the window reaches


def _view(source: Floats | Grid, offset: int, shape: tuple[int, ...], strides: Any) -> Any:
    """A strided view; numpy checks that it stays inside."""
    whole: Any = source
    return np.ndarray(shape, source.dtype, whole, offset, strides)


@dataclass
class Pass:
    """Positions of one grid that are coded together: some positions of a block, in all blocks.

    Attributes:
        time: t; row v of a block is at the column t - 2 v.
        first: smallest v.
        shape: (rows of the block, blocks): positions are in the order of rows, then of blocks.
        windows: views of float32 planes, each (2, columns, *shape): `BOXES`.
        parent: the window of the next coarser grid (3, 3, *shape), None at the coarsest.
        flags: (5, rows): `FLAGS`.
        inside: (n,) which positions lie in the grid, None if all do.
    """

    time: int
    first: int
    shape: tuple[int, int]
    windows: tuple[Floats, ...]
    parent: Floats | None
    flags: Floats
    inside: npt.NDArray[np.bool_] | None = None

    def of(self, planes: npt.NDArray[Any], border: tuple[int, int] = (0, 0)) -> npt.NDArray[Any]:
        """The values at these positions of planes (rows, columns, blocks), as a view.

        `border`: rows and columns of `planes` before the block's first ones.
        """
        down, right, blocks = planes.strides
        row, column = self.first + border[0], self.time - 2 * self.first + border[1]
        offset = row * down + column * right
        view: npt.NDArray[Any] = _view(planes, offset, self.shape, (down - 2 * right, blocks))
        return view


class BlockGrid:
    """One grid while its latents are coded.

    Args:
        shape: rows and columns.
        side: B, a power of two of at least 8.
        above: the next coarser grid, (ceil(rows / 2), ceil(columns / 2)); None at the coarsest.

    Attributes:
        planes: (rows of a block, columns of a block, blocks) int32: the latents; positions
            outside the grid stay zero.
    """

    def __init__(self, shape: tuple[int, int], side: int, above: Grid | None) -> None:
        self.shape, self.side = shape, side
        self._block = min(side, shape[0]), min(side, shape[1])
        self._blocks = -(-shape[0] // side), -(-shape[1] // side)
        count = self._blocks[0] * self._blocks[1]
        rows, columns = self._block
        self.planes: Grid = np.zeros((rows, columns, count), np.int32)
        # Clipped, with what the window reaches around every block.
        border = _ABOVE + _BELOW, _LEFT + _RIGHT
        self._known: Floats = np.zeros(
            (rows + border[0], columns + border[1], *self._blocks), np.float32
        )
        self._above = None if above is None else self._parents(above)
        self._flags: Floats = self._flags_of_block()
        self._inside: npt.NDArray[np.bool_] | None = None
        if any(len_ % size for len_, size in zip(shape, self._block, strict=True)):
            self._inside = self.split(np.ones(shape, np.bool_))

    def _flags_of_block(self) -> Floats:
        """(5, rows, columns); for a grid of one block, which tells of no borders, of one column."""
        rows, columns = self._block
        flags = np.zeros((FLAGS, rows, columns if self.side < WHOLE else 1), np.float32)
        flags[0] = 1
        if self.side < WHOLE:
            flags[1, :, 0] = flags[2, 0] = 1
            if columns == self.side:
                flags[3, :, -1] = 1
            if rows == self.side:
                flags[4, -1] = 1
        return flags

    def split(self, grid: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A grid as planes (rows, columns, blocks); positions outside are zero."""
        (rows, columns), (down, right) = self._block, self._blocks
        padded = np.zeros((down * rows, right * columns), grid.dtype)
        padded[: grid.shape[0], : grid.shape[1]] = grid
        cut = padded.reshape(down, rows, right, columns).transpose(1, 3, 0, 2)
        return np.ascontiguousarray(cut).reshape(rows, columns, -1)

    def grid(self) -> Grid:
        """The latents as (h, w) int32."""
        (rows, columns), (down, right) = self._block, self._blocks
        cut = self.planes.reshape(rows, columns, down, right).transpose(2, 0, 3, 1)
        whole = cut.reshape(down * rows, right * columns)
        return np.ascontiguousarray(whole[: self.shape[0], : self.shape[1]])

    def _parents(self, above: Grid) -> Floats:
        """Planes of the coarser grid, (rows + 4, columns / 2 + 2, blocks) with a border of one.

        Rows are there twice, so that row v and row v + 1 of a block are one row apart.
        """
        (rows, columns), (down, right), half = self._block, self._blocks, self.side // 2
        size = -(-rows // 2) + 2, -(-columns // 2) + 2
        padded = np.zeros(((down - 1) * half + size[0], (right - 1) * half + size[1]), np.float32)
        inside = padded[1 : 1 + above.shape[0], 1 : 1 + above.shape[1]]
        np.clip(
            above[: inside.shape[0], : inside.shape[1]], -LIMIT, LIMIT, out=inside, casting="unsafe"
        )
        by_row, by_column = padded.strides
        strides = (by_row, by_column, half * by_row, half * by_column)
        cut = _view(padded, 0, (*size, down, right), strides)
        return np.repeat(cut.reshape(*size, -1), 2, axis=0)

    def passes(self) -> Iterator[Pass]:
        """The passes in coding order; between two the caller must `put` the first one's values."""
        rows, columns = self._block
        for time in range(columns + 2 * rows - 2):
            first, last = max(0, (time - columns + 2) // 2), min(rows - 1, time // 2)
            if first <= last:
                yield self._pass(time, first, last)

    def _pass(self, time: int, first: int, last: int) -> Pass:
        shape = last + 1 - first, self.planes.shape[2]
        known = self._known.reshape(*self._known.shape[:2], -1)
        down, right, blocks = known.strides
        corner = (first + _ABOVE) * down + (time - 2 * first + _LEFT) * right
        of_box = (down, right, down - 2 * right, blocks)
        windows = tuple(
            _view(known, corner + y * down - 2 * right, (2, columns, *shape), of_box)
            for y, columns in BOXES
        )
        parent = None
        if self._above is not None:
            down, right, blocks = self._above.strides
            offset = first * down + (time // 2 - first) * right
            of_window = (2 * down, right, down - right, blocks)
            parent = _view(self._above, offset, (3, 3, *shape), of_window)
        plane, down, right = self._flags.strides
        if self.side == WHOLE:
            right = 0
        offset = first * down + (time - 2 * first) * right
        flags = _view(self._flags, offset, (FLAGS, shape[0]), (plane, down - 2 * right))
        step = Pass(time, first, shape, windows, parent, flags)
        if self._inside is not None:
            step.inside = step.of(self._inside).reshape(-1)
        return step

    def put(self, step: Pass, values: npt.NDArray[np.integer[Any]]) -> None:
        """Make the values (n,) of a pass known; those outside the grid must be zero."""
        values = values.reshape(step.shape)
        step.of(self.planes)[...] = values
        rows, columns = self._block
        known = self._known[_ABOVE:, _LEFT:]
        flat = self._known.reshape(*self._known.shape[:2], -1)
        seen = step.of(flat, (_ABOVE, _LEFT))
        np.minimum(np.maximum(values, -LIMIT), LIMIT, out=seen, casting="unsafe")
        # Neighbouring blocks see the first two columns of the block to the right and the first
        # row of the blocks below. What is to the left or above comes too late for them.
        u = step.time % 2
        v = (step.time - u) // 2
        if self._blocks[1] > 1 and v < rows:
            known[v, columns + u, :, :-1] = known[v, u, :, 1:]
        u = step.time
        if self._blocks[0] > 1 and u < columns:
            known[rows, u, :-1] = known[0, u, 1:]
            if u == 0:
                known[rows, columns, :-1, :-1] = known[0, 0, 1:, 1:]
            if u == columns - 1:
                self._known[_ABOVE + rows, _LEFT - 1, :-1, 1:] = known[0, u, 1:, :-1]
