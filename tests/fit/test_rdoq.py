"""Rate-distortion optimised quantisation, against what can be known for certain."""

from __future__ import annotations

import itertools

import numpy as np

from codec.fit.rdoq import (
    LARGEST,
    Quadratic,
    _cheapest,
    _Prices,
    inverse_factor,
    per_weight,
)
from formats.entropy import symbol_bits


def quadratic(seed: int, sizes: list[int], rank: int = 3) -> Quadratic:
    """A loss with few directions that matter."""
    rng = np.random.default_rng(seed)
    count = sum(sizes)
    rows = rng.normal(size=(rank, count))
    return Quadratic(
        rng.normal(size=count),
        rng.normal(size=count) * 0.1,
        100 * rows.T @ rows + 0.5 * np.eye(count),
        np.full(count, 0.5),
        np.zeros(count),
        sizes,
        [-8] * len(sizes),
    )


def rounded(model: Quadratic, exponents: list[int]) -> np.ndarray:  # type: ignore[type-arg]
    return np.rint(model.centre / per_weight(exponents, model.sizes)).astype(np.int32)


def in_order(model: Quadratic, exponents: list[int], like: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    curvature = model.curvature + np.diag(model.damping)
    order = np.argsort(-np.diag(curvature))
    factor = inverse_factor(curvature, order)
    assert factor is not None
    return model.sequential(exponents, like, order, factor)


def test_inverse_factor_is_one_of_the_inverse() -> None:
    model = quadratic(0, [20])
    order = np.random.default_rng(0).permutation(20)
    factor = inverse_factor(model.curvature, order)
    assert factor is not None
    np.testing.assert_array_equal(np.tril(factor, -1), 0)
    wanted = np.linalg.inv(model.curvature)[np.ix_(order, order)]
    np.testing.assert_allclose(factor.T @ factor, wanted, rtol=1e-9, atol=1e-12)
    assert inverse_factor(-model.curvature, order) is None


def test_later_weights_make_up_for_earlier_ones() -> None:
    """Without a price (all symbols of one table cost about the same) GPTQ beats rounding."""
    rounded_loss = sequential_loss = 0.0
    for seed in range(8):
        model = quadratic(seed, [24], rank=4)
        model.gradient[:] = 0
        near = rounded(model, [0])

        def loss(symbols: np.ndarray, model: Quadratic = model) -> float:  # type: ignore[type-arg]
            d = symbols - model.centre
            return float(d @ (model.curvature @ d))

        rounded_loss += loss(near)
        sequential_loss += loss(in_order(model, [0], near))
    assert sequential_loss < 0.5 * rounded_loss


def test_symbols_cost_less_than_rounded_ones() -> None:
    totals = np.zeros(3)
    exponents = [-3, -4]
    for seed in range(12):
        model = quadratic(seed, [30, 10])
        start = rounded(model, exponents)
        found = (start, model.solve(exponents, start), in_order(model, exponents, start))
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
        loss = model.gradient @ d + 0.5 * d @ (model.curvature @ d + 0.5 * d)
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
    zero = np.zeros(1)
    model = Quadratic(np.array([1e9]), zero, np.eye(1) * 1e12, zero, zero, [1], [0])
    assert model.solve([0], np.zeros(1, np.int32), sweeps=50).max() <= LARGEST


def test_all_weights_at_once_want_what_each_one_wants() -> None:
    rng = np.random.default_rng(0)
    spreads = (0.0, 0.3, 5.0, 400.0)
    tables = [symbol_bits(np.rint(rng.laplace(0, b, 50)).astype(np.int32)) for b in spreads]
    tensor = rng.integers(0, len(tables), 3000)
    optimum = rng.laplace(0, 3, 3000) * 10.0 ** rng.integers(-1, 4, 3000)
    optimum[::5] = np.rint(optimum[::5] * 2) / 2  # ties
    old = np.rint(optimum).astype(np.int64) + rng.integers(-2, 3, 3000)
    old = np.clip(old, -100, 100)
    bend = 10.0 ** rng.uniform(-3, 3, 3000)
    found = _Prices(tables).cheapest(old, optimum, bend, tensor)
    wanted = [
        _cheapest(int(o), float(x), float(b), tables[t])
        for o, x, b, t in zip(old, optimum, bend, tensor, strict=True)
    ]
    assert found.tolist() == wanted
