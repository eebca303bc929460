"""Where the inputs of the context network come from, in portions that fit a cache.

All latents are known while fitting, so every position is evaluated at once. Large grids go in bands
of rows (`BandJob`): their inputs are shifted copies of the grid, and a mask that repeats with the
blocks takes away what a decoder would not know yet. Small grids are many tiny pieces, on which
every operation would cost more than its arithmetic; they are put together and addressed by index
(`GatherJob`).

Inputs are those of formats/blocks.py: the window of the own grid, the window of the next coarser
one, the flags.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from formats.blocks import FLAGS, RUNS, WINDOW
from formats.core import PARENTS, CoreConfig

__all__ = ["BandJob", "GatherJob", "Job", "plan"]

CHUNK = 12288
"""Positions of a job on a CPU: 16 activations of each are 768 KiB, the size of a cache."""
GPU_CHUNK = 2**21
TOP = -min(y for y, _ in WINDOW)
BOTTOM = max(y for y, _ in WINDOW)
SIDE = max(abs(x) for _, x in WINDOW)
"""Rows above and below a latent, and columns on either side, that its window reaches."""


def _time(rows: Tensor, columns: Tensor, side: int) -> Tensor:
    """The pass of positions, in blocks of `side`."""
    return columns % side + 2 * (rows % side)


def _flags(rows: Tensor, columns: Tensor, side: int) -> Tensor:
    """`FLAGS` of positions: (5, ...)."""
    v, u = rows % side, columns % side
    found = torch.stack([v == v, u == 0, v == 0, u == side - 1, v == side - 1])
    return found.to(torch.get_default_dtype())


class GatherJob:
    """Positions addressed by index.

    Args:
        inputs: (window and parents, n) numbers in the vector of all latents, which has one
            more element, always zero, for what is not known.
        targets: (n,) numbers of the latents to predict.
        flags: (5, n).
        levels: (levels, n) 1 at each one's level.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, flags: Tensor, levels: Tensor) -> None:
        self._inputs, self._targets, self._flags = inputs, targets, flags
        self._used = inputs.flatten()
        self.size = targets.numel()
        self.levels = levels
        self.parents = inputs.shape[0] > len(WINDOW)

    def load(self, known: Tensor) -> Tensor:
        """Inputs of the first layer: (rows, n)."""
        return torch.cat([known[self._inputs], self._flags])

    def targets(self, latents: Tensor) -> Tensor:
        """The latents to predict: (n,)."""
        return latents[self._targets]

    def store(self, grad: Tensor, back: Tensor) -> None:
        """Add gradients of the window and the parents (rows, n) to those of the latents."""
        grad.index_add_(0, self._used, back.flatten())

    def store_targets(self, grad: Tensor, back: Tensor) -> None:
        """Add gradients of the targets."""
        grad.index_add_(0, self._targets, back)


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


class BandJob:
    """Some rows of one large area.

    Args:
        own: the area.
        parent: the one of the coarser grid over it, if there is one.
        band: rows; the first one is even.
        level: of the grid.
        mask: (window, rows, columns) 1 where a decoder knows the input, else 0.
        flags: (5, rows, columns).
    """

    def __init__(
        self,
        own: Area,
        parent: Area | None,
        band: range,
        level: int,
        mask: Tensor,
        flags: Tensor,
    ) -> None:
        self._area, self._above, self._band = own, parent, band
        self._mask, self._flags = mask, flags
        self.size = len(band) * own.shape[1]
        self.levels = level
        self.parents = parent is not None

    def _rows(self, flat: Tensor, area: Area, first: int, last: int, border: int) -> Tensor:
        """Rows first..last - 1 of an area with columns of zeros beside and, outside, rows."""
        height = area.shape[0]
        rows = area.of(flat)[max(0, first) : min(height, last)]
        return F.pad(rows, (border, border, max(0, -first), max(0, last - height)))

    def _parent_rows(self) -> tuple[int, int]:
        """First and last + 1 of the rows of the coarser grid that the windows reach."""
        return self._band.start // 2 - 1, (self._band.stop - 1) // 2 + 2

    def load(self, known: Tensor) -> Tensor:
        """Inputs of the first layer: (rows, n)."""
        rows, columns = len(self._band), self._area.shape[1]
        parents = PARENTS if self.parents else 0
        inputs = known.new_empty(len(WINDOW) + parents + FLAGS, rows, columns)
        first, last = self._band.start - TOP, self._band.stop + BOTTOM
        plane = self._rows(known, self._area, first, last, SIDE)
        stride = plane.stride(0)
        for start, length in RUNS:
            y, x = WINDOW[start]
            offset = (y + TOP) * stride + x + SIDE
            seen = plane.as_strided((length, rows, columns), (1, stride, 1), offset)
            run = slice(start, start + length)
            torch.mul(seen, self._mask[run], out=inputs[run])
        if self._above is not None:
            plane = self._rows(known, self._above, *self._parent_rows(), 1)
            twice = plane.repeat_interleave(2, 0).repeat_interleave(2, 1)
            stride = twice.stride(0)
            seen = twice.as_strided((3, 3, rows, columns), (2 * stride, 2, stride, 1))
            inputs[len(WINDOW) : -FLAGS].view(seen.shape).copy_(seen)
        inputs[-FLAGS:] = self._flags
        return inputs.view(inputs.shape[0], -1)

    def _own(self, flat: Tensor) -> Tensor:
        return self._area.of(flat)[self._band.start : self._band.stop]

    def targets(self, latents: Tensor) -> Tensor:
        """The latents to predict: (n,)."""
        return self._own(latents).reshape(-1)

    def store(self, grad: Tensor, back: Tensor) -> None:
        """Add gradients of the window and the parents (rows, n) to those of the latents."""
        height, columns = self._area.shape
        rows = len(self._band)
        parts = back.view(-1, rows, columns)
        parts[: len(WINDOW)] *= self._mask
        first, last = self._band.start - TOP, self._band.stop + BOTTOM
        plane = back.new_zeros(last - first, columns + 2 * SIDE)
        for number, (y, x) in enumerate(WINDOW):
            down, right = y + TOP, x + SIDE
            plane[down : down + rows, right : right + columns] += parts[number]
        low, high = max(0, first), min(height, last)
        self._area.of(grad)[low:high] += plane[low - first : high - first, SIDE : SIDE + columns]
        if self._above is not None:
            self._store_parents(grad, parts[len(WINDOW) :])

    def _store_parents(self, grad: Tensor, parts: Tensor) -> None:
        assert self._above is not None
        height, columns = self._above.shape
        first, last = self._parent_rows()
        twice = parts.new_zeros(2 * (last - first), 2 * (columns + 2))
        for number, part in enumerate(parts):
            down, right = 2 * (number // 3), 2 * (number % 3)
            twice[down : down + part.shape[0], right : right + part.shape[1]] += part
        plane = twice[::2] + twice[1::2]
        plane = plane[:, ::2] + plane[:, 1::2]
        low, high = max(0, first), min(height, last)
        self._above.of(grad)[low:high] += plane[low - first : high - first, 1 : 1 + columns]

    def store_targets(self, grad: Tensor, back: Tensor) -> None:
        """Add gradients of the targets."""
        own = self._own(grad)
        own += back.view(own.shape)


Job = GatherJob | BandJob


def plan(config: CoreConfig, height: int, width: int, device: torch.device) -> list[Job]:
    """Jobs that together hold every latent of a picture once.

    Args:
        config: levels, blocks and tiles.
        height, width: pixels.
        device: where the latents are.
    """
    chunk = CHUNK if device.type == "cpu" else GPU_CHUNK
    shapes = config.level_shapes(height, width)
    sizes = [h * w for h, w in shapes]
    starts = [sum(sizes[:level]) for level in range(len(shapes) + 1)]
    jobs: list[Job] = []
    pieces: list[tuple[Tensor, ...]] = []
    bands = _Bands(config, chunk, device)
    for segment in config.segments(height, width):
        areas = [
            Area(starts[level], shapes[level], segment.crop(level))
            for level in range(min(segment.levels.stop + 1, config.levels))
        ]
        for level in segment.levels:
            own, above = areas[level], areas[level + 1] if level + 1 < config.levels else None
            if own.shape[0] * own.shape[1] >= 2 * chunk:
                jobs += bands.of(own, above, level)
            else:
                pieces.append(_addressed(config, own, above, level, starts[-1]))
    whole = [torch.cat(parts, -1) for parts in zip(*pieces, strict=True)]
    for parts in zip(*(torch.split(t, chunk, -1) for t in whole), strict=True):
        jobs.append(GatherJob(*(t.contiguous().to(device) for t in parts)))
    return jobs


class _Bands:
    """Cuts areas into bands, which share their masks."""

    def __init__(self, config: CoreConfig, chunk: int, device: torch.device) -> None:
        self._side, self._chunk, self._device = 1 << config.block, chunk, device
        self._made: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}

    def of(self, own: Area, above: Area | None, level: int) -> list[BandJob]:
        """The bands of one area; all but the last start and end at parts of a block's rows."""
        height, width = own.shape
        rows = max(2, self._chunk // width)
        # A power of two up to the blocks' side, or a multiple of it: few masks are needed.
        rows = rows // self._side * self._side or 1 << (rows.bit_length() - 1)
        found = []
        for top in range(0, height, rows):
            band = range(top, min(height, top + rows))
            found.append(BandJob(own, above, band, level, *self._masks(band, width)))
        return found

    def _masks(self, band: range, width: int) -> tuple[Tensor, Tensor]:
        key = band.start % self._side, len(band), width
        if key not in self._made:
            rows = torch.arange(key[0], key[0] + len(band))[:, None]
            columns = torch.arange(width)[None]
            rows, columns = rows.expand(-1, width), columns.expand(len(band), -1)
            here = _time(rows, columns, self._side)
            known = [_time(rows + y, columns + x, self._side) < here for y, x in WINDOW]
            mask = torch.stack(known).to(torch.get_default_dtype())
            flags = _flags(rows, columns, self._side)
            self._made[key] = mask.to(self._device), flags.to(self._device)
        return self._made[key]


def _addressed(
    config: CoreConfig, own: Area, above: Area | None, level: int, outside: int
) -> tuple[Tensor, ...]:
    """The arguments of a `GatherJob` for all positions of an area.

    Without a coarser grid the parents' inputs are all `outside`.
    """
    side = 1 << config.block
    rows, columns = (
        t.flatten() for t in torch.meshgrid(*(torch.arange(n) for n in own.shape), indexing="ij")
    )
    here = _time(rows, columns, side)
    inputs = [
        torch.where(
            _time(rows + y, columns + x, side) < here,
            _numbers(own, rows + y, columns + x, outside),
            outside,
        )
        for y, x in WINDOW
    ]
    for y in (-1, 0, 1):
        for x in (-1, 0, 1):
            place = rows // 2 + y, columns // 2 + x
            inputs.append(
                torch.full_like(rows, outside)
                if above is None
                else _numbers(above, *place, outside)
            )
    if config.levels == 1:
        inputs = inputs[: len(WINDOW)]
    levels = torch.zeros(config.levels, rows.numel(), dtype=torch.get_default_dtype())
    levels[level] = 1
    targets = _numbers(own, rows, columns, outside)
    return torch.stack(inputs), targets, _flags(rows, columns, side), levels


def _numbers(area: Area, rows: Tensor, columns: Tensor, outside: int) -> Tensor:
    """Numbers of latents at positions of an area, `outside` where there is none."""
    height, width = area.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    top, left = area.part[0].start, area.part[1].start
    return torch.where(inside, area.start + (rows + top) * area.whole[1] + columns + left, outside)
