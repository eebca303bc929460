"""Which fits a rate target takes with core fusion.

lambda and quality take one fit. Other targets look for lambda: a full fit at an estimate, then
short ones that start from the nearest fit so far, each at the lambda that a straight line in
(log lambda, log target) through the results points to. The plan is a function of finished rounds,
so an interrupted search resumes by replaying it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from codec.fit.core_loop import CoreFitConfig
from codec.fit.search import Goal
from formats.weights import CodedTensor

__all__ = ["CoreResult", "CoreRound", "CoreSearch"]

MAX_ROUNDS = 8
RATE_TOLERANCE = 0.02
"""How far below a target rate is close enough; it is never exceeded."""
PSNR_TOLERANCE = 0.05
"""dB above a target PSNR that are close enough."""
WARM_SHARE = 0.25
"""Steps of a round that starts from another, relative to a full one."""
RATE_SLOPE, PSNR_SLOPE = -0.7, -4.0
"""d log bits / d log lambda and d dB / d log lambda on photographs, until two rounds tell."""


@dataclass(frozen=True)
class CoreRound:
    """One fit, and the round whose latents and networks it starts from."""

    fit: CoreFitConfig
    start: int | None = None


@dataclass(frozen=True)
class CoreResult:
    """What a round gave.

    Attributes:
        plan: the round.
        coded: network weights as integers.
        grids: latents as integers, by level.
        weights, latents: real-valued, to start another round from.
        payload: bytes of the unit.
        mse: of the samples that a decoder returns, in [0, 1].
    """

    plan: CoreRound
    coded: list[CodedTensor]
    grids: list[npt.NDArray[np.int32]]
    weights: dict[str, Tensor]
    latents: Tensor
    payload: bytes
    mse: float

    @property
    def bits(self) -> float:
        """Of the payload."""
        return 8.0 * len(self.payload)

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in dB."""
        return -10 * math.log10(max(self.mse, 1e-12))


class CoreSearch:
    """Plans the rounds of one picture.

    Args:
        goal: what is wanted.
        first: how to fit the first round; its lambda is an estimate unless it is the goal.
    """

    def __init__(self, goal: Goal, first: CoreFitConfig) -> None:
        self.goal, self.first = goal, first

    def next_round(self, history: Sequence[CoreResult]) -> CoreRound | None:
        """The round to run after these, or None when the goal is met or rounds are spent."""
        if not history:
            return CoreRound(self.first)
        if self.goal.lam is not None or len(history) >= MAX_ROUNDS:
            return None
        misses = [self._miss(result) for result in history]
        tolerance = RATE_TOLERANCE if self.goal.bits is not None else PSNR_TOLERANCE
        if any(-tolerance <= miss <= 0 for miss in misses):
            return None
        if len(history) >= MAX_ROUNDS - 2 and min(misses) <= 0:
            return None
        nearest = min(range(len(history)), key=lambda i: abs(misses[i]))
        lam = self._lambda(history, misses, -tolerance / 2)
        steps = max(20, round(self.first.steps * WARM_SHARE))
        warm = replace(
            self.first,
            lam=lam,
            steps=steps,
            rate=0.3 * self.first.rate,
            latent_rate=0.3 * self.first.latent_rate,
            temperature=(self.first.temperature[1], self.first.temperature[1]),
            noise=(self.first.noise[1], self.first.noise[1]),
            seed=self.first.seed + len(history),
        )
        return CoreRound(warm, nearest)

    def _miss(self, result: CoreResult) -> float:
        """How far over the target: above 0 is a miss, far below 0 is waste.

        In bits relative to the target, or in dB short of it.
        """
        if self.goal.bits is not None:
            return math.log(result.bits / self.goal.bits)
        assert self.goal.psnr is not None
        return self.goal.psnr - result.psnr

    def _lambda(self, history: Sequence[CoreResult], misses: Sequence[float], aim: float) -> float:
        """Lambda at which the miss should be `aim`."""
        slope = RATE_SLOPE if self.goal.bits is not None else -PSNR_SLOPE
        points = sorted(
            (math.log(r.plan.fit.lam), miss) for r, miss in zip(history, misses, strict=True)
        )
        near = min(points, key=lambda p: abs(p[1] - aim))
        others = [p for p in points if abs(p[0] - near[0]) > 1e-6]
        if others:
            other = min(others, key=lambda p: abs(p[0] - near[0]))
            measured = (other[1] - near[1]) / (other[0] - near[0])
            if 0.2 < measured / slope < 4:  # noise of short fits must not turn the search round
                slope = measured
        step = (aim - near[1]) / slope
        return math.exp(near[0] + max(-2.5, min(2.5, step)))

    def choose(self, history: Sequence[CoreResult]) -> CoreResult:
        """The round whose payload goes into the file."""
        if self.goal.bits is not None:
            fitting = [r for r in history if r.bits <= self.goal.bits]
            if fitting:
                return min(fitting, key=lambda r: r.mse)
            return min(history, key=lambda r: r.bits)
        if self.goal.psnr is not None:
            reached = [r for r in history if r.psnr >= self.goal.psnr]
            if reached:
                return min(reached, key=lambda r: r.bits)
            return max(history, key=lambda r: r.psnr)
        return history[-1]
