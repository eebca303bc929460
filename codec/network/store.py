"""Weights by name, in the order in which a file codes them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from formats.network import TensorSpec

__all__ = ["WeightStore"]


class WeightStore(nn.Module):
    """A network whose weights are the tensors of a format description.

    Args:
        specs: names and shapes, in coding order.
        initial: value of each tensor, called in coding order.
    """

    def __init__(
        self, specs: Sequence[TensorSpec], initial: Callable[[TensorSpec], Tensor]
    ) -> None:
        super().__init__()
        self.specs = list(specs)
        self.weights = nn.ParameterDict()
        self._substitute: Mapping[str, Tensor] | None = None
        for spec in self.specs:
            self.weights[spec.name.replace(".", "_")] = nn.Parameter(initial(spec))

    def tensor(self, name: str) -> Tensor:
        """The weight tensor of this name, or what stands in for it (`using`)."""
        if self._substitute is not None:
            return self._substitute[name]
        return self.parameter(name)

    def parameter(self, name: str) -> nn.Parameter:
        """The stored weight of this name, whatever is substituted for it at the moment."""
        parameter: nn.Parameter = self.weights[name.replace(".", "_")]
        return parameter

    def by_name(self) -> dict[str, Tensor]:
        """The stored weights by name, without their gradients: not copies, but themselves."""
        return {spec.name: self.parameter(spec.name).detach() for spec in self.specs}

    def accepts(self, weights: Mapping[str, Tensor]) -> bool:
        """Whether `weights` have the names and shapes of this network."""
        shapes = {name: tuple(w.shape) for name, w in weights.items()}
        return shapes == {spec.name: spec.shape for spec in self.specs}

    def assign(self, weights: Mapping[str, Tensor]) -> None:
        """Copy weights in by name."""
        with torch.no_grad():
            for spec in self.specs:
                self.parameter(spec.name).copy_(weights[spec.name])

    @contextlib.contextmanager
    def using(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Evaluate with other weights (quantised ones, say) inside a `with` block."""
        self._substitute = weights
        try:
            yield
        finally:
            self._substitute = None
