"""The context's weights on their way to multiples of their steps.

Quantised only after a fit, they need fine steps: of what the latents cost, the context that was
fitted to them knows a lot that coarse weights do not. So from a certain step on the loss sees
these weights as it sees the latents: softly rounded, with noise, harder and harder
(`codec/fit/soft.py`). Latents and weights adapt to what is left of each other, and at the end
rounding changes nothing any more (docs/experiments.md).

The synthesis is left alone: what disturbs it costs more than its quantisation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from codec.fit.soft import soft_round_noisy
from codec.fit.weight_price import WeightPrice

__all__ = ["FirmWeights"]


class FirmWeights:
    """Rounds the tensors "context.*" of a network.

    Args:
        weights: of a network, by name: what they are shaped like, on their device.
        price: has their steps, and what they are coded relative to.
    """

    def __init__(self, weights: Mapping[str, Tensor], price: WeightPrice) -> None:
        own = [name.startswith("context.") for name in weights]
        self._names = [name for name, mine in zip(weights, own, strict=True) if mine]
        assert own == sorted(own, reverse=True), "the context's tensors are the first"
        self._shapes = [weights[name].shape for name in self._names]
        self._sizes = [weights[name].numel() for name in self._names]
        self.count = sum(self._sizes)
        self._prior, self._inverse = price.prior[: self.count], price.inverse[: self.count]

    def __call__(
        self, weights: Mapping[str, Tensor], temperature: float, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What the loss sees of the weights, and the slope of that, as vectors.

        Args:
            weights: real-valued, by name.
            temperature: of the soft rounding.
            noise: (`count`,) in steps; None: the weights as they are.
        """
        flat = self._flat(weights)
        if noise is None:
            return flat, torch.ones_like(flat)
        symbols = (flat - self._prior) * self._inverse
        seen, slope = soft_round_noisy(symbols, temperature, noise)
        return self._prior + seen / self._inverse, slope

    def rounded(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The nearest multiples, by name."""
        symbols = ((self._flat(weights) - self._prior) * self._inverse).round_()
        return self.split(self._prior + symbols / self._inverse)

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """A vector as tensors by name."""
        parts = torch.split(flat, self._sizes)
        return {
            name: part.view(shape)
            for name, part, shape in zip(self._names, parts, self._shapes, strict=True)
        }

    def _flat(self, weights: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([weights[name].flatten() for name in self._names])
