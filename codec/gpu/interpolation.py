"""Interpolation of all grids, forward and backward, in a kernel for each axis.

As `codec/network/kernels.py`: samples of a block of an axis are a product of latents and a banded
matrix whose entries are those of the composite kernel. Here blocks of all grids are one launch,
matrices are made where they are used, and nothing goes through autograd. A latent beyond the
edges is the outermost one: its slopes are added to that one's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from codec.gpu import bands
from codec.gpu.composite import compose, decompose
from codec.gpu.sums import Sums
from formats.core import CoreConfig

__all__ = ["FusedInterpolation"]

STEP = 64
"""Samples of a block along the axis, and lines across it."""
NEAR = 16
"""Latents that are taken together."""
COPIES = 32
"""Of the slopes of composite kernels: few programs add to one place."""
LINES = 128
"""Lines whose products a program adds to those slopes."""
FORWARD, BACKWARD = "tf32x3", "tf32"
"""Precision of products: as float32, and with the mantissa of a half."""


@dataclass
class _Axis:
    """Tables of one axis.

    Attributes:
        layout: of each grid: start, stride and length of the input, lines, start, stride and
            length of the output, samples of a latent, offset of the kernel.
        expand, contract, correlate: the tiles of the kernels of these names.
    """

    layout: Tensor
    expand: Tensor
    contract: Tensor
    correlate: Tensor


class FusedInterpolation:
    """Interpolates the latents of one picture.

    Args:
        config: the network.
        height, width: of the picture.
        starts: where each tensor begins in the vector of all weights, by name.
        device: where the latents are.

    Attributes:
        features: (grids + 1, height, width), what `forward` finds; the last plane is ones.
        zeros: how many numbers `backward` adds to besides the gradients.
    """

    def __init__(
        self,
        config: CoreConfig,
        height: int,
        width: int,
        starts: Mapping[str, int],
        device: torch.device,
    ) -> None:
        self._starts = starts.get("kernel", 0), starts["filter"]
        self._size = 1 << (13 * 2 ** (config.levels - 1) - 7).bit_length()
        self._pyramids = {
            "LEVELS": config.levels,
            "COLOUR": config.colour,
            "COLOUR_LEVEL": config.colour_level,
            "SIZE": self._size,
        }
        down, across = [], []
        start = between = 0
        shapes = config.grid_shapes(height, width)
        for grid, (level, (h, w)) in enumerate(zip(config.grid_levels, shapes, strict=True)):
            kernel = 2**level, -3 * (2**level - 1) - 3 * 2**level
            down.append((start, w, h, w, between, w, height, *kernel))
            across.append((between, w, w, height, grid * height * width, width, width, *kernel))
            start, between = start + h * w, between + height * w
        self._down, self._across = (_axis(rows, device) for rows in (down, across))
        self.features = torch.ones(config.grids + 1, height, width, device=device)
        self._tall = torch.empty(between, device=device)
        # Chains and their slopes are of levels, kernels of grids.
        self._chain, self._scratch = torch.empty(
            2, config.levels, self._size, device=device
        ).unbind()
        self._kernels = torch.empty(config.grids, self._size, device=device)
        self._copies = COPIES, config.grids, self._size
        self.zeros = between + math.prod(self._copies)

    def forward(self, weights: Tensor, latents: Tensor) -> Tensor:
        """Latents at every sample: `features`.

        Args:
            weights: of the networks, one vector.
            latents: all grids as one vector.
        """
        size = self._size
        compose[(1,)](weights, *self._starts, self._chain, self._kernels, **self._pyramids)
        for axis, source, out, down in (
            (self._down, latents, self._tall, True),
            (self._across, self._tall, self.features, False),
        ):
            bands.expand[(len(axis.expand),)](
                source,
                self._kernels,
                out,
                axis.layout,
                axis.expand,
                DOWN=down,
                SIZE=size,
                PRECISION=FORWARD,
            )
        return self.features

    def backward(
        self,
        weights: Tensor,
        latents: Tensor,
        planes: Tensor,
        grad: Tensor,
        sums: Sums,
        zeros: Tensor,
    ) -> None:
        """Add the gradients of the last `forward`.

        Args:
            weights, latents: of that.
            planes: (grids, height, width) gradients by its planes.
            grad: like latents.
            sums: gradients of weights; those of the interpolation are replaced.
            zeros: (`zeros`,) zeros, which are overwritten.
        """
        size = self._size
        tall, by_kernel = torch.split(zeros, [len(self._tall), math.prod(self._copies)])
        for axis, back, source, into, down in (
            (self._across, planes, self._tall, tall, False),
            (self._down, tall, latents, grad, True),
        ):
            bands.contract[(len(axis.contract),)](
                back,
                self._kernels,
                into,
                axis.layout,
                axis.contract,
                DOWN=down,
                SIZE=size,
                PRECISION=BACKWARD,
            )
            bands.correlate[(len(axis.correlate),)](
                back,
                source,
                by_kernel,
                axis.layout,
                axis.correlate,
                DOWN=down,
                GRIDS=len(self._kernels),
                LINES=LINES,
                COPIES=COPIES,
                SIZE=size,
                PRECISION=BACKWARD,
            )
        decompose[(1,)](
            weights,
            *self._starts,
            self._chain,
            by_kernel.view(self._copies).sum(0),
            self._scratch,
            sums.weights,
            **self._pyramids,
            num_warps=8,
        )


def _axis(rows: Sequence[tuple[int, ...]], device: torch.device) -> _Axis:
    """Tables from the rows of a layout."""
    expand, contract, correlate = [], [], []
    for grid, (_, _, _, lines, _, _, samples, stride, offset) in enumerate(rows):
        taps = 13 * stride - 6
        for at in range(0, samples, STEP):
            # Latents that reach these samples.
            first = -(-(at - offset - taps + 1) // stride)
            last = (min(samples, at + STEP) - 1 - offset) // stride
            chunks = -(-(last + 1 - first) // NEAR)
            for line in range(0, lines, STEP):
                expand.append((grid, line, at, first, chunks))
            for line in range(0, lines, LINES):
                for chunk in range(chunks):
                    correlate.append((grid, line, at, first + chunk * NEAR, 0))
        first, last = -(-(-offset - taps + 1) // stride), (samples - 1 - offset) // stride
        for near in range(first, last + 1, NEAR):
            # Samples that these latents reach.
            low = max(0, stride * near + offset)
            high = min(samples, stride * (min(near + NEAR, last + 1) - 1) + offset + taps)
            for line in range(0, lines, STEP):
                contract.append((grid, line, near, low, -(-(high - low) // STEP)))
    tables = (rows, expand, contract, correlate)
    return _Axis(*(torch.tensor(t, dtype=torch.int32, device=device) for t in tables))
