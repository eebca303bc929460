"""What a decoder needs for parts of a picture: no gradients, any range of samples.

`kernels.interpolate` gathers the latents of all blocks for one large product, which is what a
GPU wants and what gradients go back through. On a CPU it is machine code, or, where there is none,
a few products of its own for every grid, which read latents where they lie, of the samples asked
for and of no others.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from codec.cpu import kernels_on
from codec.cpu.interpolation import FusedInterpolation
from codec.cpu.synthesis import FusedSynthesis
from codec.network.kernels import Band, interpolate
from codec.network.tail import features_of

__all__ = ["Parts"]

STRIP, LARGEST = 64, 256
"""Samples of a strip at level 0, twice as many at each level after it, and how many at most: a
sample sees 7 latents, so that most of what a strip of many fine latents multiplies is zeros."""


@dataclass(frozen=True)
class _Strip:
    """Neighbouring samples of an axis, as one product.

    Attributes:
        at: where they are in the range that is asked for.
        matrix: (samples, latents).
        first: number of the first of the latents; it may lie before the grid.
    """

    at: slice
    matrix: Tensor
    first: int

    def latents(self, count: int) -> range:
        """Those of a grid of so many that take part."""
        stop = self.first + self.matrix.shape[1]
        return range(min(max(self.first, 0), count - 1), max(min(stop, count), 1))

    def seen(self, grid: Tensor, axis: int, start: int, count: int) -> Tensor:
        """The latents, from a grid of `count` that holds those from `start` on.

        Beyond the edges the outermost one is repeated.
        """
        size = self.matrix.shape[1]
        if self.first >= 0 and self.first + size <= count:
            return grid.narrow(axis, self.first - start, size)
        index = torch.arange(self.first, self.first + size).clamp_(0, count - 1) - start
        return grid.index_select(axis, index)


class Parts:
    """Evaluates parts of one picture.

    Args:
        bands: of the grids.
    """

    def __init__(self, bands: Sequence[Band]) -> None:
        self.bands = bands
        self._matrices: dict[tuple[int, int, int], tuple[Tensor, int]] = {}
        cpu = bands[0].matrix.device.type == "cpu" and bands[0].matrix.dtype == torch.float32
        self._instructions = kernels_on() if cpu else None
        self._threads = threading.local()

    @property
    def fused(self) -> FusedSynthesis | None:
        """The layers after the interpolation in machine code, for this thread; None: there is no
        such code."""
        if self._instructions is None:
            return None
        if not hasattr(self._threads, "fused"):
            self._threads.fused = FusedSynthesis(self._instructions)
        found: FusedSynthesis = self._threads.fused
        return found

    def features(self, latents: Sequence[Tensor], rows: range, columns: range) -> Tensor:
        """What the 1x1 layers see of a rectangle of samples.

        Args:
            latents: (h_l, w_l) by grid.
            rows, columns: of the picture.

        Returns:
            (grids + 1, rows, columns): interpolated latents, and ones.
        """
        if latents[0].device.type != "cpu":
            return self._of_blocks(latents, rows, columns)
        if self._instructions is not None:
            kernels = [band.kernel for band in self.bands]
            return FusedInterpolation(self._instructions).samples(latents, kernels, rows, columns)
        out = latents[0].new_empty(len(latents) + 1, len(rows), len(columns))
        out[-1] = 1
        for number, grid in enumerate(latents):
            height, width = grid.shape
            across = self._strips(number, columns)
            start = across[0].latents(width).start
            near = grid[:, start : across[-1].latents(width).stop]
            tall = grid.new_empty(len(rows), near.shape[1])
            for strip in self._strips(number, rows):
                torch.mm(strip.matrix, strip.seen(near, 0, 0, height), out=tall[strip.at])
            for strip in across:
                target = out[number, :, strip.at]
                target.addmm_(strip.seen(tall, 1, start, width), strip.matrix.t(), beta=0)
        return out

    def _of_blocks(self, latents: Sequence[Tensor], rows: range, columns: range) -> Tensor:
        """The same from whole blocks."""
        block = max(band.block for band in self.bands)
        top, left = rows.start // block * block, columns.start // block * block
        planes = interpolate(latents, self.bands, range(top, rows.stop), range(left, columns.stop))
        return features_of(planes)[:, rows.start - top :, columns.start - left :]

    def _strips(self, number: int, part: range) -> list[_Strip]:
        stride = self.bands[number].stride
        count = -(-len(part) // min(LARGEST, STRIP * stride))
        size = -(-len(part) // count)
        found = []
        for start in range(part.start, part.stop, size):
            latent, phase = divmod(start, stride)
            samples = min(size, part.stop - start)
            matrix, first = self._matrix(number, phase, samples)
            at = slice(start - part.start, start - part.start + samples)
            found.append(_Strip(at, matrix, latent + first))
        return found

    def _matrix(self, number: int, phase: int, samples: int) -> tuple[Tensor, int]:
        """Rows of the axis matrix from a sample `phase` after latent 0 on; its first latent.

        A row as far from another latent is the same, moved.
        """
        key = number, phase, samples
        if key not in self._matrices:
            kernel = self.bands[number].kernel
            taps, offset, stride = kernel.taps.numel(), kernel.offset, kernel.stride
            first = -((offset + taps - 1 - phase) // stride)
            last = (phase + samples - 1 - offset) // stride
            place = torch.arange(phase - offset, phase - offset + samples)[:, None]
            place = place - stride * torch.arange(first, last + 1)
            inside = (place >= 0) & (place < taps)
            matrix = kernel.taps[place.clamp_(0, taps - 1)] * inside
            self._matrices[key] = matrix, first
        return self._matrices[key]
