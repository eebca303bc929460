"""The context network as a loss: bits of all latents, and every gradient, in one pass.

The network and the interlaced order are those of formats/context.py and formats/lattice.py: each
grid is predicted on a coarse lattice first, then octave by octave, from latents already known.
While fitting, all latents are at hand, so every position is evaluated at once. Rows of quads are
processed in chunks that stay in the processor's cache, forward and backward together: nothing
of the size of an activation of the whole image is ever written to memory. That, and not the
number of multiplications, is what decides the time of a step (docs/performance.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from codec.rate.laplace import laplace_rate
from formats.core import CoreConfig

__all__ = ["ContextRate", "RateResult"]

NATS = math.log(2) / 5
"""One scale index in nats: b = 2^((s - 22) / 5)."""
MIDDLE, TOP = 22.0, 41.0
"""Scale index where b = 1, and from there to the largest index (63)."""
START = 44.0
"""Scale index of a network that says nothing: b = 21. A large scale at the start keeps the rate
from crushing small latents before they are worth anything (C3, appendix B)."""
REACH = 127.0
"""Latents as context are clipped to this magnitude."""
LARGEST = 4095 / 64
"""Largest activation."""

# Context inputs as (plane, row, column) relative to a quad; planes by the parities of their
# positions. The order is normative: formats/SPEC.md.
EE = [("ee", i, j) for i in range(-1, 3) for j in range(-1, 3) if {i, j} - {-1, 2}]
ROWS = [
    *EE,
    *(("oo", i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (1, 1)),
    *(("eo", i, j) for i in (0, 1) for j in (-1, 0)),
]
TYPES = (
    EE,
    [
        *(("ee", i, j) for i in (-1, 0, 1) for j in (0, 1)),
        *(("oo", i, j) for i in (-1, 0) for j in (-1, 0, 1)),
    ],
    [
        *(("ee", i, j) for i in (0, 1) for j in (-1, 0, 1)),
        *(("oo", i, j) for i in (-1, 0, 1) for j in (-1, 0)),
        *(("eo", i, j) for i in (0, 1) for j in (-1, 0)),
    ],
)
PARITY = {"ee": (0, 0), "oo": (1, 1), "eo": (0, 1)}
TARGETS = ((1, 1), (0, 1), (1, 0))
"""Parities (row, column) of the positions of the three types: d, h, v."""

CHUNK = 4096
"""Quads of a chunk on a CPU: 3 * 16 activations of each are 768 KiB, the size of a cache."""
GPU_CHUNK = 2**20


@dataclass
class RateResult:
    """What one evaluation gives.

    Attributes:
        bits: scalar tensor.
        levels: bits of every level, finest first.
        latents: gradients of `scale * bits` by level, if asked for.
        weights: and by context tensor.
    """

    bits: Tensor
    levels: list[Tensor]
    latents: list[Tensor]
    weights: dict[str, Tensor]


class ContextRate:
    """Evaluates the rate of the latents of one segment.

    Args:
        config: the network.
        device: where the latents are.
    """

    def __init__(self, config: CoreConfig, device: torch.device) -> None:
        self.config = config
        self.chunk = GPU_CHUNK if device.type == "cuda" else CHUNK
        copies = (0, len(ROWS)) if config.magnitudes else (0,)
        number = {row: n for n, row in enumerate(ROWS)}
        self._columns = [[number[row] + c for c in copies for row in rows] for rows in TYPES]
        self._rows = len(ROWS) * len(copies)

    def __call__(
        self,
        weights: Mapping[str, Tensor],
        latents: Sequence[Tensor],
        scale: float = 1.0,
        *,
        gradient: bool = True,
        exact: bool = False,
    ) -> RateResult:
        """Bits of the latents, and the gradients of `scale * bits`.

        Args:
            weights: tensors "context.*" by name.
            latents: per level (h, w), finest first.
            scale: factor on the gradients.
            gradient: whether they are wanted.
            exact: round as the integer network does (weights must be multiples of 2^-6, biases
                of 2^-12, latents integers); gradients pass straight through.
        """
        return _Evaluation(self, weights, latents, scale, gradient, exact).run()

    def first_layer(self, first: Tensor) -> Tensor:
        """The first layer as one matrix for the three types: (w, 40 m) -> (3, w, rows)."""
        whole = first.new_zeros(3, first.shape[0], self._rows)
        sizes = [len(columns) for columns in self._columns]
        for kind, part in enumerate(first.split(sizes, dim=1)):
            whole[kind][:, self._columns[kind]] = part
        return whole

    def first_gradient(self, whole: Tensor) -> Tensor:
        """Adjoint of `first_layer`."""
        return torch.cat([whole[k][:, self._columns[k]] for k in range(3)], dim=1)


class _Evaluation:
    """One forward and backward pass; the state that its steps share."""

    def __init__(
        self,
        rate: ContextRate,
        weights: Mapping[str, Tensor],
        latents: Sequence[Tensor],
        scale: float,
        gradient: bool,
        exact: bool,
    ) -> None:
        self.rate, self.config = rate, rate.config
        self.latents, self.scale = latents, scale
        self.wanted, self.exact = gradient, exact
        self.w = {k.removeprefix("context."): v.detach() for k, v in weights.items()}
        self.first = rate.first_layer(self.w["first"]).flatten(0, 1)  # (3 w, rows)
        self.grad = {k: torch.zeros_like(v) for k, v in self.w.items()}
        self.first_grad = torch.zeros_like(self.first)
        self.latent_grad = [torch.zeros_like(q) for q in latents]
        self.parent: _Parent | None = None

    def run(self) -> RateResult:
        levels: list[Tensor] = []
        for level in reversed(range(len(self.latents))):
            self.parent = None
            if level + 1 < len(self.latents):
                size = 1 << self.config.octaves
                h, w = (-(-n // size) * size for n in self.latents[level].shape)
                self.parent = _Parent(self.latents[level + 1], h, w)
            bits = self._base(level)
            for octave in reversed(range(self.config.octaves)):
                bits = bits + self._octave(level, octave)
            if self.parent is not None and self.wanted:
                self.latent_grad[level + 1] += self.parent.gradient()
            levels.insert(0, bits)
        width = self.first.shape[0] // 3
        self.grad["first"] = self.rate.first_gradient(self.first_grad.view(3, width, -1))
        return RateResult(
            torch.stack(levels).sum(),
            levels,
            self.latent_grad,
            {f"context.{k}": v for k, v in self.grad.items()},
        )

    # -- passes ----------------------------------------------------------------------------

    def _base(self, level: int) -> Tensor:
        """Positions of the coarsest lattice: context from the coarser grid alone."""
        step = 1 << self.config.octaves
        targets = self.latents[level][::step, ::step]
        rows, columns = targets.shape
        z = self.w["bias"][:, -1:].expand(-1, rows * columns)
        windows = None
        if self.parent is not None:
            windows = self.parent.windows(0, 0, step, 0, rows, columns)
            z = torch.addmm(z, self.w["parent"], windows)
        bits, gz, gt = self._network(z[None], targets.reshape(1, -1), None, level)
        if self.wanted:
            self.latent_grad[level][::step, ::step] += gt.view(rows, columns)
            self.grad["bias"][:, -1] += gz[0].sum(1)
            if self.parent is not None and windows is not None:
                self.grad["parent"].addmm_(gz[0], windows.t())
                back = self.w["parent"].t() @ gz[0]
                self.parent.scatter(back, 0, 0, step, 0, rows, columns)
        return bits

    def _octave(self, level: int, octave: int) -> Tensor:
        """The three passes that refine the lattice of stride 2s to s = 2^octave."""
        step = 1 << octave
        lattice = self.latents[level][::step, ::step]
        h, w = lattice.shape
        rows, columns = -(-h // 2), -(-w // 2)
        if h == w == 1:
            return lattice.new_zeros(())
        # One quad of zeros before, two after, so that every window lies inside.
        plane = lattice.new_zeros(2 * (rows + 3), 2 * (columns + 3))
        plane[2 : 2 + h, 2 : 2 + w] = lattice
        known = plane.clamp(-REACH, REACH)
        sources = [known, known.abs()] if self.config.magnitudes else [known]
        grads = [torch.zeros_like(plane) for _ in sources]
        target_grad = torch.zeros_like(plane)
        coded = None
        if h % 2 or w % 2:
            coded = lattice.new_zeros(plane.shape)
            coded[2 : 2 + h, 2 : 2 + w] = 1
        bits = lattice.new_zeros(())
        size = max(1, self.rate.chunk // columns)
        for top in range(0, rows, size):
            bits = bits + self._chunk(
                level, octave, range(top, min(rows, top + size)), columns,
                plane, coded, sources, grads, target_grad,
            )  # fmt: skip
        if self.wanted:
            if self.config.magnitudes:
                grads[0] += grads[1] * torch.sign(known)
            target_grad += grads[0]
            self.latent_grad[level][::step, ::step] += target_grad[2 : 2 + h, 2 : 2 + w]
        return bits

    def _chunk(
        self,
        level: int,
        octave: int,
        part: range,
        columns: int,
        plane: Tensor,
        coded: Tensor | None,
        sources: list[Tensor],
        grads: list[Tensor],
        target_grad: Tensor,
    ) -> Tensor:
        step, count = 1 << octave, len(part) * columns
        inputs = plane.new_empty(self.first.shape[1], count)
        for number, source in enumerate(sources):
            for row, (name, i, j) in enumerate(ROWS):
                inputs[number * len(ROWS) + row].view(len(part), columns).copy_(
                    _shifted(source, part, columns, i, j, PARITY[name])
                )
        z = torch.mm(self.first, inputs).view(3, -1, count)
        z += self.w["bias"][:, 3 * octave : 3 * octave + 3].t()[:, :, None]
        windows: list[Tensor] = []
        if self.parent is not None:
            # At the finest octave the four positions of a quad have the same parent.
            kinds = ((0, 0),) if octave == 0 else TARGETS
            windows = [
                self.parent.windows(a * step, b * step, 2 * step, part.start, len(part), columns)
                for a, b in kinds
            ]
            for kind, window in enumerate(windows):
                seen = torch.mm(self.w["parent"], window)
                if octave == 0:
                    z += seen
                else:
                    z[kind] += seen
        targets = torch.stack(
            [_shifted(plane, part, columns, 0, 0, t).reshape(-1) for t in TARGETS]
        )
        mask = None
        if coded is not None:
            mask = torch.stack(
                [_shifted(coded, part, columns, 0, 0, t).reshape(-1) for t in TARGETS]
            )
        bits, gz, gt = self._network(z, targets, mask, level)
        if not self.wanted:
            return bits
        self.grad["bias"][:, 3 * octave : 3 * octave + 3] += gz.sum(2).t()
        flat = gz.view(-1, count)
        self.first_grad.addmm_(flat, inputs.t())
        back = torch.mm(self.first.t(), flat)
        for number, grad in enumerate(grads):
            for row, (name, i, j) in enumerate(ROWS):
                _shifted(grad, part, columns, i, j, PARITY[name]).add_(
                    back[number * len(ROWS) + row].view(len(part), columns)
                )
        for kind, parity in enumerate(TARGETS):
            _shifted(target_grad, part, columns, 0, 0, parity).add_(
                gt[kind].view(len(part), columns)
            )
        if self.parent is not None:
            for kind, window in enumerate(windows):
                a, b = (0, 0) if octave == 0 else TARGETS[kind]
                through = gz.sum(0) if octave == 0 else gz[kind]
                self.grad["parent"].addmm_(through, window.t())
                self.parent.scatter(
                    torch.mm(self.w["parent"].t(), through),
                    a * step, b * step, 2 * step, part.start, len(part), columns,
                )  # fmt: skip
        return bits

    # -- the shared layers -----------------------------------------------------------------

    def _network(
        self, z: Tensor, targets: Tensor, mask: Tensor | None, level: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """From first-layer sums (kinds, w, n) and latents (kinds, n) to bits and gradients."""
        w, grad = self.w, self.grad
        a0 = self._activate(z)
        z1 = torch.matmul(w["hidden"], a0)
        z1 += a0
        z1 += w["hidden_bias"][:, None]
        a1 = self._activate(z1)
        out = torch.matmul(w["out"], a1)
        out += w["level"][:, level][:, None]
        mu, index = out[:, 0], 8 * out[:, 1]
        if self.exact:
            mu = torch.floor(mu * 8 + 0.5) / 8
            index = torch.floor(index + 0.5)
        clamped = index.clamp(-START, TOP - START + MIDDLE)
        if self.exact:  # index 0: not coded
            live = (clamped > -START).to(z.dtype)
            mask = live if mask is None else mask * live
        log_scale = (clamped + (START - MIDDLE)) * NATS
        bits, by_q, by_log = laplace_rate(targets, mu, log_scale, mask)
        if not self.wanted:
            return bits, z, targets
        gt = by_q * self.scale
        by_log *= 8 * NATS * self.scale
        by_log *= clamped == index
        go = torch.stack([-gt, by_log], 1)
        for kind in range(z.shape[0]):
            grad["out"].addmm_(go[kind], a1[kind].t())
        grad["level"][:, level] += go.sum((0, 2))
        g1 = torch.matmul(w["out"].t(), go)
        g1 *= a1 > 0
        for kind in range(z.shape[0]):
            grad["hidden"].addmm_(g1[kind], a0[kind].t())
        grad["hidden_bias"] += g1.sum((0, 2))
        gz = torch.matmul(w["hidden"].t(), g1)
        gz += g1
        gz *= a0 > 0
        return bits, gz, gt

    def _activate(self, z: Tensor) -> Tensor:
        if self.exact:
            z = torch.floor(z * 64 + 0.5) / 64
        return z.clamp(0, LARGEST)


class _Parent:
    """3x3 windows of the next coarser grid, and the way back for their gradients."""

    def __init__(self, grid: Tensor, height: int, width: int) -> None:
        self.shape = grid.shape
        self.plane = grid.new_zeros(height // 2 + 3, width // 2 + 3)
        self.plane[1 : 1 + grid.shape[0], 1 : 1 + grid.shape[1]] = grid.clamp(-REACH, REACH)
        self.grad = torch.zeros_like(self.plane)

    def windows(self, row: int, column: int, step: int, top: int, rows: int, columns: int) -> Tensor:
        """Windows of positions (row + step * a, column + step * b), a from `top`: (9, n)."""
        stride, half = self.plane.stride(0), step // 2
        start = (row // 2 + half * top) * stride + column // 2
        view = self.plane.as_strided(
            (3, 3, rows, columns), (stride, 1, stride * half, half), start
        )
        return view.reshape(9, -1)

    def scatter(
        self, back: Tensor, row: int, column: int, step: int, top: int, rows: int, columns: int
    ) -> None:
        """Add gradients of windows (9, n) to the grid's."""
        stride, half = self.plane.stride(0), step // 2
        start = (row // 2 + half * top) * stride + column // 2
        parts = back.view(9, rows, columns)
        for offset in range(9):
            self.grad.as_strided(
                (rows, columns),
                (stride * half, half),
                start + offset // 3 * stride + offset % 3,
            ).add_(parts[offset])

    def gradient(self) -> Tensor:
        """The gradient of the grid itself."""
        return self.grad[1 : 1 + self.shape[0], 1 : 1 + self.shape[1]]


def _shifted(
    plane: Tensor, part: range, columns: int, row: int, column: int, parity: tuple[int, int]
) -> Tensor:
    """One position of every quad of some rows of quads, moved by whole quads: a view."""
    stride = plane.stride(0)
    start = (2 * (part.start + row + 1) + parity[0]) * stride + 2 * (column + 1) + parity[1]
    return plane.as_strided((len(part), columns), (2 * stride, 2), start)
