"""The search of a network's symbols where its model of the loss does not hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from codec.fit.core_distortion import CoreDistortion
from codec.fit.weight_search import search_symbols
from codec.network.coded import prior_weights
from codec.network.core import CoreCoordX
from codec.quantise_core import largest_share, quantise_networks, within_limits
from codec.rate import ContextRate
from codec.signal import to_signal
from formats.context import ContextNetwork
from formats.core import CoreConfig
from tests.conftest import picture

CPU = torch.device("cpu")


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


def fitted(first: float, hidden: float, out: float, prior: int) -> CoreCoordX:
    torch.manual_seed(0)
    config = CoreConfig(levels=3, width=16, hidden=4, prior=prior) if not prior else CoreConfig(3)
    net = CoreCoordX(config, {"y": 24, "x": 20}, 3)
    with torch.no_grad():
        net.parameter("context.first")[1] = first
        net.parameter("context.hidden")[5] = hidden
        net.parameter("context.out")[1] = out
        net.parameter("output.bias").fill_(0.5)
    net.latents = [torch.randn(q.shape).round() for q in net.latents]
    return net


@pytest.mark.parametrize("prior", [0, 1])
@pytest.mark.parametrize(
    ("first", "hidden", "out"), [(3.0, 0.0, 0.0), (0.0, -9.0, 0.0), (0.1, 0.1, 1.5), (5, 5, -5)]
)
def test_rows_that_the_format_refuses_get_smaller(
    first: float, hidden: float, out: float, prior: int
) -> None:
    net = fitted(first, hidden, out, prior)
    weights = {spec.name: net.parameter(spec.name).detach().clone() for spec in net.specs}
    assert largest_share(net.config, weights) > 1
    allowed = within_limits(net.config, weights)
    assert largest_share(net.config, allowed) < 1
    for row in (0, 2):
        for name in ("context.first", "context.hidden"):
            assert torch.equal(allowed[name][row], weights[name][row])
    coded = quantise_networks(
        net,
        CoreDistortion(net.config, to_signal(picture(24, 20), 8, CPU)),
        ContextRate(net.config, net.height, net.width, CPU),
        torch.cat([q.flatten() for q in net.latents]),
        net.latents,
        1e-3,
    )
    tensors = {spec.name: tensor for spec, tensor in zip(net.specs, coded, strict=True)}
    ContextNetwork(net.config, tensors)  # raises where it is refused
    base = prior_weights(net)
    for name, tensor in tensors.items():
        wanted = torch.from_numpy(tensor.values) + base.get(name, 0)
        assert torch.equal(net.parameter(name).detach().double(), wanted.double())
