"""The rate of the latents of a picture, and every gradient, in machine code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.areas import Area, areas
from codec.cpu import _rate
from formats.blocks import BEFORE, FLAGS, WHOLE, WINDOW
from formats.context import all_inputs
from formats.core import PARENTS, CoreConfig

__all__ = ["FusedRate"]

LEAST_SIDE = 16
"""Blocks of smaller sides end within a vector."""
INPUTS = len(WINDOW) + PARENTS + FLAGS
ANY_SIDE = LEAST_SIDE
"""Of the blocks that a grid of one block is evaluated in: what is known is the same everywhere."""


@lru_cache(maxsize=4)
def _masks(side: int) -> npt.NDArray[np.float32]:
    """By row of a block, input of the window or border, and column: 1 where it is known or there.

    (side, window + 4, side)
    """
    if side == WHOLE:
        masks = np.zeros((ANY_SIDE, len(WINDOW) + FLAGS - 1, ANY_SIDE), np.float32)
        masks[:, BEFORE] = 1
        return masks
    v, u = np.indices((side, side))
    here = u + 2 * v
    known = [(u + x) % side + 2 * ((v + y) % side) < here for y, x in WINDOW]
    borders = [u == 0, v == 0, u == side - 1, v == side - 1]
    return np.ascontiguousarray(np.stack([*known, *borders], 1).astype(np.float32))


@dataclass(frozen=True)
class _Rows:
    """Rows of one grid that are evaluated by one call."""

    grid: int
    own: Area
    above: Area | None
    rows: range

    @property
    def size(self) -> int:
        return len(self.rows) * self.own.shape[1]


class FusedRate:
    """Evaluates the rate of the latents of one picture, not rounding anywhere.

    Args:
        config: the network; see `supports`.
        height, width: pixels of the picture.
        instructions: see `kernels_on`.
    """

    def __init__(self, config: CoreConfig, height: int, width: int, instructions: int) -> None:
        self.config, self.instructions = config, instructions
        self._parts: Sequence[_Rows] = [
            _Rows(grid, own, above, range(own.shape[0]))
            for grid, own, above in areas(config, height, width)
        ]

    @staticmethod
    def supports(config: CoreConfig) -> bool:
        """Whether blocks are large enough."""
        return all(config.side(grid) >= LEAST_SIDE for grid in range(config.grids))

    def divided(self, share: float) -> tuple[FusedRate, FusedRate]:
        """Two portions whose results add up; the first has about `share` of the latents."""
        left = share * sum(part.size for part in self._parts)
        portions: tuple[list[_Rows], list[_Rows]] = [], []
        for part in self._parts:
            cut = min(len(part.rows), max(0, round(left / part.own.shape[1])))
            for portion, rows in zip(portions, (part.rows[:cut], part.rows[cut:]), strict=True):
                if rows:
                    portion.append(replace(part, rows=rows))
            left -= part.size
        first, second = FusedRate.__new__(FusedRate), FusedRate.__new__(FusedRate)
        for one, parts in zip((first, second), portions, strict=True):
            one.config, one.instructions, one._parts = self.config, self.instructions, parts
        return first, second

    def __call__(
        self, weights: Mapping[str, Tensor], latents: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Bits, and the gradients of `scale * bits` by the latents and by the weights.

        Args, Returns: as `codec.rate.context.ContextRate` takes them and `RateResult` has them.
        """
        assert _rate is not None
        width, grids = self.config.width, self.config.grids
        w = {k.removeprefix("context."): _array(v) for k, v in weights.items()}
        known, slopes = _array(latents), np.zeros(latents.numel(), np.float32)
        window, bias = all_inputs(self.config, w["first"], w["bias"])
        parent = w.get("parent")
        sums = np.zeros(width * (INPUTS + width + 3) + 3)
        by_level = np.zeros((2, grids), np.float32)
        for part in self._parts:
            sums[-3:-1] = 0
            masks = _masks(self.config.side(part.grid))
            _rate.rate_rows(
                known,
                slopes,
                sums,
                window,
                parent,
                bias,
                w["hidden"],
                w["hidden_bias"],
                w["out"],
                masks,
                _place(part.own),
                (0, 0, 0, 0) if part.above is None else _place(part.above),
                (part.rows.start, part.rows.stop, masks.shape[0]),
                tuple(w["level"][:, part.grid].tolist()),
                scale,
                self.instructions,
            )
            by_level[:, part.grid] += sums[-3:-1]
        found = {"level": torch.from_numpy(by_level)}
        sizes = [width * INPUTS, width * width, width, 2 * width]
        parts: tuple[Tensor, ...] = torch.split(
            torch.from_numpy(sums.astype(np.float32)), [*sizes, 3]
        )
        by_input = parts[0].view(width, INPUTS)
        ends = [len(WINDOW), len(WINDOW) + PARENTS]
        found["first"] = by_input[:, self.config.window]
        found["bias"] = by_input[:, ends[1] : ends[1] + self.config.flags].contiguous()
        if parent is not None:
            found["parent"] = by_input[:, ends[0] : ends[1]].contiguous()
        found["hidden"], found["hidden_bias"] = parts[1].view(width, width), parts[2]
        found["out"] = parts[3].view(2, width)
        named = {f"context.{name}": value for name, value in found.items()}
        return torch.tensor(sums[-1], dtype=torch.float32), torch.from_numpy(slopes), named


def _array(values: Tensor) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(values.detach().numpy())


def _place(area: Area) -> tuple[int, int, int, int]:
    """Start, stride, rows and columns."""
    rows, columns = area.part
    start = area.start + rows.start * area.whole[1] + columns.start
    return start, area.whole[1], *area.shape
