"""Where the inputs of the context network come from, in portions that fit a cache.

All latents are known while fitting, so every position is evaluated at once. Large grids go in bands
of rows (`BandJob`): their inputs are shifted copies of the grid, and a mask that repeats with the
blocks takes away what a decoder would not know yet. Small grids are many tiny pieces, on which
every operation would cost more than its arithmetic; they are put together and addressed by index
(`GatherJob`).

Inputs are those of formats/blocks.py: the window of the own grid, the window of the next coarser
one, the flags. Which job has which positions: `codec/rate/plan.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from codec.areas import Area
from formats.blocks import FLAGS, WINDOW
from formats.core import PARENTS

__all__ = ["BandJob", "GatherJob", "Job"]

TOP = -min(y for y, _ in WINDOW)
BOTTOM = max(y for y, _ in WINDOW)
SIDE = max(abs(x) for _, x in WINDOW)
"""Rows above and below a latent, and columns on either side, that its window reaches."""
RUNS = ((0, 5), (5, 5), (10, 2), (12, 1), (13, 3))
"""Parts of the window that lie side by side: first input, length."""


class GatherJob:
    """Positions addressed by index.

    Args:
        inputs: (window and parents, n) numbers in the vector of all latents, which has one
            more element, always zero, for what is not known.
        targets: (n,) numbers of the latents to predict.
        flags: (5, n).
        grids: (grids, n) 1 at each one's grid.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, flags: Tensor, grids: Tensor) -> None:
        self.input_numbers, self.target_numbers, self.flags = inputs, targets, flags
        self._used = inputs.flatten()
        self.size = targets.numel()
        self.grids = grids
        self.parents = inputs.shape[0] > len(WINDOW)

    def load(self, known: Tensor) -> Tensor:
        """Inputs of the first layer: (rows, n)."""
        return torch.cat([known[self.input_numbers], self.flags])

    def targets(self, latents: Tensor) -> Tensor:
        """The latents to predict: (n,)."""
        return latents[self.target_numbers]

    def store(self, grad: Tensor, back: Tensor) -> None:
        """Add gradients of the window and the parents (rows, n) to those of the latents."""
        grad.index_add_(0, self._used, back.flatten())

    def store_targets(self, grad: Tensor, back: Tensor) -> None:
        """Add gradients of the targets."""
        grad.index_add_(0, self.target_numbers, back)


class BandJob:
    """Some rows of one large area.

    Args:
        own: the area.
        parent: the one of the coarser grid over it, if there is one.
        band: rows; the first one is even.
        grid: its number.
        mask: (window, rows, columns) 1 where a decoder knows the input, else 0.
        flags: (5, rows, columns).
    """

    def __init__(
        self,
        own: Area,
        parent: Area | None,
        band: range,
        grid: int,
        mask: Tensor,
        flags: Tensor,
    ) -> None:
        self._area, self._above, self._band = own, parent, band
        self._mask, self._flags = mask, flags
        self.size = len(band) * own.shape[1]
        self.grids = grid
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
