"""Latents to samples: any part of a picture with core fusion, at any scale.

At native scale the picture is always cut into the same blocks and whole blocks are evaluated, so
that a crop equals that part of a full decode bit for bit (on one machine). Of a file with tiles,
only those are decoded that a crop touches, each once.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import lru_cache
from typing import TypeVar

import torch

from codec.blas import one_blas_thread
from codec.network.core import CoreCoordX
from codec.network.grid import AxisGrid
from codec.network.parts import Parts
from codec.reconstruct import Crop, check_region
from codec.signal import Samples, empty_samples, from_signal
from formats.native import native_on
from formats.unit import CoreUnit

__all__ = ["CoreReconstructor", "TiledLatents"]

T = TypeVar("T")

CPU_BLOCK, GPU_BLOCK = 256, 4096
"""Side of a block in pixels: interpolated latents of ten grids take 2.5 MiB, 0.6 GiB."""
MOST_THREADS = 4
"""Blocks that are evaluated, or tiles decoded, at the same time on a CPU; each takes some 20 MiB
meanwhile."""
MARGIN = 8
"""Samples around a crop that take part in it: the 3x3 layers and the cubic of other scales."""


class TiledLatents:
    """Latents that are decoded when a part of the picture needs them.

    Args:
        unit: holds them, in tiles.
        net: the network that they are loaded into; its latents are replaced.
    """

    def __init__(self, unit: CoreUnit, net: CoreCoordX) -> None:
        self.unit, self.net = unit, net
        with one_blas_thread():
            shared = unit.grids(lambda tile: False)
        net.load_latents(shared)
        self._lock = threading.Lock()
        self._left = {n: box for n, box in enumerate(unit.segments) if box.tile}
        parents = {grid for box in self._left.values() for grid in box.parents()}
        self._shared = {grid: shared[grid] for grid in parents}
        # The kernel of the coarsest tiled level ends 7 strides away.
        self._reach = (7 << net.config.tiled_levels - 1) + MARGIN

    def need(self, rows: range, columns: range) -> None:
        """Decode the tiles that these samples depend on, if they are not there yet.

        Raises:
            CorruptError: the stream of one is not what an encoder writes.
        """

        def near(start: int, size: int, part: range) -> bool:
            return start < part.stop + self._reach and start + size > part.start - self._reach

        @torch.inference_mode()
        def decode(number: int) -> None:
            box = self._left[number]
            for own, grid in self.unit.segment(number, self._shared).items():
                self.net.latents[own][box.crop(own)].copy_(torch.from_numpy(grid))
            del self._left[number]

        with self._lock, one_blas_thread():
            missing = [
                number
                for number, box in self._left.items()
                if near(box.top, box.height, rows) and near(box.left, box.width, columns)
            ]
            # What numpy decodes holds Python's lock.
            _each(decode, missing, torch.get_num_threads() if native_on() else 1)


class CoreReconstructor:
    """Evaluates one picture.

    Args:
        net: its network, weights and latents loaded, on the device that is to evaluate it.
        bit_depth: of the samples returned.
        tiles: where latents come from that are not loaded yet.
    """

    def __init__(self, net: CoreCoordX, bit_depth: int, tiles: TiledLatents | None = None) -> None:
        self.net, self.bit_depth, self.tiles = net, bit_depth, tiles
        self.device = next(net.parameters()).device
        side = CPU_BLOCK if self.device.type == "cpu" else GPU_BLOCK
        self.block = max(side, 1 << net.config.levels)
        with torch.inference_mode():
            self._parts = Parts(net.bands())

    @torch.inference_mode()
    def region(self, frames: range, crop: Crop | None, scale: float = 1.0) -> Samples:
        """Samples (height, width, channels) of a crop, at a scale; see `Reconstructor.region`."""
        x, y, w, h = check_region(crop, scale, self.net.lengths)
        rows, columns = range(y, y + h), range(x, x + w)
        if self.tiles is not None:
            self.tiles.need(rows, columns)
        return self._native(rows, columns) if scale == 1 else self._scaled(rows, columns, scale)

    def _empty(self, height: int, width: int) -> Samples:
        return empty_samples((height, width, self.net.channels), self.bit_depth)

    def _native(self, rows: range, columns: range) -> Samples:
        out = self._empty(len(rows), len(columns))

        @torch.inference_mode()
        def evaluate(block: tuple[range, range]) -> None:
            top, left = block
            samples = self.net.native(top, left, self._parts)
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

        blocks = itertools.product(
            _cuts(rows, self.block, self.net.height), _cuts(columns, self.block, self.net.width)
        )
        # Operations on a block are small: blocks side by side, each with one thread, are faster
        # than one after the other with all of them.
        _each(evaluate, blocks, torch.get_num_threads() if self.device.type == "cpu" else 1)
        return out

    def _scaled(self, rows: range, columns: range, scale: float) -> Samples:
        grid = AxisGrid.full(self.net.lengths, self.device)
        grid = grid.select("y", slice(rows.start, rows.stop))
        grid = grid.select("x", slice(columns.start, columns.stop))
        grid, sizes, dense = grid.supersampled(scale)
        out = self._empty(sizes["y"], sizes["x"])
        steps = {a: max(1, self.block // dense[a]) for a in sizes}
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


def _each(work: Callable[[T], None], items: Iterable[T], threads: int) -> None:
    """Do the work for each item, several at the same time if there are threads."""
    if threads == 1:
        for item in items:
            work(item)
        return
    before = torch.get_num_threads()
    # The pool is asked for at every call, since a fork leaves the child without its threads.
    pool = _workers(min(threads, MOST_THREADS))
    jobs = [pool.submit(work, item) for item in items]
    try:
        wait(jobs, return_when=FIRST_EXCEPTION)
        for job in jobs:
            job.cancel()
        wait(jobs)  # nothing goes on behind the caller's back
        for job in jobs:
            if not job.cancelled():
                job.result()
    finally:
        # The last call in any thread is what threads to come begin with: the workers' was 1.
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _workers(count: int) -> ThreadPoolExecutor:
    """Threads for blocks and tiles, kept: new ones would begin without memory of their own."""
    return ThreadPoolExecutor(count, "codec-decode", torch.set_num_threads, (1,))


if hasattr(os, "register_at_fork"):  # threads do not survive a fork
    os.register_at_fork(after_in_child=_workers.cache_clear)


def _cuts(part: range, size: int, length: int) -> list[range]:
    """The blocks of an axis that a range touches."""
    first, last = part.start // size, (part.stop - 1) // size
    return [range(n * size, min(length, (n + 1) * size)) for n in range(first, last + 1)]
