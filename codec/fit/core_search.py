"""Which fits a rate target takes with core fusion.

lambda and quality take one fit. Other targets look for lambda: full fits until one is near, then
short ones that start from the nearest fit so far, each at the lambda that a straight line in
(log lambda, log target) through the results points to. A search ends early where lambda has
nowhere to go, or where two full fits brought a target that is far away no nearer. The plan is a
function of finished rounds, so an interrupted search resumes by replaying it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from codec.fit.core_config import LAMBDAS, CoreFitConfig
from codec.fit.search import Goal
from codec.network.presets import latent_gain
from codec.signal import MOST_DECIBEL, decibel

__all__ = ["CoreResult", "CoreRound", "CoreSearch"]

MAX_ROUNDS = 14
ENOUGH_ROUNDS = 6
"""Rounds after which a result less than `ENOUGH` within the target will do."""
ENOUGH = 0.1
"""In log bits; 6 times as much in dB."""
RATE_TOLERANCE = 0.02
"""How far below a target rate is close enough; it is never exceeded."""
PSNR_TOLERANCE = 0.05
"""dB above a target PSNR that are close enough."""
WARM_SHARE = 0.25
"""Steps of a round that starts from another, relative to a full one."""
FAR = 0.3
"""Misses above this (in log bits; 6 times as much in dB) take a full fit."""
RATE_SLOPE, PSNR_SLOPE = -0.5, -4.0
"""d log bits / d log lambda and d dB / d log lambda on photographs, until two rounds tell."""


@dataclass(frozen=True)
class CoreRound:
    """One fit.

    Attributes:
        fit: how.
        gain: of the latents, see `CoreConfig.gain`.
        start: the round whose latents and networks it starts from; None starts anew, from
            the prior if there is one.
    """

    fit: CoreFitConfig
    gain: int
    start: int | None = None


@dataclass(frozen=True)
class CoreResult:
    """What a round gave.

    Attributes:
        plan: the round.
        weights, latents: as the loss saw them last before networks were quantised, and at the end;
            to start another round from.
        payload: bytes of the unit.
        mse: of the samples that a decoder returns, in [0, 1].
    """

    plan: CoreRound
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
        return decibel(self.mse, MOST_DECIBEL)


class CoreSearch:
    """Plans the rounds of one picture.

    Args:
        goal: what is wanted.
        lam: of the first round: an estimate unless it is the goal.
        settings: of a full round, by its lambda.
    """

    def __init__(self, goal: Goal, lam: float, settings: Callable[[float], CoreFitConfig]) -> None:
        self.goal, self.lam, self.settings = goal, _bounded(lam), settings

    def next_round(self, history: Sequence[CoreResult]) -> CoreRound | None:
        """The round to run after these, or None when the goal is met or rounds are spent."""
        if not history:
            return CoreRound(self.settings(self.lam), latent_gain(self.lam))
        if self.goal.lam is not None:
            return None
        misses = [self._miss(result) for result in history]
        tolerance = RATE_TOLERANCE if self.goal.bits is not None else PSNR_TOLERANCE
        unit = 1 if self.goal.bits is not None else 6  # dB for a logarithm of bits
        if any(-tolerance <= miss <= 0 for miss in misses):
            return None
        enough = any(-ENOUGH * unit <= miss <= 0 for miss in misses)
        if len(history) >= (ENOUGH_ROUNDS if enough else MAX_ROUNDS):
            return None
        nearest = min(range(len(history)), key=lambda i: abs(misses[i]))
        # Two more fits came no nearer: lambda is not what holds the picture back.
        if min(misses) > FAR * unit and min(misses[-2:]) >= min(misses[:-2], default=math.inf):
            return None
        lam = self._lambda(history, misses, -tolerance / 2)
        if self.goal.bits is not None and min(misses) > 0 and len(history) >= ENOUGH_ROUNDS:
            lam = 2 * history[-1].plan.fit.lam  # a size must not be missed: make sure
        lam = _bounded(lam)
        if lam in LAMBDAS and lam == history[-1].plan.fit.lam:
            return None
        full = self.settings(lam)
        if abs(misses[-1]) > FAR * unit:
            # Latents of a far lambda are no start: too many of them would have to change.
            return CoreRound(full, latent_gain(lam))
        warm = replace(
            full,
            steps=min(full.steps, max(80, round(full.steps * WARM_SHARE))),
            rate=0.5 * full.rate,
            latent_rate=0.5 * full.latent_rate,
            seed=full.seed + len(history),
        )
        return CoreRound(warm, history[nearest].plan.gain, nearest)

    def _miss(self, result: CoreResult) -> float:
        """How far over the target: above 0 is a miss, far below 0 is waste.

        In bits relative to the target, or in dB short of it.
        """
        if self.goal.bits is not None:
            return math.log(result.bits / self.goal.bits)
        assert self.goal.psnr is not None
        return self.goal.psnr - result.psnr

    def _lambda(self, history: Sequence[CoreResult], misses: Sequence[float], aim: float) -> float:
        """Lambda at which the miss should be `aim`.

        Rounds that go on from others are better converged than the first one: at the same lambda
        they may spend more and show more. So only rounds like the last one are looked at: a
        straight line through the nearest ones on both sides, or else on from the last one.
        """
        bits = self.goal.bits is not None
        last, miss = history[-1], misses[-1]
        lambdas = [math.log(result.plan.fit.lam) for result in history]
        alike = [(r.plan.start is None) == (last.plan.start is None) for r in history]
        known = [pair for *pair, like in zip(misses, lambdas, alike, strict=True) if like]
        over, under = [p for p in known if p[0] > aim], [p for p in known if p[0] <= aim]
        if over and under:
            (high, at_high), (low, at_low) = min(over), max(under)
            # More bits are at a lower lambda, more dB too, and a miss of dB is one of too few.
            if (at_high < at_low) == bits and at_high != at_low:
                share = min(0.9, max(0.1, (aim - low) / (high - low)))
                return math.exp(at_low + share * (at_high - at_low))
        slope = RATE_SLOPE if bits else -PSNR_SLOPE
        if alike[-2:] == [True, True]:
            span = lambdas[-1] - lambdas[-2]
            measured = (miss - misses[-2]) / span if span else 0.0
            if 0.5 < measured / slope < 3:  # noise of short fits must not turn the search round
                slope = measured
        step = max(-2.5, min(2.5, (aim - miss) / slope))
        return last.plan.fit.lam * math.exp(step)


def _bounded(lam: float) -> float:
    return min(max(lam, LAMBDAS[0]), LAMBDAS[1])
