"""The search of a network's symbols: models of the loss propose, the loss itself decides.

A quadratic model of the loss (`codec/fit/rdoq.py`) finds symbols; what they really cost is measured
in the picture, and the model is built anew around them while that helps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.fit.rdoq import COARSEST, Quadratic, coded_bits, inverse_factor, per_weight
from formats.context import CONTEXT_BITS
from formats.weights import CodedTensor

__all__ = ["Loss", "NotFiniteError", "finest_step", "search_symbols", "typical_step"]

TYPICAL_STEP = {
    "context.first": -4,
    "context.parent": -5,
    "context.bias": -3,
    "context.hidden": -4,
    "context.hidden_bias": -5,
    "context.out": -7,
    "context.level": -5,
    "kernel": -7,
    "filter": -8,
    "tail.weight": -5,
    "tail.bias": -7,
    "output.weight": -6,
    "output.bias": -7,
    "skip": -8,
    "residual0.weight": -8,
    "residual0.bias": -7,
    "residual1.weight": -8,
    "residual1.bias": -8,
}
"""Exponents of steps, about; a search ends at these or, in short fits, one to three further up."""
SYNTHESIS_FINEST = -14
MOST = 30_000
"""No symbol is larger at the finest step that is tried."""
REFINEMENTS = 4
"""Models that are built around quantised weights, one after the other."""
FINER = ((0, -1, -2, -3), (1, 2))
"""Powers of two by which steps are finer than the typical ones: coarser and coarser, then finer and
finer, while it helps."""
DISTRUST = (1.0, 4.0, 16.0)
"""Factors on the damping of the first model: a few fits stand at a cliff."""
STEP_DAMPING = 1.0
"""A search of steps moves weights far."""

Floats = npt.NDArray[np.float64]
Symbols = npt.NDArray[np.int32]


def typical_step(name: str) -> int:
    """The step exponent that a search begins near."""
    return TYPICAL_STEP.get(name, -8)


def finest_step(name: str) -> int:
    """The finest step exponent tried for a tensor; for the context the format's limit."""
    return -CONTEXT_BITS[name] if name in CONTEXT_BITS else SYNTHESIS_FINEST


class NotFiniteError(ArithmeticError):
    """The loss around the weights is infinite or not a number."""


class Choice(NamedTuple):
    """Symbols of all tensors of a network, one after the other, and exponents of their steps."""

    symbols: Symbols
    steps: list[int]


class Loss(Protocol):
    """One term of the loss in bits of the whole picture, as a function of its network's weights.

    Attributes:
        damping: share of its diagonal that is added to the curvature: how far a model is trusted.
    """

    damping: float

    def value(self, weights: Mapping[str, Tensor]) -> float:
        """Infinite for weights that are not allowed."""
        ...

    def gradient(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """By name, for every one of `weights`."""
        ...

    def curvature(self, weights: Mapping[str, Tensor]) -> Floats:
        """(n, n) in the order of `weights`, each tensor in row-major order."""
        ...


def search_symbols(
    loss: Loss,
    weights: Mapping[str, Tensor],
    prior: Mapping[str, Tensor],
    start: Mapping[str, CodedTensor] | None = None,
) -> dict[str, CodedTensor]:
    """The symbols of a network's tensors for which loss and coded bits are least, about.

    Args:
        loss: what the network's weights change.
        weights: real-valued, by name.
        prior: what symbols are relative to, where not to zero.
        start: symbols to begin with; their steps stay. None: begin with the weights.

    Raises:
        NotFiniteError: the loss has no model around the weights.
    """
    search = _Search(loss, weights, prior)
    return search.coded(search.first() if start is None else search.again(start))


class _Search:
    """The search of the symbols of one network.

    Args:
        loss: what the network's weights change.
        weights: real-valued, by name.
        prior: what symbols are relative to, where not to zero.
    """

    def __init__(
        self, loss: Loss, weights: Mapping[str, Tensor], prior: Mapping[str, Tensor]
    ) -> None:
        self.loss, self.weights = loss, weights
        self.base = _flat({name: prior.get(name, 0 * value) for name, value in weights.items()})
        self.sizes = [value.numel() for value in weights.values()]
        delta = np.abs(_flat(weights) - self.base)
        self.finest = []
        for name, part in zip(weights, np.split(delta, np.cumsum(self.sizes)[:-1]), strict=True):
            limit = math.log2(part.max() / MOST) if part.any() else -math.inf
            self.finest.append(max(finest_step(name), math.ceil(max(limit, -99))))
        self.curvature = loss.curvature(weights)
        self._gradients: dict[str, tuple[Floats, Floats]] = {}
        bends = np.diag(self.curvature)
        self._diagonal = bends + 1e-3 * bends.mean() + 1e-6
        steps = per_weight([typical_step(name) for name in weights], self.sizes)
        self._order = np.argsort(-self._diagonal * steps**2, kind="stable")
        self._factors: dict[float, Floats | None] = {}

    def model(self, at: Floats, damping: float) -> Quadratic:
        """The loss around some weights."""
        gradient = self._gradient(at)
        if not (np.isfinite(gradient).all() and np.isfinite(self._diagonal).all()):
            raise NotFiniteError("the gradient or the curvature of the loss is not finite")
        damped = damping * self._diagonal
        return Quadratic(at, gradient, self.curvature, damped, self.base, self.sizes, self.finest)

    def _gradient(self, at: Floats) -> Floats:
        """Of the loss. Two are kept: that of the first weights, to which every size of steps comes
        back, and the last one."""
        for place, gradient in self._gradients.values():
            if np.array_equal(place, at):
                return gradient
        found = _flat(self.loss.gradient(_like(at, self.weights)))
        self._gradients["last" if self._gradients else "first"] = at, found
        return found

    def factor(self, damping: float) -> Floats | None:
        """What `Quadratic.sequential` needs: it does not depend on where the model is built."""
        if damping not in self._factors:
            damped = self.curvature + np.diag(damping * self._diagonal)
            self._factors[damping] = inverse_factor(damped, self._order)
        return self._factors[damping]

    def values(self, choice: Choice) -> Floats:
        """The weights that symbols mean."""
        values: Floats = self.base + choice.symbols * per_weight(choice.steps, self.sizes)
        return values

    def split(self, symbols: Symbols) -> list[Symbols]:
        """The symbols of each tensor."""
        return np.split(symbols, np.cumsum(self.sizes)[:-1])

    def total(self, choice: Choice) -> float:
        """What a choice costs in the picture itself, in bits."""
        value = self.loss.value(_like(self.values(choice), self.weights))
        if math.isnan(value):
            return math.inf
        return value + coded_bits(self.split(choice.symbols))

    def again(self, coded: Mapping[str, CodedTensor]) -> Choice:
        """From symbols to better ones."""
        tensors = [coded[name] for name in self.weights]
        symbols = np.concatenate([tensor.symbols.reshape(-1) for tensor in tensors])
        steps = [  # a tensor without symbols has none
            tensor.step if tensor.symbols.any() else max(typical_step(name), least)
            for name, tensor, least in zip(self.weights, tensors, self.finest, strict=True)
        ]
        start = Choice(symbols.astype(np.int32), steps)
        return self.refine(self.total(start), start)[1]

    def first(self) -> Choice:
        """From real weights to symbols: with steps of several sizes, each time anew.

        From the symbols of finer steps a search does not get far: what they cost is hard to
        leave again.
        """
        real = _flat(self.weights)
        found: tuple[float, Choice] | None = None
        for sizes in FINER:
            for finer in sizes:
                steps = [
                    max(min(typical_step(name) - finer, COARSEST), least)
                    for name, least in zip(self.weights, self.finest, strict=True)
                ]
                refined = self.refine(*self.begin(real, steps))
                if found is not None and refined[0] >= found[0]:
                    break
                found = refined
        assert found is not None
        changed = Choice(*self.model(self.values(found[1]), STEP_DAMPING).search(*found[1]))
        if (cost := self.total(changed)) < found[0]:
            found = self.refine(cost, changed)
        zeros = Choice(np.zeros(len(real), np.int32), found[1].steps)
        return min((self.total(zeros), zeros), found, key=lambda pair: pair[0])[1]

    def begin(self, at: Floats, steps: list[int]) -> tuple[float, Choice]:
        """The cheapest symbols for these weights: rounded, or by models trusted less and less."""
        rounded = Choice(self.nearest(at, steps), steps)
        found = self.total(rounded), rounded
        for distrust in DISTRUST:
            damping = self.loss.damping * distrust
            if (factor := self.factor(damping)) is None:
                continue
            model = self.model(at, damping)
            symbols = model.sequential(steps, rounded.symbols, self._order, factor)
            if (cost := self.total(Choice(symbols, steps))) < found[0]:
                found = cost, Choice(symbols, steps)
            elif found[1] is not rounded:
                break
        return found

    def nearest(self, at: Floats, steps: Sequence[int]) -> Symbols:
        """The symbols that mean about these weights."""
        symbols: Symbols = np.rint((at - self.base) / per_weight(steps, self.sizes)).astype(
            np.int32
        )
        return symbols

    def refine(self, least: float, choice: Choice) -> tuple[float, Choice]:
        """Better symbols with the same steps: the model is built anew where it has led.

        Args:
            least: what `choice` costs.
            choice: where to begin.
        """
        damping = self.loss.damping
        for _ in range(REFINEMENTS):
            model = self.model(self.values(choice), damping)
            tried = Choice(model.solve(choice.steps, choice.symbols), choice.steps)
            if np.array_equal(tried.symbols, choice.symbols):
                damping /= 2
            elif (cost := self.total(tried)) < least:
                least, choice = cost, tried
                damping /= 2
            else:
                damping *= 4
        return least, choice

    def coded(self, choice: Choice) -> dict[str, CodedTensor]:
        """As tensors of a file."""
        return {
            name: CodedTensor(part.reshape(tuple(value.shape)), step if part.any() else 0)
            for (name, value), part, step in zip(
                self.weights.items(), self.split(choice.symbols), choice.steps, strict=True
            )
        }


def _flat(values: Mapping[str, Tensor]) -> Floats:
    """Tensors as one vector."""
    flat: Floats = torch.cat([v.flatten() for v in values.values()]).double().cpu().numpy()
    return flat


def _like(flat: Floats, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One vector as tensors."""
    values = torch.from_numpy(flat)
    parts = torch.split(values, [value.numel() for value in weights.values()])
    return {
        name: part.view(value.shape).to(value)
        for (name, value), part in zip(weights.items(), parts, strict=True)
    }
