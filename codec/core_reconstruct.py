"""Latents to samples: any part of a picture with core fusion, at any scale.

At native scale the picture is always cut into the same tiles and whole tiles are evaluated, so
that a crop equals that part of a full decode bit for bit (on one machine). All latents are there:
a crop saves the evaluation of the other tiles, not the decoding of their segments.
"""

from __future__ import annotations

import torch

from codec.network.core import CoreCoordX
from codec.network.grid import AxisGrid
from codec.reconstruct import Crop, check_region
from codec.signal import Samples, empty_samples, from_signal

__all__ = ["CoreReconstructor"]

CPU_TILE, GPU_TILE = 256, 4096
"""Side of a tile in pixels: activations of 48 hidden units take 12 MiB, 3 GiB."""


class CoreReconstructor:
    """Evaluates one picture.

    Args:
        net: its network, weights and latents loaded, on the device that is to evaluate it.
        bit_depth: of the samples returned.
    """

    def __init__(self, net: CoreCoordX, bit_depth: int) -> None:
        self.net, self.bit_depth = net, bit_depth
        self.device = next(net.parameters()).device
        side = GPU_TILE if self.device.type == "cuda" else CPU_TILE
        self.tile = max(side, 1 << net.config.levels)
        with torch.inference_mode():
            self._bands = net.bands()

    @torch.inference_mode()
    def region(self, frames: range, crop: Crop | None, scale: float = 1.0) -> Samples:
        """Samples (height, width, channels) of a crop, at a scale; see `Reconstructor.region`."""
        x, y, w, h = check_region(crop, scale, self.net.lengths)
        rows, columns = range(y, y + h), range(x, x + w)
        return self._native(rows, columns) if scale == 1 else self._scaled(rows, columns, scale)

    def _empty(self, height: int, width: int) -> Samples:
        return empty_samples((height, width, self.net.channels), self.bit_depth)

    def _native(self, rows: range, columns: range) -> Samples:
        out = self._empty(len(rows), len(columns))
        for top in _cuts(rows, self.tile, self.net.height):
            for left in _cuts(columns, self.tile, self.net.width):
                samples = self.net.native(top, left, self._bands)
                y = range(max(top.start, rows.start), min(top.stop, rows.stop))
                x = range(max(left.start, columns.start), min(left.stop, columns.stop))
                part = samples[
                    :,
                    y.start - top.start : y.stop - top.start,
                    x.start - left.start : x.stop - left.start,
                ]
                out[
                    y.start - rows.start : y.stop - rows.start,
                    x.start - columns.start : x.stop - columns.start,
                ] = from_signal(part, self.bit_depth)
        return out

    def _scaled(self, rows: range, columns: range, scale: float) -> Samples:
        grid = AxisGrid.full(self.net.lengths, self.device)
        grid = grid.select("y", slice(rows.start, rows.stop))
        grid = grid.select("x", slice(columns.start, columns.stop))
        grid, sizes, dense = grid.supersampled(scale)
        out = self._empty(sizes["y"], sizes["x"])
        steps = {a: max(1, self.tile // dense[a]) for a in sizes}
        for y in range(0, sizes["y"], steps["y"]):
            for x in range(0, sizes["x"], steps["x"]):
                bottom, right = min(y + steps["y"], sizes["y"]), min(x + steps["x"], sizes["x"])
                part = grid.select("y", slice(y * dense["y"], bottom * dense["y"]))
                part = part.select("x", slice(x * dense["x"], right * dense["x"]))
                samples = self.net(part)
                if dense["y"] > 1 or dense["x"] > 1:
                    samples = torch.nn.functional.avg_pool2d(
                        samples[None], (dense["y"], dense["x"])
                    )[0]
                out[y:bottom, x:right] = from_signal(samples, self.bit_depth)
        return out


def _cuts(part: range, size: int, length: int) -> list[range]:
    """The tiles of an axis that a range touches."""
    first, last = part.start // size, (part.stop - 1) // size
    return [range(n * size, min(length, (n + 1) * size)) for n in range(first, last + 1)]
