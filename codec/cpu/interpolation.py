"""Samples from latents and the way back, in machine code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from codec.cpu import _interpolation
from codec.network.kernels import Kernel

__all__ = ["FusedInterpolation"]


class FusedInterpolation:
    """Interpolates grids, each with the kernel of both its axes.

    Args:
        instructions: see `codec.cpu.kernels_on`.
    """

    def __init__(self, instructions: int) -> None:
        self.instructions = instructions

    def samples(
        self,
        grids: Sequence[Tensor],
        kernels: Sequence[Kernel],
        rows: range,
        columns: range,
        out: Tensor | None = None,
    ) -> Tensor:
        """What the 1x1 layers see of a rectangle of samples.

        Args:
            grids: (h_l, w_l) float32 latents.
            kernels: of each.
            rows, columns: of the picture.
            out: memory for the result; fresh memory costs as much as what is computed in it.

        Returns:
            (grids + 1, rows, columns): interpolated latents, and ones.
        """
        assert _interpolation is not None
        if out is None:
            size = len(grids) + 1, len(rows), len(columns)
            out = torch.empty(size, dtype=torch.float32)
        out[-1] = 1
        part = rows.start, len(rows), columns.start, len(columns)
        for grid, kernel, plane in zip(grids, kernels, out[:-1].numpy(), strict=True):
            _interpolation.expand(
                np.ascontiguousarray(grid.detach().numpy()),
                kernel.taps.detach().numpy(),
                plane,
                (grid.shape[0], grid.shape[1]),
                (kernel.stride, kernel.offset),
                part,
                self.instructions,
            )
        return out

    def back(
        self, grids: Sequence[Tensor], kernels: Sequence[Kernel], slopes: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Gradients by the latents of every grid, and by its kernel.

        Args:
            grids, kernels: as for `samples` of a whole picture.
            slopes: (grids, rows, columns), contiguous: by its planes.
        """
        assert _interpolation is not None
        by_latents, by_kernels = [], []
        for grid, kernel, plane in zip(grids, kernels, slopes, strict=True):
            grad = np.zeros(grid.shape, np.float32)
            by_kernel = np.zeros(kernel.taps.numel())
            _interpolation.contract(
                np.ascontiguousarray(grid.detach().numpy()),
                kernel.taps.detach().numpy(),
                plane.numpy(),
                grad,
                by_kernel,
                (grid.shape[0], grid.shape[1]),
                (kernel.stride, kernel.offset),
                (plane.shape[0], plane.shape[1]),
                self.instructions,
            )
            by_latents.append(torch.from_numpy(grad))
            by_kernels.append(torch.from_numpy(by_kernel.astype(np.float32)))
        return by_latents, by_kernels
