"""The ablation of rank features: gradients of what is fitted beside the latents."""

from __future__ import annotations

import pytest
import torch
from ablate_rank import RankDistortion

from codec.network.core import CoreCoordX
from formats.core import CoreConfig


@pytest.mark.parametrize("name", ["y", "x", "tail", "skip"])
def test_gradients_are_those_of_the_error(name: str) -> None:
    draw = torch.Generator().manual_seed(0)
    net = CoreCoordX(CoreConfig(levels=3, hidden=5), {"y": 16, "x": 12}, 3).double()
    rank = RankDistortion(net.config, torch.rand(3, 16, 12, generator=draw).double(), 2)
    # Small enough that no sample is clamped.
    rank.free = {key: 0.2 * value.double() for key, value in rank.free.items()}
    rank.free["skip"] += 0.03
    weights = {
        spec.name: net.parameter(spec.name).detach()
        for spec in net.specs
        if not spec.name.startswith("context.")
    }
    weights["output.weight"] += 0.1
    latents = [0.2 * torch.randn(q.shape, generator=draw).double() for q in net.latents]

    def error() -> float:
        return float(rank(weights, latents).mse)

    error()
    slope, place = float(rank.grad[name][1, 1]), rank.free[name][1]
    place[1] += 1e-5
    above = error()
    place[1] -= 2e-5
    assert slope == pytest.approx((above - error()) / 2e-5, rel=1e-4)
    assert slope != 0
