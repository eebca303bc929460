"""The fit of a core-fusion picture: D + lambda R over latents and networks, to integers.

Three stages (fractions of the step budget in `CoreFitConfig`):

    soft     latents pass a soft rounding with noise; temperature, noise and learning rates fall
    hard     latents are rounded in the forward pass, gradients pass straight through
    settle   network weights are quantised by rate-distortion search and stay fixed; latents
             go on with the integer context network in the loop, so that what is measured is
             what the file will cost; the best state is kept

The recipe is Cool-chic 5's (SOAP on the networks, Adam on the latents), its schedule scaled to
the budget; every constant was compared in docs/experiments.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.fit.core_distortion import CoreDistortion, DistortionResult
from codec.fit.optim import build_optimiser
from codec.fit.progress import Progress
from codec.fit.rate import laplace_bits
from codec.fit.soft import soft_round, soft_round_noisy
from codec.network.core import CoreCoordX
from codec.quantise_core import prior_weights, quantise_networks
from codec.rate import ContextRate
from codec.rate.context import RateResult
from codec.signal import MOST_DECIBEL, decibel
from formats.errors import InputError
from formats.weights import CodedTensor

__all__ = ["CoreFitConfig", "CoreFitter"]

TYPICAL_STEP = {
    "context.first": -4,
    "context.parent": -4,
    "context.bias": -3,
    "context.hidden": -5,
    "context.hidden_bias": -4,
    "context.out": -6,
    "context.level": -4,
    "kernel": -8,
    "filter": -8,
    "tail.weight": -6,
    "output.weight": -6,
}
"""Exponents of the steps that the search ends at, for the price of weights during the fit."""
DIVERGED = "the fit diverged: try another --seed"

Grids = list[npt.NDArray[np.int32]]


@dataclass(frozen=True)
class CoreFitConfig:
    """How to fit one picture.

    Attributes:
        lam: lambda, mean squared error (samples in [0, 1]) per bit per pixel.
        steps: optimiser steps in all.
        rate: peak learning rate of the networks.
        latent_rate: peak learning rate of the latents, in quantisation steps.
        seed: initial weights and noise.
        soft_share, hard_share: fractions of `steps` for the first two stages.
        temperature, noise: at the start and at the end of the soft stage.
        warm_up: fraction of the steps over which the learning rate of the networks rises.
        hard_rate: learning rates of the later stages at their start, relative to the peak.
        clip: largest norm of the gradient of the networks.
        weight_price: factor on the bits of the network weights in the loss.
    """

    lam: float
    steps: int
    rate: float = 0.01
    latent_rate: float = 0.2
    seed: int = 0
    soft_share: float = 0.88
    hard_share: float = 0.05
    temperature: tuple[float, float] = (0.4, 0.03)
    noise: tuple[float, float] = (0.22, 0.15)
    warm_up: float = 0.03
    hard_rate: float = 0.1
    clip: float = 0.1
    weight_price: float = 1.0

    @classmethod
    def of(cls, lam: float, steps: int, seed: int = 0) -> CoreFitConfig:
        """The settings for a budget: long fits take smaller steps."""
        slower = max(0.4, min(1.0, (500 / steps) ** 0.25))
        return cls(lam, steps, rate=0.01 * slower, latent_rate=0.2 * slower, seed=seed)

    def stage(self, step: int) -> str:
        """ "soft", "hard" or "settle"."""
        if step < self.soft_steps:
            return "soft"
        return "hard" if step < self.soft_steps + self.hard_steps else "settle"

    @property
    def soft_steps(self) -> int:
        """Steps of the first stage."""
        return round(self.steps * self.soft_share)

    @property
    def hard_steps(self) -> int:
        """Steps of the second stage."""
        return round(self.steps * self.hard_share)

    def progress(self, step: int) -> float:
        """0 at the start of the soft stage, 1 at its end and after."""
        return min(1.0, step / max(1, self.soft_steps))

    def rate_factor(self, step: int) -> float:
        """Learning rates relative to their peaks: a cosine, then a line to zero."""
        if step < self.soft_steps:
            return 0.5 * (1 + math.cos(math.pi * self.progress(step)))
        done = (step - self.soft_steps) / max(1, self.steps - self.soft_steps)
        return self.hard_rate * (1 - done)


class CoreFitter:
    """Fits latents and networks to one picture.

    The rate is that of the whole picture as one segment. In a file with tiles (`CoreConfig.tile`)
    the context ends at each tile's border, so it costs a little more than the fit believes.

    Args:
        net: the network, on its device; its `latents` are where the fit starts.
        target: (channels, height, width) float32 samples in [0, 1], on the same device.
        config: see `CoreFitConfig`.
    """

    def __init__(self, net: CoreCoordX, target: Tensor, config: CoreFitConfig) -> None:
        self.net, self.target, self.config = net, target, config
        self.prior = prior_weights(net)
        self.pixels = target.shape[-1] * target.shape[-2]
        self.shapes = [(q.shape[0], q.shape[1]) for q in net.latents]
        self.latents = torch.cat([q.flatten() for q in net.latents]).to(target.device)
        self.distortion = CoreDistortion(net.config, target)
        self.rate = ContextRate(net.config, net.height, net.width, target.device)
        self.networks = build_optimiser("soap", net.parameters(), config.rate)
        # On a CPU the fused Adam is one pass over memory; so is it on a GPU.
        self.adam = torch.optim.Adam([self.latents], lr=config.latent_rate, fused=True)
        self.step = 0
        self.coded: list[CodedTensor] | None = None
        self.real_weights: dict[str, Tensor] = {}
        self.best: Tensor | None = None
        self.best_loss = math.inf
        self._seen = (math.nan, math.nan)
        self._generator = torch.Generator(device=target.device)

    def start_from(self, latents: Tensor) -> None:
        """Begin at other latents than zero."""
        self.latents.copy_(latents)

    # -- parts -----------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """Network weights by name."""
        return {spec.name: self.net.parameter(spec.name).detach() for spec in self.net.specs}

    def split(self, flat: Tensor) -> list[Tensor]:
        """One vector of all latents as grids by level."""
        sizes = [h * w for h, w in self.shapes]
        parts = torch.split(flat, sizes)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def _quantised(self, stage: str) -> tuple[Tensor, Tensor]:
        """Latents as the loss sees them, and the slope of that."""
        config = self.config
        done = config.progress(self.step)
        temperature = config.temperature[0] + done * (config.temperature[1] - config.temperature[0])
        if stage != "soft":
            return self.latents.round(), soft_round(self.latents, config.temperature[1])[1]
        sigma = config.noise[0] + done * (config.noise[1] - config.noise[0])
        noise = torch.empty_like(self.latents).normal_(0, sigma, generator=self._generator)
        return soft_round_noisy(self.latents, temperature, noise)

    def evaluate(
        self, latents: Tensor, exact: bool, gradient: bool = True
    ) -> tuple[DistortionResult, RateResult]:
        """Distortion and rate of a vector of latents, with gradients of D + lambda R."""
        weights = self.weights()
        grids = self.split(latents)
        context = {k: v for k, v in weights.items() if k.startswith("context.")}
        synthesis = {k: v for k, v in weights.items() if not k.startswith("context.")}
        found = self.distortion(synthesis, grids)
        scale = self.config.lam / self.pixels
        return found, self.rate(context, latents, scale, gradient=gradient, exact=exact)

    # -- one step --------------------------------------------------------------------------

    @torch.no_grad()
    def advance(self) -> Progress:
        """One optimiser step.

        Raises:
            InputError: the fit has diverged: latents or weights are no numbers any more.
        """
        config = self.config
        stage = config.stage(self.step)
        self._generator.manual_seed(config.seed * 1_000_003 + self.step)
        if stage == "settle" and self.coded is None:
            self._freeze()
        factor = config.rate_factor(self.step)
        warm = min(1.0, (self.step + 1) / max(1, round(config.warm_up * config.steps)))
        for group in self.networks.param_groups:
            group["lr"] = max(config.rate * factor * warm, 1e-7)
        for group in self.adam.param_groups:
            group["lr"] = max(config.latent_rate * factor, 1e-7)
        quantised, slope = self._quantised(stage)
        found, rate = self.evaluate(quantised, exact=stage == "settle")
        if stage == "settle":
            self._keep(found, rate, quantised)
        gradient = torch.cat([d.flatten() for d in found.latents]).add_(rate.latents)
        self.latents.grad = gradient.mul_(slope)
        self.adam.step()
        if stage != "settle":
            for name, value in (found.weights | rate.weights).items():
                self.net.parameter(name).grad = value
            if config.weight_price:
                self._charge_weights()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), config.clip)
            try:
                self.networks.step()
            except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # SOAP
                raise InputError(DIVERGED) from error
        self.step += 1
        if self.step % 10 == 0 or self.step == 1 or self.finished:  # a read waits for a GPU
            self._seen = (float(rate.bits) / self.pixels, float(found.mse))
        if self.finished:
            self._finish()
        bpp, mse = self._seen
        return Progress(self.step, config.steps, stage, bpp, decibel(mse, MOST_DECIBEL))

    def _charge_weights(self) -> None:
        """Add the gradient of the bits that the weights will cost."""
        price = self.config.weight_price * self.config.lam / self.pixels
        for spec in self.net.specs:
            parameter = self.net.parameter(spec.name)
            with torch.enable_grad():
                weight = parameter.detach().requires_grad_()
                symbols = weight - self.prior[spec.name] if spec.name in self.prior else weight
                bits = laplace_bits(symbols / 2.0 ** TYPICAL_STEP.get(spec.name, -7))
                gradient = torch.autograd.grad(bits, weight)[0]
            assert parameter.grad is not None
            parameter.grad.add_(gradient, alpha=price)

    def _freeze(self) -> None:
        """Quantise the networks for good; the weights before that start later rounds."""
        self.real_weights = {name: value.clone() for name, value in self.weights().items()}
        _require_finite(self.latents, *self.real_weights.values())
        latents = self.latents.round()
        grids = self.split(latents)
        self.coded = quantise_networks(
            self.net, self.distortion, self.rate, latents, grids, self.config.lam
        )

    def _keep(self, found: DistortionResult, rate: RateResult, quantised: Tensor) -> None:
        if self.step % 10 and self.step + 1 < self.config.steps:
            return
        loss = float(found.mse) + self.config.lam * float(rate.bits) / self.pixels
        if loss < self.best_loss:
            self.best_loss, self.best = loss, quantised.clone()

    def _finish(self) -> None:
        if self.coded is None:
            self._freeze()
        if self.best is None:
            self.best = self.latents.round()
        _require_finite(self.best)
        self.net.latents = self.split(self.best)

    @property
    def finished(self) -> bool:
        """Whether the step budget is spent."""
        return self.step >= self.config.steps

    def result(self) -> tuple[list[CodedTensor], Grids]:
        """Network weights and latents as integers; the fit must be finished."""
        assert self.coded is not None
        return self.coded, [q.to(torch.int32).cpu().numpy() for q in self.net.latents]

    def run(self, progress: Callable[[Progress], None] | None = None) -> None:
        """Run the remaining steps."""
        while not self.finished:
            report = self.advance()
            if progress is not None:
                progress(report)

    # -- saving ----------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything a later process needs to go on as if it had not stopped."""
        return {
            "step": self.step,
            "latents": self.latents,
            "weights": self.weights(),
            "networks": self.networks.state_dict(),
            "adam": self.adam.state_dict(),
            "coded": None if self.coded is None else [[t.symbols, t.step] for t in self.coded],
            "real_weights": self.real_weights,
            "best": self.best,
            "best_loss": self.best_loss,
            "seen": list(self._seen),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state`."""
        self.step = state["step"]
        with torch.no_grad():
            self.latents.copy_(state["latents"])
        self.net.assign(state["weights"])
        self.networks.load_state_dict(state["networks"])
        self.adam.load_state_dict(state["adam"])
        if state["coded"] is not None:
            self.coded = [CodedTensor(symbols, step) for symbols, step in state["coded"]]
        self.real_weights = dict(state["real_weights"])
        self.best, self.best_loss = state["best"], state["best_loss"]
        self._seen = (state["seen"][0], state["seen"][1])
        if self.finished:
            self._finish()


def _require_finite(*values: Tensor) -> None:
    if not all(bool(value.isfinite().all()) for value in values):
        raise InputError(DIVERGED)
