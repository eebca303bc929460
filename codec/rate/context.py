"""The context network as a loss: bits of all latents, and every gradient, in one pass.

The network and the order are those of formats/context.py and formats/blocks.py. While fitting, all
latents are at hand, so every position is evaluated at once, forward and backward together, in
chunks that stay in the processor's cache: nothing of the size of an activation of the whole image
is ever written to memory. That, and not the number of multiplications, is what decides the time of
a step (docs/performance.md).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from codec.cpu import kernels_on
from codec.cpu.rate import FusedRate
from codec.rate.jobs import Job
from codec.rate.laplace import laplace_rate
from codec.rate.plan import plan
from codec.relu import through_relu
from formats.blocks import FLAGS, LIMIT, WINDOW
from formats.context import MEAN_LIMIT, MIDDLE, ONE, TOP, TOP_SCALE
from formats.core import CoreConfig
from formats.tables import MEAN_BITS

__all__ = ["ContextRate", "Evaluation", "RateResult", "log_scale_of"]

NATS = math.log(2) / 5
"""One scale index in nats: b = 2^((s - 22) / 5)."""
LEAST = 1 - MIDDLE
"""Least scale index relative to MIDDLE. The file has one below, where nothing is coded; a fit that
used it would lose latents, and the file does only where none is lost (formats/unit.py)."""
UNIT = 22
"""Scale index where b = 1 (formats/tables.py). A network that says nothing has the index MIDDLE,
b = 21."""
PARTS = 1 << MEAN_BITS
"""Parts of a symbol in which the integer network knows means."""
LARGEST = TOP / ONE
"""Largest activation."""


@dataclass
class RateResult:
    """What one evaluation gives.

    Attributes:
        bits: scalar tensor.
        latents: gradient of `scale * bits`, one vector like the latents; empty if not wanted.
        weights: and by context tensor.
    """

    bits: Tensor
    latents: Tensor
    weights: dict[str, Tensor]

    def __add__(self, other: RateResult) -> RateResult:
        """The results of two portions together."""
        weights = {name: value + other.weights[name] for name, value in self.weights.items()}
        return RateResult(self.bits + other.bits, self.latents + other.latents, weights)


def log_scale_of(index: Tensor) -> Tensor:
    """The natural logarithm of b for a scale index relative to MIDDLE, clamped to its range."""
    return (index.clamp(LEAST, TOP_SCALE - MIDDLE) + (MIDDLE - UNIT)) * NATS


class ContextRate:
    """Evaluates the rate of the latents of one picture.

    Args:
        config: the network and its tiles.
        height, width: pixels of the picture.
        device: where the latents are.

    Attributes:
        jobs: what is evaluated by torch's operations.
        fused: the same in machine code, where there is some: it evaluates what is neither exact
            nor without gradients.
        columns: of the inputs that jobs load, those of the own grid that the network has.
    """

    def __init__(self, config: CoreConfig, height: int, width: int, device: torch.device) -> None:
        self.config = config
        self.columns = torch.tensor(config.window, device=device)
        self.jobs: list[Job] = plan(config, height, width, device)
        self.fused: FusedRate | None = None
        instructions = kernels_on() if device.type == "cpu" else None
        if instructions is not None and FusedRate.supports(config):
            self.fused = FusedRate(config, height, width, instructions)

    def divided(self, share: float) -> tuple[ContextRate, ContextRate]:
        """Two portions whose results add up; the first has about `share` of the latents."""
        sizes = [job.size for job in self.jobs]
        ends = list(itertools.accumulate(sizes))
        count = sum(end <= share * ends[-1] for end in ends)
        first, second = copy.copy(self), copy.copy(self)
        first.jobs, second.jobs = self.jobs[:count], self.jobs[count:]
        if self.fused is not None:
            first.fused, second.fused = self.fused.divided(share)
        return first, second

    def __call__(
        self,
        weights: Mapping[str, Tensor],
        latents: Tensor,
        scale: float = 1.0,
        *,
        gradient: bool = True,
        exact: bool = False,
    ) -> RateResult:
        """Bits of the latents, and the gradients of `scale * bits`.

        Args:
            weights: tensors "context.*" by name.
            latents: all grids as one vector, by number.
            scale: factor on the gradients.
            gradient: whether they are wanted.
            exact: round as the integer network does; gradients pass straight through. Latents
                must be integers. Weights are taken as they are: those of the network only if
                they are multiples of its fixed point (formats/SPEC.md, 9.3).
        """
        if self.fused is not None and gradient and not exact and latents.dtype == torch.float32:
            return RateResult(*self.fused(weights, latents, scale))
        return Evaluation(self, weights, latents, scale, gradient, exact).run()

    def predict(self, weights: Mapping[str, Tensor], latents: Tensor) -> tuple[Tensor, Tensor]:
        """What the integer network says of every latent, all of them known.

        Args:
            weights, latents: as for an exact call.

        Returns:
            Mean in 1/32 and scale index, both of the latents' shape: exactly the integers of
            `formats.context.ContextNetwork` where no level is coded in full.
        """
        evaluation = Evaluation(self, weights, latents, 1.0, False, True)
        evaluation.found = torch.empty(2, latents.numel(), device=latents.device)
        evaluation.number = torch.arange(latents.numel(), device=latents.device)
        evaluation.run()
        return evaluation.found[0], evaluation.found[1]


class Evaluation:
    """One forward and backward pass; the state that its steps share."""

    def __init__(
        self,
        rate: ContextRate,
        weights: Mapping[str, Tensor],
        latents: Tensor,
        scale: float,
        gradient: bool,
        exact: bool,
    ) -> None:
        self.rate, self.config = rate, rate.config
        self.latents, self.scale = latents, scale
        self.wanted, self.exact = gradient, exact
        self.w = {k.removeprefix("context."): v.detach() for k, v in weights.items()}
        # The first layer as one matrix, with and without what the coarser grid contributes.
        first = self.w["first"]
        window = first.new_zeros(len(first), len(WINDOW)).index_copy_(1, rate.columns, first)
        without = [window, F.pad(self.w["bias"], (0, FLAGS - self.config.flags))]
        self._coarsest = torch.cat(without, 1)
        self._first = self._coarsest
        if "parent" in self.w:
            self._first = torch.cat([without[0], self.w["parent"], without[1]], 1)
        # The second layer with its residual connection; its bias is the weight of a one.
        self.width = self._first.shape[0]
        hidden = self.w["hidden"] + torch.eye(self.width, device=latents.device)
        self._hidden = torch.cat([hidden, self.w["hidden_bias"][:, None]], 1)
        # One more latent, always zero: whatever is not known. Gradients pass the clamp: so far
        # out, the way back is what they are good for.
        self.known = torch.cat([latents.clamp(-LIMIT, LIMIT), latents.new_zeros(1)])
        self.grad: dict[str, Tensor] = {}
        if gradient:
            own = self.w.keys() - {"hidden", "hidden_bias"}
            self.grad = {k: torch.zeros_like(self.w[k]) for k in sorted(own)}
            self.known_grad = torch.zeros_like(self.known)
            self._hidden_grad = torch.zeros_like(self._hidden)
        self.found: Tensor | None = None  # with `number`: what `predict` asks for
        self.number = latents.new_zeros(0, dtype=torch.long)

    def run(self) -> RateResult:
        """Every job once."""
        bits = self.latents.new_zeros(())
        for job in self.rate.jobs:
            bits += self._job(job)
        if not self.wanted:
            return RateResult(bits, self.latents.new_zeros(0), {})
        self.grad["hidden"] = self._hidden_grad[:, : self.width].contiguous()
        self.grad["hidden_bias"] = self._hidden_grad[:, self.width].contiguous()
        named = {f"context.{k}": v for k, v in self.grad.items()}
        return RateResult(bits, self.known_grad[:-1], named)

    def first(self, job: Job) -> Tensor:
        """The first layer of the positions of a job: (w, inputs)."""
        return self._first if job.parents else self._coarsest

    def _job(self, job: Job) -> Tensor:
        inputs, first = job.load(self.known), self.first(job)
        layers = self.activations(first, inputs, job.grids)
        bits, gz, gt = self.network(layers, job.targets(self.latents), job.grids)
        if self.found is not None:
            self.found[:, job.targets(self.number)] = self._last
        if not self.wanted:
            return bits
        by_first = torch.mm(gz, inputs.t())
        latents = first.shape[1] - FLAGS
        self.grad["first"] += by_first.index_select(1, self.rate.columns)
        self.grad["bias"] += by_first[:, latents : latents + self.config.flags]
        if job.parents:
            self.grad["parent"] += by_first[:, len(WINDOW) : latents]
        job.store(self.known_grad, torch.mm(first[:, :latents].t(), gz))
        job.store_targets(self.known_grad, gt)
        return bits

    # -- the shared layers -----------------------------------------------------------------

    def network(
        self, layers: tuple[Tensor, Tensor, Tensor], targets: Tensor, grids: int | Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """From what `activations` says and latents (n,) to bits and gradients.

        `grids` is the grid of all positions, or (grids, n) with a 1 where it is.
        """
        a0, a1, out = layers
        mu, index = out[0], 8 * out[1]
        if self.exact:
            mu = torch.floor(mu * PARTS + 0.5) / PARTS
            index = torch.floor(index + 0.5)
        if self.found is not None:
            mean = (mu * PARTS).clamp(-MEAN_LIMIT, MEAN_LIMIT)
            self._last = torch.stack([mean, (index + MIDDLE).clamp(0, TOP_SCALE)])
        bits, by_q, by_log = laplace_rate(targets, mu, log_scale_of(index))
        if not self.wanted:
            return bits, targets, targets
        gt = by_q.mul_(self.scale)
        by_log *= 8 * NATS * self.scale
        # Beyond its range a scale takes only what moves it back: what is certain and wrong by one
        # has to learn that it is. (Farther out the floor of probabilities leaves no slope.)
        back = index.clamp(LEAST, TOP_SCALE - MIDDLE) - index
        by_log *= back.mul_(by_log) <= 0
        go = torch.stack([-gt, by_log])
        by_out = torch.mm(go, a1.t())
        self.grad["out"] += by_out[:, : self.width]
        at = slice(grids, grids + 1) if isinstance(grids, int) else slice(None)
        self.grad["level"][:, at] += by_out[:, self.width :]
        g1, gz = self.backward(a0, a1, go)
        self._hidden_grad.addmm_(g1, a0.t())
        return bits, gz, gt

    def activations(
        self, first: Tensor, inputs: Tensor, grids: int | Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Both layers' activations and the outputs (2, n).

        Below the w rows of activations are those whose weights the biases of the next layer are: a
        row of ones, or `grids`.
        """
        level, below = self.w["level"], None
        if isinstance(grids, int):
            level = level[:, grids : grids + 1]
        else:
            below = grids
        a0 = self._layer(first, inputs)
        a1 = self._layer(self._hidden, a0, below)
        return a0, a1, torch.mm(torch.cat([self.w["out"], level], 1), a1)

    def backward(self, a0: Tensor, a1: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        """From gradients of the outputs to those of both layers' sums, second layer first."""
        g1 = through_relu(torch.mm(self.w["out"].t(), out), a1[: self.width])
        gz = torch.mm(self._hidden[:, : self.width].t(), g1)
        return g1, through_relu(gz, a0[: self.width])

    def _layer(self, weights: Tensor, inputs: Tensor, below: Tensor | None = None) -> Tensor:
        """Activations of a layer, and below them other rows, or a row of ones."""
        more = 1 if below is None else len(below)
        found = inputs.new_empty(self.width + more, inputs.shape[1])
        found[self.width :] = 1 if below is None else below
        z = torch.mm(weights, inputs, out=found[: self.width])
        if self.exact:
            z.mul_(ONE).add_(0.5).floor_().div_(ONE)
        z.clamp_(0, LARGEST)
        return found
