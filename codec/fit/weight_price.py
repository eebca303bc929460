"""The gradient of the bits that network weights will cost, of all tensors at once.

Of a tensor's Laplace model (codec/fit/rate.py) the bits of a weight rise by -log2(theta) for each
quantisation step that it is larger; theta follows from the tensor's mean magnitude.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from codec.fit.rate import laplace_theta
from codec.fit.weight_search import typical_step

__all__ = ["WeightPrice"]


class WeightPrice:
    """Prices the weights of a network.

    Args:
        weights: by name: what they are shaped like, on their device.
        prior: what some of them are coded relative to.

    Attributes:
        prior, inverse: (n,) of all weights, in their order: what they are coded relative to, and
            one over their steps.
    """

    def __init__(self, weights: Mapping[str, Tensor], prior: Mapping[str, Tensor]) -> None:
        self._names = list(weights)
        self._shapes = [w.shape for w in weights.values()]
        self._sizes = [w.numel() for w in weights.values()]
        some = next(iter(weights.values()))
        tensor = torch.repeat_interleave(torch.tensor(self._sizes))
        member = torch.nn.functional.one_hot(tensor).to(some)
        steps = torch.tensor([2.0 ** typical_step(name) for name in self._names])
        self._tensor = tensor.to(some.device)
        self._average = (member / member.sum(0)).t().contiguous()
        self.inverse = (1 / steps)[tensor].to(some)
        self.prior = _flat([prior.get(n, torch.zeros_like(w)) for n, w in weights.items()])

    def gradient(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """d bits / d weight, by name."""
        symbols = (_flat([weights[n] for n in self._names]) - self.prior) * self.inverse
        slope = -torch.log2(laplace_theta(self._average @ symbols.abs()))
        found = slope[self._tensor] * torch.sign(symbols) * self.inverse
        parts = torch.split(found, self._sizes)
        return {
            name: part.view(shape)
            for name, part, shape in zip(self._names, parts, self._shapes, strict=True)
        }


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])
