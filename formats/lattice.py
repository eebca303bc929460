"""The order of the latents of a grid: interlaced passes, and what each position may see.

A grid is coded coarse to fine. The base pass takes the positions whose row and column are
multiples of 2^K. Then, for k = K-1 .. 0 and s = 2^k, three passes complete the lattice of the
multiples of s. It consists of quads

    ee eo       ee is known; the passes take d = oo, then h = eo, then v = oe,
    oe oo       each seeing what came before on all sides (formats/SPEC.md, section 9.2)

so most latents are predicted from neighbours all around them, and a pass is one matrix product:
no latent of a pass depends on another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BASE", "LIMIT", "PLACES", "WINDOWS", "Pass", "passes", "plane"]

Grid = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

LIMIT = 127
"""The context network sees latents clipped to -127..127."""
BASE = 3
"""Type of the base pass; 0, 1 and 2 are d, h and v."""
_BEFORE, _AFTER = 1, 2  # zeros around a plane

_EE, _EO, _OE, _OO = (0, 0), (0, 1), (1, 0), (1, 1)
PLACES = (_OO, _EO, _OE)
"""Position (row, column) within its quad, by type."""
WINDOWS = (
    ((_EE, -1, 0, 1, 2), (_EE, 0, -1, 2, 4), (_EE, 2, 0, 1, 2)),
    ((_EE, -1, 0, 3, 2), (_OO, -1, -1, 2, 3)),
    ((_EE, 0, -1, 2, 3), (_OO, -1, -1, 3, 2), (_EO, 0, -1, 2, 2)),
)
"""What each type sees: (place, first row, first column, rows, columns), offsets in quads, of the
plane of all positions with that place. Together, row by row, the windows list the context inputs
in the order of the weights' columns."""


@dataclass(frozen=True)
class Pass:
    """Positions of one grid that are coded together.

    Attributes:
        octave: k of the lattice that it completes; K for the base pass.
        kind: 0, 1, 2: d, h, v; 3 (BASE): base pass.
        rows, cols: the positions in the grid.
        shape: how many rows and columns of positions.
        windows: views of float32 planes, each (window rows, window columns, *shape): the context
            inputs from this grid, row-major within a view, one view after the other.
        parent: the window of the next coarser grid (3, 3, *shape), None at the coarsest.
    """

    octave: int
    kind: int
    rows: slice
    cols: slice
    shape: tuple[int, int]
    windows: tuple[Floats, ...]
    parent: Floats | None


def plane(values: Grid, rows: int | None = None, cols: int | None = None) -> Floats:
    """Values clipped to +-LIMIT, as exact float32, with zeros around them.

    Args:
        values: (h, w) latents.
        rows, cols: size without the border, at least (h, w); positions past `values` are 0.

    Returns:
        (rows + 3, cols + 3): one row and column of zeros before, two after.
    """
    height, width = values.shape
    border = _BEFORE + _AFTER
    padded: Floats = np.zeros((border + (rows or height), border + (cols or width)), np.float32)
    inside = padded[_BEFORE : _BEFORE + height, _BEFORE : _BEFORE + width]
    np.clip(values, -LIMIT, LIMIT, out=inside, casting="unsafe")
    return padded


def _view(
    source: Floats,
    first: tuple[int, int],
    window: tuple[int, int],
    shape: tuple[int, int],
    step: int = 1,
    tap: int = 1,
) -> Floats:
    """Windows of a plane as a view (*window, *shape); numpy checks that it stays inside.

    Position (a, b) at window offset (i, j) is `source` at border + first + step (a, b) +
    tap (i, j).
    """
    down, right = source.strides
    offset = (tap * _BEFORE + first[0]) * down + (tap * _BEFORE + first[1]) * right
    strides = (tap * down, tap * right, step * down, step * right)
    whole: Any = source
    return np.ndarray((*window, *shape), np.float32, whole, offset, strides)


def passes(grid: Grid, octaves: int, parent: Floats | None) -> Iterator[Pass]:
    """The passes of one grid in coding order; passes without positions are left out.

    Args:
        grid: (h, w) latents, filled by the caller: between two passes it must write the first
            one's positions, because the second one sees them.
        octaves: K.
        parent: `plane` of the next coarser grid, None at the coarsest.
    """
    height, width = grid.shape
    stride = 1 << octaves
    shape = (-(-height // stride), -(-width // stride))
    above = None
    if parent is not None:
        if octaves:
            above = _view(parent, (-1, -1), (3, 3), shape, stride // 2)
        else:  # position (i, j) has the parent (i // 2, j // 2): repeat the parent's samples
            twice = parent.repeat(2, 0).repeat(2, 1)
            above = _view(twice, (-2, -2), (3, 3), shape, 1, 2)
    every = slice(None, None, stride)
    yield Pass(octaves, BASE, every, every, shape, (), above)
    for octave in reversed(range(octaves)):
        yield from _octave(grid, octave, parent)


def _octave(grid: Grid, octave: int, parent: Floats | None) -> Iterator[Pass]:
    step = 1 << octave
    lattice = grid[::step, ::step]
    quads = (lattice.shape[0] + 1) // 2, (lattice.shape[1] + 1) // 2
    planes = {}
    for kind, (down, right) in enumerate(PLACES):
        shape = (lattice.shape[0] + 1 - down) // 2, (lattice.shape[1] + 1 - right) // 2
        known = PLACES[kind - 1] if kind else _EE  # filled since the last pass
        planes[known] = plane(lattice[known[0] :: 2, known[1] :: 2], *quads)
        if not shape[0] or not shape[1]:
            continue
        above = None
        if parent is not None:
            first = (step * down // 2 - 1, step * right // 2 - 1)
            above = _view(parent, first, (3, 3), shape, step)
        yield Pass(
            octave,
            kind,
            slice(step * down, None, 2 * step),
            slice(step * right, None, 2 * step),
            shape,
            tuple(
                _view(planes[source], (top, left), (rows, cols), shape)
                for source, top, left, rows, cols in WINDOWS[kind]
            ),
            above,
        )
