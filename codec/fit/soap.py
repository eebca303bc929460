"""SOAP, Adam in the eigenbasis of Shampoo (arXiv 2409.11321), of many small matrices at once.

The networks of this codec are a dozen matrices of a few dozen rows. One by one, as libraries take
them, a step is hundreds of operations of which each does next to nothing, and it takes four times
as long (docs/experiments.md). Here matrices lie in one stack, padded with zeros. Of vectors and
matrices the steps are those of pytorch-optimizer, as tests show; kernels of 3x3 layers, which that
preconditions along each of four axes, are matrices of output channels against all else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Soap", "bias_of"]

BETA = 0.95
"""Of the averages of gradients, of their squares and of the preconditioners: Cool-chic 5's."""
EVERY = 10
"""Steps between two rotations of the bases."""
LONGEST = 512
"""Longer sides have no preconditioner: a basis of their size would cost more than the step."""
EPSILON = 1e-8
TOGETHER = 64
"""Sides up to here are padded to one size; longer ones share a stack with their equals."""


class Soap(torch.optim.Optimizer):
    """SOAP without weight decay.

    Tensors of more than two axes are matrices of their first against all others. Those of one
    axis are fitted by Adam.

    Args:
        params: on one device. All have gradients at every step.
        lr: learning rate; `param_groups[0]["lr"]` changes it.

    As in the authors' code the first step begins the preconditioners and moves nothing.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(list(params), {"lr": lr})
        stacks: dict[tuple[int, int], list[nn.Parameter]] = {}
        for p in self.param_groups[0]["params"]:
            stacks.setdefault(_kind(p), []).append(p)
        self.stacks = [_Stack(members, kind) for kind, members in stacks.items()]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step.

        Raises:
            torch.linalg.LinAlgError: the first gradients of a matrix are no numbers. Later ones
                make weights that are none.
        """
        assert closure is None
        rate = self.param_groups[0]["lr"]
        for stack in self.stacks:
            _advance(stack, self.state[stack.members[0]], rate)


def bias_of(count: int) -> float:
    """What makes up for averages that began at zero, `count` >= 1 steps ago."""
    return math.sqrt(1 - BETA**count) / (1 - BETA**count)


def _advance(stack: _Stack, state: dict[str, Any], rate: float) -> None:
    gradient = stack.gather([p.grad for p in stack.members])
    if not state:
        state["step"] = 0
        state["mean"] = torch.zeros_like(gradient)
        state["square"] = torch.zeros_like(gradient)
        for axis in stack.axes:
            outer = _outer(gradient, axis).mul_(1 - BETA)
            state[f"outer{axis}"] = outer
            state[f"basis{axis}"] = stack.eigenbasis(outer, axis)
        return
    state["step"] += 1
    count, mean, square = state["step"], state["mean"], state["square"]
    mean.lerp_(gradient, 1 - BETA)
    square.lerp_(_rotate(gradient, state, stack.axes).square_(), 1 - BETA)
    change = _rotate(mean, state, stack.axes) / square.sqrt().add_(EPSILON)
    change = _rotate(change, state, stack.axes, back=True)
    stack.add(change, -rate * bias_of(count))
    for axis in stack.axes:
        state[f"outer{axis}"].lerp_(_outer(gradient, axis), 1 - BETA)
    if count % EVERY == 0:
        for axis in stack.axes:
            _turn(stack, state, axis)


def _turn(stack: _Stack, state: dict[str, Any], axis: int) -> None:
    """One round of power iteration: the basis follows the preconditioner."""
    basis = state[f"basis{axis}"]
    product = state[f"outer{axis}"] @ basis
    size = (basis * product).sum(1).masked_fill_(stack.padding[axis], -math.inf)
    order = size.argsort(dim=1, descending=True, stable=True)
    place = order[:, :, None] if axis == 0 else order[:, None, :]
    state["square"].copy_(torch.take_along_dim(state["square"], place, 1 + axis))
    product = torch.take_along_dim(product, order[:, None, :], 2)
    # The padding stays the identity, whatever a library makes of columns of zeros.
    product += torch.diag_embed(stack.padding[axis].to(product))
    # On the CPU: dozens of small decompositions, and a step in ten waits for the device anyway.
    basis.copy_(torch.linalg.qr(product.cpu())[0])


class _Stack:
    """Matrices of about one size as one tensor (count, rows, columns), zeros where they end.

    Args:
        members: the parameters.
        kind: see `_kind`.

    Attributes:
        members: as given.
        axes: 0, 1: the sides with a preconditioner.
        sizes: (count, 2) rows and columns of each; shape: of the stack.
        padding: for each side (count, length): what lies beyond the end of a matrix.
    """

    def __init__(self, members: Sequence[nn.Parameter], kind: tuple[int, int]) -> None:
        self.members = members
        self.axes = [axis for axis in (0, 1) if kind[axis] > 0]
        device = members[0].device
        self.sizes = torch.tensor([_matrix_shape(p) for p in members])  # (count, 2)
        rows, columns = self.sizes.amax(0).tolist()
        self.shape = len(members), rows, columns
        inside = (torch.arange(rows) < self.sizes[:, :1])[:, :, None] & (
            torch.arange(columns) < self.sizes[:, 1:]
        )[:, None, :]
        place = torch.full(self.shape, int(inside.sum()))
        place[inside] = torch.arange(int(inside.sum()))
        self._place = place.flatten().to(device)
        self._back = inside.flatten().nonzero()[:, 0].to(device)
        self._zero = members[0].new_zeros(1).detach()
        self.padding = [
            (torch.arange(length) >= self.sizes[:, axis : axis + 1]).to(device)
            for axis, length in enumerate((rows, columns))
        ]

    def gather(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """Tensors like the members as a stack."""
        flat = [t.flatten() for t in tensors if t is not None]
        assert len(flat) == len(self.members), "every parameter needs a gradient"
        return torch.cat([*flat, self._zero]).index_select(0, self._place).view(self.shape)

    def add(self, stack: Tensor, factor: float) -> None:
        """Add a stack to the members."""
        flat = stack.flatten().index_select(0, self._back)
        parts = torch.split(flat, [p.numel() for p in self.members])
        views = [part.view_as(p) for part, p in zip(parts, self.members, strict=True)]
        torch._foreach_add_(self.members, views, alpha=factor)  # type: ignore[call-overload]

    def eigenbasis(self, outer: Tensor, axis: int) -> Tensor:
        """Eigenvectors (count, n, n) of the matrices, the largest eigenvalue first."""
        basis = torch.eye(outer.shape[1], dtype=torch.float64).repeat(len(outer), 1, 1)
        here = outer.cpu().double()
        for number, size in enumerate(self.sizes[:, axis].tolist()):
            # Alone: padding would mix with the directions in which there is no gradient.
            found = torch.linalg.eigh(here[number, :size, :size])[1]
            basis[number, :size, :size] = found.flip(1)
        return basis.to(outer)


def _matrix_shape(p: Tensor) -> tuple[int, int]:
    """A tensor as a matrix; one of a single axis is a row."""
    return (1, p.numel()) if p.dim() < 2 else (p.shape[0], p.numel() // p.shape[0])


def _kind(p: Tensor) -> tuple[int, int]:
    """Tensors of one kind go into one stack: the sides, 0 for one without a preconditioner.

    Vectors are a kind of their own.
    """
    if p.dim() < 2:
        return -1, -1
    rows, columns = (0 if n > LONGEST else max(n, TOGETHER) for n in _matrix_shape(p))
    return rows, columns


def _outer(gradient: Tensor, axis: int) -> Tensor:
    """G G^T of each matrix, or G^T G."""
    return gradient @ gradient.mT if axis == 0 else gradient.mT @ gradient


def _rotate(
    stack: Tensor, state: dict[str, Any], axes: Sequence[int], back: bool = False
) -> Tensor:
    """A stack in the eigenbases, or back from there."""
    for axis in axes:
        basis = state[f"basis{axis}"]
        if axis == 0:
            stack = (basis if back else basis.mT) @ stack
        else:
            stack = stack @ (basis.mT if back else basis)
    return stack
