"""SOAP (codec/fit/soap.py) as one kernel: a program takes a matrix, and its bases with it.

Every tenth step its bases are turned by another (`codec/gpu/bases.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from codec.fit.soap import BETA, EPSILON, Soap
from codec.gpu import bases, tile_side

__all__ = ["FusedSoap", "fits"]

SHIFT = 1e-5
"""Of a preconditioner, relative to the mean of its diagonal."""
LARGEST = 64
"""Longest side of a matrix: it is held in registers."""


@triton.jit
def _prepare(
    slopes,
    weights,
    prior,
    inverse,
    places,
    norm,
    price,
    SIZE: tl.constexpr,
):
    """Add the slope of the weights' own bits (codec/fit/weight_price.py); sum of squares."""
    start = tl.load(places + tl.program_id(0) * 2)
    count = tl.load(places + tl.program_id(0) * 2 + 1)
    at = tl.arange(0, SIZE)
    inside = at < count
    at += start
    step = tl.load(inverse + at, mask=inside, other=0.0)
    delta = tl.load(weights + at, mask=inside, other=0.0)
    delta -= tl.load(prior + at, mask=inside, other=0.0)
    mean = tl.maximum(tl.sum(tl.abs(delta) * step, 0) / count, 1e-3)
    theta = (tl.sqrt(1 + mean * mean) - 1) / mean
    sign = tl.where(delta > 0, 1.0, tl.where(delta < 0, -1.0, 0.0))
    slope = tl.load(slopes + at, mask=inside, other=0.0)
    slope -= price * tl.log2(theta) * sign * step
    tl.store(slopes + at, slope, mask=inside)
    tl.store(norm + tl.program_id(0), tl.sum(slope * slope, 0))


@triton.jit
def _rotate(stack, left, right, TURN: tl.constexpr, BACK: tl.constexpr):
    if TURN:
        if BACK:
            stack = tl.dot(left, stack, input_precision="tf32x3")
            stack = tl.dot(stack, tl.trans(right), input_precision="tf32x3")
        else:
            stack = tl.dot(tl.trans(left), stack, input_precision="tf32x3")
            stack = tl.dot(stack, right, input_precision="tf32x3")
    return stack


@triton.jit
def _square_of(place, n, m, size):
    """A (size, size) matrix, padded with the identity."""
    inside = (n < size)[:, None] & (m < size)[None, :]
    found = tl.load(place + n[:, None] * size + m[None, :], mask=inside, other=0.0)
    return tl.where(inside, found, tl.where(n[:, None] == m[None, :], 1.0, 0.0))


@triton.jit
def _step(
    slopes,
    weights,
    norm,
    matrices,
    mean,
    square,
    outer0,
    outer1,
    basis0,
    basis1,
    settings,
    counter,
    rows,
    columns,
    clip,
    tensors,
    TENSORS: tl.constexpr,
    SETTINGS: tl.constexpr,
    TURN: tl.constexpr,
    BETA: tl.constexpr,
    EPSILON: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    me = tl.program_id(0)
    start = tl.load(matrices + me * 3)
    height = tl.load(matrices + me * 3 + 1)
    width = tl.load(matrices + me * 3 + 2)
    each = tl.arange(0, TENSORS)
    whole = tl.sqrt(tl.sum(tl.load(norm + each, mask=each < tensors, other=0.0), 0))
    factor = tl.minimum(clip / (whole + 1e-6), 1.0)
    r, c = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    own = (r < height)[:, None] & (c < width)[None, :]
    at = start + r[:, None] * width + c[None, :]
    g = factor * tl.load(slopes + at, mask=own, other=0.0)
    inside = (r < rows)[:, None] & (c < columns)[None, :]
    here = me * rows * columns + r[:, None] * columns + c[None, :]
    left = tl.zeros([ROWS, ROWS], tl.float32)
    right = tl.zeros([COLUMNS, COLUMNS], tl.float32)
    if TURN:
        left = _square_of(basis0 + me * rows * rows, r, tl.arange(0, ROWS), rows)
        right = _square_of(basis1 + me * columns * columns, c, tl.arange(0, COLUMNS), columns)
    m = tl.load(mean + here, mask=inside, other=0.0)
    m += (1 - BETA) * (g - m)
    tl.store(mean + here, m, mask=inside)
    turned = _rotate(g, left, right, TURN, False)
    v = tl.load(square + here, mask=inside, other=0.0)
    v += (1 - BETA) * (turned * turned - v)
    tl.store(square + here, v, mask=inside)
    change = _rotate(m, left, right, TURN, False) / (tl.sqrt(v) + EPSILON)
    change = _rotate(change, left, right, TURN, True)
    rate = tl.load(settings + tl.load(counter) * SETTINGS + 5)
    w = tl.load(weights + at, mask=own, other=0.0)
    tl.store(weights + at, w - rate * change, mask=own)
    if TURN:
        r2, c2 = tl.arange(0, ROWS)[None, :], tl.arange(0, COLUMNS)[None, :]
        place = outer0 + me * rows * rows + r[:, None] * rows + r2
        real = (r < rows)[:, None] & (r2 < rows)
        o = tl.load(place, mask=real, other=0.0)
        o += (1 - BETA) * (tl.dot(g, tl.trans(g), input_precision="tf32x3") - o)
        tl.store(place, o, mask=real)
        place = outer1 + me * columns * columns + c[:, None] * columns + c2
        real = (c < columns)[:, None] & (c2 < columns)
        o = tl.load(place, mask=real, other=0.0)
        o += (1 - BETA) * (tl.dot(tl.trans(g), g, input_precision="tf32x3") - o)
        tl.store(place, o, mask=real)


def fits(soap: Soap) -> bool:
    """Whether all matrices of an optimiser are small enough, and their sides preconditioned."""
    return all(
        max(stack.shape[1:]) <= LARGEST and stack.axes in ([], [0, 1]) for stack in soap.stacks
    )


class FusedSoap:
    """Steps of a `Soap` that has made its first one.

    The states are the optimiser's own tensors.

    Args:
        soap: the optimiser.
        weights: (n,) all its parameters, which are parts of this vector.
        clip: largest norm of the gradient.
        price: factor on the slope of the weights' bits.
        prior, inverse: (n,) what weights are coded relative to, and one over their steps.
        settings, counter: see codec/gpu/latents.py.
    """

    def __init__(
        self,
        soap: Soap,
        weights: Tensor,
        clip: float,
        price: float,
        prior: Tensor,
        inverse: Tensor,
        settings: Tensor,
        counter: Tensor,
    ) -> None:
        self.soap, self.weights = soap, weights
        self.clip, self.price, self.prior, self.inverse = clip, price, prior, inverse
        self.settings, self.counter = settings, counter
        assert all(t.is_contiguous() for t in self.states())
        members = [p for stack in soap.stacks for p in stack.members]
        starts = {id(p): self._start(p) for p in members}
        self.places = self._table([[starts[id(p)], p.numel()] for p in members])
        self.longest = triton.next_power_of_2(max(p.numel() for p in members))
        self.norm = weights.new_zeros(len(members))
        self.tables = [
            self._table(
                [
                    [starts[id(p)], *size]
                    for p, size in zip(stack.members, stack.sizes.tolist(), strict=True)
                ]
            )
            for stack in soap.stacks
        ]

    def states(self) -> list[Tensor]:
        """What steps and turns change besides the weights."""
        states = (self.soap.state[stack.members[0]] for stack in self.soap.stacks)
        return [value for state in states for value in state.values() if isinstance(value, Tensor)]

    def _start(self, p: Tensor) -> int:
        return (p.data_ptr() - self.weights.data_ptr()) // 4

    def _table(self, rows: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(rows, dtype=torch.int32, device=self.weights.device)

    def step(self, slopes: Tensor) -> None:
        """One step, the bases as they are.

        `slopes`: (n,) gradients by the weights; that of their price is added.
        """
        _prepare[(len(self.places),)](
            slopes,
            self.weights,
            self.prior,
            self.inverse,
            self.places,
            self.norm,
            self.price,
            SIZE=self.longest,
        )
        for stack, table in zip(self.soap.stacks, self.tables, strict=True):
            state = self.soap.state[stack.members[0]]
            _, rows, columns = stack.shape
            some = state["mean"]
            _step[(len(table),)](
                slopes,
                self.weights,
                self.norm,
                table,
                state["mean"],
                state["square"],
                *(state.get(f"outer{axis}", some) for axis in (0, 1)),
                *(state.get(f"basis{axis}", some) for axis in (0, 1)),
                self.settings,
                self.counter,
                rows,
                columns,
                self.clip,
                len(self.norm),
                TENSORS=triton.next_power_of_2(len(self.norm)),
                SETTINGS=self.settings.shape[1],
                TURN=bool(stack.axes),
                BETA=BETA,
                EPSILON=EPSILON,
                ROWS=tile_side(rows),
                COLUMNS=tile_side(columns),
                num_warps=8,
            )

    def turn(self) -> None:
        """Let the bases follow the preconditioners."""
        for stack, table in zip(self.soap.stacks, self.tables, strict=True):
            state = self.soap.state[stack.members[0]]
            _, rows, columns = stack.shape
            for axis in stack.axes:
                sides = tile_side(rows), tile_side(columns)
                bases.turn[(len(table),)](
                    table,
                    state["square"],
                    state[f"outer{axis}"],
                    state[f"basis{axis}"],
                    rows,
                    columns,
                    AXIS=axis,
                    SHIFT=SHIFT,
                    SIZE=sides[axis],
                    OTHER=sides[1 - axis],
                    num_warps=8,
                )
