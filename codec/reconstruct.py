"""Decoded weights to samples: split evaluation of any part of a signal, at any scale.

At native scale the signal is always cut into the same tiles and whole tiles are evaluated, so
that a crop or a range of frames equals that part of a full decode bit for bit (on one machine:
a GEMM may round differently when its shape changes). Axis features are computed once for the
whole axis and kept: O(W + H + T) numbers.
"""

from __future__ import annotations

import operator

import torch
from torch import Tensor

from codec.network import AxisGrid, CoordX
from codec.network.tiles import tiles
from codec.signal import Samples, empty_samples, from_signal
from formats.errors import InputError

__all__ = ["Crop", "Reconstructor", "check_region"]

Crop = tuple[int, int, int, int]
"""x, y, width, height in pixels of the coded picture."""

CPU_TILE = 2**21
GPU_TILE = 2**28
"""Activations of a tile in floats (samples times features): 8 MiB on a CPU, 1 GiB on a GPU."""


class Reconstructor:
    """Evaluates one unit.

    Args:
        net: its network, weights loaded, on the device that is to evaluate it.
        bit_depth: of the samples returned.
    """

    def __init__(self, net: CoordX, bit_depth: int) -> None:
        self.net = net
        self.bit_depth = bit_depth
        self.device = next(net.parameters()).device
        self.full = AxisGrid.full(net.lengths, self.device)
        budget = CPU_TILE if self.device.type == "cpu" else GPU_TILE
        self.tile_samples = max(1024, budget // max(net.config.features, 8))
        self._features: dict[int, Tensor] = {}

    @torch.inference_mode()
    def region(self, frames: range, crop: Crop | None, scale: float = 1.0) -> Samples:
        """Samples of some frames, of a crop, at a scale.

        Args:
            frames: consecutive frames of this unit; range(1) for an image.
            crop: rectangle inside the picture, None for all of it.
            scale: 1 evaluates the coded samples; above 1 evaluates the network between them;
                below 1 averages areas (point sampling would alias).

        Returns:
            ([frames,] height, width, channels), uint8 up to 8 bits, uint16 above.

        Raises:
            InputError: the crop leaves the picture, or the scale is out of range.
        """
        lengths = self.net.lengths
        x, y, w, h = check_region(crop, scale, lengths)
        ranges = [range(y, y + h), range(x, x + w)]
        if "t" in lengths:
            ranges.insert(0, frames)
        if scale == 1:
            return self._native(ranges)
        return self._scaled(ranges, scale)

    # -- native scale: whole tiles of the full grid ----------------------------------------

    def _native(self, ranges: list[range]) -> Samples:
        shape = [len(r) for r in ranges]
        out = empty_samples((*shape, self.net.channels), self.bit_depth)
        for tile in tiles(self.full, self.tile_samples):
            inside, source = [], []
            for wanted, have in zip(ranges, tile.ranges, strict=True):
                start, stop = max(wanted.start, have.start), min(wanted.stop, have.stop)
                inside.append(slice(start - wanted.start, stop - wanted.start))
                source.append(slice(start - have.start, stop - have.start))
            if any(s.start >= s.stop for s in source):
                continue
            samples = self._tile(tile.ranges, tile.grid)
            out[tuple(inside)] = from_signal(samples[(slice(None), *source)], self.bit_depth)
        return out

    def _tile(self, ranges: tuple[slice, ...], grid: AxisGrid) -> Tensor:
        net = self.net
        parts = []
        for number, branch in enumerate(net.config.branches):
            if len(branch) == 1:
                if number not in self._features:
                    # Contiguous: every tile reads all of the longer axis, feature by feature.
                    self._features[number] = net.branch_features(number, self.full).contiguous()
                parts.append(self._features[number][:, ranges[net.config.axes.index(branch[0])]])
            else:
                parts.append(net.branch_features(number, grid))
        return net.to_grid(net.tail(net.fuse(parts)), grid)

    # -- other scales: another grid --------------------------------------------------------

    def _scaled(self, ranges: list[range], scale: float) -> Samples:
        grid = self.full
        for axis, wanted in zip(grid.axes, ranges, strict=True):
            grid = grid.select(axis, slice(wanted.start, wanted.stop))
        grid, sizes, dense = grid.supersampled(scale)
        area = dense["y"] * dense["x"]
        shape = [len(r) for r in ranges[:-2]] + [sizes["y"], sizes["x"]]
        out = empty_samples((*shape, self.net.channels), self.bit_depth)
        for target in tiles(_unit_grid(shape), max(1, self.tile_samples // area)):
            part = grid
            for axis, cut in zip(grid.axes, target.ranges, strict=True):
                step = dense.get(axis, 1)
                part = part.select(axis, slice(cut.start * step, cut.stop * step))
            samples = self.net(part)
            if area > 1:
                flat = samples.reshape(-1, 1, *samples.shape[-2:])
                flat = torch.nn.functional.avg_pool2d(flat, (dense["y"], dense["x"]))
                samples = flat.reshape(*samples.shape[:-2], *flat.shape[-2:])
            out[target.ranges] = from_signal(samples, self.bit_depth)
        return out


def check_region(crop: Crop | None, scale: float, lengths: dict[str, int]) -> Crop:
    """The crop as four integers; the whole picture for None.

    Raises:
        InputError: the crop leaves the picture, or the scale is out of range.
    """
    x, y, w, h = 0, 0, lengths["x"], lengths["y"]
    if crop is not None:
        try:
            x, y, w, h = (operator.index(v) for v in crop)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"crop: expected four integers (x, y, width, height), got {crop!r}"
            ) from error
    if w < 1 or h < 1 or x < 0 or y < 0 or x + w > lengths["x"] or y + h > lengths["y"]:
        raise InputError(
            f"crop: expected a rectangle x,y,width,height inside "
            f"{lengths['x']}x{lengths['y']}, got {x},{y},{w},{h}"
        )
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise InputError(f"scale: expected a number, got {scale!r}")
    if not 0.001 <= scale <= 64:
        raise InputError(f"scale: expected 0.001..64, got {scale}")
    return x, y, w, h


def _unit_grid(shape: list[int]) -> AxisGrid:
    """A grid of this shape, only to be cut into tiles."""
    names = ("t", "y", "x")[-len(shape) :]
    return AxisGrid.full(dict(zip(names, shape, strict=True)))
