"""The context's weights on their way to multiples of their steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from codec.fit.core_config import CoreFitConfig
from codec.fit.core_loop import CoreFitter
from codec.fit.firm_weights import FirmWeights
from codec.fit.weight_price import WeightPrice
from codec.fit.weight_search import typical_step
from codec.network.coded import prior_weights, start_from_prior
from codec.network.core import CoreCoordX
from codec.network.presets import core_network
from codec.signal import to_signal
from formats.core import CoreConfig
from tests.conftest import picture

CPU = torch.device("cpu")


def weights_and_prior(seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    config = CoreConfig(levels=3, width=6, hidden=5)
    weights = {spec.name: torch.randn(spec.shape) for spec in config.tensors({}, 3)}
    return weights, {"context.hidden": torch.randn(6, 6), "skip": torch.randn(3, 3)}


def test_weights_are_drawn_to_multiples_from_the_prior_on() -> None:
    weights, prior = weights_and_prior()
    firm = FirmWeights(weights, WeightPrice(weights, prior))
    hard = firm.rounded(weights)
    assert list(hard) == [name for name in weights if name.startswith("context.")]
    assert firm.count == sum(value.numel() for value in hard.values())
    for name, value in hard.items():
        symbols = (value - prior.get(name, 0)) * 2.0 ** -typical_step(name)
        torch.testing.assert_close(symbols, symbols.round(), atol=1e-3, rtol=0)
        assert float((value - weights[name]).abs().max()) <= 2.0 ** (typical_step(name) - 1) + 1e-6
    nothing = torch.zeros(firm.count)
    seen = firm.split(firm(weights, 0.01, nothing)[0])
    there = torch.cat([(seen[n] - v).abs().flatten() < 1e-3 for n, v in hard.items()])
    assert float(there.float().mean()) > 0.9
    seen = firm.split(firm(weights, 10.0, nothing)[0])
    for name, value in seen.items():
        torch.testing.assert_close(value, weights[name], atol=1e-3, rtol=0)


def test_without_noise_given_weights_are_what_they_are() -> None:
    weights, prior = weights_and_prior()
    firm = FirmWeights(weights, WeightPrice(weights, prior))
    seen, slopes = firm(weights, 0.3, None)
    for name, value in firm.split(seen).items():
        assert torch.equal(value, weights[name])
    assert torch.equal(slopes, torch.ones(firm.count))


def test_slopes_are_the_derivative() -> None:
    weights, prior = weights_and_prior(1)
    weights = {name: value.double() for name, value in weights.items()}
    price = WeightPrice(weights, {name: value.double() for name, value in prior.items()})
    firm = FirmWeights(weights, price)
    noise = 0.1 * torch.randn(firm.count, dtype=torch.float64)
    seen, slopes = firm(weights, 0.3, noise.clone())
    moved = {name: value + 1e-7 for name, value in weights.items()}
    numeric = (firm(moved, 0.3, noise.clone())[0] - seen) / 1e-7
    # Where a weight crosses a whole step the two sides differ.
    assert float(((numeric - slopes).abs() < 1e-3).double().mean()) > 0.99


def fitted(**changes: float) -> tuple[CoreFitter, CoreFitter]:
    """A fit as it ends, and the same one right before its networks are quantised."""
    target = to_signal(picture(40, 56), 8, CPU)
    config = core_network(40, 56, 1e-3, 0)
    found = []
    for stop in (True, False):
        net = CoreCoordX(config, {"y": 40, "x": 56}, 3)
        start_from_prior(net)
        fit = CoreFitter(net, target, replace(CoreFitConfig.of(1e-3, 80), **changes))  # type: ignore[arg-type]
        while not fit.finished and not (stop and fit.step == fit.config.soft_steps):
            fit.advance()
        found.append(fit)
    return found[0], found[1]


def test_rounding_at_the_end_of_the_soft_stage_costs_little() -> None:
    """The loss has seen almost what rounding leaves; weights that were free are hurt by it."""
    cost = {}
    for name, share in (("firm", 0.5), ("free", 1.0)):
        fit, _ = fitted(firm_from=share)
        latents = fit.latents.round()
        price = WeightPrice(fit.net.by_name(), prior_weights(fit.net))
        hard = FirmWeights(fit.net.by_name(), price).rounded(fit.net.by_name())
        at_end = replace(fit.config, firm_from=0.0)
        last = fit.loss.firm(
            fit.net.by_name(),
            at_end.firmness(fit.step - 1) or 1.0,
            torch.zeros(fit.loss.firm.count),
        )[0]
        seen = fit.loss.firm.split(last) if name == "firm" else fit.net.by_name()
        context = {n: seen[n] for n in hard}
        soft = float(fit.loss.rate(context, latents, gradient=False).bits)
        cost[name] = float(fit.loss.rate(hard, latents, gradient=False).bits) / soft - 1
    assert abs(cost["firm"]) < 0.02
    assert cost["free"] > 2 * abs(cost["firm"])


def test_the_quantised_network_begins_at_what_was_seen() -> None:
    fit, done = fitted(firm_from=0.5)
    hard = fit.loss.firm.rounded(fit.net.by_name())
    for name, value in done.start_weights.items():
        torch.testing.assert_close(value, hard.get(name, fit.net.by_name()[name]))


@pytest.mark.parametrize("steps", [1, 2, 10, 200, 10_000])
def test_firmness_falls_until_networks_are_quantised(steps: int) -> None:
    config = CoreFitConfig.of(1e-3, steps)
    values = [config.firmness(step) for step in range(steps)]
    inside = [value for value in values if value is not None]
    assert inside == sorted(inside, reverse=True)
    assert all(0.05 <= value <= 0.5 for value in inside)
    assert all(value is None for value in values[config.soft_steps :])
    if steps >= 10:
        assert abs(len(inside) / steps - 0.33) < 0.08
    assert not any(replace(config, firm_from=1.0).firmness(step) for step in range(steps))
