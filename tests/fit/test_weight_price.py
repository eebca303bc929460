"""The price of all network weights against the derivative of their bits, tensor by tensor."""

from __future__ import annotations

import torch

from codec.fit.rate import laplace_bits
from codec.fit.weight_price import WeightPrice
from codec.fit.weight_search import typical_step
from codec.network.coded import prior_weights
from codec.network.core import CoreCoordX
from codec.network.presets import core_network


def test_gradients_are_those_of_the_bits() -> None:
    net = CoreCoordX(core_network(24, 32, 1e-3, 0), {"y": 24, "x": 32}, 4, seed=3)
    prior = prior_weights(net)
    weights = {name: value.clone() for name, value in net.by_name().items()}
    assert set(prior) < set(weights)  # some tensors have a prior, some have none
    weights["output.bias"][:] = prior["output.bias"]  # costs nothing: no slope at zero
    found = WeightPrice(weights, prior).gradient(weights)
    assert list(found) == list(weights)
    for name, weight in weights.items():
        leaf = weight.clone().requires_grad_()
        symbols = (leaf - prior[name] if name in prior else leaf) / 2.0 ** typical_step(name)
        expected = torch.autograd.grad(laplace_bits(symbols), leaf)[0]
        torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-3)
    assert not found["output.bias"].any()
