"""Fitting core fusion: soft rounding, stages, resuming."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import codec
from codec.fit.core_config import CoreFitConfig
from codec.fit.core_distortion import CoreDistortion
from codec.fit.core_loop import CoreFitter
from codec.fit.core_search import CoreResult, CoreSearch
from codec.fit.replay import preparing
from codec.fit.search import Goal
from codec.fit.soft import soft_round, soft_round_noisy
from codec.fit.state import load_state, save_state
from codec.fit.weight_search import finest_step
from codec.network.coded import prior_weights, start_from_prior
from codec.network.core import CoreCoordX
from codec.network.presets import core_network, latent_gain
from codec.quantise_core import largest_share, quantise_networks
from codec.rate import ContextRate
from codec.signal import to_signal
from formats.context import ContextNetwork
from formats.core import CoreConfig
from formats.errors import InputError
from formats.header import Header, MediaKind
from formats.latents import grid_bits
from formats.unit import pack_core_unit, unpack_core_unit
from formats.weights import MAX_STEP, MIN_STEP
from tests.conftest import picture

CPU = torch.device("cpu")


def fitter(steps: int = 60, lam: float = 1e-3, seed: int = 0) -> CoreFitter:
    samples = picture(40, 56)
    target = to_signal(samples, 8, CPU)
    config = core_network(40, 56, lam, 0)
    net = CoreCoordX(config, {"y": 40, "x": 56}, 3, seed=seed)
    start_from_prior(net)
    return CoreFitter(net, target, CoreFitConfig.of(lam, steps, seed))


@pytest.mark.parametrize("temperature", [0.01, 0.1, 0.3, 5.0])
def test_soft_rounding_lies_between_identity_and_rounding(temperature: float) -> None:
    x = torch.linspace(-2.2, 2.2, 500, dtype=torch.float64)
    y, slope = soft_round(x, temperature)
    assert torch.all((y - x.round()).abs() <= (x - x.round()).abs() + 1e-9)
    assert torch.all(y[1:] >= y[:-1] - 1e-12)
    numeric = (soft_round(x + 1e-7, temperature)[0] - y) / 1e-7
    torch.testing.assert_close(slope, numeric, rtol=1e-3, atol=1e-5)
    if temperature == 5.0:
        torch.testing.assert_close(y, x, rtol=0, atol=2e-3)


def test_noise_reaches_across_the_edge() -> None:
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    noise = torch.full_like(x, 0.3)
    y, slope = soft_round_noisy(x, 0.2, noise.clone())
    shifted = soft_round_noisy(x + 1e-7, 0.2, noise.clone())[0]
    torch.testing.assert_close(slope, (shifted - y) / 1e-7, rtol=1e-3, atol=1e-5)


def test_a_fit_lowers_the_loss_and_ends_in_integers() -> None:
    fit = fitter(120)
    reports = [fit.advance()]
    fit.run(reports.append)
    coded, grids = fit.result()
    assert fit.finished
    losses = [10 ** (-report.psnr / 10) + 1e-3 * report.bpp for report in reports]
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():  # the last report is of the integers, and of the integer network
        found, rate = fit.loss.evaluate(fit.final, exact=True, gradient=False)
    assert losses[-1] == pytest.approx(float(found.mse) + 1e-3 * float(rate.bits) / (40 * 56))
    for grid, real in zip(grids, fit.net.latents, strict=True):
        np.testing.assert_array_equal(grid, real.numpy())
    for spec, tensor in zip(fit.net.specs, coded, strict=True):
        assert tensor.symbols.shape == spec.shape
        assert tensor.step >= finest_step(spec.name) or not tensor.symbols.any()


def test_weights_that_are_those_of_the_prior_cost_nothing() -> None:
    fit = fitter()
    assert not any(
        bool(slope.any()) for slope in fit.loss.price.gradient(fit.net.by_name()).values()
    )


def test_the_prior_is_where_the_network_is() -> None:
    net = fitter().net.to("meta")
    assert {value.device.type for value in prior_weights(net).values()} == {"meta"}


def test_the_estimate_is_what_the_file_costs() -> None:
    fit = fitter(100)
    fit.run()
    coded, grids = fit.result()
    header = Header(MediaKind.IMAGE, 56, 40, 3, 8, fit.net.config)
    payload, seen = pack_core_unit(0, fit.net.config, coded, grids, 40, 56)
    unit = unpack_core_unit(payload, 0, header)
    real = sum(grid_bits(unit.network, dict(enumerate(unit.grids()))).values())
    flat = torch.from_numpy(np.concatenate([g.ravel() for g in seen])).float()
    with torch.no_grad():
        _, rate = fit.loss.evaluate(flat, exact=True, gradient=False)
    assert float(rate.bits) == pytest.approx(real, rel=0.005)
    assert sum(int((a != b).sum()) for a, b in zip(seen, grids, strict=True)) <= 0.01 * flat.numel()


def test_long_fits_begin_less_soft() -> None:
    fits = [CoreFitConfig.of(1e-3, steps) for steps in (10, 2000, 5000, 10_000, 40_000)]
    hot = [fit.temperature[0] for fit in fits]
    assert hot[0] == hot[1] == CoreFitConfig.temperature[0]
    assert hot[3] == pytest.approx(0.3, abs=0.002)
    assert hot[1:] == sorted(set(hot), reverse=True)
    assert {fit.temperature[1] for fit in fits} == {CoreFitConfig.temperature[1]}


def test_stages_and_rates_follow_the_budget() -> None:
    config = CoreFitConfig.of(1e-3, 1000)
    stages = [config.stage(step) for step in range(1000)]
    assert stages[0] == "soft"
    assert stages[-1] == "settle"
    assert stages == sorted(stages, key=["soft", "settle"].index)
    rates = [config.latents_rate(step) for step in range(1000)]
    assert rates[0] == config.latent_rate
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-5
    rates = [config.network_rate(step) for step in range(1000)]
    assert 0.95 * config.rate < max(rates) <= config.rate
    assert rates[0] < 0.1 * config.rate
    assert rates[config.soft_steps] == 0
    assert config.between(config.temperature, 0) == config.temperature[0]
    assert config.between(config.temperature, 1000) == pytest.approx(config.temperature[1])
    assert CoreFitConfig.of(1e-3, 10_000).latent_rate < config.latent_rate
    assert CoreFitConfig.of(1e-3, 10_000, prior=False).latent_rate > config.latent_rate
    assert CoreFitConfig.of(1e-3, 10).latent_rate >= config.latent_rate


def test_latents_take_larger_steps_at_a_low_lambda() -> None:
    rates = [CoreFitConfig.of(lam, 600).latent_rate for lam in (1e-2, 4e-4, 1e-4, 1e-5, 1e-6)]
    assert rates[0] == rates[1] < rates[2] < rates[3] == rates[4] < 1


@pytest.mark.parametrize("stop", [5, 56, 59, 60])
def test_a_fit_resumes_exactly(tmp_path: Path, stop: int) -> None:
    whole = fitter()
    whole.run()
    first = fitter()
    for _ in range(stop):
        first.advance()
    save_state(tmp_path / "state", first.state())
    second = fitter()
    second.restore(load_state(tmp_path / "state", CPU))
    second.run()
    for a, b in zip(whole.result()[1], second.result()[1], strict=True):
        np.testing.assert_array_equal(a, b)
    for x, y in zip(whole.result()[0], second.result()[0], strict=True):
        np.testing.assert_array_equal(x.symbols, y.symbols)
        assert x.step == y.step


@pytest.mark.parametrize("steps", [0, 3, 39], ids=["first", "soft", "settle"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_fit_that_diverges_says_so(steps: int, bad: float) -> None:
    fit = fitter(40)
    for _ in range(steps):
        fit.advance()
    fit.latents[5] = bad
    with pytest.raises(InputError, match="the fit diverged: try another --seed"):
        fit.run()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_diverge_are_not_quantised(bad: float) -> None:
    fit = fitter(20)
    fit.step = fit.config.soft_steps
    with torch.no_grad():
        fit.net.parameter("context.out")[0, 0] = bad
    with pytest.raises(InputError, match="the fit diverged"):
        fit.advance()


@pytest.mark.parametrize(
    ("name", "value"), [("tail.weight", 1e20), ("skip", 1e30), ("output.bias", 1e38)]
)
def test_a_fit_that_diverges_to_finite_weights_says_so(name: str, value: float) -> None:
    fit = fitter(20)
    fit.step = fit.config.soft_steps
    with torch.no_grad():
        fit.net.parameter(name).fill_(value)
        fit.latents.normal_(0, 2)
    with pytest.raises(InputError, match="the fit diverged"):
        fit.advance()


def test_networks_are_quantised_again_for_the_last_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def count(*args: Any) -> Any:
        calls.append((args[3].clone(), args[6]))
        return quantise_networks(*args)

    monkeypatch.setattr("codec.fit.core_loop.quantise_networks", count)
    fit = fitter(60)
    fit.config = replace(fit.config, polish=0.0)
    fit.run()
    assert [start is None for _, start in calls] == [True, False]
    last = torch.cat([q.flatten() for q in fit.net.latents])
    assert torch.equal(calls[1][0], last)


@pytest.mark.parametrize(("bits", "width"), [(0, 16), (511_000, 16), (512_000, 32)])
def test_a_picture_of_many_bits_gets_a_wide_context(bits: float, width: int) -> None:
    assert core_network(512, 768, 1e-3, bits).width == width


@pytest.mark.parametrize(
    ("size", "bits", "steps", "prior", "width"),
    [
        ((512, 768), 59_000, 2000, 1, 16),
        ((512, 768), 60_000, 2000, 3, 16),
        ((512, 768), 119_000, 2000, 3, 16),
        ((512, 768), 120_000, 2000, 0, 16),
        ((512, 768), 149_000, 2000, 0, 16),
        ((512, 768), 150_000, 1999, 3, 16),
        ((512, 768), 150_000, 2000, 0, 24),
        ((512, 768), 279_000, 2000, 0, 24),
        ((512, 768), 280_000, 2000, 0, 32),
        ((512, 768), 1e6, 1999, 2, 32),
        ((400, 624), 149_000, 2000, 3, 16),  # 249,600 pixels
        ((400, 624), 1e6, 2000, 2, 32),
        ((400, 632), 119_000, 2000, 3, 16),  # 252,800
        ((400, 632), 151_000, 2000, 0, 24),
        ((512, 768), 79_000, 5000, 3, 16),
        ((512, 768), 81_000, 4999, 3, 16),
        ((512, 768), 81_000, 5000, 0, 16),
        ((512, 768), 151_000, 5000, 0, 24),
        ((512, 768), 301_000, 5000, 0, 32),
        ((1024, 768), 151_000, 5000, 3, 16),
    ],
)
def test_a_long_fit_that_pays_for_its_network_starts_from_no_prior(
    size: tuple[int, int], bits: float, steps: int, prior: int, width: int
) -> None:
    config = core_network(*size, 1e-3, bits, steps)
    assert (config.prior, config.width) == (prior, width)
    assert config.block == 0


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_only_pictures_with_colours_have_colour_grids(channels: int) -> None:
    free = core_network(512, 768, 1e-3, 1e6, 2000, channels)
    assert free.prior == 0
    assert (free.colour, free.colour_level) == ((3, 2) if channels >= 3 else (0, 0))
    for bits, grey, coloured in ((59_999, 1, 1), (60_000, 1, 3), (1e6, 2, 2)):
        config = core_network(512, 768, 1e-3, bits, 100, channels)
        assert config.prior == (coloured if channels >= 3 else grey)
        wanted = (3, 2) if channels >= 3 and bits >= 60_000 else (0, 0)
        assert (config.colour, config.colour_level) == wanted


def test_pictures_of_few_levels_have_no_colour_grids() -> None:
    for side, colour in ((1, 0), (2, 0), (9, 0), (16, 0), (17, 3), (65, 3)):
        config = core_network(side, side, 1e-3, 60_000)
        assert config.colour == colour
        assert config.prior == (3 if colour else 1)


@torch.no_grad()
@pytest.mark.parametrize("colour", [0, 1])
def test_the_first_picture_is_grey_and_its_latents_are_expected_to_be_zero(colour: int) -> None:
    config = CoreConfig(levels=3, width=4, colour=colour, colour_level=2 * colour)
    net = CoreCoordX(config, {"y": 16, "x": 24}, 3)
    assert torch.equal(net.native(range(16), range(24)), torch.full((3, 16, 24), 0.5))
    rate = ContextRate(config, 16, 24, CPU)
    zeros = torch.zeros(config.latents(16, 24))
    weights = net.by_name()
    quiet = float(rate(weights, zeros, gradient=False).bits)
    weights["context.level"].zero_()
    assert quiet < 2 < 1000 < float(rate(weights, zeros, gradient=False).bits)
    for number in range(3, config.grids):  # colour grids change colours, not the brightness
        net.latents = [torch.full(q.shape, float(n == number)) for n, q in enumerate(net.latents)]
        change = net.native(range(16), range(24)) - 0.5
        assert float(change.abs().max()) > 0.1
        assert float(change.sum(0).abs().max()) < 1e-6


def test_huge_weights_are_quantised_within_the_format() -> None:
    fit = fitter(20)
    with torch.no_grad():
        fit.net.parameter("tail.weight").fill_(1e6)
        fit.net.parameter("skip").fill_(700.0)
    coded = quantise_networks(
        fit.net, fit.loss.distortion, fit.loss.rate, fit.latents, fit.net.latents, 1e-3
    )
    assert all(MIN_STEP <= tensor.step <= MAX_STEP for tensor in coded)


def test_context_weights_too_large_for_the_format_are_made_smaller() -> None:
    fit = fitter(20)
    with torch.no_grad():  # sums of a row would pass 2^24
        fit.net.parameter("context.out").fill_(3.0)
        fit.net.parameter("context.hidden").mul_(40.0)
    coded = quantise_networks(
        fit.net, fit.loss.distortion, fit.loss.rate, fit.latents, fit.net.latents, 1e-3
    )
    names = [spec.name for spec in fit.net.specs]
    ContextNetwork(fit.net.config, dict(zip(names, coded, strict=True)))


def test_latents_of_large_pictures_are_not_held_back() -> None:
    assert fitter(lam=1e-3).adam.param_groups[0]["eps"] == 1e-8
    low = fitter(lam=1e-8).adam.param_groups[0]["eps"]
    assert low == pytest.approx(10 * 1e-8 / (40 * 56))
    # A picture of four times the size at four times the lambda has gradients of the same size.
    config = CoreFitConfig.of(1e-4, 100)
    assert config.epsilon(8_000_000) == CoreFitConfig.of(4e-4, 100).epsilon(32_000_000)


@pytest.mark.parametrize(("name", "value"), [("out", 5.0), ("hidden", 12.0)])
def test_fits_stay_within_the_limits_of_the_format(name: str, value: float) -> None:
    fit = fitter(40)
    with torch.no_grad():
        fit.net.parameter(f"context.{name}").fill_(value)
    assert largest_share(fit.net.by_name()) > 2
    for _ in range(10):
        fit.advance()
    assert largest_share(fit.net.by_name()) < 1


def test_a_band_stands_for_a_large_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codec.quantise_core.BAND_PIXELS", 200)
    net = CoreCoordX(CoreConfig(levels=2), {"y": 64, "x": 24}, 3)
    fit = CoreFitter(net, to_signal(picture(64, 24), 8, CPU), CoreFitConfig.of(1e-3, 20))
    fit.latents.normal_(0, 2)
    shapes = []
    real = CoreDistortion.error

    def error(self: CoreDistortion, *args: Any) -> float:
        shapes.append(self.target.shape)
        torch.testing.assert_close(self.target, fit.target[:, 24:36])
        return real(self, *args)

    monkeypatch.setattr(CoreDistortion, "error", error)
    grids = fit.loss.split(fit.latents.round())
    coded = quantise_networks(
        net, fit.loss.distortion, fit.loss.rate, fit.latents.round(), grids, 1e-3
    )
    assert {tuple(shape) for shape in shapes} == {(3, 12, 24)}
    assert [tensor.symbols.shape for tensor in coded] == [spec.shape for spec in net.specs]


def test_lanes_share_the_work_and_leave_the_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            fit = fitter(30)
            assert fit.loss.lanes.parallel == (threads == 2)
            latents = torch.randn(fit.latents.shape, generator=torch.Generator().manual_seed(1))
            with torch.no_grad():
                found.append(fit.loss.evaluate(latents, exact=False))
            assert torch.get_num_threads() == threads
            with fit.loss.lanes.alone():
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    (distortion, rate), (other, portions) = found
    torch.testing.assert_close(distortion.mse, other.mse)
    torch.testing.assert_close(rate.bits, portions.bits)
    torch.testing.assert_close(rate.latents, portions.latents, rtol=1e-4, atol=1e-7)


def test_gain_follows_the_root_of_lambda() -> None:
    assert latent_gain(1e-3) == 0
    assert latent_gain(4e-3) == 8
    assert latent_gain(1e-12) == -64


# -- search -------------------------------------------------------------------------------


def simulate(
    goal: Goal, start: float, bits_at_one: float = 60.0, slack: float = 0.0
) -> list[CoreResult]:
    """Rounds of a picture whose bits and error follow powers of lambda.

    `slack`: how many more bits, in logarithms, rounds spend that go on from others.
    """
    search = CoreSearch(goal, start, lambda lam: CoreFitConfig.of(lam, 400))
    history: list[CoreResult] = []
    while (plan := search.next_round(history)) is not None:
        more = math.exp(slack * (plan.start is not None))
        size = int(bits_at_one * plan.fit.lam**-0.6 / 8 * more) + 1
        mse = 0.3 * plan.fit.lam**0.8
        history.append(CoreResult(plan, {}, torch.zeros(0), bytes(size), mse))
        assert len(history) < 20
    return history


@pytest.mark.parametrize("start", [1e-5, 1e-3, 0.3])
def test_sizes_are_found_and_not_exceeded(start: float) -> None:
    goal = Goal(bits=4000.0)
    history = simulate(goal, start)
    chosen = goal.choose(history)
    assert 0.9 * 4000 <= chosen.bits <= 4000
    assert len(history) <= 8


@pytest.mark.parametrize("slack", [-0.3, 0.2])
@pytest.mark.parametrize("start", [2e-4, 1e-3, 5e-3])
def test_sizes_are_found_where_later_rounds_spend_otherwise(start: float, slack: float) -> None:
    goal = Goal(bits=4000.0)
    history = simulate(goal, start, slack=slack)
    assert any(0.98 * 4000 <= result.bits <= 4000 for result in history)
    assert len(history) <= 8


@pytest.mark.parametrize("start", [1e-5, 1e-3, 0.3])
def test_qualities_are_found(start: float) -> None:
    goal = Goal(psnr=30.0)
    history = simulate(goal, start)
    chosen = goal.choose(history)
    assert 30.0 <= chosen.psnr <= 30.5


def test_every_round_has_the_settings_of_its_lambda() -> None:
    far, near = (simulate(Goal(bits=20_000.0), start) for start in (5e-3, 9e-5))
    assert len(far) > 1
    assert all(r.plan.fit == CoreFitConfig.of(r.plan.fit.lam, 400) for r in far)
    assert len(near) > 1
    for fit in (r.plan.fit for r in near[1:]):
        assert fit.latent_rate == CoreFitConfig.of(fit.lam, 400).latent_rate / 2
        assert fit.steps == 100


def test_short_rounds_are_not_longer_than_full_ones() -> None:
    search = CoreSearch(Goal(psnr=30.0), 1e-3, lambda lam: CoreFitConfig.of(lam, 40))
    first = search.next_round([])
    assert first is not None
    second = search.next_round([CoreResult(first, {}, torch.zeros(0), b"", 10**-2.9)])
    assert second is not None
    assert second.start == 0
    assert second.fit.steps == 40


@pytest.mark.parametrize(("psnr", "best"), [(50.0, 31.0), (8.0, 20.0)])
def test_what_lambda_cannot_reach_ends_the_search(psnr: float, best: float) -> None:
    """A picture that every lambda gives about the same of."""
    search = CoreSearch(Goal(psnr=psnr), 1e-3, lambda lam: CoreFitConfig.of(lam, 60))
    history: list[CoreResult] = []
    while (plan := search.next_round(history)) is not None:
        mse = 10 ** (-(best - len(history) % 2) / 10)
        history.append(CoreResult(plan, {}, torch.zeros(0), b"", mse))
    assert len(history) <= 6
    assert all(1e-7 <= r.plan.fit.lam <= 10 for r in history)


def test_a_size_below_any_file_ends_the_search() -> None:
    search = CoreSearch(Goal(bits=100.0), 1e-2, lambda lam: CoreFitConfig.of(lam, 60))
    history: list[CoreResult] = []
    while (plan := search.next_round(history)) is not None:
        history.append(CoreResult(plan, {}, torch.zeros(0), bytes(70), 0.1))
    assert len(history) <= 4


def test_a_lambda_takes_one_round() -> None:
    assert len(simulate(Goal(lam=1e-3), 1e-3)) == 1


def test_a_fit_does_not_begin_beside_a_recording_and_goes_on_beside_it() -> None:
    begun, new = fitter(), fitter()
    for _ in range(2):  # it is decided how steps are made
        begun.advance()
    threads = [threading.Thread(target=fit.advance, daemon=True) for fit in (begun, new)]
    with preparing:
        for thread in threads:
            thread.start()
        threads[0].join(30)
        threads[1].join(0.5)
        assert begun.step == 3
        assert new.step == 0
    threads[1].join(30)
    assert new.step == 1


def test_an_encode_that_is_interrupted_lets_go_of_its_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    monkeypatch.setattr(CoreFitter, "close", lambda self: closed.append(self.step))

    def stop(at: codec.EncodeProgress) -> None:
        if at.fit.step == 12:
            raise KeyboardInterrupt

    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        codec.encode(picture(24, 32), lam=1e-3, steps=20, state_path=state, progress=stop)
    assert closed == [12]
    assert state.exists()
