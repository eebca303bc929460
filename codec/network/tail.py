"""The 1x1 layers after the fusion: a hidden layer of ReLUs, and a linear way around it.

Biases are weights of one more feature, which is always one, and the gain of the latents is part
of the weights: a matrix product each, without a pass over memory for anything else. Hidden
activations are many times the size of the picture; in chunks they stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["WEIGHTS", "Tail", "features_of"]

WEIGHTS = ("tail.weight", "tail.bias", "output.weight", "output.bias", "skip")
"""Names of the tensors of a tail."""
CHUNK = 2**18
"""Hidden activations of a chunk on a CPU: 1 MiB, and as much again on the way back of a fit."""
GPU_CHUNK = 2**27


def features_of(planes: Sequence[Tensor]) -> Tensor:
    """Interpolated latents (h, w) of every grid, and the ones: (grids + 1, h, w)."""
    return torch.stack([*planes, torch.ones_like(planes[0])])


class Tail:
    """The 1x1 layers of one set of weights.

    Args:
        weights: `WEIGHTS` by name.
        gain: of the latents.

    Attributes:
        first, skip: (hidden, grids + 1) and (channels, grids + 1) weights of the features.
        output: (channels, hidden).
    """

    def __init__(self, weights: Mapping[str, Tensor], gain: float) -> None:
        w = weights
        self.first = torch.cat([w["tail.weight"] * gain, w["tail.bias"][:, None]], 1)
        self.skip = torch.cat([w["skip"] * gain, w["output.bias"][:, None]], 1)
        self.output = w["output.weight"]

    @property
    def joint(self) -> Tensor:
        """(channels, hidden + grids + 1): of hidden units, then of features."""
        return torch.cat([self.output, self.skip], 1)

    def hidden(self, features: Tensor) -> Tensor:
        """Activations (hidden, n) of features (grids + 1, n)."""
        return torch.mm(self.first, features).clamp_(min=0)

    def chunks(self, features: Tensor) -> Iterator[slice]:
        """Parts of the pixels of features (grids + 1, n)."""
        size = max(1, (CHUNK if features.device.type == "cpu" else GPU_CHUNK) // len(self.first))
        for start in range(0, features.shape[1], size):
            yield slice(start, start + size)

    def squared_slopes(self, features: Tensor) -> Tensor:
        """Squares of the derivatives of all channels by each grid, added up: (grids, n)."""
        found = features.new_zeros(features.shape[0] - 1, features.shape[1])
        for chunk in self.chunks(features):
            active = (self.hidden(features[:, chunk]) > 0).to(features)
            for output, skip in zip(self.output, self.skip, strict=True):
                slope = torch.mm((output[:, None] * self.first[:, :-1]).t(), active)
                found[:, chunk] += (slope + skip[:-1, None]).square_()
        return found

    def __call__(self, features: Tensor) -> Tensor:
        """Samples (channels, n) of features (grids + 1, n)."""
        out = torch.mm(self.skip, features)
        for chunk in self.chunks(features):
            out[:, chunk].addmm_(self.output, self.hidden(features[:, chunk]))
        return out
