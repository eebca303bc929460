"""The search of a network's symbols, on losses that are known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from codec.fit.weight_search import NotFiniteError, search_symbols
from formats.weights import CodedTensor


class Cliff:
    """A loss that is flat, as its curvature says, but rises to the sky a little further on."""

    damping = 0.01

    def __init__(self, width: float) -> None:
        self.width = width

    def value(self, weights: Mapping[str, Tensor]) -> float:
        inside = all(bool((value - 1).abs().max() <= self.width) for value in weights.values())
        return 1000.0 if inside else 1e6

    def gradient(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {name: torch.full_like(value, 3.0) for name, value in weights.items()}

    def curvature(self, weights: Mapping[str, Tensor]) -> npt.NDArray[np.float64]:
        return np.eye(sum(value.numel() for value in weights.values()))


@pytest.mark.parametrize("width", [0.02, 0.2])
def test_a_model_that_leads_over_a_cliff_is_not_followed(width: float) -> None:
    weights = {"context.first": torch.ones(3, 5), "context.out": torch.ones(2, 3)}
    coded = search_symbols(Cliff(width), weights, {})
    for name, value in weights.items():
        assert np.abs(coded[name].values - value.numpy()).max() <= width


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_without_a_model_is_refused(bad: float) -> None:
    loss = Cliff(1.0)
    loss.gradient = lambda weights: {n: v * bad for n, v in weights.items()}  # type: ignore[method-assign]
    with pytest.raises(NotFiniteError, match="not finite"):
        search_symbols(loss, {"context.out": torch.ones(2, 3)}, {})


class Bowl(Cliff):
    """Bits that rise with the square of the distance from 1."""

    def value(self, weights: Mapping[str, Tensor]) -> float:
        return sum(float((5e4 * (value - 1) ** 2).sum()) for value in weights.values())

    def gradient(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {name: 1e5 * (value - 1) for name, value in weights.items()}

    def curvature(self, weights: Mapping[str, Tensor]) -> npt.NDArray[np.float64]:
        return 1e5 * super().curvature(weights)


def test_symbols_are_bettered_with_the_same_steps_and_empty_tensors_come_back() -> None:
    weights = {"context.first": torch.zeros(3, 5), "context.out": torch.zeros(2, 3)}
    start = {
        "context.first": CodedTensor(np.full((3, 5), 3, np.int32), -3),
        "context.out": CodedTensor(np.zeros((2, 3), np.int32), 0),
    }
    coded = search_symbols(Bowl(0), weights, {}, start)
    assert coded["context.first"].step == -3
    for name in weights:
        np.testing.assert_allclose(coded[name].values, 1, atol=0.02)
