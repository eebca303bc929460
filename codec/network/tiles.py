"""Cut a grid into tiles, so that the fused tensor of a large signal never exists as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from codec.network.grid import AxisGrid

__all__ = ["Tile", "tiles"]


@dataclass(frozen=True)
class Tile:
    """A contiguous part of a grid.

    Attributes:
        ranges: [start, stop) along every axis of the grid.
        grid: its coordinates.
    """

    ranges: tuple[slice, ...]
    grid: AxisGrid


def tiles(grid: AxisGrid, samples: int) -> Iterator[Tile]:
    """Cut a grid into tiles of about `samples` samples: whole rows, then whole frames.

    The cut depends only on the grid's shape and on `samples`, so two evaluations of the same
    grid do the same arithmetic in the same order: decoded crops and frames equal the same
    part of a full decode bit for bit.
    """
    row = grid.shape[-1]
    height = grid.shape[-2] if len(grid.shape) > 1 else 1
    frames = grid.shape[0] if len(grid.shape) > 2 else 1
    rows = max(1, min(height, samples // row))
    group = max(1, min(frames, samples // (row * height))) if rows == height else 1
    for t in range(0, frames, group):
        part = grid.select("t", slice(t, t + group)) if len(grid.shape) > 2 else grid
        for y in range(0, height, rows):
            if len(grid.shape) == 1:
                yield Tile((slice(0, row),), grid)
                continue
            ranges: tuple[slice, ...] = (slice(y, min(y + rows, height)), slice(0, row))
            if len(grid.shape) > 2:
                ranges = (slice(t, min(t + group, frames)), *ranges)
            yield Tile(ranges, part.select("y", ranges[-2]))
