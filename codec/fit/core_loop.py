"""The fit of a core-fusion picture: D + lambda R over latents and networks, to integers.

Latents pass a soft rounding with noise; its temperature, the noise and the learning rates fall
until soft rounding is rounding. In two stages:

    soft     latents and networks; towards its end the context's weights are softly rounded too
             (`codec/fit/firm_weights.py`)
    settle   network weights are quantised by rate-distortion search and stay fixed; the latents
             go on, so that they make up for what the quantised networks lack

At the end latents are rounded, single ones move where that pays (`codec/fit/polish.py`), and what
is reported is what the integer context network says.
The recipe is Cool-chic 5's (SOAP on the networks, Adam on the latents), its schedule scaled to
the budget; its last stage, hard rounding with a straight-through gradient, made files larger.
Every constant was compared in docs/experiments.md.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.fit.core_config import CoreFitConfig
from codec.fit.core_loss import CoreLoss, Terms
from codec.fit.optim import build_optimiser
from codec.fit.polish import Polish
from codec.fit.progress import Progress
from codec.fit.replay import Replay, preparing, recorder_of
from codec.fit.soap import Soap
from codec.fit.soft import soft_round_noisy
from codec.fit.weight_search import NotFiniteError
from codec.gpu import fused_on
from codec.network.core import CoreCoordX
from codec.quantise_core import quantise_networks, shrink_rows
from codec.rate.jobs import GatherJob
from codec.signal import MOST_DECIBEL, decibel
from formats.errors import InputError
from formats.weights import CodedTensor

if TYPE_CHECKING:
    from codec.gpu.step import FusedStep

__all__ = ["CoreFitter"]

DIVERGED = "the fit diverged: try another --seed"

Grids = list[npt.NDArray[np.int32]]


class CoreFitter:
    """Fits latents and networks to one picture.

    Args:
        net: the network, on its device; its `latents` are where the fit starts.
        target: (channels, height, width) float32 samples in [0, 1], on the same device.
        config: see `CoreFitConfig`.
        loss: of these; None makes it.

    Attributes:
        latents: all grids as one vector, real numbers while they are fitted.
        loss: what is minimised.
        step: how many have been made.
        coded: symbols of the networks' weights, once they are quantised.
        final: integer latents, once the fit is finished.
    """

    def __init__(
        self,
        net: CoreCoordX,
        target: Tensor,
        config: CoreFitConfig,
        loss: CoreLoss | None = None,
    ) -> None:
        self.net, self.target, self.config = net, target, config
        self.loss = CoreLoss(net, target, config) if loss is None else loss
        self.latents = torch.cat([q.flatten() for q in net.latents]).to(target.device)
        self._terms = Replay(self.loss.terms, recorder_of(target.device))
        self.networks = build_optimiser("soap", net.parameters(), config.rate)
        # On a CPU the fused Adam is one pass over memory; so is it on a GPU.
        self.adam = torch.optim.Adam(
            [self.latents],
            lr=config.latent_rate,
            betas=config.betas,
            eps=config.epsilon(self.net.pixels),
            fused=True,
        )
        self.step = 0
        self.coded: list[CodedTensor] | None = None
        self.final: Tensor | None = None  # latents of the file
        self.start_weights: dict[str, Tensor] = {}
        self._seen = (math.nan, math.nan)
        self._record = True
        self._undecided = True  # whether there are kernels
        self._fused: FusedStep | None = None
        self._generator = torch.Generator(device=target.device)

    def start_from(self, latents: Tensor) -> None:
        """Begin at other latents than zero."""
        self.latents.copy_(latents)

    def call_steps(self) -> None:
        """Launch every step anew even where steps can be recorded."""
        self._terms = Replay(self.loss.terms, None)
        self._record, self._undecided, self._fused = False, True, None

    @property
    def steps_recorded(self) -> bool:
        """Whether steps are replayed from a recording."""
        return self._terms.recorded if self._fused is None else self._fused.recorded

    def _softened(self) -> tuple[Tensor, Tensor]:
        """Latents as the loss sees them, and the slope of that."""
        config = self.config
        sigma = config.between(config.noise, self.step)
        noise = torch.empty_like(self.latents).normal_(0, sigma, generator=self._generator)
        return soft_round_noisy(self.latents, config.between(config.temperature, self.step), noise)

    def _firmed(self) -> tuple[Tensor, Tensor]:
        """The context's weights as the loss sees them, and the slope of that."""
        config, noise = self.config, None
        temperature = config.firmness(self.step)
        if temperature is not None:
            noise = self.latents.new_empty(self.loss.firm.count)
            noise.normal_(0, config.firm_noise, generator=self._generator)
        return self.loss.firm(self.net.by_name(), temperature or 1.0, noise)

    @torch.no_grad()
    def advance(self) -> Progress:
        """One optimiser step.

        Raises:
            InputError: the fit has diverged: latents or weights are no numbers any more.
        """
        config = self.config
        stage = config.stage(self.step)
        if stage == "settle" and self.coded is None:
            self._freeze()
        # Until it is decided how steps are made, libraries and kernels are loaded and tried.
        with preparing if self._undecided else contextlib.nullcontext():
            bits, mse = self._fused_step(stage) or self._step(stage)
        self.step += 1
        if self.finished:
            self._finish()
        elif self.step % 10 == 0 or self.step == 1:  # a read waits for a GPU
            self._seen = (float(bits) / self.net.pixels, float(mse))
        bpp, seen = self._seen
        return Progress(self.step, config.steps, stage, bpp, decibel(seen, MOST_DECIBEL))

    def _step(self, stage: str) -> tuple[Tensor, Tensor]:
        """Move latents and networks; bits and mean squared error before that."""
        config = self.config
        self._generator.manual_seed(config.seed * 1_000_003 + self.step)
        for group in self.networks.param_groups:
            group["lr"] = config.network_rate(self.step)
        for group in self.adam.param_groups:
            group["lr"] = config.latents_rate(self.step)
        softened, slope = self._softened()
        terms = self._terms(softened, *self._firmed())
        self.latents.grad = terms.latents.mul_(slope)
        self.adam.step()
        if stage == "soft":
            for name, value in terms.weights.items():
                self.net.parameter(name).grad = value
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), config.clip)
            try:
                with self.loss.lanes.alone():
                    self.networks.step()
            except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # SOAP
                raise InputError(DIVERGED) from error
            if self.step % 10 == 9 or self.step == 0:
                # Weights that outgrow the format in a long fit cannot be coded at its end.
                shrink_rows(self.net.by_name())
        return terms.bits, terms.mse

    def _fused_step(self, stage: str) -> tuple[Tensor, Tensor] | None:
        """The same in kernels made for it, where there are such; the first step makes the
        optimisers' states."""
        if self._undecided and self.step > 0:
            self._undecided = False
            if fused_on(self.latents.device):
                self._fused = self._kernels()
        return None if self._fused is None else self._fused(self.step, stage == "soft")

    def _kernels(self) -> FusedStep | None:
        """The kernels of a step; None where there are none for this fit, or they do not run."""
        try:
            return self._built()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a compiler that is missing, a device that is too small
            warnings.warn(f"steps go without kernels of their own: {error!r}", stacklevel=2)
            return None

    def _built(self) -> FusedStep | None:
        from codec.gpu.step import FusedStep, Parts, supported  # Triton is not everywhere

        soap, jobs, shape = self.networks, self.loss.rate.jobs, self.net.config
        if not isinstance(soap, Soap):
            return None
        if not supported(self.config, shape, self.net.pixels, jobs, soap):
            return None
        parameters = list(self.net.parameters())
        flat = torch.cat([p.detach().flatten() for p in parameters])
        views = torch.split(flat, [p.numel() for p in parameters])
        for parameter, view in zip(parameters, views, strict=True):
            parameter.data = view.view(parameter.shape)
        parts = Parts(
            self.config,
            shape,
            self.target,
            [job for job in jobs if isinstance(job, GatherJob)],
            self.latents,
            self.adam,
            soap,
            flat,
            self.net.by_name(),
            self.loss.price,
        )
        return FusedStep(parts, self.step, self._record)

    def _freeze(self) -> None:
        """Quantise the networks; what the loss saw of their weights starts later rounds."""
        if self.config.firmness(self.step - 1) is not None:
            self.net.assign(self.net.by_name() | self.loss.firm.rounded(self.net.by_name()))
        self.start_weights = {name: value.clone() for name, value in self.net.by_name().items()}
        self.coded = self._quantised(self.latents.round())

    def _quantised(self, latents: Tensor) -> list[CodedTensor]:
        """The best symbols for these latents: from real weights, or better ones than before."""
        _require_finite(latents, *self.net.by_name().values())
        self.loss.distortion.release()
        grids, lam = self.loss.split(latents), self.config.lam
        try:
            return quantise_networks(
                self.net, self.loss.distortion, self.loss.rate, latents, grids, lam, self.coded
            )
        except NotFiniteError as error:
            raise InputError(DIVERGED) from error

    def _finish(self) -> None:
        if self.coded is None:
            self._freeze()
        # The latents have moved since the networks were quantised.
        self.coded = self._quantised(self.latents.round())
        self.loss.distortion.release()
        polish = Polish(self.net, self.loss.distortion, self.loss.rate, self.config.lam)
        self.final = polish(self.latents.round(), self.config.polish_rounds)
        self._conclude()

    def _conclude(self) -> None:
        """What the file will hold, and what the integer network says of it."""
        assert self.final is not None
        found, rate = self.loss.evaluate(self.final, exact=True, gradient=False)
        self._seen = (float(rate.bits) / self.net.pixels, float(found.mse))
        self.net.latents = self.loss.split(self.final)

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

    def close(self) -> None:
        """Let go of the threads, and of a recording and its memory; no step can follow."""
        self._terms, self._fused = Replay(_no_more, None), None
        self.loss.close()

    def state(self) -> dict[str, Any]:
        """Everything a later process needs to go on as if it had not stopped."""
        if self._fused is not None:
            self._fused.save(self.step)
        return {
            "step": self.step,
            "latents": self.latents,
            "weights": self.net.by_name(),
            "networks": self.networks.state_dict(),
            "adam": self.adam.state_dict(),
            "coded": None if self.coded is None else [[t.symbols, t.step] for t in self.coded],
            "final": self.final,
            "start_weights": self.start_weights,
            "seen": list(self._seen),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state`."""
        self.step = state["step"]
        self._undecided, self._fused = True, None
        with torch.no_grad():
            self.latents.copy_(state["latents"])
        self.net.assign(state["weights"])
        self.networks.load_state_dict(state["networks"])
        self.adam.load_state_dict(state["adam"])
        if state["coded"] is not None:
            self.coded = [CodedTensor(symbols, step) for symbols, step in state["coded"]]
        self.final = state["final"]
        self.start_weights = dict(state["start_weights"])
        self._seen = (state["seen"][0], state["seen"][1])
        if self.finished:
            self._conclude()


def _no_more(*_: Tensor) -> Terms:
    raise RuntimeError("the fit is closed")


def _require_finite(*values: Tensor) -> None:
    if not all(bool(value.isfinite().all()) for value in values):
        raise InputError(DIVERGED)
