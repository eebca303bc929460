"""Which positions of a picture the context network is evaluated for together, and what they see.

Areas of one grid go in bands of rows where they are large, and together in lists of indices where
they are small (`codec/rate/jobs.py`). Areas end where segments end, so that nothing outside a tile
is seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from codec.areas import Area, areas
from codec.rate.jobs import BandJob, GatherJob, Job
from formats.blocks import WINDOW
from formats.core import CoreConfig

__all__ = ["plan"]

CHUNK = 12288
"""Positions of a job on a CPU: 16 activations of each are 768 KiB, the size of a cache."""
GPU_CHUNK = 2**21


def _time(rows: Tensor, columns: Tensor, side: int) -> Tensor:
    """The pass of positions, in blocks of `side`."""
    return columns % side + 2 * (rows % side)


def _flags(rows: Tensor, columns: Tensor, side: int) -> Tensor:
    """`FLAGS` of positions: (5, ...)."""
    v, u = rows % side, columns % side
    found = torch.stack(
        [torch.ones_like(v, dtype=torch.bool), u == 0, v == 0, u == side - 1, v == side - 1]
    )
    return found.to(torch.get_default_dtype())


def plan(config: CoreConfig, height: int, width: int, device: torch.device) -> list[Job]:
    """Jobs that together hold every latent of a picture once.

    Args:
        config: grids, blocks and tiles.
        height, width: pixels.
        device: where the latents are.
    """
    chunk = CHUNK if device.type == "cpu" else GPU_CHUNK
    jobs: list[Job] = []
    pieces: list[tuple[Tensor, ...]] = []
    bands = _Bands(config, chunk, device)
    outside = config.latents(height, width)
    for grid, own, above in areas(config, height, width):
        if own.shape[0] * own.shape[1] >= 2 * chunk:
            jobs += bands.of(own, above, grid)
        else:
            pieces.append(_addressed(config, own, above, grid, outside))
    whole = [torch.cat(parts, -1) for parts in zip(*pieces, strict=True)]
    for parts in zip(*(torch.split(t, chunk, -1) for t in whole), strict=True):
        jobs.append(GatherJob(*(t.contiguous().to(device) for t in parts)))
    return jobs


class _Bands:
    """Cuts areas into bands, which share their masks."""

    def __init__(self, config: CoreConfig, chunk: int, device: torch.device) -> None:
        self._config, self._chunk, self._device = config, chunk, device
        self._made: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def of(self, own: Area, above: Area | None, grid: int) -> list[BandJob]:
        """The bands of one area; all but the last start and end at parts of a block's rows."""
        (height, width), side = own.shape, self._config.side(grid)
        rows = max(2, self._chunk // width)
        # A power of two up to the blocks' side, or a multiple of it: few masks are needed.
        rows = rows // side * side or 1 << (rows.bit_length() - 1)
        found = []
        for top in range(0, height, rows):
            band = range(top, min(height, top + rows))
            found.append(BandJob(own, above, band, grid, *self._masks(band, width, side)))
        return found

    def _masks(self, band: range, width: int, side: int) -> tuple[Tensor, Tensor]:
        # In a grid of one block all rows see the same: as those do that have rows above them.
        start = band.start % side if self._config.block else -min(y for y, _ in WINDOW)
        key = start, len(band), width, side
        if key not in self._made:
            rows = torch.arange(key[0], key[0] + len(band))[:, None]
            columns = torch.arange(width)[None]
            rows, columns = rows.expand(-1, width), columns.expand(len(band), -1)
            here = _time(rows, columns, side)
            known = [_time(rows + y, columns + x, side) < here for y, x in WINDOW]
            mask = torch.stack(known).to(torch.get_default_dtype())
            flags = _flags(rows, columns, side)
            self._made[key] = mask.to(self._device), flags.to(self._device)
        return self._made[key]


def _addressed(
    config: CoreConfig, own: Area, above: Area | None, grid: int, outside: int
) -> tuple[Tensor, ...]:
    """The arguments of a `GatherJob` for all positions of an area.

    Without a coarser grid the parents' inputs are all `outside`.
    """
    side = config.side(grid)
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
    grids = torch.zeros(config.grids, rows.numel(), dtype=torch.get_default_dtype())
    grids[grid] = 1
    targets = _numbers(own, rows, columns, outside)
    return torch.stack(inputs), targets, _flags(rows, columns, side), grids


def _numbers(area: Area, rows: Tensor, columns: Tensor, outside: int) -> Tensor:
    """Numbers of latents at positions of an area, `outside` where there is none."""
    height, width = area.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    top, left = area.part[0].start, area.part[1].start
    return torch.where(inside, area.start + (rows + top) * area.whole[1] + columns + left, outside)
