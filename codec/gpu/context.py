"""The rate of all latents and its gradients in one kernel: `codec/rate/context.py`, fused.

The kernel is in `codec/gpu/context_pass.py`; here is what it is told of a picture. Where the inputs
of a latent are follows from its number, the width of its grid and the place of its parent; which
of at most 25 a decoder knows, and the flags, are 30 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from codec.gpu import tile_side
from codec.gpu.context_pass import context_pass, pack
from codec.gpu.sums import Sums
from codec.rate.context import LARGEST, LEAST, NATS, UNIT
from codec.rate.jobs import GatherJob
from codec.rate.laplace import FLOOR
from formats.blocks import LIMIT, WINDOW
from formats.context import MIDDLE, TOP_SCALE
from formats.core import PARENTS, CoreConfig

__all__ = ["FusedContext"]

BLOCK = 64
"""Latents of a block."""
PROGRAMS = 396
"""At most as many programs: three for each multiprocessor of an H100."""
OPTIONS = {"num_warps": 4, "maxnreg": 168}
"""Of a launch: with more registers there is room for two."""
ROWS = 32
"""Inputs of the first layer, latents and flags, padded to a power of two."""
PRECISION = "tf32"
"""Of products: latents carry noise of a tenth of a step, 200 times what is rounded away."""


class FusedContext:
    """Evaluates the rate of the latents of one picture, not rounding anywhere.

    Args:
        config: the network.
        jobs: that hold every latent once, all addressed by index.
        shapes: rows and columns of the grids.
        starts: where each tensor begins in the vector of all weights, by name.
    """

    def __init__(
        self,
        config: CoreConfig,
        jobs: Sequence[GatherJob],
        shapes: Sequence[tuple[int, int]],
        starts: Mapping[str, int],
    ) -> None:
        self.config = config
        self.constants = {
            "LIMIT": float(LIMIT),
            "LARGEST": LARGEST,
            "LEAST": float(LEAST),
            "MOST": float(TOP_SCALE - MIDDLE),
            "UNIT": float(MIDDLE - UNIT),
            "NATS": NATS,
            "FLOOR": FLOOR,
        }
        prefix = "context."
        self.starts = {
            name.removeprefix(prefix): start
            for name, start in starts.items()
            if name.startswith(prefix)
        }
        self.width = tile_side(config.width)
        size = self.width * (ROWS + self.width + 3)
        self.packed = torch.empty(size, device=jobs[0].target_numbers.device)
        parts = [_addresses(config, job, shapes) for job in jobs]
        grid, target, parent, known = (torch.cat(p) for p in zip(*parts, strict=True))
        device = target.device
        # Blocks of one grid: the last of each ends with numbers of nothing.
        counts = torch.bincount(grid, minlength=config.grids).tolist()
        order = torch.argsort(grid, stable=True)
        sizes = [-(-count // BLOCK) * BLOCK for count in counts]
        gaps = [sum(sizes[:n]) - sum(counts[:n]) for n in range(config.grids)]
        spread = torch.arange(len(order), device=device)
        spread += torch.repeat_interleave(
            torch.tensor(gaps, device=device), torch.tensor(counts, device=device)
        )

        def in_blocks(values: Tensor, empty: int) -> Tensor:
            found = torch.full((sum(sizes),), empty, dtype=torch.int32, device=device)
            found[spread] = values[order].to(torch.int32)
            return found

        self.targets, self.parents, self.known = (
            in_blocks(values, empty) for values, empty in ((target, -1), (parent, 0), (known, 0))
        )
        self.blocks = sum(sizes) // BLOCK
        columns = [shape[1] for shape in shapes]
        rows = [(n, columns[n], columns[above]) for n, above in enumerate(_above(config))]
        self.geometry = torch.tensor(
            [row for row, size in zip(rows, sizes, strict=True) for _ in range(size // BLOCK)],
            dtype=torch.int32,
            device=device,
        ).flatten()
        seen = [WINDOW[n] for n in config.window]
        seen += [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        places = torch.zeros(2, ROWS, dtype=torch.int32)
        places[:, : len(seen)] = torch.tensor(seen).t()
        self.places = places.flatten().to(device)

    def __call__(
        self, weights: Tensor, latents: Tensor, scale: float, grad: Tensor, sums: Sums
    ) -> None:
        """Evaluate, and add what is found.

        Args:
            weights: of the networks, one vector.
            latents: all grids, one vector.
            scale: factor on the gradients.
            grad: like latents: their gradients of `scale * bits` are added.
            sums: bits, and the gradients of weights.
        """
        at = self.starts
        layers = {
            "at_first": at["first"],
            "at_parent": at.get("parent", 0),
            "at_flags": at["bias"],
            "at_hidden": at["hidden"],
            "at_bias": at["hidden_bias"],
            "at_out": at["out"],
            "width": self.config.width,
            "PARENT": "parent" in at,
            "WIDTH": self.width,
            "OWN": len(self.config.window),
            "SEEN": len(self.config.window) + PARENTS,
            "FLAGS": self.config.flags,
        }
        pack[(1,)](weights, self.packed, **layers)
        context_pass[(min(PROGRAMS, self.blocks),)](
            latents,
            self.targets,
            self.parents,
            self.known,
            self.geometry,
            self.places,
            weights,
            self.packed,
            grad,
            sums.weights,
            sums.bits,
            **layers,
            at_level=at["level"],
            blocks=self.blocks,
            grids=self.config.grids,
            scale=scale,
            SIZE=BLOCK,
            PRECISION=PRECISION,
            **self.constants,
            **OPTIONS,
        )


def _above(config: CoreConfig) -> list[int]:
    """Of every grid the one whose places its parents have: itself where nothing is read."""
    parents = (config.parent(grid) for grid in range(config.grids))
    return [grid if parent is None else parent for grid, parent in enumerate(parents)]


def _addresses(
    config: CoreConfig, job: GatherJob, shapes: Sequence[tuple[int, int]]
) -> tuple[Tensor, ...]:
    """Of every position of a job: grid, own number, number of the parent, known inputs as bits."""
    outside = sum(height * width for height, width in shapes)
    grid = job.grids.argmax(0)
    target = job.target_numbers
    device = target.device
    starts = [0]
    for height, width in shapes:
        starts.append(starts[-1] + height * width)
    start = torch.tensor(starts, device=device)
    columns = torch.tensor([width for _, width in shapes], device=device)
    inside = target - start[grid]
    row, column = inside // columns[grid], inside % columns[grid]
    above = torch.tensor(_above(config), device=device)[grid]
    parent = start[above] + row // 2 * columns[above] + column // 2
    known = torch.zeros_like(target)
    inputs = job.input_numbers
    for bit, place in enumerate([*config.window, *range(len(WINDOW), len(inputs))]):
        known |= (inputs[place] != outside).long() << bit
    for bit, flag in enumerate(job.flags[: config.flags], len(config.window) + PARENTS):
        known |= (flag > 0).long() << bit
    return grid, target, parent, known
