"""The fit: D + lambda R from random weights to the integers that go into the file.

Three stages share one cosine schedule (fractions of the step budget in `FitConfig`):

    float   weights are real numbers; D alone shapes them
    soft    steps are chosen by water-filling and refreshed; uniform noise stands in
            for rounding, and the rate of the symbols joins the loss
    hard    weights are rounded in the forward pass, gradients pass straight through; steps
            freeze, the real rate is checked and the best weights are kept
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from codec.fit.objective import backward_through, distortion
from codec.fit.optim import build_optimiser
from codec.fit.progress import Progress
from codec.fit.rate import laplace_bits
from codec.fit.sampler import Sampler
from codec.network import AxisGrid, CoordX
from codec.quantise import coded_bits, coded_tensors, round_ste, water_fill
from codec.signal import MOST_DECIBEL, decibel
from formats.weights import CodedTensor

__all__ = ["FitConfig", "Fitter"]


@dataclass(frozen=True)
class FitConfig:
    """How to fit one network.

    Attributes:
        lam: lambda, mean squared error (samples in [0, 1]) per bit per pixel.
        steps: optimiser steps in all.
        rate: peak learning rate.
        optimiser: "soap" or "adam".
        seed: initial weights, noise and sampling.
        float_share, soft_share: fractions of `steps` for the first two stages.
        coarseness: factor on the water-filled quantisation step.
        noise: width of the uniform noise of the soft stage in quantisation steps; 0 rounds
            there too.
        target_bits: if given, lambda is steered in the soft stage so that the symbols cost
            this many bits.
        batch: samples of a step at most; larger grids are sampled (`Sampler`).
    """

    lam: float
    steps: int
    rate: float = 0.05
    optimiser: str = "soap"
    seed: int = 0
    float_share: float = 0.45
    soft_share: float = 0.35
    coarseness: float = 1.0
    noise: float = 0.5
    target_bits: float | None = None
    batch: int = 2**15

    def stage(self, step: int) -> str:
        """ "float", "soft" or "hard"."""
        if step < self.float_share * self.steps:
            return "float"
        return "soft" if step < (self.float_share + self.soft_share) * self.steps else "hard"

    def learning_rate(self, step: int) -> float:
        """Linear warm-up over 2%, then a cosine to 1% of the peak."""
        warm = max(1, self.steps // 50)
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.rate * min(1.0, (step + 1) / warm) * (0.01 + 0.99 * cosine)


class Fitter:
    """Fits one network to one signal.

    Args:
        net: the network, on its device.
        target: (channels, *shape) float32 samples in [0, 1], on the same device.
        config: see `FitConfig`.
        pixels: pixels the rate is divided by (frames times area).
    """

    def __init__(self, net: CoordX, target: Tensor, config: FitConfig) -> None:
        self.net = net
        self.target = target
        self.config = config
        self.grid = AxisGrid.full(net.lengths, target.device)
        self.pixels = math.prod(self.grid.shape)
        self.sampler = Sampler(self.grid, target, config.batch, config.seed)
        self.optimiser = build_optimiser(config.optimiser, net.parameters(), config.rate)
        self.step = 0
        self.lam = config.lam
        self.steps: dict[str, int] = {}
        self.best: list[CodedTensor] | None = None
        self.best_loss = math.inf
        self._generator = torch.Generator(device=target.device)

    # -- weights as the loss sees them -----------------------------------------------------

    def _weights(self) -> dict[str, Tensor]:
        return {spec.name: self.net.parameter(spec.name) for spec in self.net.specs}

    def _seen(self, stage: str, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Weights to evaluate with, and the bits of their symbols."""
        bits = torch.zeros((), device=self.target.device)
        if stage == "float":
            return dict(weights), bits
        seen = {}
        for name, weight in weights.items():
            scale = 2.0 ** self.steps[name]
            q = weight / scale
            if stage == "soft" and self.config.noise > 0:
                noise = torch.rand(q.shape, generator=self._generator, device=q.device) - 0.5
                noise = noise * self.config.noise
                bits = bits + laplace_bits(q)
                q = q + noise
            else:
                q = round_ste(q)
                bits = bits + laplace_bits(q)
            seen[name] = q * scale
        return seen, bits

    # -- one step --------------------------------------------------------------------------

    def advance(self) -> Progress:
        """One optimiser step."""
        stage = self.config.stage(self.step)
        self._generator.manual_seed(self.config.seed * 1_000_003 + self.step)
        if stage != "float" and (not self.steps or self._refresh(stage)):
            self.steps = self.choose_steps()
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        weights = self._weights()
        seen, bits = self._seen(stage, weights)
        grid, target = self.sampler.draw(self.step)
        rate_loss = self.lam / self.pixels * bits
        if rate_loss.requires_grad:
            torch.autograd.backward([rate_loss], retain_graph=True)
        share = 1 / target.numel()
        mse = backward_through(
            self.net,
            grid,
            seen,
            lambda samples, ranges: (
                (samples - target[(slice(None), *ranges)]).square().sum() * share
            ),
        )
        self.optimiser.step()
        self.step += 1
        loss = float(mse)
        estimate = float(bits.detach()) if stage != "float" else math.nan
        if stage == "hard" and self._due():
            self._check()
        psnr = decibel(loss, MOST_DECIBEL)
        return Progress(self.step, self.config.steps, stage, estimate / self.pixels, psnr)

    def choose_steps(self) -> dict[str, int]:
        """Water-filled steps for the present weights, at lambda or at the target rate.

        With a target, lambda follows: it is the one at which the rounded weights cost the
        target, found by bisection on its logarithm (bits fall as lambda grows).
        """
        curvature, weights = self._curvature()

        def steps_at(lam: float) -> dict[str, int]:
            return water_fill(curvature, weights, lam, self.pixels, self.config.coarseness)

        if self.config.target_bits:
            # The estimate is cheap but a few percent off: measure by how much, at lambda.
            here = steps_at(self.lam)
            real = coded_bits(coded_tensors(self.net, here))
            target = self.config.target_bits * _estimated_bits(weights, here) / real
            low, high = math.log(1e-9), math.log(10.0)
            for _ in range(24):
                middle = (low + high) / 2
                bits = _estimated_bits(weights, steps_at(math.exp(middle)))
                low, high = (middle, high) if bits > target else (low, middle)
            self.lam = math.exp(high)
        return steps_at(self.lam)

    def _curvature(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Mean diagonal Hessian entry of the distortion, per tensor (see `codec.quantise`)."""
        weights = {k: v.detach().requires_grad_() for k, v in self._weights().items()}
        grid, target = self.sampler.draw(self.step)

        def signs(samples: Tensor, _: tuple[slice, ...]) -> Tensor:
            v = torch.randint(0, 2, samples.shape, generator=self._generator, device=samples.device)
            return (samples * (2.0 * v - 1.0)).sum()

        backward_through(self.net, grid, weights, signs)
        # D = sum of squares / count, so its Gauss-Newton Hessian is 2 J^T J / count.
        scale = 2 / target.numel()
        return {
            name: scale * float(w.grad.square().mean()) if w.grad is not None else 0.0
            for name, w in weights.items()
        }, weights

    def _refresh(self, stage: str) -> bool:
        """Whether steps are chosen anew: every 3% of the fit, at most every 50 steps.

        In the soft stage, and, with a target in bits, in the first half of the hard one:
        the rate term keeps shrinking symbols, and what it frees buys finer steps.
        """
        soft_end = self.config.float_share + self.config.soft_share
        until = (1 + soft_end) / 2 if self.config.target_bits else soft_end
        if stage == "hard" and self.step >= until * self.config.steps:
            return False
        return self.step % max(50, round(self.config.steps * 0.03)) == 0

    def _due(self) -> bool:
        return self.step % 100 == 0 or self.step >= self.config.steps

    def _check(self) -> None:
        """Real bits and full distortion of the rounded weights; keep the best."""
        coded = coded_tensors(self.net, self.steps)
        weights = {
            spec.name: torch.from_numpy(t.values).to(self.target.device)
            for spec, t in zip(self.net.specs, coded, strict=True)
        }
        bits = coded_bits(coded)
        loss = distortion(self.net, self.grid, self.target, weights)
        if self.config.target_bits is None:
            loss += self.lam * bits / self.pixels
        elif bits > self.config.target_bits * 1.01:  # above any distortion: a last resort
            loss = 10 + bits / self.config.target_bits
        if loss < self.best_loss:
            self.best_loss, self.best = loss, coded

    @property
    def finished(self) -> bool:
        """Whether the step budget is spent."""
        return self.step >= self.config.steps

    def result(self) -> list[CodedTensor]:
        """The best integer weights found; the fit must be finished."""
        assert self.best is not None
        return self.best

    def run(self, progress: Callable[[Progress], None] | None = None) -> list[CodedTensor]:
        """Run the remaining steps; the best integer weights found."""
        while not self.finished:
            report = self.advance()
            if progress is not None:
                progress(report)
        return self.result()

    # -- saving ----------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything a later process needs to go on as if it had not stopped."""
        return {
            "step": self.step,
            "lam": self.lam,
            "steps": self.steps,
            "weights": {k: v.detach() for k, v in self._weights().items()},
            "optimiser": self.optimiser.state_dict(),
            "best_loss": self.best_loss,
            "best": None if self.best is None else [[t.symbols, t.step] for t in self.best],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state`."""
        self.step = state["step"]
        self.lam = state["lam"]
        self.steps = state["steps"]
        self.net.assign(state["weights"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best_loss = state["best_loss"]
        if state["best"] is not None:
            self.best = [CodedTensor(symbols, step) for symbols, step in state["best"]]


@torch.no_grad()
def _estimated_bits(weights: Mapping[str, Tensor], steps: Mapping[str, int]) -> float:
    """Bits of the rounded weights under the Laplace model of the loss."""
    total = 0.0
    for name, weight in weights.items():
        total += float(laplace_bits((weight / 2.0 ** steps[name]).round())) + 16
    return total
