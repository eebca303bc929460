import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from codec.fit.budget import transform_bits
from codec.fit.loop import FitConfig, Fitter, Progress
from codec.fit.objective import backward_through, distortion
from codec.fit.optim import build_optimiser
from codec.fit.rate import laplace_bits
from codec.fit.sampler import Sampler
from codec.fit.state import load_state, save_state
from codec.network import AxisGrid, CoordX
from codec.network.presets import sized_network
from codec.quantise import coded_bits, load_tensors, water_fill
from codec.signal import to_signal
from formats.entropy import best_table
from formats.errors import InputError, ResumeError
from formats.network import NetworkConfig
from tests.conftest import clip, picture

CPU = torch.device("cpu")
NET = sized_network("x+y", 8)
CONFIG = FitConfig(lam=1e-3, steps=60, rate=0.1, batch=2**12)


def signal() -> torch.Tensor:
    return to_signal(picture(), 8, CPU)


def fitter(config: FitConfig = CONFIG, target: torch.Tensor | None = None) -> Fitter:
    target = signal() if target is None else target
    net = CoordX(NET, {"y": target.shape[1], "x": target.shape[2]}, target.shape[0], seed=0)
    return Fitter(net, target, config)


# -- rate ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0, 80.0])
def test_estimated_bits_follow_the_real_tables(scale: float) -> None:
    q = np.rint(np.random.default_rng(0).laplace(0, scale, 5000))
    estimate = float(laplace_bits(torch.from_numpy(q)))
    assert estimate == pytest.approx(best_table(q.astype(np.int64))[1], rel=0.02, abs=20)


def test_rate_pulls_every_weight_towards_zero() -> None:
    q = torch.tensor([-7.3, -0.4, 0.2, 3.0, 11.0], requires_grad=True)
    torch.autograd.backward([laplace_bits(q)])
    assert q.grad is not None
    assert torch.equal(q.grad.sign(), q.detach().sign())
    zeros = torch.zeros(9, requires_grad=True)
    assert float(laplace_bits(zeros).detach()) < 0.1
    assert torch.isfinite(laplace_bits(torch.full((3,), 1e6)))


# -- objective ----------------------------------------------------------------------------


@pytest.mark.parametrize("partition", ["x+y", "xy", "x+y+t", "xy+t", "xt+y", "xyt"])
def test_tiled_gradients_equal_those_of_the_whole_graph(
    partition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = NetworkConfig(partition=partition, width=5, features=4, rank=2)
    lengths = {a: n for a, n in (("t", 3), ("y", 6), ("x", 7)) if a in config.axes}
    net = CoordX(config, lengths, 2, seed=0)
    grid = AxisGrid.full(lengths)
    target = torch.rand(2, *grid.shape, generator=torch.Generator().manual_seed(1))
    whole = (net(grid) - target).square().mean()
    torch.autograd.backward([whole])
    expected = {s.name: net.parameter(s.name).grad.clone() for s in net.specs}  # type: ignore[union-attr]
    net.zero_grad()
    monkeypatch.setattr("codec.fit.objective.tile_samples", lambda *_: 15)
    weights = {s.name: net.parameter(s.name) for s in net.specs}
    loss = backward_through(
        net,
        grid,
        weights,
        lambda s, r: (s - target[(slice(None), *r)]).square().sum() / target.numel(),
    )
    assert float(loss) == pytest.approx(float(whole.detach()), rel=1e-5)
    for name, gradient in expected.items():
        got = net.parameter(name).grad
        assert got is not None
        assert torch.allclose(got, gradient, atol=1e-6), name
    assert distortion(net, grid, target, weights) == pytest.approx(float(whole.detach()), rel=1e-5)


def test_distortion_rounds_like_the_decoder() -> None:
    net = CoordX(NET, {"y": 4, "x": 4}, 1, seed=0)
    grid = AxisGrid.full({"y": 4, "x": 4})
    weights = {s.name: net.parameter(s.name) for s in net.specs}
    with torch.no_grad():
        exact = (net(grid).clamp(0, 1) * 255).round() / 255
    assert distortion(net, grid, exact, weights, levels=255) == 0
    assert distortion(net, grid, exact, weights) > 0


# -- sampler ------------------------------------------------------------------------------


def test_sub_grids_are_cartesian_and_repeatable() -> None:
    target = torch.arange(6 * 8 * 10, dtype=torch.float32).reshape(1, 6, 8, 10)
    grid = AxisGrid.full({"t": 6, "y": 8, "x": 10})
    sampler = Sampler(grid, target, batch=120, seed=3)
    part, values = sampler.draw(4)
    assert math.prod(part.shape) <= 160
    assert part.shape[2] == 10
    t, y, x = part.coords
    expected = t[:, None, None] * 80 + y[None, :, None] * 10 + x
    assert torch.equal(values[0], expected)
    assert torch.equal(sampler.draw(4)[1], values)
    assert not torch.equal(sampler.draw(5)[1], values)


def test_small_signals_are_seen_whole() -> None:
    target = torch.zeros(1, 8, 10)
    grid = AxisGrid.full({"y": 8, "x": 10})
    assert Sampler(grid, target, batch=80, seed=0).draw(0)[0] is grid


def test_every_row_is_drawn_sooner_or_later() -> None:
    target = torch.zeros(1, 40, 10)
    sampler = Sampler(AxisGrid.full({"y": 40, "x": 10}), target, batch=50, seed=0)
    seen = {int(v) for step in range(200) for v in sampler.draw(step)[0]["y"]}
    assert seen == set(range(40))


# -- quantisation -------------------------------------------------------------------------


def test_steps_grow_with_lambda_and_shrink_with_curvature() -> None:
    weights = {"a": torch.ones(4), "b": torch.ones(4)}
    steps = water_fill({"a": 1.0, "b": 256.0}, weights, lam=1e-3, pixels=1000)
    assert steps["a"] - steps["b"] == 4
    coarse = water_fill({"a": 1.0, "b": 256.0}, weights, lam=0.256, pixels=1000)
    assert coarse["a"] - steps["a"] == 4


def test_steps_keep_large_weights_inside_the_tables() -> None:
    steps = water_fill({"a": 1e12}, {"a": torch.tensor([1000.0])}, lam=1e-6, pixels=10**6)
    assert 1000 / 2.0 ** steps["a"] <= 65535


def test_curvature_estimate_predicts_the_harm_of_noise() -> None:
    """Second-order prediction against measurement, for one tensor."""
    fit = fitter(replace(CONFIG, steps=200))
    while fit.step < 80:
        fit.advance()
    name = "shared1.weight"
    probes = [fit._curvature() for _ in range(8)]  # each with random signs of its own
    weights = probes[0][1]
    curvature = np.mean([found[name] for found, _ in probes])
    base = distortion(fit.net, fit.grid, fit.target, weights)
    generator = torch.Generator().manual_seed(0)
    size = 0.02
    harms = []
    for _ in range(24):
        noise = (torch.rand(weights[name].shape, generator=generator) - 0.5) * size
        for sign in (1, -1):  # in pairs, of which the slope is no part
            noisy = {**weights, name: weights[name].detach() + sign * noise}
            harms.append(distortion(fit.net, fit.grid, fit.target, noisy) - base)
    predicted = 0.5 * curvature * size**2 / 12 * weights[name].numel()
    assert predicted == pytest.approx(float(np.mean(harms)), rel=0.25)


# -- budget -------------------------------------------------------------------------------


def test_busier_pictures_deserve_more_bits() -> None:
    flat = torch.full((3, 64, 64), 0.5)
    noise = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert transform_bits(flat, 1e-3) < 64
    assert transform_bits(noise, 1e-3) > 5 * transform_bits(
        torch.nn.functional.interpolate(noise[None, :, ::8, ::8], size=64, mode="bilinear")[0], 1e-3
    )
    assert transform_bits(noise, 1e-4) > transform_bits(noise, 1e-2)


def test_still_clips_cost_little_more_than_their_first_frame() -> None:
    frame = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    still = frame.expand(3, 8, 32, 32)
    # The mean over time costs a little more than one frame; eight frames would cost 8 times.
    assert transform_bits(still, 1e-2) < 5 * transform_bits(frame, 1e-2)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 9), (4, 7, 100), (3, 2, 3, 17)])
def test_any_size_has_a_budget(shape: tuple[int, ...]) -> None:
    bits = transform_bits(torch.rand(shape), 1e-3)
    assert 0 <= bits <= 12 * torch.Size(shape).numel()


# -- loop ---------------------------------------------------------------------------------


def test_a_fit_lowers_the_error_and_returns_integers_that_reproduce_it() -> None:
    fit = fitter(replace(CONFIG, steps=150))
    reports: list[Progress] = []
    coded = fit.run(reports.append)
    assert [r.stage for r in reports] == sorted(
        (r.stage for r in reports), key=["float", "soft", "hard"].index
    )
    assert reports[-1].psnr > reports[0].psnr + 8
    assert reports[-1].bpp * fit.pixels == pytest.approx(coded_bits(coded), rel=0.1, abs=300)
    decoded = CoordX(NET, fit.net.lengths, 3, seed=None)
    load_tensors(decoded, coded)
    weights = {s.name: decoded.parameter(s.name) for s in decoded.specs}
    mse = distortion(decoded, fit.grid, fit.target, weights)
    assert mse + fit.lam * coded_bits(coded) / fit.pixels == pytest.approx(fit.best_loss)
    assert -10 * math.log10(mse) > 20


def test_same_seed_same_integers() -> None:
    first, second = fitter().run(), fitter().run()
    assert all(np.array_equal(a.symbols, b.symbols) for a, b in zip(first, second, strict=True))
    other = fitter(replace(CONFIG, seed=1)).run()
    assert not all(np.array_equal(a.symbols, b.symbols) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("stop", [3, 30, 50])
@pytest.mark.parametrize("optimiser", ["soap", "adam"])
def test_a_resumed_fit_equals_an_uninterrupted_one(
    stop: int, optimiser: str, tmp_path: Path
) -> None:
    config = replace(CONFIG, optimiser=optimiser, rate=0.02)
    whole = fitter(config)
    expected = whole.run()
    first = fitter(config)
    while first.step < stop:
        first.advance()
    save_state(tmp_path / "state", first.state())
    second = fitter(config)
    second.restore(load_state(tmp_path / "state", CPU))
    got = second.run()
    assert all(np.array_equal(a.symbols, b.symbols) for a, b in zip(expected, got, strict=True))
    assert second.best_loss == whole.best_loss


def test_a_target_in_bits_is_met() -> None:
    for bits in (1500.0, 3000.0):
        fit = fitter(replace(CONFIG, steps=200, target_bits=bits))
        assert coded_bits(fit.run()) == pytest.approx(bits, rel=0.12)


def test_higher_lambda_gives_fewer_bits() -> None:
    costs = [coded_bits(fitter(replace(CONFIG, lam=lam)).run()) for lam in (1e-4, 1e-2)]
    assert costs[1] < 0.8 * costs[0]


def test_clips_are_fitted_on_sub_grids() -> None:
    target = to_signal(clip(), 8, CPU)
    net = CoordX(sized_network("x+y+t", 8), {"t": 5, "y": 16, "x": 20}, 3, seed=0)
    fit = Fitter(net, target, replace(CONFIG, steps=120, batch=400))
    reports: list[Progress] = []
    fit.run(reports.append)
    assert reports[-1].psnr > reports[0].psnr + 5


def test_unknown_optimisers_are_refused() -> None:
    with pytest.raises(InputError, match="soap, adam"):
        build_optimiser("sgd", [torch.nn.Parameter(torch.zeros(1))], 0.1)


# -- state --------------------------------------------------------------------------------


def test_states_keep_types_and_values(tmp_path: Path) -> None:
    state = {
        "a": torch.arange(3),
        "b": [1, 2.5, None, True, "text"],
        "c": {0: {"d": np.arange(4.0)}, 1: b"bytes"},
        "inf": math.inf,
    }
    save_state(tmp_path / "s", state)
    back = load_state(tmp_path / "s", CPU)
    assert torch.equal(back["a"], state["a"])  # type: ignore[arg-type]
    assert back["b"] == state["b"]
    assert np.array_equal(back["c"][0]["d"], np.arange(4.0))
    assert back["c"][1] == b"bytes"
    assert back["inf"] == math.inf


def test_damaged_states_are_resume_errors(tmp_path: Path) -> None:
    path = tmp_path / "s"
    save_state(path, {"a": torch.arange(100)})
    data = path.read_bytes()
    directory = data.index(b"PK\x01\x02")
    method = bytearray(data)  # of compression, in the directory and at the file
    method[directory + 10] ^= 64
    for content in (b"", b"junk", data[:50], data[: len(data) // 2], bytes(method)):
        path.write_bytes(content)
        with pytest.raises(ResumeError, match="cannot resume"):
            load_state(path, CPU)
    with pytest.raises(TypeError, match="cannot store"):
        save_state(path, {"a": object()})
