"""Encoding with core fusion: a picture is latent grids and a small network."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial

import torch

from codec.bitstream import core_reconstructor
from codec.blas import one_blas_thread
from codec.checkpoint import core_result_from_values, core_result_to_values
from codec.fit.budget import lambda_of_bits, transform_bits
from codec.fit.core_config import CoreFitConfig
from codec.fit.core_loop import CoreFitter
from codec.fit.core_search import CoreResult, CoreRound, CoreSearch
from codec.network.coded import start_from_prior
from codec.network.core import CoreCoordX
from codec.network.presets import core_network
from codec.signal import Samples, to_signal
from codec.work import FinishedUnit, Work
from formats.core import CoreConfig
from formats.errors import InputError
from formats.unit import pack_core_unit

__all__ = ["CoreWork"]

PSNR_FACTOR = 0.6
"""lambda times the bits per pixel's worth, relative to the distortion, near the optimum."""


class CoreWork(Work):
    """The run over the one unit of an image."""

    network: CoreConfig | None

    def stand_in(self) -> CoreConfig:
        """See `Work.stand_in`."""
        return self.network or core_network(
            self.height, self.width, 1e-3, 0, channels=self.channels
        )

    def prepare(self) -> None:
        """Refuse what the format cannot hold, and targets below any file."""
        network = self.stand_in()
        self.check_format(network)
        goal = self.goal(0)
        if goal.bits is not None:
            tensors = network.tensors(self.lengths(0), self.channels)
            self.refuse_target(goal.bits, 8 * len(tensors) + 64, "the picture")

    def unit(self, number: int, samples: Samples) -> FinishedUnit:
        """Fit the picture in as many rounds as its target takes."""
        signal = to_signal(samples, self.media.bit_depth, self.device)
        goal = self.goal(number)
        if goal.lam is not None:
            lam = goal.lam
        elif goal.bits is not None:
            lam = lambda_of_bits(signal, goal.bits)
        else:
            assert goal.psnr is not None
            lam = PSNR_FACTOR * 10 ** (-goal.psnr / 10)
        # Rounds that start from others need one shape; only the gain is each one's own.
        if self.network is None:
            bits = transform_bits(signal, lam)
            self.network = core_network(
                self.height, self.width, lam, bits, self.options.budget, self.channels
            )
        budget, prior = self.options.budget, self.network.prior != 0
        search = CoreSearch(
            goal, lam, partial(CoreFitConfig.of, steps=budget, seed=self.options.seed, prior=prior)
        )
        history = [core_result_from_values(h) for h in self.checkpoint.history]
        while (plan := search.next_round(history)) is not None:
            history.append(self._round(plan, history, signal, samples))
            self.checkpoint.history.append(core_result_to_values(history[-1]))
            self.checkpoint.fitter = None
        chosen = goal.choose(history)
        if goal.bits is not None and chosen.bits > goal.bits:
            raise InputError(
                f"target: {goal.bits / 8:.0f} bytes are left for the picture, the smallest result "
                f"took {chosen.bits / 8:.0f}; ask for a larger size, or for --fusion rank"
            )
        network = self._network(chosen.plan)
        return FinishedUnit(chosen.payload, chosen.mse, chosen.plan.fit.lam, network, {})

    def _network(self, plan: CoreRound) -> CoreConfig:
        assert self.network is not None
        return replace(self.network, gain=plan.gain)

    def _round(
        self, plan: CoreRound, history: list[CoreResult], signal: torch.Tensor, samples: Samples
    ) -> CoreResult:
        network = self._network(plan)
        net = CoreCoordX(network, self.lengths(0), self.channels, seed=plan.fit.seed)
        start_from_prior(net)
        net = net.to(self.device)
        with contextlib.closing(CoreFitter(net, signal, plan.fit)) as fitter:
            if plan.start is not None:
                net.assign(history[plan.start].weights)
                fitter.start_from(history[plan.start].latents)
            if self.checkpoint.fitter is not None:
                fitter.restore(self.checkpoint.fitter)
            self.advance(fitter, 0, len(history))
            coded, grids = fitter.result()
            with one_blas_thread():
                payload, seen = pack_core_unit(0, network, coded, grids, self.height, self.width)
            depth = self.media.bit_depth
            decoder = core_reconstructor(
                network, self.lengths(0), self.channels, coded, seen, depth, self.device
            )
            mse = self.mean_error(decoder.region(range(1), None), samples, depth)
            latents = fitter.latents.detach().clone()
            return CoreResult(plan, fitter.start_weights, latents, payload, mse)
