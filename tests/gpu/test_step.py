"""Kernels of a fit on a GPU, run by Triton's interpreter: the same as the fit without them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("triton", reason="Triton is not installed")

from codec.fit import core_loop, soap
from codec.fit.core_config import CoreFitConfig
from codec.fit.core_distortion import CoreDistortion
from codec.fit.core_loop import CoreFitter
from codec.fit.firm_weights import FirmWeights
from codec.fit.soap import BETA, Soap
from codec.fit.soft import soft_round_noisy
from codec.fit.weight_price import WeightPrice
from codec.gpu import latents as kernels
from codec.gpu.context import FusedContext
from codec.gpu.interpolation import FusedInterpolation
from codec.gpu.soap import FusedSoap
from codec.gpu.step import MOST_SAMPLES, supported
from codec.gpu.sums import Sums
from codec.gpu.synthesis import FusedSynthesis
from codec.network.core import CoreCoordX
from codec.rate import ContextRate
from codec.rate import plan as planning
from formats.core import CoreConfig

pytestmark = pytest.mark.filterwarnings("error:steps go without:UserWarning")
CPU = torch.device("cpu")
DEVICE = torch.device("cuda") if torch.cuda.is_available() else CPU
# On a GPU products have the mantissa of a half, here with a latent of 200 among the inputs.
CLOSE = 5e-2 if torch.cuda.is_available() else 1e-4
COLUMN = {name: number for number, name in enumerate(kernels.COLUMNS)}


@pytest.fixture(autouse=True)
def one_portion(monkeypatch: pytest.MonkeyPatch) -> None:
    """All latents addressed by index, as on a GPU."""
    monkeypatch.setattr(planning, "CHUNK", planning.GPU_CHUNK)


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found.cpu() - expected).norm() / expected.norm().clamp_min(1e-12))


def _colourful(**fields: int) -> CoreConfig:
    """A small network with colour grids."""
    return CoreConfig(hidden=16, residuals=1, width=16, **fields)


@pytest.mark.parametrize(
    ("size", "channels", "config"),
    [
        ((17, 9), 3, CoreConfig(levels=3, hidden=16, residuals=1, width=16, block=3)),
        ((19, 30), 3, CoreConfig(levels=3, hidden=16, residuals=1, width=24)),
        ((30, 19), 1, CoreConfig(levels=1, hidden=16, residuals=1, width=16)),
        ((33, 20), 4, CoreConfig(levels=1, hidden=48, residuals=2, width=24, block=3, gain=9)),
        ((40, 56), 3, CoreConfig(levels=4, hidden=32, residuals=2, width=32, block=3, gain=-7)),
        ((5, 7), 3, CoreConfig(levels=2, hidden=8, residuals=0, width=16, block=3)),
        ((1, 9), 3, CoreConfig(levels=2, hidden=32, residuals=2, width=16, block=3)),
        ((9, 1), 3, CoreConfig(levels=2, hidden=8, residuals=3, width=8, block=3)),
        ((2, 2), 1, CoreConfig(levels=1, hidden=8, residuals=1, width=16, block=3)),
        ((40, 300), 3, CoreConfig(levels=5, hidden=16, residuals=1, width=16, block=5, tile=8)),
        ((20, 37), 3, _colourful(levels=5, colour=2, colour_level=1, block=3)),
        ((21, 33), 3, _colourful(levels=7, colour=3, colour_level=2)),
        ((9, 14), 3, _colourful(levels=3, colour=3, block=3)),
        ((6, 5), 3, _colourful(levels=1, colour=1)),
        ((3, 17), 4, _colourful(levels=10, colour=5, colour_level=5)),  # as many as kernels hold
        ((10, 260), 3, _colourful(levels=4, colour=2, colour_level=2, tile=8)),
    ],
    ids=str,
)
@pytest.mark.parametrize("lam", [1e-3, 1e-5])
def test_loss_and_gradients(
    size: tuple[int, int], channels: int, config: CoreConfig, lam: float
) -> None:
    torch.manual_seed(0)
    target = torch.rand(channels, *size)
    specs = config.tensors({"y": size[0], "x": size[1]}, channels)
    weights = {spec.name: torch.randn(spec.shape) * 0.2 for spec in specs}
    latents = torch.randn(config.latents(*size)) * 2
    latents[0] = 200  # beyond what the context sees
    shapes = config.grid_shapes(*size)
    grids = [
        part.view(shape)
        for part, shape in zip(
            torch.split(latents, [h * w for h, w in shapes]), shapes, strict=True
        )
    ]
    context = {k: v for k, v in weights.items() if k.startswith("context.")}
    synthesis = {k: v for k, v in weights.items() if k not in context}
    jobs = ContextRate(config, *size, DEVICE).jobs
    distortion = CoreDistortion(config, target)(synthesis, grids)
    rate = ContextRate(config, *size, CPU)(context, latents, 0.01)

    starts, end = {}, 0
    for name, value in weights.items():
        starts[name], end = end, end + value.numel()
    flat = torch.cat([w.flatten() for w in weights.values()]).to(DEVICE)
    sums = Sums(*(torch.zeros(n, device=DEVICE) for n in (1, 1, end)))
    grad = torch.zeros_like(latents, device=DEVICE)
    there = latents.to(DEVICE)
    FusedContext(config, jobs, shapes, starts)(flat, there, 0.01, grad, sums)
    interpolation = FusedInterpolation(config, *size, starts, DEVICE)
    features = interpolation.forward(flat, there)
    planes = FusedSynthesis(config, target.to(DEVICE), starts, lam)(flat, features, sums)
    zeros = torch.zeros(interpolation.zeros, device=DEVICE)
    interpolation.backward(flat, there, planes, grad, sums, zeros)

    assert distance(sums.bits, rate.bits) < CLOSE
    assert distance(sums.error, distortion.mse) < CLOSE
    expected = rate.latents + torch.cat([g.flatten() for g in distortion.latents])
    assert distance(grad, expected) < CLOSE
    for name, slope in (distortion.weights | rate.weights).items():
        found = sums.weights[starts[name] :][: slope.numel()].view(slope.shape)
        assert distance(found, slope) < CLOSE, name


def test_soft_rounding() -> None:
    torch.manual_seed(0)
    x = torch.randn(5000) * 4
    settings = torch.zeros(3, len(COLUMN))
    for step, temperature in enumerate((0.4, 0.1, 0.03)):
        settings[step, COLUMN["temperature"]] = temperature
        settings[step, COLUMN["factor"]] = 0.5 / math.tanh(0.5 / temperature)
    counter = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    found = [torch.empty(5000, device=DEVICE) for _ in range(2)]
    for temperature in (0.4, 0.1, 0.03):
        kernels.soft_round_noisy(x.to(DEVICE), *found, settings.to(DEVICE), counter, 7)
        expected = soft_round_noisy(x.clone(), temperature, torch.zeros(5000))
        torch.testing.assert_close(found[0].cpu(), expected[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(found[1].cpu(), expected[1], atol=5e-3, rtol=1e-3)
        kernels.next_step(counter)
    assert counter.item() == 3


def test_the_noise_has_its_deviation_and_is_another_one_every_step() -> None:
    settings = torch.zeros(2, len(COLUMN))
    settings[:, COLUMN["temperature"]] = 100.0  # the identity
    settings[:, COLUMN["factor"]] = 0.5 / math.tanh(0.5 / 100)
    settings[:, COLUMN["sigma"]] = 0.2
    counter = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    zeros = torch.zeros(20_000, device=DEVICE)
    found = []
    for step, seed in ((0, 1), (1, 1), (0, 2)):
        out = torch.empty_like(zeros)
        counter.fill_(step)
        kernels.soft_round_noisy(
            zeros, out, torch.empty_like(zeros), settings.to(DEVICE), counter, seed
        )
        assert abs(float(out.mean())) < 0.01
        assert float(out.std()) == pytest.approx(0.2, rel=0.03)
        found.append(out)
    assert abs(float((found[0] * found[1]).mean())) < 0.002
    torch.testing.assert_close(found[1], found[2])  # seeds count on


def test_firm_weights() -> None:
    """The context's weights are rounded while there is a temperature, the others never."""
    torch.manual_seed(0)
    weights = {"context.first": torch.randn(40, 30), "kernel": torch.randn(6, 4)}
    price = WeightPrice(weights, {"context.first": torch.randn(40, 30)})
    flat = torch.cat([w.flatten() for w in weights.values()])
    settings = torch.zeros(4, len(COLUMN))
    for step, temperature in ((1, 0.5), (2, 0.05), (3, 0.05)):
        settings[step, COLUMN["firm_temperature"]] = temperature
        settings[step, COLUMN["firm_factor"]] = 0.5 / math.tanh(0.5 / temperature)
    counter = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    seen, slopes = torch.empty(2, len(flat), device=DEVICE).unbind()
    fixed = price.prior.to(DEVICE), price.inverse.to(DEVICE), settings.to(DEVICE), counter

    def firm(sigma: float) -> None:
        kernels.firm(flat.to(DEVICE), seen, slopes, *fixed, 7, sigma, 1200)
        kernels.next_step(counter)

    firm(0.0)
    torch.testing.assert_close(seen.cpu(), flat)
    assert torch.equal(slopes.cpu(), torch.ones_like(flat))
    plain = FirmWeights(weights, price)
    for temperature in (0.5, 0.05):
        firm(0.0)
        wanted = plain(weights, temperature, torch.zeros(plain.count))
        torch.testing.assert_close(seen[:1200].cpu(), wanted[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(slopes[:1200].cpu(), wanted[1], atol=5e-3, rtol=2e-3)
        torch.testing.assert_close(seen[1200:].cpu(), flat[1200:])
        assert torch.equal(slopes[1200:].cpu(), torch.ones(24))
    before = seen.clone()
    firm(0.3)
    assert 0.01 < float((seen - before)[:1200].abs().mean() * 16) < 0.5
    assert torch.equal(seen[1200:], before[1200:])


def test_adam() -> None:
    torch.manual_seed(0)
    settings, betas = torch.zeros(6, len(COLUMN)), (0.5, 0.95)
    for step in range(6):
        settings[step, COLUMN["latents_rate"]] = 0.1 / (1 - betas[0] ** (step + 1))
        settings[step, COLUMN["second"]] = 1 / math.sqrt(1 - betas[1] ** (step + 1))
    x = torch.randn(3000)
    moved = x.to(DEVICE, copy=True)
    optimiser = torch.optim.Adam([x], lr=0.1, betas=betas, eps=1e-7)
    moments = torch.zeros_like(moved), torch.zeros_like(moved)
    counter = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    for _ in range(6):
        slope, gradient = torch.rand(3000), torch.randn(3000)
        x.grad = slope * gradient
        optimiser.step()
        given = slope.to(DEVICE), gradient.to(DEVICE)
        kernels.adam(moved, moments, given, settings.to(DEVICE), counter, betas, 1e-7)
        kernels.next_step(counter)
    torch.testing.assert_close(moved.cpu(), x, atol=1e-5, rtol=1e-5)


class Soaps:
    """An optimiser, and the kernels with the same weights."""

    def __init__(self, shapes: list[tuple[int, ...]], steps: int, clip: float) -> None:
        self.sizes = [math.prod(shape) for shape in shapes]
        self.flat = torch.randn(sum(self.sizes))
        parts = torch.split(self.flat, self.sizes)
        self.plain = [nn.Parameter(p.view(s).clone()) for p, s in zip(parts, shapes, strict=True)]
        self.flat = self.flat.to(DEVICE)
        parts = torch.split(self.flat, self.sizes)
        self.views = [nn.Parameter(p.view(s)) for p, s in zip(parts, shapes, strict=True)]
        self.soaps = Soap(self.plain, 1e-2), Soap(self.views, 1e-2)
        self.clip = clip
        self.settings = torch.zeros(steps, len(COLUMN), device=DEVICE)
        for step in range(1, steps):
            bias = math.sqrt(1 - BETA**step) / (1 - BETA**step)
            self.settings[step, COLUMN["networks_rate"]] = 1e-2 * bias
        self.counter = torch.zeros(1, dtype=torch.int32, device=DEVICE)

    def first(self, gradients: list[Tensor]) -> None:
        for parameters, optimiser in zip((self.plain, self.views), self.soaps, strict=True):
            for p, g in zip(parameters, gradients, strict=True):
                p.grad = g.to(p, copy=True)
            nn.utils.clip_grad_norm_(parameters, self.clip)
            optimiser.step()
        self.kernels = FusedSoap(
            self.soaps[1],
            self.flat,
            self.clip,
            0.0,
            torch.zeros_like(self.flat),
            torch.ones_like(self.flat),
            self.settings,
            self.counter,
        )

    def step(self, gradients: list[Tensor]) -> None:
        for p, g in zip(self.plain, gradients, strict=True):
            p.grad = g.clone()
        nn.utils.clip_grad_norm_(self.plain, self.clip)
        self.soaps[0].step()
        self.counter += 1
        self.kernels.step(torch.cat([g.flatten() for g in gradients]).to(DEVICE))

    def states(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Of the matrices."""
        first, second = (
            next(s.state[stack.members[0]] for stack in s.stacks if stack.axes) for s in self.soaps
        )
        return first, second


SHAPES = [(16, 16), (16, 9), (2, 16), (16,), (32, 7), (3, 3, 3, 3), (3,), (48, 7)]


def test_soap_between_two_turns() -> None:
    torch.manual_seed(0)
    both = Soaps(SHAPES, 10, clip=3.0)
    both.first([torch.randn(s) for s in SHAPES])
    for _ in range(9):
        both.step([torch.randn(s) for s in SHAPES])
        plain = torch.cat([p.detach().flatten() for p in both.plain])
        torch.testing.assert_close(both.flat.cpu(), plain, atol=1e-3, rtol=0)
    first, second = both.states()
    for name in ("mean", "square", "outer0", "outer1"):
        torch.testing.assert_close(second[name].cpu(), first[name], atol=1e-5, rtol=1e-3)


def test_the_bases_turn_as_by_householder() -> None:
    torch.manual_seed(0)
    both = Soaps(SHAPES, 10, clip=3.0)
    both.first([torch.randn(s) for s in SHAPES])
    stack = next(s for s in both.soaps[0].stacks if s.axes)
    first, second = both.states()
    for axis in (0, 1):
        outer = first[f"outer{axis}"]
        some = torch.randn(*outer.shape[:2], 2 * outer.shape[1])
        some *= ~stack.padding[axis][:, :, None]
        outer.copy_(some @ some.mT)
        for name in (f"outer{axis}", f"basis{axis}"):
            second[name].copy_(first[name])
    first["square"].copy_(torch.rand_like(first["square"]))
    second["square"].copy_(first["square"])
    for axis in (0, 1):
        soap._turn(stack, first, axis)
    both.kernels.turn()
    real = ~(stack.padding[0][:, :, None] | stack.padding[1][:, None, :])
    for state in (first, second):
        state["square"] *= real.to(state["square"])
    for name in ("basis0", "basis1", "square"):  # the signs of columns mean nothing
        torch.testing.assert_close(second[name].abs().cpu(), first[name].abs(), atol=1e-3, rtol=0)


def test_bases_stay_orthonormal_where_no_gradient_ever_was() -> None:
    torch.manual_seed(0)
    both = Soaps([(16, 16), (3, 3, 3, 3)], 40, clip=3.0)
    gradients = [torch.randn(16, 16), torch.randn(3, 3, 3, 3)]
    gradients[0][5:, :] = 0
    both.first(gradients)
    for step in range(1, 40):
        both.counter += 1
        both.kernels.step(torch.cat([g.flatten() for g in gradients]).to(DEVICE))
        if step % 10 == 0:
            both.kernels.turn()
    _, state = both.states()
    for name in ("basis0", "basis1"):
        basis = state[name]
        eye = torch.eye(basis.shape[1], device=DEVICE).expand_as(basis)
        torch.testing.assert_close(basis.mT @ basis, eye, atol=1e-5, rtol=0)
    assert both.flat.isfinite().all()


def fitter(steps: int, noise: tuple[float, float] = (0.0, 0.0)) -> CoreFitter:
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    planes = [0.5 + 0.3 * torch.sin(x / (3 + c)) * torch.cos(y / 5) for c in range(3)]
    config = CoreConfig(levels=3, hidden=8, residuals=1, width=8, block=3, colour=1, colour_level=1)
    net = CoreCoordX(config, {"y": 16, "x": 16}, 3).to(DEVICE)
    made = CoreFitter(
        net, torch.stack(planes).to(DEVICE), replace(CoreFitConfig.of(1e-3, steps), noise=noise)
    )
    if DEVICE == CPU:
        made.call_steps()
    return made


def test_features_of_all_grids_are_counted_with_32_bits() -> None:
    config, pixels = CoreFitConfig.of(1e-3, 30), MOST_SAMPLES // 7
    optimiser = Soap([nn.Parameter(torch.zeros(16, 16))], 1e-2)
    assert supported(config, CoreConfig(levels=6), pixels, [], optimiser)
    assert not supported(config, CoreConfig(levels=5, colour=2), pixels, [], optimiser)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Turns the kernels on or off."""
    return lambda on: monkeypatch.setattr(core_loop, "fused_on", lambda device: on)


def test_a_fit_goes_the_way_of_one_without_kernels(fused: Callable[[bool], None]) -> None:
    ways = []
    for on in (False, True):
        fused(on)
        fit = fitter(30)
        for _ in range(10):  # then the bases turn: those of no gradient are anybody's
            report = fit.advance()
        state = fit.state()
        soap = [s["step"] for s in state["networks"]["state"].values()]
        adam = [float(s["step"]) for s in state["adam"]["state"].values()]
        weights = torch.cat([w.flatten() for w in fit.net.by_name().values()])
        ways.append((fit.latents.cpu(), weights.cpu(), soap, adam, report))
    plain, kernel = ways
    assert kernel[2:4] == plain[2:4]
    assert set(kernel[2]) == {9}
    assert kernel[3] == [10]
    assert kernel[4].psnr == pytest.approx(plain[4].psnr, abs=0.2 if DEVICE != CPU else 1e-3)
    assert kernel[4].bpp == pytest.approx(plain[4].bpp, rel=0.05 if DEVICE != CPU else 1e-3)
    if DEVICE == CPU:
        assert distance(kernel[0], plain[0]) < 1e-3
        assert distance(kernel[1], plain[1]) < 1e-3


def test_every_tenth_step_bases_turn_and_rows_stay_within_the_format(
    fused: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    turned, shrunk = [], []
    monkeypatch.setattr(FusedSoap, "turn", lambda self: turned.append(fit.step))
    monkeypatch.setattr("codec.gpu.step.shrink_rows", lambda weights: shrunk.append(fit.step))
    fused(True)
    fit = fitter(40)
    fit.call_steps()  # what is replayed is not called
    while fit.step < 36:
        fit.advance()
    assert turned == shrunk == [1, 10, 20, 30]  # the first is the trial of all kernels


def test_kernels_that_do_not_run_are_done_without(
    fused: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: FusedSoap) -> None:
        raise RuntimeError("no compiler")

    fused(False)
    plain = fitter(30)
    for _ in range(4):
        plain.advance()
    monkeypatch.setattr(FusedSoap, "turn", broken)
    fused(True)
    fit = fitter(30)
    fit.advance()
    before = _copied(fit.state())
    assert isinstance(before, dict)
    with pytest.warns(UserWarning, match=r"without kernels of their own: RuntimeError.*compiler"):
        assert fit._kernels() is None
    after = fit.state()  # the trial left nothing behind
    for name in ("latents", "weights"):
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)
    for name in ("networks", "adam"):
        states = after[name]["state"], before[name]["state"]
        torch.testing.assert_close(*states, rtol=0, atol=0)
    with pytest.warns(UserWarning, match="without kernels"):
        fit.advance()
    for _ in range(2):
        fit.advance()
    assert fit.step == 4
    if DEVICE == CPU:  # on a GPU sums come in any order
        torch.testing.assert_close(fit.latents, plain.latents)
        torch.testing.assert_close(fit.net.by_name(), plain.net.by_name())


def test_a_fit_ends_and_resumes(fused: Callable[[bool], None]) -> None:
    fused(True)
    whole = fitter(24, noise=(0.2, 0.1))
    for _ in range(13):
        whole.advance()
    state = _copied(whole.state())
    assert isinstance(state, dict)
    again = fitter(24, noise=(0.2, 0.1))
    again.restore(_copied(state))  # type: ignore[arg-type]
    for fit in (whole, again):
        fit.run()
        assert fit.finished
    if DEVICE == CPU:  # on a GPU sums come in any order
        torch.testing.assert_close(whole.latents, again.latents)
    fused(False)  # and without kernels
    other = fitter(24, noise=(0.2, 0.1))
    other.restore(_copied(state))  # type: ignore[arg-type]
    assert other.advance().step == 14
    assert other.latents.isfinite().all()
    tensors, grids = again.result()
    assert len(tensors) == len(again.net.specs)
    assert [g.shape for g in grids] == [q.shape for q in again.net.latents]
    # The networks stayed as they were quantised.
    for spec, tensor in zip(again.net.specs, tensors, strict=True):
        expected = torch.from_numpy(tensor.values).to(torch.float32)
        torch.testing.assert_close(again.net.parameter(spec.name).detach().cpu(), expected)


def _copied(value: object) -> object:
    """States hold the tensors of the fit, which goes on."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: _copied(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_copied(part) for part in value]
    return value
