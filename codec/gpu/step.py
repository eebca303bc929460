"""A whole step of a fit on a GPU as one launch.

The loss, its gradients and both optimisers are some forty kernels. They read the settings of the
step from a table on the device, where the step is counted too, so a CUDA graph of one step is all
steps: the host says when, and every tenth time looks at what came out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from codec.fit.core_config import CoreFitConfig
from codec.fit.replay import Replay, cuda_graph
from codec.fit.soap import EVERY, Soap, bias_of
from codec.fit.weight_price import WeightPrice
from codec.gpu.context import FusedContext
from codec.gpu.interpolation import FusedInterpolation
from codec.gpu.latents import COLUMNS, adam, firm, next_step, soft_round_noisy
from codec.gpu.soap import FusedSoap, fits
from codec.gpu.sums import Sums
from codec.gpu.synthesis import FusedSynthesis
from codec.quantise_core import shrink_rows
from codec.rate.jobs import GatherJob, Job
from formats.core import CoreConfig

__all__ = ["FusedStep", "Parts", "supported"]

MOST_STEPS = 250_000
"""Of a fit whose settings go into a table."""
MOST_SAMPLES = 2**31 - 1
"""Of all features: kernels count them with 32 bits."""


class Parts(NamedTuple):
    """What a step works on.

    Attributes:
        config: of the fit.
        network: of the picture.
        target: (channels, height, width) samples in [0, 1].
        jobs: that hold every latent once, all addressed by index.
        latents: all of them, moved in place.
        adam: moves the latents; soap: the networks. Both have made a step.
        weights: of the networks, one vector; named: its parts, by name and in its order.
        price: of the weights' bits.
    """

    config: CoreFitConfig
    network: CoreConfig
    target: Tensor
    jobs: Sequence[GatherJob]
    latents: Tensor
    adam: torch.optim.Adam
    soap: Soap
    weights: Tensor
    named: Mapping[str, Tensor]
    price: WeightPrice


class FusedStep:
    """Steps of one fit.

    Args:
        parts: what they work on.
        step: number of the next one, at least 1.
        record: whether steps become a CUDA graph.

    Raises:
        Exception: of many kinds, where Triton cannot compile or the device cannot run a kernel.
    """

    def __init__(self, parts: Parts, step: int, record: bool) -> None:
        self.parts = parts
        config, latents, weights = parts.config, parts.latents, parts.weights
        _, height, width = parts.target.shape
        self._scale = config.lam / (height * width)
        self._settings = _settings(config).to(latents.device)
        self._counter = torch.tensor([step], dtype=torch.int32, device=latents.device)
        starts, end = {}, 0
        for name, part in parts.named.items():
            starts[name], end = end, end + part.numel()
        shapes = parts.network.grid_shapes(height, width)
        self._context = FusedContext(parts.network, parts.jobs, shapes, starts)
        self._interpolation = FusedInterpolation(
            parts.network, height, width, starts, latents.device
        )
        self._synthesis = FusedSynthesis(parts.network, parts.target, starts, config.lam)
        self._soap = FusedSoap(
            parts.soap,
            weights,
            config.clip,
            config.weight_price * self._scale,
            parts.price.prior,
            parts.price.inverse,
            self._settings,
            self._counter,
        )
        # All that a step adds to, so that one launch makes it zero.
        sizes = [1, 1, len(weights), len(latents), self._interpolation.zeros]
        self._zeros = latents.new_empty(sum(sizes))
        *sums, self._grad, self._scratch = torch.split(self._zeros, sizes)
        self._sums = Sums(*sums)
        self._softened, self._slopes = torch.empty(2, len(latents), device=latents.device).unbind()
        self._seen, self._by_seen, self._by_weights = weights.new_empty(3, len(weights)).unbind()
        names = parts.named.items()
        self._in_context = sum(w.numel() for name, w in names if name.startswith("context."))
        self._try()
        # Steps change what they start from: no calls but those that count.
        recorder = partial(cuda_graph, warm_up=0) if record else None
        self._step = Replay(self._compute, recorder)
        self._tenth = Replay(self._turn, recorder)

    def _try(self) -> None:
        """A step that leaves everything as it was: what cannot run fails here."""
        state = self.parts.adam.state[self.parts.latents]
        moved = [self.parts.latents, self.parts.weights, self._counter, *self._soap.states()]
        moved += [state["exp_avg"], state["exp_avg_sq"]]
        before = [value.clone() for value in moved]
        try:
            self._compute()
            self._turn()
            if self.parts.latents.device.type == "cuda":
                torch.cuda.current_stream(self.parts.latents.device).synchronize()
        finally:
            for value, old in zip(moved, before, strict=True):
                value.copy_(old)

    @property
    def recorded(self) -> bool:
        """Whether steps are replayed."""
        return self._step.recorded

    def __call__(self, step: int, soft: bool) -> tuple[Tensor, Tensor]:
        """Bits and mean squared error of this step; the next call overwrites them.

        Args:
            step: its number; they follow each other.
            soft: whether the networks are fitted; else their learning rate is zero.
        """
        self._step()
        if soft and step % EVERY == 0:
            self._tenth()
        return self._sums.bits, self._sums.error

    def save(self, step: int) -> None:
        """Tell the optimisers' states how many steps they have seen."""
        for stack in self.parts.soap.stacks:
            self.parts.soap.state[stack.members[0]]["step"] = step - 1
        self.parts.adam.state[self.parts.latents]["step"].fill_(step)

    def _compute(self) -> None:
        parts, config = self.parts, self.parts.config
        weights, softened, sums = self._seen, self._softened, self._sums
        settings = self._settings, self._counter
        self._zeros.zero_()
        seed = config.seed * 1_000_003
        soft_round_noisy(parts.latents, softened, self._slopes, *settings, seed)
        firm(
            parts.weights,
            weights,
            self._by_seen,
            parts.price.prior,
            parts.price.inverse,
            *settings,
            seed + MOST_STEPS,
            config.firm_noise,
            self._in_context,
        )
        self._context(weights, softened, self._scale, self._grad, sums)
        features = self._interpolation.forward(weights, softened)
        planes = self._synthesis(weights, features, sums)
        self._interpolation.backward(weights, softened, planes, self._grad, sums, self._scratch)
        torch.mul(sums.weights, self._by_seen, out=self._by_weights)
        self._soap.step(self._by_weights)
        state: dict[str, Any] = parts.adam.state[parts.latents]
        pixels = parts.target[0].numel()
        adam(
            parts.latents,
            (state["exp_avg"], state["exp_avg_sq"]),
            (self._slopes, self._grad),
            *settings,
            config.betas,
            config.epsilon(pixels),
        )
        next_step(self._counter)

    def _turn(self) -> None:
        self._soap.turn()
        # Weights that outgrow the format in a long fit cannot be coded at its end.
        shrink_rows(self.parts.named)


def supported(
    config: CoreFitConfig, network: CoreConfig, pixels: int, jobs: Sequence[Job], soap: Soap
) -> bool:
    """Whether there are kernels for a fit."""
    small = config.steps <= MOST_STEPS and (network.grids + 1) * pixels <= MOST_SAMPLES
    return small and all(isinstance(job, GatherJob) for job in jobs) and fits(soap)


def _factor(temperature: float) -> float:
    """Of a soft rounding (`COLUMNS`)."""
    return 0.5 / math.tanh(0.5 / temperature)


def _settings(config: CoreFitConfig) -> Tensor:
    """The table of settings: (steps, `COLUMNS`)."""
    beta1, beta2 = config.betas
    rows = []
    for step in range(config.steps):
        temperature = config.between(config.temperature, step)
        soft = config.stage(step) == "soft"
        bias = bias_of(step) if step else 0.0
        firmness = config.firmness(step)
        row = {
            "temperature": temperature,
            "factor": _factor(temperature),
            "sigma": config.between(config.noise, step),
            "latents_rate": config.latents_rate(step) / (1 - beta1 ** (step + 1)),
            "second": 1 / math.sqrt(1 - beta2 ** (step + 1)),
            "networks_rate": config.network_rate(step) * bias if soft else 0.0,
            "firm_temperature": firmness or 0.0,
            "firm_factor": _factor(firmness) if firmness else 0.0,
        }
        rows.append([row[name] for name in COLUMNS])
    return torch.tensor(rows)
