"""Encoding with rank fusion: every unit is a network, its weights are what is coded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from codec.checkpoint import result_from_values, result_to_values
from codec.fit.loop import Fitter
from codec.fit.search import Round, RoundResult, Search
from codec.network import CoordX
from codec.network.presets import coding_network, sized_network
from codec.quantise import coded_bits, coded_tensors, load_tensors
from codec.reconstruct import Reconstructor
from codec.signal import Samples, to_signal
from codec.work import FinishedUnit, Work
from formats.errors import InputError
from formats.network import NetworkConfig
from formats.weights import MAX_STEP, CodedTensor, pack_unit

__all__ = ["RankWork"]


class RankWork(Work):
    """The run over all units of a video or an image."""

    network: NetworkConfig | None

    def __init__(self, *args: Any, partition: str) -> None:
        super().__init__(*args)
        self.partition = partition

    def stand_in(self) -> NetworkConfig:
        """See `Work.stand_in`; the smallest one."""
        return self.network or sized_network(self.partition, 4)

    def prepare(self) -> None:
        """Size the network that units share, where something is known of it."""
        self.check_format(self.stand_in())
        self._check_target()
        self.network = self._common_network()
        self.check_format(self.stand_in())

    def _check_target(self) -> None:
        goal = self.goal(0)
        if goal.bits is None:
            return
        tensors = self.stand_in().tensors(self.lengths(0), self.channels)
        least = 16 * len(tensors) + sum(t.size for t in tensors)  # about a bit a weight
        self.refuse_target(goal.bits, least, "the weights of a unit")

    def _common_network(self) -> NetworkConfig | None:
        """Units of a video share one network: sized for the mean over its units."""
        if self.network is not None or not self.media.video:
            return self.network
        goal = self.goal(0)
        if goal.psnr is not None:
            return None  # the first unit decides
        bits = goal.bits
        if bits is None:
            share = [b / f for b, f in zip(self.survey.bits, self.frames, strict=True)]
            bits = sum(share) / len(share) * self.frames[0]
        return coding_network(self.partition, self.lengths(0), self.channels, bits)

    def unit(self, number: int, samples: Samples) -> FinishedUnit:
        """Fit one unit in as many rounds as its target takes."""
        signal = to_signal(samples, self.media.bit_depth, self.device)
        lengths = self.lengths(number)
        goal = self.goal(number)
        options = self.options
        search = Search(
            signal, lengths, self.partition, goal, options.budget, options.seed, self.network
        )
        history = [result_from_values(h) for h in self.checkpoint.history]
        while (plan := search.next_round(history)) is not None:
            start = None
            if plan.start is not None:
                start = history[plan.start].weights
            elif number and not history:
                start = self.checkpoint.units[number - 1]["weights"]
            history.append(self._round(number, len(history), plan, signal, samples, lengths, start))
            self.checkpoint.history.append(result_to_values(history[-1]))
            self.checkpoint.fitter = None
        chosen = goal.choose(history)
        if goal.bits is not None and chosen.bits > goal.bits:
            chosen = self._coarsen(chosen, goal.bits, samples, lengths)
        payload = pack_unit(number, chosen.coded)
        return FinishedUnit(payload, chosen.mse, chosen.lam, chosen.plan.network, chosen.weights)

    def _round(
        self,
        number: int,
        index: int,
        plan: Round,
        signal: Tensor,
        samples: Samples,
        lengths: dict[str, int],
        start: Mapping[str, Tensor] | None,
    ) -> RoundResult:
        net = CoordX(plan.network, lengths, self.channels, seed=plan.fit.seed).to(self.device)
        if start is not None and net.accepts(start):  # a shorter last GOP has other octaves
            net.assign(start)
        fitter = Fitter(net, signal, plan.fit)
        if self.checkpoint.fitter is not None:
            fitter.restore(self.checkpoint.fitter)
        self.advance(fitter, number, index)
        coded = fitter.result()
        weights = {name: value.clone() for name, value in net.by_name().items()}
        mse = self._decoded_mse(net, coded, samples)
        return RoundResult(plan, coded, weights, coded_bits(coded), mse, fitter.lam)

    def _decoded_mse(self, net: CoordX, coded: list[CodedTensor], samples: Samples) -> float:
        """Mean squared error of what a decoder will return, in [0, 1]."""
        decoded_net = CoordX(net.config, net.lengths, net.channels, seed=None).to(self.device)
        load_tensors(decoded_net, coded)
        decoder = Reconstructor(decoded_net, self.media.bit_depth)
        frames = range(samples.shape[0]) if self.media.video else range(1)
        return self.mean_error(decoder.region(frames, None), samples, self.media.bit_depth)

    def _coarsen(
        self, result: RoundResult, bits: float, samples: Samples, lengths: dict[str, int]
    ) -> RoundResult:
        """Last resort for a tight target: double the steps until the weights fit."""
        net = CoordX(result.plan.network, lengths, self.channels, seed=None).to(self.device)
        net.assign(result.weights)
        names = [spec.name for spec in net.specs]
        steps = {n: t.step for n, t in zip(names, result.coded, strict=True)}
        coded = result.coded
        while coded_bits(coded) > bits:
            if all(step == MAX_STEP for step in steps.values()):
                raise InputError(
                    f"target: {bits / 8:.0f} bytes a unit are fewer than the smallest network "
                    "takes; ask for a larger size"
                )
            steps = {name: min(step + 1, MAX_STEP) for name, step in steps.items()}
            coded = coded_tensors(net, steps)
        mse = self._decoded_mse(net, coded, samples)
        return replace(result, coded=coded, bits=coded_bits(coded), mse=mse)
