"""The curvature of the rate: rows of derivatives, and what they predict."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from codec.rate import ContextRate
from codec.rate.context import NATS, log_scale_of
from codec.rate.curvature import Collector, context_curvature
from codec.rate.laplace import laplace_bits_each, laplace_rate
from formats.core import CoreConfig
from tests.core_nets import CPU, SMALL, noisy_net, weights_of


class SumOfRows(Collector):
    """Weighs outputs by the slopes of the bits: the rows then sum to the gradient of the rate."""

    def weigh(self, targets: Tensor, mean: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        self.rows = getattr(self, "rows", torch.zeros(len(self.total)))
        _, slope, by_log = laplace_rate(targets, mean, log_scale_of(index))
        return -slope, by_log * 8 * NATS

    def take(self, rows: Tensor, factor: float) -> None:
        assert factor == 1
        self.rows += rows.sum(0)


@pytest.mark.parametrize(
    ("config", "height", "width"),
    [
        (SMALL, 24, 20),
        (CoreConfig(levels=4, width=5, hidden=4, block=3), 21, 31),
        (CoreConfig(levels=1, width=5, hidden=4, block=3), 21, 31),
        (CoreConfig(levels=3, width=3, hidden=4), 170, 180),
        (CoreConfig(levels=3, width=3, hidden=4, block=5), 170, 180),
        (CoreConfig(levels=5, width=4, hidden=4, block=4, tile=8), 300, 300),
        (CoreConfig(levels=4, width=5, hidden=4, colour=3, colour_level=1), 21, 31),
        (CoreConfig(levels=3, width=3, hidden=4, block=5, colour=3), 170, 180),
    ],
    ids=[
        *("gathered", "small blocks", "one level", "bands", "bands of blocks", "tiles"),
        *("colour", "bands of colour"),
    ],
)
def test_rows_are_the_derivatives(config: CoreConfig, height: int, width: int) -> None:
    net, _, latents = noisy_net(0, config, height, width)
    rate = ContextRate(config, height, width, CPU)
    weights = weights_of(net, context=True)
    collector = SumOfRows(rate, weights, latents)
    collector.share = 1.0
    collector.curvature()
    gradient = rate(weights, latents).weights
    wanted = torch.cat([gradient[name].flatten() for name in weights])
    torch.testing.assert_close(
        collector.rows, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max())
    )


@pytest.mark.parametrize(("height", "width"), [(24, 20), (130, 140)])
def test_curvature_predicts_what_a_move_costs(height: int, width: int) -> None:
    net, _, latents = noisy_net(1, height=height, width=width)
    rate = ContextRate(net.config, height, width, CPU)
    weights = weights_of(net, context=True)
    curvature = context_curvature(rate, weights, latents)
    assert np.allclose(curvature, curvature.T, rtol=1e-3, atol=1e-3 * np.abs(curvature).max())
    assert np.linalg.eigvalsh(curvature).min() > -1e-3 * np.abs(curvature).max()
    names = list(weights)
    place = sum(weights[name].numel() for name in names[: names.index("context.level")])
    moved = dict(weights)
    moved["context.level"] = weights["context.level"].clone()
    moved["context.level"][0] += 0.5  # all means of all levels
    here = rate(weights, latents)
    slope = float(here.weights["context.level"][0].sum()) * 0.5
    wanted = float(rate(moved, latents).bits - here.bits) - slope
    levels = net.config.levels
    predicted = 0.5 * 0.25 * curvature[place : place + levels, place : place + levels].sum()
    assert wanted == pytest.approx(predicted, rel=0.5)


def test_bits_of_each_latent_sum_to_the_rate_where_it_has_no_floor() -> None:
    torch.manual_seed(0)
    targets, mean = torch.randint(-4, 5, (2, 500)).float(), torch.randn(2, 500)
    log_scale = 2 * torch.rand(2, 500)
    each = laplace_bits_each(targets, mean, log_scale)
    assert each.shape == targets.shape
    total, *_ = laplace_rate(targets, mean, log_scale)
    assert float(each.sum()) == pytest.approx(float(total), rel=1e-5)
    far = laplace_bits_each(torch.tensor([40.0]), torch.zeros(1), torch.zeros(1))
    wanted = 39.5 * np.log2(np.e) - np.log2(0.5 * (1 - np.exp(-1)))
    assert float(far) == pytest.approx(wanted, rel=1e-5)
