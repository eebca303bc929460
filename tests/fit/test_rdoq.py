"""Rate-distortion optimised quantisation, against what can be known for certain."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from codec.fit.core_curvature import distortion_curvature
from codec.fit.core_distortion import CoreDistortion
from codec.fit.rdoq import LARGEST, Quadratic, coded_bits
from codec.network.core import CoreCoordX
from codec.quantise_core import quantise_networks
from codec.rate import ContextRate
from codec.rate.curvature import context_curvature
from codec.signal import to_signal
from formats.core import CoreConfig
from formats.entropy import symbol_bits
from tests.conftest import picture

CPU = torch.device("cpu")


def quadratic(seed: int, sizes: list[int], rank: int = 3) -> Quadratic:
    """A loss with few directions that matter."""
    rng = np.random.default_rng(seed)
    count = sum(sizes)
    rows = rng.normal(size=(rank, count))
    return Quadratic(
        rng.normal(size=count),
        rng.normal(size=count) * 0.1,
        100 * rows.T @ rows + np.eye(count),
        np.zeros(count),
        sizes,
        [-8] * len(sizes),
    )


def rounded(model: Quadratic, exponents: list[int]) -> np.ndarray:  # type: ignore[type-arg]
    return np.rint(model.centre / model.steps_of(exponents)).astype(np.int32)


def test_symbols_cost_less_than_rounded_ones() -> None:
    totals = np.zeros(3)
    exponents = [-3, -4]
    for seed in range(12):
        model = quadratic(seed, [30, 10])
        start = rounded(model, exponents)
        found = (start, model.solve(exponents, start), model.sequential(exponents, start))
        totals += [model.cost(symbols, exponents) for symbols in found]
        assert model.cost(found[1], exponents) < model.cost(start, exponents)
    assert totals[1] < 0.98 * totals[0]
    assert totals[2] < 0.98 * totals[0]


def test_a_solution_cannot_be_bettered_one_symbol_at_a_time() -> None:
    model = quadratic(0, [12], rank=2)
    found = model.solve([-2], rounded(model, [-2]), sweeps=50)
    prices = symbol_bits(found)

    def cost(symbols: np.ndarray) -> float:  # type: ignore[type-arg]
        d = symbols * 0.25 - model.centre
        loss = model.gradient @ d + 0.5 * d @ model.curvature @ d
        return float(loss + prices[symbols + len(prices) // 2].sum())

    for place, change in itertools.product(range(12), (-2, -1, 1, 2)):
        other = found.copy()
        other[place] += change
        assert cost(other) >= cost(found) - 1e-9


def test_a_search_of_steps_does_not_lose() -> None:
    model = quadratic(3, [40, 20])
    start = model.solve([-7, -1], rounded(model, [-7, -1]))
    symbols, exponents = model.search(start, [-7, -1])
    assert model.cost(symbols, exponents) < model.cost(start, [-7, -1])
    assert all(-8 <= exponent <= 1 for exponent in exponents)


def test_symbols_stay_within_the_tables() -> None:
    model = Quadratic(np.array([1e9]), np.zeros(1), np.eye(1) * 1e12, np.zeros(1), [1], [0])
    assert model.solve([0], np.zeros(1, np.int32), sweeps=50).max() <= LARGEST


def noisy(seed: int = 0) -> tuple[CoreCoordX, CoreDistortion, torch.Tensor]:
    """A network with weights and latents that do something."""
    torch.manual_seed(seed)
    net = CoreCoordX(CoreConfig(levels=3, width=4, hidden=4), {"y": 24, "x": 20}, 3)
    with torch.no_grad():
        for spec in net.specs:
            net.parameter(spec.name).add_(0.1 * torch.randn(spec.shape))
        net.parameter("output.bias").fill_(0.5)
        net.parameter("context.level")[1] = -2.0
    latents = torch.cat([q.flatten() for q in net.latents]).normal_(0, 1).round()
    return net, CoreDistortion(net.config, to_signal(picture(24, 20), 8, CPU)), latents


def parts(net: CoreCoordX, latents: torch.Tensor) -> list[torch.Tensor]:
    sizes = [q.numel() for q in net.latents]
    return [p.view(q.shape) for p, q in zip(latents.split(sizes), net.latents, strict=True)]


def test_curvature_of_the_distortion_is_that_of_its_derivatives() -> None:
    """Gauss-Newton from autograd, on a picture so small that the patches cover it."""
    net, distortion, latents = noisy()
    grids = parts(net, latents)
    weights = {
        spec.name: net.parameter(spec.name).detach()
        for spec in net.specs
        if not spec.name.startswith("context.")
    }
    found = distortion_curvature(distortion, weights, grids)
    net.latents = grids

    def samples(name: str, value: torch.Tensor) -> torch.Tensor:
        changed = weights | {name: value}
        features = distortion.features(changed, grids)
        out = distortion.smooth(changed, features)
        for layer in ("residual0", "residual1"):
            kernel, bias = changed[f"{layer}.weight"], changed[f"{layer}.bias"]
            padded = torch.nn.functional.pad(out[None], (1, 1, 1, 1), mode="replicate")
            out = out + torch.nn.functional.conv2d(padded, kernel, bias)[0]
        return out.flatten()

    start = 0
    for name, value in weights.items():
        size = value.numel()
        if name in ("output.weight", "skip", "residual1.weight", "filter"):
            columns = []
            for place in range(size):
                moved = value.clone()
                moved.view(-1)[place] += 1e-2
                columns.append((samples(name, moved) - samples(name, value)) / 1e-2)
            jacobian = torch.stack(columns).double()
            wanted = (jacobian @ jacobian.t() * (2 / jacobian.shape[1])).numpy()
            block = found[start : start + size, start : start + size]
            scale = np.abs(wanted).max()
            assert np.abs(block - wanted).max() < 0.35 * scale  # borders, and which pixels
            assert np.corrcoef(block.ravel(), wanted.ravel())[0, 1] > 0.98
        start += size


def test_curvature_of_the_rate_predicts_what_a_move_costs() -> None:
    net, _, latents = noisy(1)
    rate = ContextRate(net.config, net.height, net.width, CPU)
    weights = {
        spec.name: net.parameter(spec.name).detach()
        for spec in net.specs
        if spec.name.startswith("context.")
    }
    curvature = context_curvature(rate, weights, latents)
    assert np.allclose(curvature, curvature.T, rtol=1e-3, atol=1e-3 * np.abs(curvature).max())
    assert np.linalg.eigvalsh(curvature).min() > -1e-3 * np.abs(curvature).max()
    names = list(weights)
    sizes = [weights[name].numel() for name in names]
    place = sum(sizes[: names.index("context.level")])
    here = rate(weights, latents)
    moved = dict(weights)
    moved["context.level"] = weights["context.level"].clone()
    moved["context.level"][0] += 0.5  # all means of all levels
    slope = float(here.weights["context.level"][0].sum()) * 0.5
    wanted = float(rate(moved, latents).bits - here.bits) - slope
    levels = net.config.levels
    predicted = 0.5 * 0.25 * curvature[place : place + levels, place : place + levels].sum()
    assert wanted == pytest.approx(predicted, rel=0.5)


def test_quantising_again_does_not_make_it_worse() -> None:
    net, distortion, latents = noisy(2)
    rate = ContextRate(net.config, net.height, net.width, CPU)
    grids, lam = parts(net, latents), 1e-3

    def total(coded: list) -> float:  # type: ignore[type-arg]
        weights = {spec.name: net.parameter(spec.name).detach() for spec in net.specs}
        context = {k: v for k, v in weights.items() if k.startswith("context.")}
        features = distortion.features(weights, grids)
        error = distortion.error(weights, distortion.smooth(weights, features))
        bits = float(rate(context, latents, gradient=False, exact=True).bits)
        return bits + coded_bits([t.symbols for t in coded]) + error * net.pixels / lam

    first = quantise_networks(net, distortion, rate, latents, grids, lam)
    before = total(first)
    second = quantise_networks(net, distortion, rate, latents, grids, lam, first)
    assert total(second) <= before + 1e-3
    assert [t.step for t in second if t.symbols.any()] == [
        t.step for t, u in zip(first, second, strict=True) if u.symbols.any()
    ]
