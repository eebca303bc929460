"""Where the inputs of the context network come from, in portions that fit a cache.

The finest octave of a large grid is three quarters of its positions and regular: its inputs are
strided views of the grid (`SliceJob`). Everything else - coarser octaves, small grids - is many
tiny pieces, on which every operation would cost more than its arithmetic; they are put together
and addressed by index (`GatherJob`). The few positions of the coarsest lattices have no context
in their own grid (`BaseJob`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from formats.core import CoreConfig
from formats.lattice import PLACES, WINDOWS

__all__ = ["TYPES", "WINDOW", "BaseJob", "GatherJob", "Job", "SliceJob", "plan"]

TYPES = [
    [
        (place, i, j)
        for place, top, left, rows, columns in windows
        for i in range(top, top + rows)
        for j in range(left, left + columns)
    ]
    for windows in WINDOWS
]
"""Inputs of the types d, h, v in the order of the weights' columns: the place of a position in its
quad, and the quad's row and column relative to the one that is predicted."""


def _boxes() -> dict[tuple[int, int], tuple[range, range]]:
    """Rows and columns of quads that the types together see, by place."""
    found = {}
    for wanted in dict.fromkeys(place for inputs in TYPES for place, _, _ in inputs):
        rows = [i for inputs in TYPES for place, i, _ in inputs if place == wanted]
        columns = [j for inputs in TYPES for place, _, j in inputs if place == wanted]
        found[wanted] = range(min(rows), max(rows) + 1), range(min(columns), max(columns) + 1)
    return found


BOXES = _boxes()
WINDOW = [(place, i, j) for place, (rows, columns) in BOXES.items() for i in rows for j in columns]
"""Inputs of a quad: whole rectangles, which can be copied at once."""
USED = [n for n, row in enumerate(WINDOW) if any(row in inputs for inputs in TYPES)]
"""Rows of the window that some type sees."""

CHUNK = 4096
"""Quads of a job on a CPU: 3 * 16 activations of each are 768 KiB, the size of a cache."""
GPU_CHUNK = 2**20


@dataclass
class BaseJob:
    """Positions of the coarsest lattice of every level.

    Attributes:
        targets: (n,) their numbers in the vector of all latents.
        parents: (9, n) numbers of their windows in the coarser grids.
        levels: (levels, n) 1 at each position's level.
    """

    targets: Tensor
    parents: Tensor
    levels: Tensor

    @property
    def size(self) -> int:
        """Latents."""
        return self.targets.numel()


class GatherJob:
    """Quads addressed by index.

    Args:
        inputs: (rows of the window, n) numbers in the vector of all latents, which has one
            more element for what lies outside.
        targets: (3, n).
        parents: (3, 9, n).
        octaves: (octaves, n) 1 at each quad's octave.
        levels: (levels, n) 1 at each quad's level.
        mask: (3, n) 0 where the target lies outside its grid.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        parents: Tensor | None,
        octaves: Tensor,
        levels: Tensor,
        mask: Tensor,
    ) -> None:
        self._inputs, self._targets, self._parents = inputs, targets, parents
        self.size = targets.numel()
        self._octaves, self.levels = octaves, levels
        self.mask: Tensor | None = mask
        # A tensor: a list would be copied to a GPU at every use.
        self._rows = torch.tensor(USED, device=inputs.device)
        self._used = inputs[self._rows].flatten()

    def load(self, planes: Sequence[Tensor], octaves: int) -> Tensor:
        """Inputs of the first layer: (rows, n)."""
        return torch.cat([*(plane[self._inputs] for plane in planes), self._octaves])

    def parents(self, known: Tensor) -> list[Tensor]:
        """Windows (9, n) of the coarser grids, one a type."""
        return [] if self._parents is None else list(known[self._parents].unbind(0))

    def targets(self, latents: Tensor) -> Tensor:
        """The latents to predict: (3, n), something harmless where the mask is 0."""
        return latents[self._targets.clamp(max=latents.numel() - 1)]

    def store(self, grads: Sequence[Tensor], back: Tensor) -> None:
        """Add gradients of the inputs to those of the latents."""
        for grad, part in zip(grads, torch.split(back, len(WINDOW)), strict=True):
            grad.index_add_(0, self._used, part[self._rows].flatten())

    def store_targets(self, grad: Tensor, back: Tensor) -> None:
        """Add gradients of the targets."""
        grad.index_add_(0, self._targets.flatten(), back.flatten())

    def store_parents(self, grad: Tensor, kind: int, back: Tensor) -> None:
        """Add gradients of the windows of one type."""
        assert self._parents is not None
        grad.index_add_(0, self._parents[kind].flatten(), back.flatten())


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


class SliceJob:
    """Some rows of quads of the finest octave of one large area of even size.

    Args:
        own: the area.
        parent: the one of the coarser grid over it, if there is one.
        part: rows of quads.
        level: of the grid.
    """

    def __init__(self, own: Area, parent: Area | None, part: range, level: int) -> None:
        self._area, self._above, self._part = own, parent, part
        self._shape = own.shape
        self.size = 3 * len(part) * (own.shape[1] // 2)
        self.levels = level
        self.mask: Tensor | None = None

    def _plane(self, flat: Tensor) -> Tensor:
        """The rows that the windows reach, with zeros around: two before, four after."""
        height = self._shape[0]
        top, bottom = 2 * self._part.start - 2, 2 * self._part.stop + 4
        rows = self._area.of(flat)[max(0, top) : min(height, bottom)]
        return F.pad(rows, (2, 4, max(0, -top), max(0, bottom - height)))

    def load(self, planes: Sequence[Tensor], octaves: int) -> Tensor:
        """Inputs of the first layer: (rows, n)."""
        rows, columns = len(self._part), self._shape[1] // 2
        size = len(WINDOW)
        inputs = planes[0].new_zeros(len(planes) * size + octaves, rows * columns)
        inputs[len(planes) * size] = 1  # the finest octave
        for number, flat in enumerate(planes):
            plane = self._plane(flat)
            stride = plane.stride(0)
            first = number * size
            for (a, b), (down, right) in BOXES.items():
                view = plane.as_strided(
                    (len(down), len(right), rows, columns),
                    (2 * stride, 2, 2 * stride, 2),
                    (2 * (down.start + 1) + a) * stride + 2 * (right.start + 1) + b,
                )
                last = first + len(down) * len(right)
                inputs[first:last].view(view.shape).copy_(view)
                first = last
        return inputs

    def parents(self, known: Tensor) -> list[Tensor]:
        """The one window (9, n) that the positions of a quad share."""
        if self._above is None:
            return []
        plane = self._parent_plane(known)
        rows, columns = len(self._part), self._shape[1] // 2
        stride = plane.stride(0)
        view = plane.as_strided((3, 3, rows, columns), (stride, 1, stride, 1))
        return [view.reshape(9, -1)]

    def _parent_plane(self, flat: Tensor) -> Tensor:
        assert self._above is not None
        grid = self._above.of(flat)
        top, bottom = self._part.start - 1, self._part.stop + 1
        rows = grid[max(0, top) : min(grid.shape[0], bottom)]
        return F.pad(rows, (1, 1, max(0, -top), max(0, bottom - grid.shape[0])))

    def _own(self, flat: Tensor) -> Tensor:
        """This job's rows of the area as quads: (rows, 2, columns, 2), a view."""
        rows = self._area.of(flat)[2 * self._part.start : 2 * self._part.stop]
        return rows.view(-1, 2, self._shape[1] // 2, 2)

    def targets(self, latents: Tensor) -> Tensor:
        """The latents to predict: (3, n)."""
        quads = self._own(latents)
        return torch.stack([quads[:, a, :, b].reshape(-1) for a, b in PLACES])

    def store(self, grads: Sequence[Tensor], back: Tensor) -> None:
        """Add gradients of the inputs to those of the latents."""
        height, width = self._shape
        rows, columns = len(self._part), width // 2
        top, bottom = 2 * self._part.start - 2, 2 * self._part.stop + 4
        for grad, part in zip(grads, torch.split(back, len(WINDOW)), strict=True):
            plane = part.new_zeros(bottom - top, width + 6)
            stride = plane.stride(0)
            for row in USED:
                (a, b), i, j = WINDOW[row]
                plane.as_strided(
                    (rows, columns), (2 * stride, 2), (2 * (i + 1) + a) * stride + 2 * (j + 1) + b
                ).add_(part[row].view(rows, columns))
            low, high = max(0, top), min(height, bottom)
            self._area.of(grad)[low:high] += plane[low - top : high - top, 2 : 2 + width]

    def store_targets(self, grad: Tensor, back: Tensor) -> None:
        """Add gradients of the targets."""
        quads = self._own(grad)
        for kind, (a, b) in enumerate(PLACES):
            quads[:, a, :, b] += back[kind].view(quads.shape[0], -1)

    def store_parents(self, grad: Tensor, kind: int, back: Tensor) -> None:
        """Add gradients of the window."""
        assert self._above is not None
        grid = self._above.of(grad)
        height, width = grid.shape
        rows, columns = len(self._part), self._shape[1] // 2
        top, bottom = self._part.start - 1, self._part.stop + 1
        plane = back.new_zeros(bottom - top, width + 2)
        parts = back.view(9, rows, columns)
        for offset in range(9):
            i, j = divmod(offset, 3)
            plane[i : i + rows, j : j + columns] += parts[offset]
        low, high = max(0, top), min(height, bottom)
        grid[low:high] += plane[low - top : high - top, 1 : 1 + width]


Job = BaseJob | GatherJob | SliceJob


def plan(config: CoreConfig, height: int, width: int, device: torch.device) -> list[Job]:
    """Jobs that together hold every latent of a picture once.

    Args:
        config: levels, octaves and tiles.
        height, width: pixels.
        device: where the latents are.
    """
    chunk = CHUNK if device.type == "cpu" else GPU_CHUNK
    shapes = config.level_shapes(height, width)
    sizes = [h * w for h, w in shapes]
    starts = [sum(sizes[:level]) for level in range(len(shapes) + 1)]
    numbers = [
        torch.arange(start, start + size).view(shape)
        for start, size, shape in zip(starts, sizes, shapes, strict=False)
    ]
    outside = starts[-1]
    octaves, step = config.octaves, 1 << config.octaves
    jobs: list[Job] = []
    gathered: list[tuple[Tensor, ...]] = []
    base: list[tuple[Tensor, ...]] = []
    for segment in config.segments(height, width):
        areas = [
            Area(starts[level], shapes[level], segment.crop(level))
            for level in range(min(segment.levels.stop + 1, config.levels))
        ]
        for level in segment.levels:
            own, above = areas[level], areas[level + 1] if level + 1 < config.levels else None
            grid = numbers[level][own.part]
            coarser = None if above is None else numbers[level + 1][above.part]
            rows, columns = torch.meshgrid(
                torch.arange(0, grid.shape[0], step),
                torch.arange(0, grid.shape[1], step),
                indexing="ij",
            )
            base.append(
                (
                    grid[rows, columns].flatten(),
                    _parent_windows(coarser, rows.flatten(), columns.flatten(), outside),
                    _one_hot(level, len(shapes), rows.numel()),
                )
            )
            for octave in range(octaves):
                regular = grid.shape[0] % 2 == grid.shape[1] % 2 == 0
                if octave == 0 and regular and grid.numel() >= 4 * chunk:
                    size = max(1, chunk // (grid.shape[1] // 2))
                    for top in range(0, grid.shape[0] // 2, size):
                        part = range(top, min(grid.shape[0] // 2, top + size))
                        jobs.append(SliceJob(own, above, part, level))
                    continue
                if max(grid.shape) > 1 << octave:
                    quads = _quads(grid, coarser, octave, outside)
                    count = quads[0].shape[1]
                    hot = _one_hot(octave, octaves, count), _one_hot(level, len(shapes), count)
                    gathered.append((*quads, *hot))
    if gathered:
        whole = [torch.cat(parts, -1) for parts in zip(*gathered, strict=True)]
        for pieces in zip(*(torch.split(t, chunk, -1) for t in whole), strict=True):
            inputs, targets, parents, mask, octave_hot, level_hot = (
                t.contiguous().to(device) for t in pieces
            )
            jobs.append(
                GatherJob(
                    inputs,
                    targets,
                    parents if len(shapes) > 1 else None,
                    octave_hot,
                    level_hot,
                    mask,
                )
            )
    found = [torch.cat(parts, -1).to(device) for parts in zip(*base, strict=True)]
    jobs.append(BaseJob(found[0], found[1], found[2]))
    return jobs


def _one_hot(index: int, size: int, count: int) -> Tensor:
    hot = torch.zeros(size, count, dtype=torch.get_default_dtype())
    hot[index] = 1
    return hot


def _at(grid: Tensor, rows: Tensor, columns: Tensor, outside: int) -> Tensor:
    """Numbers of latents at positions of a grid, `outside` where there is none."""
    inside = (rows >= 0) & (rows < grid.shape[0]) & (columns >= 0) & (columns < grid.shape[1])
    found = grid[rows.clamp(0, grid.shape[0] - 1), columns.clamp(0, grid.shape[1] - 1)]
    return torch.where(inside, found, outside)


def _parent_windows(coarser: Tensor | None, rows: Tensor, columns: Tensor, outside: int) -> Tensor:
    """Numbers of the 3x3 windows around the parents of positions: (9, n)."""
    if coarser is None:
        return torch.full((9, rows.numel()), outside)
    return torch.stack(
        [
            _at(coarser, rows // 2 + i, columns // 2 + j, outside)
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        ]
    )


def _quads(
    grid: Tensor, coarser: Tensor | None, octave: int, outside: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All quads of one octave of a grid: inputs, targets, parents, mask."""
    step = 1 << octave
    lattice = grid[::step, ::step]
    rows, columns = (
        t.flatten()
        for t in torch.meshgrid(
            torch.arange(0, lattice.shape[0], 2),
            torch.arange(0, lattice.shape[1], 2),
            indexing="ij",
        )
    )
    inputs = torch.stack(
        [_at(lattice, rows + 2 * i + a, columns + 2 * j + b, outside) for (a, b), i, j in WINDOW]
    )
    targets = torch.stack([_at(lattice, rows + a, columns + b, outside) for a, b in PLACES])
    parents = torch.stack(
        [
            _parent_windows(coarser, (rows + a) * step, (columns + b) * step, outside)
            for a, b in PLACES
        ]
    )
    return inputs, targets, parents, (targets != outside).to(torch.get_default_dtype())
