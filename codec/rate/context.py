"""The context network as a loss: bits of all latents, and every gradient, in one pass.

The network and the interlaced order are those of formats/context.py and formats/lattice.py: each
grid is predicted on a coarse lattice first, then octave by octave, from latents already known.
While fitting, all latents are at hand, so every position is evaluated at once, forward and
backward together, in chunks of quads that stay in the processor's cache: nothing of the size of
an activation of the whole image is ever written to memory. That, and not the number of
multiplications, is what decides the time of a step (docs/performance.md).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from codec.rate.jobs import TYPES, WINDOW, BaseJob, GatherJob, Job, SliceJob, plan
from codec.rate.laplace import laplace_rate
from formats.context import MEAN_LIMIT, MIDDLE, TOP, TOP_SCALE
from formats.core import CoreConfig
from formats.lattice import LIMIT
from formats.tables import MEAN_BITS

__all__ = ["ContextRate", "Evaluation", "RateResult", "log_scale_of"]

NATS = math.log(2) / 5
"""One scale index in nats: b = 2^((s - 22) / 5)."""
UNIT = 22
"""Scale index where b = 1 (formats/tables.py). A network that says nothing has the index MIDDLE,
b = 21: a large scale at the start keeps the rate from crushing small latents before they are
worth anything (C3, appendix B)."""
PARTS = 1 << MEAN_BITS
"""Parts of a symbol in which the integer network knows means."""
LARGEST = TOP / 64
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
    return (index.clamp(-MIDDLE, TOP_SCALE - MIDDLE) + (MIDDLE - UNIT)) * NATS


class ContextRate:
    """Evaluates the rate of the latents of one picture.

    Args:
        config: the network and its tiles.
        height, width: pixels of the picture.
        device: where the latents are.
    """

    def __init__(self, config: CoreConfig, height: int, width: int, device: torch.device) -> None:
        self.config = config
        self.jobs: list[Job] = plan(config, height, width, device)
        number = {row: n for n, row in enumerate(WINDOW)}
        copies = (0, len(WINDOW)) if config.magnitudes else (0,)
        columns = ([number[row] + c for c in copies for row in rows] for rows in TYPES)
        self.columns = [torch.tensor(numbers, device=device) for numbers in columns]
        self._rows = len(WINDOW) * len(copies)

    def divided(self, share: float) -> tuple[ContextRate, ContextRate]:
        """Two portions whose results add up; the first has about `share` of the latents."""
        sizes = [job.size for job in self.jobs]
        ends = list(itertools.accumulate(sizes))
        count = sum(end <= share * ends[-1] for end in ends)
        first, second = copy.copy(self), copy.copy(self)
        first.jobs, second.jobs = self.jobs[:count], self.jobs[count:]
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
            latents: all levels as one vector, finest first.
            scale: factor on the gradients.
            gradient: whether they are wanted.
            exact: round as the integer network does; gradients pass straight through. Latents
                must be integers. Weights are taken as they are: those of the network only if
                they are multiples of its fixed point (formats/SPEC.md, 9.3).
        """
        return Evaluation(self, weights, latents, scale, gradient, exact).run()

    def predict(self, weights: Mapping[str, Tensor], latents: Tensor) -> tuple[Tensor, Tensor]:
        """What the integer network says of every latent, all of them known.

        Args:
            weights, latents: as for an exact call.

        Returns:
            Mean in 1/32 and scale index, both of the latents' shape: exactly the integers of
            `formats.context.ContextNetwork`.
        """
        evaluation = Evaluation(self, weights, latents, 1.0, False, True)
        evaluation.found = torch.empty(2, latents.numel(), device=latents.device)
        evaluation.number = torch.arange(latents.numel(), device=latents.device)
        evaluation.run()
        return evaluation.found[0], evaluation.found[1]

    def first_layer(self, first: Tensor, bias: Tensor) -> Tensor:
        """The first layer as one matrix: (3 w, rows + octaves), its last columns the biases.

        Inputs are the window, the window of magnitudes, and one row an octave that is 1 for
        quads of that octave.
        """
        width, octaves = first.shape[0], self.config.octaves
        whole = first.new_zeros(3, width, self._rows + octaves)
        sizes = [len(columns) for columns in self.columns]
        for kind, part in enumerate(torch.split(first, sizes, dim=1)):
            whole[kind][:, self.columns[kind]] = part
        whole[:, :, self._rows :] = bias[:, :-1].view(width, octaves, 3).permute(2, 0, 1)
        return whole.flatten(0, 1)

    def first_gradient(self, whole: Tensor) -> tuple[Tensor, Tensor]:
        """Adjoint of `first_layer`; of the biases all but the last column."""
        whole = whole.view(3, -1, whole.shape[1])
        first = torch.cat([whole[k][:, self.columns[k]] for k in range(3)], dim=1)
        return first, whole[:, :, self._rows :].permute(1, 2, 0).flatten(1)


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
        self.first = rate.first_layer(self.w["first"], self.w["bias"])
        # One more latent, always zero: whatever lies outside its grid.
        self.known = torch.cat([latents.clamp(-LIMIT, LIMIT), latents.new_zeros(1)])
        self.magnitude = self.known.abs() if self.config.magnitudes else None
        self.grad: dict[str, Tensor] = {}
        if gradient:
            self.grad = {k: torch.zeros_like(v) for k, v in self.w.items()}
            self.first_grad = torch.zeros_like(self.first)
            self.known_grad = torch.zeros_like(self.known)
            self.magnitude_grad = torch.zeros_like(self.known) if self.config.magnitudes else None
        self.found: Tensor | None = None  # with `number`: what `predict` asks for
        self.number = latents.new_zeros(0, dtype=torch.long)

    def run(self) -> RateResult:
        """Every job once."""
        bits = self.latents.new_zeros(())
        for job in self.rate.jobs:
            bits += self._base(job) if isinstance(job, BaseJob) else self._quads(job)
        if not self.wanted:
            return RateResult(bits, self.latents.new_zeros(0), {})
        self.grad["first"], biases = self.rate.first_gradient(self.first_grad)
        self.grad["bias"][:, :-1] += biases
        gradient = self.known_grad[:-1]
        if self.magnitude_grad is not None:
            gradient = gradient + self.magnitude_grad[:-1] * torch.sign(self.known[:-1])
        return RateResult(bits, gradient, {f"context.{k}": v for k, v in self.grad.items()})

    def _base(self, job: BaseJob) -> Tensor:
        """Positions of the coarsest lattices: context from the coarser grids alone."""
        targets = self.latents[job.targets]
        z = self.w["bias"][:, -1:].expand(-1, targets.numel())
        windows = None
        if "parent" in self.w:
            windows = self.known[job.parents]
            z = torch.addmm(z, self.w["parent"], windows)
        bits, gz, gt = self.network(z[None], targets[None], None, job.levels)
        self._collect(job.targets[None], None)
        if self.wanted:
            self.known_grad.index_add_(0, job.targets, gt[0])
            self.grad["bias"][:, -1] += gz[0].sum(1)
            if windows is not None:
                self.grad["parent"].addmm_(gz[0], windows.t())
                back = torch.mm(self.w["parent"].t(), gz[0])
                self.known_grad.index_add_(0, job.parents.flatten(), back.flatten())
        return bits

    def _quads(self, job: SliceJob | GatherJob) -> Tensor:
        """Quads of one kind of job: three positions each."""
        inputs = job.load(self.planes(), self.config.octaves)
        count = inputs.shape[1]
        windows = job.parents(self.known)
        z = self.first_sums(inputs, windows)
        bits, gz, gt = self.network(z, job.targets(self.latents), job.mask, job.levels)
        if self.found is not None:
            self._collect(job.targets(self.number), job.mask)
        if not self.wanted:
            return bits
        flat = gz.view(-1, count)
        self.first_grad.addmm_(flat, inputs.t())
        back = torch.mm(self.first[:, : self.rate._rows].t(), flat)
        grads = [g for g in (self.known_grad, self.magnitude_grad) if g is not None]
        job.store(grads, back)
        job.store_targets(self.known_grad, gt)
        for kind, window in enumerate(windows):
            through = gz.sum(0) if len(windows) == 1 else gz[kind]
            self.grad["parent"].addmm_(through, window.t())
            job.store_parents(self.known_grad, kind, torch.mm(self.w["parent"].t(), through))
        return bits

    def planes(self) -> list[Tensor]:
        """What the windows of a job are taken from."""
        return [plane for plane in (self.known, self.magnitude) if plane is not None]

    def first_sums(self, inputs: Tensor, windows: list[Tensor]) -> Tensor:
        """Sums of the first layer, (3, w, n), from inputs (rows, n) and parents' windows."""
        z = torch.mm(self.first, inputs).view(3, -1, inputs.shape[1])
        for kind, window in enumerate(windows):
            seen = torch.mm(self.w["parent"], window)
            if len(windows) == 1:  # the positions of a quad have the same parent
                z += seen
            else:
                z[kind] += seen
        return z

    # -- the shared layers -----------------------------------------------------------------

    def network(
        self, z: Tensor, targets: Tensor, mask: Tensor | None, levels: int | Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """From first-layer sums (kinds, w, n) and latents (kinds, n) to bits and gradients.

        `levels` is the level of all positions, or (levels, n) with a 1 where it is.
        """
        grad, kinds = self.grad, range(z.shape[0])
        a0, a1, out = self.activations(z, levels)
        mu, index = out[:, 0], 8 * out[:, 1]
        if self.exact:
            mu = torch.floor(mu * PARTS + 0.5) / PARTS
            index = torch.floor(index + 0.5)
        clamped = index.clamp(-MIDDLE, TOP_SCALE - MIDDLE)
        if self.exact:  # index 0: not coded, and lost where it is not the prediction
            free = (clamped == -MIDDLE) & (targets == torch.floor(mu + 0.5))
            mask = torch.where(free, 0.0, 1.0 if mask is None else mask)
        log_scale = log_scale_of(clamped)
        if self.found is not None:
            limit = MEAN_LIMIT / PARTS
            self._last = torch.stack([mu.clamp(-limit, limit) * PARTS, clamped + MIDDLE])
        bits, by_q, by_log = laplace_rate(targets, mu, log_scale, mask)
        if not self.wanted:
            return bits, z, targets
        gt = by_q.mul_(self.scale)
        by_log *= 8 * NATS * self.scale
        by_log *= clamped == index
        go = torch.stack([-gt, by_log], 1)
        total = go.sum(0)
        if isinstance(levels, int):
            grad["level"][:, levels] += total.sum(1)
        else:
            grad["level"].addmm_(total, levels.t())
        g1, gz = self.backward(a0, a1, go)
        for kind in kinds:
            grad["out"].addmm_(go[kind], a1[kind].t())
            grad["hidden"].addmm_(g1[kind], a0[kind].t())
        grad["hidden_bias"] += g1.sum((0, 2))
        return bits, gz, gt

    def activations(self, z: Tensor, levels: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both layers' activations (kinds, w, n) and the outputs (kinds, 2, n)."""
        w, kinds = self.w, range(z.shape[0])
        a0 = self._activate(z)
        bias = w["hidden_bias"][:, None]
        z1 = torch.stack([torch.addmm(bias, w["hidden"], a0[k]) for k in kinds])
        z1 += a0
        a1 = self._activate(z1)
        offset = (
            w["level"][:, levels : levels + 1]
            if isinstance(levels, int)
            else torch.mm(w["level"], levels)
        )
        return a0, a1, torch.stack([torch.addmm(offset, w["out"], a1[k]) for k in kinds])

    def backward(self, a0: Tensor, a1: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        """From gradients of the outputs to those of both layers' sums, second layer first."""
        w, kinds = self.w, range(out.shape[0])
        g1 = torch.stack([torch.mm(w["out"].t(), out[k]) for k in kinds])
        g1 *= a1 > 0
        gz = torch.stack([torch.addmm(g1[k], w["hidden"].t(), g1[k]) for k in kinds])
        gz *= a0 > 0
        return g1, gz

    def _collect(self, positions: Tensor, mask: Tensor | None) -> None:
        """Keep the predictions of a job for `predict`."""
        if self.found is None:
            return
        coded = torch.ones_like(positions, dtype=torch.bool) if mask is None else mask > 0
        self.found[:, positions[coded]] = self._last[:, coded]

    def _activate(self, z: Tensor) -> Tensor:
        if self.exact:
            z = torch.floor(z * 64 + 0.5).div_(64)
            return z.clamp_(0, LARGEST)
        return z.clamp(0, LARGEST)
