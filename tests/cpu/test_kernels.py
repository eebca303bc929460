"""Machine code of fits and decoders against torch's operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import codec
from codec import cpu
from codec.bitstream import reconstructor_of_unit
from codec.cpu import PLAIN, SWITCH, instruction_sets, kernels_on
from codec.cpu.interpolation import FusedInterpolation
from codec.cpu.rate import FusedRate
from codec.cpu.synthesis import FusedSynthesis
from codec.fit.core_config import CoreFitConfig
from codec.fit.core_distortion import CoreDistortion, DistortionResult
from codec.fit.core_loop import CoreFitter
from codec.network.core import CoreCoordX
from codec.rate import ContextRate
from codec.rate.context import RateResult
from formats.container import Container
from formats.core import CoreConfig
from formats.errors import InputError
from tests.conftest import picture
from tests.formats.decoders import can_compile
from tests.formats.factory import with_colour

CPU = torch.device("cpu")
NUMBERS = (
    {}
    if cpu._rate is None
    else {name: number for number, (name, there) in enumerate(cpu._rate.instructions()) if there}
)
SETS = list(NUMBERS.values())
compiled = pytest.mark.skipif(not SETS, reason="the modules are not compiled")


def network(config: CoreConfig, height: int, width: int, channels: int, seed: int) -> CoreCoordX:
    torch.manual_seed(seed)
    net = CoreCoordX(config, {"y": height, "x": width}, channels)
    with torch.no_grad():
        for spec in net.specs:
            net.parameter(spec.name).add_(0.1 * torch.randn(spec.shape))
    return net.requires_grad_(False)


def weights(net: CoreCoordX, context: bool) -> dict[str, torch.Tensor]:
    names = [spec.name for spec in net.specs if spec.name.startswith("context.") == context]
    return {name: net.parameter(name).detach() for name in names}


def close(found: torch.Tensor, wanted: torch.Tensor, tolerance: float, name: str = "") -> None:
    """Within a part of the largest value."""
    assert found.shape == wanted.shape, name
    worst = float((found - wanted).abs().max()) if wanted.numel() else 0.0
    largest = float(wanted.abs().max().clamp(min=1e-12)) if wanted.numel() else 0.0
    assert worst <= tolerance * largest, name


def alike(found: torch.Tensor, wanted: torch.Tensor, absolute: float, name: str = "") -> None:
    """All together within a hundredth, and what float32 cannot tell from nothing.

    Mostly it is 1e-6. But now and then a sum is so close to the kink of a ReLU that rounding
    decides on which side it is, and where a scale is narrow and a latent far out, the last bits of
    its mean are thousandths of its probability.
    """
    assert found.shape == wanted.shape, name
    assert float((found - wanted).norm()) <= 1e-2 * float(wanted.norm()) + absolute, name


@pytest.mark.skipif(not can_compile(), reason="no compiler, or no headers of Python")
def test_an_installation_with_a_compiler_has_machine_code() -> None:
    assert instruction_sets()[-1:] == [PLAIN]


@pytest.mark.parametrize("wanted", ["", "0", "plain", "avx1024"])
def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv(SWITCH, wanted)
    known = instruction_sets()
    if wanted == "":
        fast = [name for name in known if name != PLAIN]
        assert kernels_on() == (NUMBERS[fast[0]] if fast else None)
    elif wanted == "0":
        assert kernels_on() is None
    elif wanted in known:
        assert kernels_on() == NUMBERS[wanted]
    else:
        with pytest.raises(InputError, match=f"{SWITCH}: expected 0 or one of .*{wanted}"):
            kernels_on()


def test_without_the_modules_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_rate", None)
    monkeypatch.delenv(SWITCH, raising=False)
    assert kernels_on() is None
    config = CoreConfig(levels=2, width=3)
    assert ContextRate(config, 20, 20, CPU).fused is None
    assert CoreDistortion(config, torch.zeros(3, 20, 20)).fused is None


def by_operations(rate: ContextRate, *args: object) -> RateResult:
    fused, rate.fused = rate.fused, None
    try:
        return rate(*args)  # type: ignore[arg-type]
    finally:
        rate.fused = fused


@compiled
@settings(max_examples=40, deadline=None, derandomize=True)  # rounding may do what it likes
@given(
    seed=st.integers(0, 2**31),
    size=st.one_of(
        st.sampled_from([(1, 1), (1, 300), (300, 1), (128, 128), (130, 257)]),
        st.tuples(st.integers(1, 90), st.integers(1, 150)),
    ),
    levels=st.integers(1, 8),
    colour=st.sampled_from([0, 0, 1, 3, 5]),
    colour_level=st.integers(0, 7),
    width=st.one_of(st.integers(1, 24), st.sampled_from([32, 33, 64])),
    block=st.sampled_from([0, 4, 5, 6, 7]),
    tile=st.sampled_from([0, 0, 8]),
    spread=st.sampled_from([0.1, 3.0, 200.0]),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_the_rate_and_its_gradients_are_those_of_the_operations(
    seed: int,
    size: tuple[int, int],
    levels: int,
    colour: int,
    colour_level: int,
    width: int,
    block: int,
    tile: int,
    spread: float,
    share: float,
) -> None:
    config = CoreConfig(
        levels=levels, width=width, block=min(block, tile - 3) if tile else block, tile=tile
    )
    config = with_colour(config, colour, colour_level)
    net = network(config, *size, 3, seed % 1000)
    latents = spread * torch.randn(config.latents(*size))
    latents[::7] = latents[::7].round()
    rate = ContextRate(config, *size, CPU)
    wanted = by_operations(rate, weights(net, True), latents, 0.01)
    for number in SETS:
        parts = FusedRate(config, *size, number).divided(share)
        first, second = (RateResult(*part(weights(net, True), latents, 0.01)) for part in parts)
        found = first + second
        # 1 - e of a latent that is nearly certain is a multiple of 2^-24.
        error = float(found.bits) - float(wanted.bits)
        assert abs(error) <= 1e-5 * float(wanted.bits) + 1e-6 * latents.numel()
        alike(found.latents, wanted.latents, 1e-7 * latents.numel())
        assert found.weights.keys() == wanted.weights.keys()
        for name, value in wanted.weights.items():
            assert found.weights[name].shape == value.shape
        together = [
            torch.cat([part[name].flatten() for name in wanted.weights])
            for part in (found.weights, wanted.weights)
        ]
        alike(*together, 1e-7 * latents.numel())


@compiled
def test_small_blocks_go_by_operations() -> None:
    assert not FusedRate.supports(CoreConfig(block=3))
    assert ContextRate(CoreConfig(block=3), 20, 20, CPU).fused is None


@compiled
def test_latents_far_out_have_finite_gradients() -> None:
    config = CoreConfig(levels=3, width=8)
    net = network(config, 40, 50, 3, 0)
    latents = torch.zeros(config.latents(40, 50))
    latents[::11] = 1e6
    latents[1::11] = -1e6
    for number in SETS:
        bits, slopes, by_weight = FusedRate(config, 40, 50, number)(
            weights(net, True), latents, 1.0
        )
        assert bits.isfinite()
        assert slopes.isfinite().all()
        assert all(value.isfinite().all() for value in by_weight.values())


@compiled
def test_what_is_no_number_stays_none() -> None:
    """A fit that diverges must not look well."""
    config = CoreConfig(levels=3, width=8)
    net = network(config, 40, 50, 3, 0)
    latents = torch.zeros(config.latents(40, 50))
    broken = {name: value.clone() for name, value in weights(net, True).items()}
    broken["context.hidden"][2, 3] = torch.nan
    features, matrix = torch.ones(3, 20, 30), torch.ones(3, 3)
    for number in SETS:
        rate = FusedRate(config, 40, 50, number)
        assert rate(broken, latents, 1.0)[0].isnan()
        latents[1234] = torch.nan
        assert rate(weights(net, True), latents, 1.0)[0].isnan()
        latents[1234] = 0
        assert rate(weights(net, True), latents, 1.0)[0].isfinite()
        fused = FusedSynthesis(number)
        features[1, 7, 8] = torch.nan
        arguments = torch.ones(3, 6), [torch.ones(3, 3, 3, 3)], [torch.ones(3)]
        found = fused.error(features, matrix, *arguments, torch.zeros(3, 20, 30))
        assert np.isnan(found.mse)
        features[1, 7, 8] = 1
        found = fused.error(features, matrix, *arguments, torch.zeros(3, 20, 30))
        assert np.isfinite(found.mse)
        assert found.kernels[0].isfinite().all()


@compiled
def test_sums_over_large_pictures_are_as_exact() -> None:
    """In lanes of float32 the last rows of a large picture would count for less."""
    torch.manual_seed(0)
    features, target = torch.rand(3, 1100, 300), torch.rand(2, 1100, 300)
    features[-1] = 1
    first, output = torch.randn(4, 3), torch.randn(2, 7)
    kernels, biases = [torch.randn(2, 2, 3, 3)], [torch.randn(2)]
    leaves = [v.double().requires_grad_() for v in (first, output, kernels[0], biases[0])]
    wide = features.double()
    hidden = torch.einsum("hf,fyx->hyx", leaves[0], wide).relu()
    samples = torch.einsum("ch,hyx->cyx", leaves[1], torch.cat([hidden, wide]))
    padded = torch.nn.functional.pad(samples[None], (1, 1, 1, 1), mode="replicate")
    samples = samples + torch.nn.functional.conv2d(padded, leaves[2], leaves[3])[0]
    passed = samples + (samples.clamp(0, 1) - samples).detach()
    (passed - target.double()).square().mean().backward()
    for number in SETS:
        found = FusedSynthesis(number).error(features, first, output, kernels, biases, target)
        for value, leaf in zip(
            (found.first, found.output, found.kernels[0], found.biases[0]), leaves, strict=True
        ):
            assert leaf.grad is not None
            close(value.double(), leaf.grad, 1e-5)


def distortions(
    config: CoreConfig, height: int, width: int, channels: int, number: int
) -> tuple[DistortionResult, DistortionResult]:
    net = network(config, height, width, channels, 0)
    target = torch.rand(channels, height, width)
    grids = [torch.randn(shape) for shape in config.grid_shapes(height, width)]
    distortion = CoreDistortion(config, target)
    distortion.fused = None
    wanted = distortion(weights(net, False), grids)
    distortion.fused = FusedInterpolation(number), FusedSynthesis(number)
    distortion(weights(net, False), grids)  # leaves something in the memory that is used again
    return distortion(weights(net, False), grids), wanted


@compiled
@pytest.mark.parametrize(
    ("height", "width", "channels", "config"),
    [
        (33, 70, 3, CoreConfig()),
        (1, 1, 1, CoreConfig(levels=1, hidden=1, residuals=0)),
        (7, 1, 2, CoreConfig(levels=2, hidden=9, residuals=4)),
        (1, 300, 4, CoreConfig(levels=10, hidden=64, residuals=4)),
        (64, 256, 3, CoreConfig(hidden=48)),
        (40, 129, 1, CoreConfig(levels=8, hidden=24, residuals=1)),
        (33, 70, 3, CoreConfig(colour=3, colour_level=2)),
        (20, 300, 3, CoreConfig(levels=10, colour=5, colour_level=5)),  # as many as there may be
        (9, 7, 2, CoreConfig(levels=1, colour=1)),
    ],
)
def test_the_error_and_its_gradients_are_those_of_the_operations(
    height: int, width: int, channels: int, config: CoreConfig
) -> None:
    for number in SETS:
        found, wanted = distortions(config, height, width, channels, number)
        close(found.mse, wanted.mse, 1e-5)
        for grid, (a, b) in enumerate(zip(found.latents, wanted.latents, strict=True)):
            close(a, b, 1e-4, f"latents {grid}")
        assert found.weights.keys() == wanted.weights.keys()
        for name, value in wanted.weights.items():
            close(found.weights[name], value, 2e-4, name)
            assert found.weights[name].is_contiguous()  # lists with others are clipped one by one


@compiled
@pytest.mark.parametrize("shape", [(300, 530, 3), (9, 300, 1), (260, 5, 4)])
def test_decoded_samples_are_those_of_the_operations(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int]
) -> None:
    data = codec.encode(picture(*shape), lam=4e-3, steps=12, device="cpu").data
    found = {}
    for wanted in ("0", *instruction_sets()):
        monkeypatch.setenv(SWITCH, wanted)
        with Container.open(data) as container:
            found[wanted] = reconstructor_of_unit(container, 0, CPU).region(range(1), None)
        assert found[wanted].shape == shape
        difference = np.abs(found[wanted].astype(int) - found["0"].astype(int))
        assert difference.max() <= 1
        assert difference.mean() < 0.01


@compiled
def test_fits_take_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly, and only at first: sums differ in their last bits, and Adam divides small slopes by
    small numbers."""
    found = {}
    target = torch.from_numpy(picture(64, 96)).permute(2, 0, 1).float().contiguous() / 255
    for wanted in ("0", *instruction_sets()):
        monkeypatch.setenv(SWITCH, wanted)
        config = CoreConfig(levels=5, width=8, hidden=8)
        net = CoreCoordX(config, {"y": 64, "x": 96}, 3)
        fitter = CoreFitter(net, target, CoreFitConfig.of(4e-3, 60))
        assert (
            (fitter.loss.rate.fused is None)
            == (fitter.loss.distortion.fused is None)
            == (wanted == "0")
        )
        before = torch.cat([w.flatten() for w in fitter.net.by_name().values()])
        for _ in range(4):
            fitter.advance()
        moved = torch.cat([w.flatten() for w in fitter.net.by_name().values()]) - before
        found[wanted] = fitter.latents.clone(), moved
        fitter.close()
    for latents, moved in found.values():
        assert float(torch.corrcoef(torch.stack([latents, found["0"][0]]))[0, 1]) > 0.99
        # Layers that begin at zero have slopes of nearly nothing, which SOAP scales up: a target
        # that is brighter by 1e-6 leaves no more than this.
        assert float(torch.corrcoef(torch.stack([moved, found["0"][1]]))[0, 1]) > 0.75


@compiled
def test_arguments_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read before all sizes are known to be right."""
    assert cpu._rate is not None
    assert cpu._synthesis is not None
    calls: list[tuple[object, tuple[object, ...]]] = []

    def noted(function: object) -> object:
        def call(*args: object) -> object:
            calls.append((function, args))
            return function(*args)  # type: ignore[operator]

        return call

    for module, name in ((cpu._rate, "rate_rows"), (cpu._synthesis, "error")):
        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    monkeypatch.setattr(cpu._synthesis, "samples", noted(cpu._synthesis.samples))
    config = CoreConfig(levels=2, width=5, hidden=3)
    net = network(config, 20, 30, 3, 0)
    FusedRate(config, 20, 30, SETS[-1])(
        weights(net, True), torch.zeros(config.latents(20, 30)), 1.0
    )
    distortions(config, 20, 30, 3, SETS[-1])
    FusedSynthesis(SETS[-1]).samples(
        torch.ones(3, 20, 30), torch.ones(3, 3), torch.ones(3, 6), [], []
    )
    assert len({function for function, _ in calls}) == 3
    for function, args in calls:
        for place, value in enumerate(args):
            others: list[object] = []
            if isinstance(value, np.ndarray) and value.size:
                others = [value.reshape(-1)[:-1].copy(), np.append(value, value.flat[:1])]
            elif isinstance(value, tuple):
                others = [tuple(number for _ in value) for number in (10**9, 2**31 - 1, -1)]
                others += [(2**63 - 11, *value[1:])] if len(value) == 4 and place == 10 else []
                if all(isinstance(number, float) for number in value):  # any will do
                    others = []
            elif isinstance(value, int):
                others = [-1, 99]
            for other in others:
                with pytest.raises(ValueError, match=r"expected|not in|outside"):
                    function(*args[:place], other, *args[place + 1 :])  # type: ignore[operator]
