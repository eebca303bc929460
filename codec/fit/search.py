"""Which fits a rate target takes: a plan of rounds, each decided by the results before it.

lambda and quality take one round. A target in bits takes one round of a network sized for it,
and short warm-started rounds while the result is too large. A target in dB brackets lambda,
resizing the network while it is far off. The plan is a function of finished rounds, so an
interrupted search resumes by replaying it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from codec.fit.budget import lambda_of_bits, network_bits
from codec.fit.loop import FitConfig
from codec.network.presets import BITS_PER_WEIGHT, coding_network
from codec.signal import MOST_DECIBEL, decibel
from formats.network import NetworkConfig
from formats.weights import CodedTensor

__all__ = ["Goal", "Round", "RoundResult", "Search"]

MAX_ROUNDS = 5
MAX_FULL_ROUNDS = 3
PSNR_TOLERANCE = 0.1
"""dB: how close to a target PSNR is close enough."""
RATE_TOLERANCE = 0.12
"""How far below a target rate is close enough; it is never exceeded. Most weights sit in one
tensor, and its step moves by factors of two: rates in between cannot be had by steps alone."""
WARM_SHARE = 0.3
"""Steps of a warm-started round, relative to a full one."""
WARM_RATE = 0.3
"""Its peak learning rate, relative: high enough to move, low enough to keep what was learned."""


class Measured(Protocol):
    """A finished round: its bits, its mean squared error in [0, 1], its PSNR in dB."""

    @property
    def bits(self) -> float: ...
    @property
    def mse(self) -> float: ...
    @property
    def psnr(self) -> float: ...


Result = TypeVar("Result", bound=Measured)


@dataclass(frozen=True)
class Goal:
    """What one unit is fitted for; exactly one of the three is given.

    Attributes:
        lam: price of a bit per pixel.
        bits: what the unit may cost at most.
        psnr: dB to reach.
    """

    lam: float | None = None
    bits: float | None = None
    psnr: float | None = None

    def choose(self, history: Sequence[Result]) -> Result:
        """The round that goes into the file.

        The best one that is small enough, or the smallest one that is good enough; if none is,
        the one that is nearest. With a lambda, the last one.
        """
        if self.bits is not None:
            fitting = [r for r in history if r.bits <= self.bits]
            if fitting:
                return min(fitting, key=lambda r: r.mse)
            return min(history, key=lambda r: r.bits)
        if self.psnr is not None:
            reached = [r for r in history if r.psnr >= self.psnr]
            if reached:
                return min(reached, key=lambda r: r.bits)
            return max(history, key=lambda r: r.psnr)
        return history[-1]


@dataclass(frozen=True)
class Round:
    """One fit: the network, how to fit it, and which round's weights to start from."""

    network: NetworkConfig
    fit: FitConfig
    start: int | None = None


@dataclass(frozen=True)
class RoundResult:
    """What a round gave.

    Attributes:
        plan: the round.
        coded: integer weights.
        weights: real-valued weights, to warm-start from, by name.
        bits: of the coded weights.
        mse: of the samples that a decoder returns, in [0, 1].
        lam: lambda at the end.
    """

    plan: Round
    coded: list[CodedTensor]
    weights: Mapping[str, Tensor]
    bits: float
    mse: float
    lam: float

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in dB."""
        return decibel(self.mse, MOST_DECIBEL)


class Search:
    """Plans the rounds of one unit.

    Args:
        signal: (channels, [T,] H, W).
        lengths: its axis lengths.
        partition: axis split.
        goal: what is wanted.
        steps: optimiser steps of a full round.
        seed: seed of the first round.
        network: a fixed network (chosen by the user, or by the first unit of the file).
        start: whether the previous unit's weights are there to start from.
    """

    def __init__(
        self,
        signal: Tensor,
        lengths: Mapping[str, int],
        partition: str,
        goal: Goal,
        steps: int,
        seed: int,
        network: NetworkConfig | None,
    ) -> None:
        self.signal = signal
        self.lengths = dict(lengths)
        self.partition = partition
        self.goal = goal
        self.steps = steps
        self.seed = seed
        self.fixed = network

    # -- plan ------------------------------------------------------------------------------

    def next_round(self, history: list[RoundResult]) -> Round | None:
        """The round to run after these, or None when the goal is met or rounds are spent."""
        if not history:
            return self._first()
        if len(history) >= MAX_ROUNDS or self.goal.lam is not None:
            return None
        if self.goal.bits is not None:
            return self._smaller(history)
        return self._closer(history)

    def _network(self, bits: float) -> NetworkConfig:
        if self.fixed is not None:
            return self.fixed
        return coding_network(self.partition, self.lengths, self.signal.shape[0], bits)

    def _first(self) -> Round:
        goal = self.goal
        if goal.lam is not None:
            lam = goal.lam
            network = self._network(network_bits(self.signal, lam))
            return self._full(network, lam, None)
        if goal.bits is not None:
            lam = lambda_of_bits(self.signal, goal.bits)
            return self._full(self._network(goal.bits), lam, goal.bits * 0.985)
        assert goal.psnr is not None
        # Near the optimum D falls by a factor e^1.8 a bit per pixel on photographs.
        lam = 1.8 * 10 ** (-goal.psnr / 10)
        network = self._network(network_bits(self.signal, lam))
        return self._full(network, lam, None)

    def _rate(self, network: NetworkConfig) -> float:
        """Peak learning rate: larger networks diverge where smaller ones still gain."""
        weights = network.parameters(self.lengths, self.signal.shape[0])
        return min(0.1, max(0.02, 0.05 * math.pow(20_000 / weights, 0.4)))

    def _full(self, network: NetworkConfig, lam: float, bits: float | None) -> Round:
        fit = FitConfig(lam, self.steps, rate=self._rate(network), seed=self.seed, target_bits=bits)
        return Round(network, fit)

    def _warm(
        self, history: list[RoundResult], start: int, lam: float, bits: float | None
    ) -> Round:
        fit = FitConfig(
            lam,
            max(20, round(self.steps * WARM_SHARE)),
            rate=WARM_RATE * self._rate(history[start].plan.network),
            seed=self.seed + len(history),
            float_share=0.0,
            soft_share=0.4,
            target_bits=bits,
        )
        return Round(history[start].plan.network, fit, start)

    def _smaller(self, history: list[RoundResult]) -> Round | None:
        assert self.goal.bits is not None
        last = history[-1]
        ratio = last.bits / self.goal.bits
        met = any(r.bits <= self.goal.bits for r in history)
        if 1 - RATE_TOLERANCE <= ratio <= 1 or (met and len(history) >= 3):
            return None
        target = last.plan.fit.target_bits or self.goal.bits
        return self._warm(history, len(history) - 1, last.lam, target / ratio * 0.99)

    def _closer(self, history: list[RoundResult]) -> Round | None:
        assert self.goal.psnr is not None
        best = min(range(len(history)), key=lambda i: abs(history[i].psnr - self.goal_psnr))
        miss = history[best].psnr - self.goal_psnr
        if 0 <= miss <= PSNR_TOLERANCE:
            return None
        below = [r for r in history if r.psnr < self.goal_psnr]
        above = [r for r in history if r.psnr >= self.goal_psnr]
        if below and above:  # interpolate log lambda between the nearest two
            low = max(below, key=lambda r: r.psnr)
            high = min(above, key=lambda r: r.psnr)
            # Aim a little above: at or over the target is what was asked for.
            share = (self.goal_psnr + PSNR_TOLERANCE / 2 - low.psnr) / (high.psnr - low.psnr)
            lam = low.lam ** (1 - share) * high.lam**share
        else:
            lam = history[best].lam * 10 ** ((miss - PSNR_TOLERANCE / 2) / 10)
        full = sum(r.plan.start is None for r in history)
        if miss < -1.0 and full > 1 and best != len(history) - 1:
            return None  # a larger network was worse: steps are what is missing, not weights
        if abs(miss) > 1.0 and self.fixed is None and full < MAX_FULL_ROUNDS:
            # One dB is about 20% of the rate: the network itself should have another size,
            # and a bolder one each time that was not enough.
            weights = history[best].plan.network.parameters(self.lengths, self.signal.shape[0])
            network = self._network(weights * BITS_PER_WEIGHT * 10 ** (-miss * full / 11))
            if all(network != r.plan.network for r in history):
                return self._full(network, lam, None)
        return self._warm(history, best, lam, None)

    @property
    def goal_psnr(self) -> float:
        """The target in dB (only for goals that have one)."""
        assert self.goal.psnr is not None
        return self.goal.psnr
