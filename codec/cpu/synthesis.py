"""Samples from interpolated latents, their error and every gradient, in machine code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.cpu import _synthesis

__all__ = ["ErrorResult", "FusedSynthesis"]

Floats = npt.NDArray[np.float32]
SLOPES = 2
"""Pictures that the way back needs besides those of the way there."""


@dataclass
class ErrorResult:
    """The mean squared error of samples, and its gradients.

    Attributes:
        mse: of clamped samples.
        features: (features - 1, n), all but the ones; the next call overwrites them.
        first, output: by the matrices of the 1x1 layers.
        kernels, biases: by the 3x3 layers.
    """

    mse: float
    features: Tensor
    first: Tensor
    output: Tensor
    kernels: list[Tensor]
    biases: list[Tensor]


class FusedSynthesis:
    """The 1x1 and 3x3 layers; the memory they need besides is kept for the next call.

    Args:
        instructions: see `codec.cpu.kernels_on`.
    """

    def __init__(self, instructions: int) -> None:
        self.instructions = instructions
        self.release()

    def release(self) -> None:
        """Give back the memory that is kept."""
        self._scratch = np.zeros(0, np.float32)
        self._slopes = np.zeros((0, 0), np.float32)

    def samples(
        self,
        features: Tensor,
        first: Tensor,
        output: Tensor,
        kernels: list[Tensor],
        biases: list[Tensor],
    ) -> Tensor:
        """Samples, not clamped; what lies around the picture repeats the outermost ones.

        Args:
            features: (features, h, w) float32, the last one ones.
            first: (hidden, features).
            output: (channels, hidden + features): of hidden units, and of features as they are.
            kernels: (channels, channels, 3, 3) for each 3x3 layer.
            biases: (channels,) for each.

        Returns:
            (channels, h, w).
        """
        assert _synthesis is not None
        sizes, shape = _sizes(features, first, output, kernels), _shape(features)
        out = np.empty((sizes[0], *shape), np.float32)
        _synthesis.samples(
            *_arrays(features, first, output, kernels, biases),
            self._room(sizes, shape, 1),
            out,
            sizes,
            shape,
            self.instructions,
        )
        return torch.from_numpy(out)

    def error(
        self,
        features: Tensor,
        first: Tensor,
        output: Tensor,
        kernels: list[Tensor],
        biases: list[Tensor],
        target: Tensor,
    ) -> ErrorResult:
        """The error of samples against `target`, and its gradients, straight through the clamp.

        Args:
            features, first, output, kernels, biases: as for `samples`.
            target: (channels, h, w) float32.
        """
        assert _synthesis is not None
        sizes, shape = _sizes(features, first, output, kernels), _shape(features)
        channels, count, hidden, residuals = sizes
        if self._slopes.shape != (count - 1, shape[0] * shape[1]):
            self._slopes = np.empty((count - 1, shape[0] * shape[1]), np.float32)
        slopes = self._slopes
        parts = [hidden * count, channels * (hidden + count)]
        parts += [channels * (9 * channels + 1)] * residuals
        sums = np.empty(sum(parts))
        total = _synthesis.error(
            *_arrays(features, first, output, kernels, biases),
            self._room(sizes, shape, 1 + SLOPES),
            _array(target),
            slopes,
            sums,
            sizes,
            shape,
            self.instructions,
        )
        found: tuple[Tensor, ...] = torch.split(torch.from_numpy(sums.astype(np.float32)), parts)
        layers = [part.view(channels, -1) for part in found[2:]]
        return ErrorResult(
            total / target.numel(),
            torch.from_numpy(slopes),
            found[0].view(hidden, count),
            found[1].view(channels, -1),
            [part[:, :-1].contiguous().view(channels, channels, 3, 3) for part in layers],
            [part[:, -1].contiguous() for part in layers],
        )

    def _room(self, sizes: tuple[int, ...], shape: tuple[int, int], more: int) -> Floats:
        assert _synthesis is not None
        size = _synthesis.scratch_size(sizes[0], *shape, sizes[3] + more)
        if self._scratch.size < size:
            self._scratch = np.zeros(size, np.float32)
        return self._scratch[:size]


def _shape(features: Tensor) -> tuple[int, int]:
    return features.shape[1], features.shape[2]


def _sizes(
    features: Tensor, first: Tensor, output: Tensor, kernels: list[Tensor]
) -> tuple[int, int, int, int]:
    """Channels, features, hidden units and 3x3 layers."""
    return output.shape[0], features.shape[0], first.shape[0], len(kernels)


def _arrays(
    features: Tensor, first: Tensor, output: Tensor, kernels: list[Tensor], biases: list[Tensor]
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    nothing = first.new_zeros(0)
    kernel = torch.stack(kernels) if kernels else nothing
    bias = torch.stack(biases) if biases else nothing
    return _array(features), _array(first), _array(output), _array(kernel), _array(bias)


def _array(values: Tensor) -> Floats:
    return np.ascontiguousarray(values.detach().numpy())
