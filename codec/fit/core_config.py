"""Settings of a core-fusion fit: budget, rates and schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["LAMBDAS", "CoreFitConfig"]

LAMBDAS = (1e-7, 10.0)
"""The range of lambda, for those who choose it and for searches."""


@dataclass(frozen=True)
class CoreFitConfig:
    """How to fit one picture.

    Attributes:
        lam: lambda, mean squared error (samples in [0, 1]) per bit per pixel.
        steps: optimiser steps in all.
        rate: peak learning rate of the networks.
        latent_rate: peak learning rate of the latents, in quantisation steps.
        betas: of the latents' Adam: short memories, since the soft rounding changes all the time.
        seed: initial weights and noise.
        soft_share: fraction of `steps` in which networks are fitted too.
        temperature, noise: at the start and at the end.
        warm_up: fraction of the steps over which the learning rate of the networks rises.
        clip: largest norm of the gradient of the networks.
        weight_price: factor on the bits of the network weights in the loss.
        firm_from: fraction of `steps` after which the context's weights are softly rounded too.
        firm_temperature: of that, at its start and at the end of the soft stage.
        firm_noise: of that, in steps of the weights.
        polish: rounds of moves of single latents at the end, relative to `steps`.
    """

    lam: float
    steps: int
    rate: float = 0.03
    latent_rate: float = 0.2
    betas: tuple[float, float] = (0.5, 0.95)
    seed: int = 0
    soft_share: float = 0.93
    temperature: tuple[float, float] = (0.4, 0.03)
    noise: tuple[float, float] = (0.22, 0.15)
    warm_up: float = 0.03
    clip: float = 0.1
    weight_price: float = 1.0
    firm_from: float = 0.6
    firm_temperature: tuple[float, float] = (0.5, 0.05)
    firm_noise: float = 0.1
    polish: float = 0.02

    @classmethod
    def of(cls, lam: float, steps: int, seed: int = 0, prior: bool = True) -> CoreFitConfig:
        """The settings for a budget.

        In longer fits from a prior latents take smaller steps. At a low lambda they have further
        to go from zero: at the same rate, short fits ended up to 3 dB lower. A softer rounding
        helps a short fit; a long one learns to store information between the integers, and
        loses it when the rounding hardens: it begins at 0.4 up to 2,000 steps, at 0.3 with
        10,000 (docs/experiments.md).
        """
        slower = max(2 / 3, min(1.0, (500 / steps) ** 0.25)) if prior else 1.0
        faster = max(1.0, min(4.0, (4e-4 / lam) ** 0.6))
        first, last = cls.temperature
        return cls(
            lam,
            steps,
            latent_rate=cls.latent_rate * slower * faster,
            temperature=(first * min(1.0, 2000 / steps) ** 0.18, last),
            seed=seed,
        )

    def stage(self, step: int) -> str:
        """ "soft" or "settle"."""
        return "soft" if step < self.soft_steps else "settle"

    @property
    def soft_steps(self) -> int:
        """Steps of the first stage."""
        return round(self.steps * self.soft_share)

    def between(self, ends: tuple[float, float], step: int) -> float:
        """A value that goes from one end to the other in a line."""
        return ends[0] + step / self.steps * (ends[1] - ends[0])

    def firmness(self, step: int) -> float | None:
        """Temperature of the rounding of the context's weights; None while they are not rounded."""
        start = round(self.firm_from * self.steps)
        if not start <= step < self.soft_steps:
            return None
        first, last = self.firm_temperature
        return first + (step - start) / (self.soft_steps - start) * (last - first)

    @property
    def polish_rounds(self) -> int:
        """How many times moves are tried at the end."""
        return round(self.polish * self.steps)

    def network_rate(self, step: int) -> float:
        """Learning rate of the networks: a line up, and half a cosine over the soft stage."""
        warm = min(1.0, (step + 1) / max(1, round(self.warm_up * self.steps)))
        return self.rate * warm * _cosine(step / max(1, self.soft_steps))

    def epsilon(self, pixels: int) -> float:
        """What the latents' Adam adds to the size of a gradient.

        A latent's gradient is of the order of lambda / pixels. Beside a constant it vanishes in
        large pictures at low lambdas, and the latents stand still (docs/experiments.md).
        """
        return min(1e-8, 10 * self.lam / pixels)

    def latents_rate(self, step: int) -> float:
        """Learning rate of the latents: half a cosine over all steps."""
        return self.latent_rate * _cosine(step / self.steps)


def _cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
