"""Networks to symbols: the limits of the format, and doing it twice."""

from __future__ import annotations

import pytest
import torch

from codec.fit.core_distortion import CoreDistortion
from codec.fit.rdoq import coded_bits
from codec.network.coded import prior_weights
from codec.network.core import CoreCoordX
from codec.quantise_core import (
    ROOM,
    _SynthesisLoss,
    largest_share,
    quantise_networks,
    within_limits,
)
from codec.rate import ContextRate
from codec.signal import to_signal
from formats.context import ContextNetwork
from formats.core import CoreConfig
from formats.weights import CodedTensor
from tests.conftest import picture
from tests.core_nets import CPU, noisy_net, weights_of
from tests.formats.factory import of_prior


def fitted(first: float, hidden: float, out: float, prior: int) -> CoreCoordX:
    torch.manual_seed(0)
    config = of_prior(prior, levels=5) if prior else CoreConfig(levels=3)
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
    ("first", "hidden", "out"), [(300.0, 0.0, 0.0), (0.0, -9.0, 0.0), (0.1, 0.1, 3.0), (500, 5, -5)]
)
def test_rows_that_the_format_refuses_get_smaller(
    first: float, hidden: float, out: float, prior: int
) -> None:
    net = fitted(first, hidden, out, prior)
    weights = {name: value.clone() for name, value in net.by_name().items()}
    assert largest_share(weights) > 1
    allowed = within_limits(weights)
    # Exactly to the room that is left: the bounds are those of the format.
    assert largest_share(allowed) == pytest.approx(ROOM, rel=1e-5)
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


def test_quantising_again_does_not_make_it_worse() -> None:
    net, distortion, latents = noisy_net(2)
    rate = ContextRate(net.config, net.height, net.width, CPU)
    lam = 1e-3

    def total(coded: list[CodedTensor]) -> float:
        synthesis = weights_of(net, context=False)
        features = distortion.features(synthesis, net.latents)
        error = distortion.error(synthesis, distortion.smooth(synthesis, features))
        context = weights_of(net, context=True)
        bits = float(rate(context, latents, gradient=False, exact=True).bits)
        return bits + coded_bits([t.symbols for t in coded]) + error * net.pixels / lam

    first = quantise_networks(net, distortion, rate, latents, net.latents, lam)
    before = total(first)
    second = quantise_networks(net, distortion, rate, latents, net.latents, lam, first)
    assert total(second) <= before + 1e-3
    for old, new in zip(first, second, strict=True):
        if old.symbols.any() and new.symbols.any():
            assert old.step == new.step


def test_a_band_of_a_large_picture_stands_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every grid the rows of its own level, those of colour grids too."""
    config = CoreConfig(levels=3, width=4, hidden=4, colour=2, colour_level=1)
    target = to_signal(picture(64, 40), 8, CPU)
    found = {}
    for pixels in (10**9, 640):
        monkeypatch.setattr("codec.quantise_core.BAND_PIXELS", pixels)
        torch.manual_seed(0)
        net = CoreCoordX(config, {"y": 64, "x": 40}, 3)
        with torch.no_grad():
            for spec in net.specs:
                net.parameter(spec.name).add_(0.1 * torch.randn(spec.shape))
        net.latents = [torch.randn(q.shape).round() for q in net.latents]
        latents = torch.cat([q.flatten() for q in net.latents])
        distortion, rate = CoreDistortion(config, target), ContextRate(config, 64, 40, CPU)
        seen = []
        monkeypatch.setattr(
            "codec.quantise_core._SynthesisLoss",
            lambda d, grids, f, seen=seen, make=_SynthesisLoss: (
                seen.append((d.target, grids)) or make(d, grids, f)
            ),
        )
        quantise_networks(net, distortion, rate, latents, net.latents, 1e-3)
        found[pixels] = seen[0]
    (whole, grids), (part, some) = found[10**9], found[640]
    assert torch.equal(part, whole[:, 24:40])
    for level, grid, rows in zip(config.grid_levels, grids, some, strict=True):
        assert torch.equal(rows, grid[24 >> level : 40 >> level])
