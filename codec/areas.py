"""Where the latents of a segment's grids lie in the vector of all latents of a picture."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from formats.core import CoreConfig, Segment

__all__ = ["Area", "areas", "grids_of"]


def grids_of(flat: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """The vector of all latents as grids of these shapes, by number."""
    parts = torch.split(flat, [rows * columns for rows, columns in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


@dataclass(frozen=True)
class Area:
    """A segment's part of one grid.

    Attributes:
        start: number of the whole grid's first latent in the vector of all latents.
        whole: rows and columns of the whole grid.
        part: the segment's rows and columns.
    """

    start: int
    whole: tuple[int, int]
    part: tuple[slice, slice]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the part."""
        rows, columns = self.part
        return rows.stop - rows.start, columns.stop - columns.start

    def of(self, flat: Tensor) -> Tensor:
        """A view of the part in a vector of all latents."""
        height, width = self.whole
        return flat[self.start : self.start + height * width].view(height, width)[self.part]


def areas(config: CoreConfig, height: int, width: int) -> Iterator[tuple[int, Area, Area | None]]:
    """Every grid of every segment of a picture: its number, itself and the coarser one over it.

    Args:
        config: grids and tiles.
        height, width: pixels.
    """
    shapes = config.grid_shapes(height, width)
    starts = list(itertools.accumulate((h * w for h, w in shapes), initial=0))
    for segment in config.segments(height, width):

        def area(grid: int, segment: Segment = segment) -> Area:
            return Area(starts[grid], shapes[grid], segment.crop(grid))

        for grid in segment.grids:
            parent = config.parent(grid)
            yield grid, area(grid), None if parent is None else area(parent)
