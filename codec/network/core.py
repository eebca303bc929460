"""Core fusion: latent grids contracted with one interpolation matrix an axis, and a tiny tail.

    F_l = U_y,l  G_l  U_x,l^T         every grid G_l and the matrices of its axes
    samples = residuals(W2 relu(W1 F + b1) + S F + b2)

It is CoordX' fusion with a coded core between the branches (docs/architecture.md): each axis is
evaluated once, the product of the axes is two GEMMs a level. The tail is Cool-chic's: 1x1 layers
with a linear skip, then residual 3x3 layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from codec.network.convolve import add_convolution, chunk_of
from codec.network.grid import AxisGrid
from codec.network.kernels import INITIAL, Band, axis_matrix, bands
from codec.network.parts import Parts
from codec.network.store import WeightStore
from codec.network.tail import WEIGHTS, Tail, features_of
from formats.core import CoreConfig
from formats.network import TensorSpec

__all__ = ["CoreCoordX", "gain_of"]

NARROW_START = -5.0
"""The context's second output at the start, in 8 scale indices: b = 0.08 (formats/SPEC.md, 9.3)."""


def gain_of(config: CoreConfig) -> float:
    """Value of one latent step at the input of the tail: 1/2 (C3: 0.4) and up or down from it."""
    return float(2.0 ** (config.gain / 8 - 1))


class CoreCoordX(WeightStore):
    """A picture as latent grids and a network of a few hundred weights.

    Args:
        config: the architecture.
        lengths: {"y": height, "x": width} in pixels.
        channels: output channels, 1..4.
        seed: initial weights; None leaves them zero, for weights that are about to be loaded.
    """

    def __init__(
        self, config: CoreConfig, lengths: Mapping[str, int], channels: int, seed: int | None = 0
    ) -> None:
        generator = torch.Generator().manual_seed(seed or 0)

        def initial(spec: TensorSpec) -> Tensor:
            if seed is None:
                return torch.zeros(spec.shape)
            return _initial(spec, generator, config.levels)

        super().__init__(config.tensors(dict(lengths), channels), initial)
        self.config = config
        self.lengths = dict(lengths)
        self.channels = channels
        shapes = config.grid_shapes(lengths["y"], lengths["x"])
        self.latents: list[Tensor] = [torch.zeros(shape) for shape in shapes]
        """Integer-valued latents by grid, (h_l, w_l)."""

    def load_latents(self, grids: Sequence[npt.NDArray[np.integer[Any]]]) -> None:
        """Take integer latents, by grid."""
        device = self.tensor("filter").device
        self.latents = [torch.from_numpy(g.astype(np.float32)).to(device) for g in grids]

    def _apply(self, *args: Any, **kwargs: Any) -> CoreCoordX:
        """Moving the network moves its latents."""
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.latents = [args[0](q) for q in self.latents]
        return self

    @property
    def height(self) -> int:
        """Pixels."""
        return self.lengths["y"]

    @property
    def width(self) -> int:
        """Pixels."""
        return self.lengths["x"]

    @property
    def pixels(self) -> int:
        """Of the coded picture."""
        return self.height * self.width

    # -- branches and fusion ---------------------------------------------------------------

    def bands(self) -> list[Band]:
        """The axis matrices of every grid; both axes share them."""
        kernel = self.tensor("kernel") if self.config.levels > 1 else None
        return bands(kernel, self.tensor("filter"), self.config.grid_levels)

    def tail(self) -> Tail:
        """The 1x1 layers: (grids + 1, n) -> (channels, n)."""
        return Tail({name: self.tensor(name) for name in WEIGHTS}, gain_of(self.config))

    def residual(self, layer: int) -> tuple[Tensor, Tensor]:
        """Weight and bias of a 3x3 layer."""
        return self.tensor(f"residual{layer}.weight"), self.tensor(f"residual{layer}.bias")

    def residuals(self, samples: Tensor, edges: tuple[bool, bool, bool, bool]) -> Tensor:
        """The 3x3 layers on (channels, h, w) samples.

        Args:
            samples: with one more row or column for each layer on every side that is no edge.
            edges: whether top, bottom, left and right are the picture's; there the outermost
                samples repeat.
        """
        top, bottom, left, right = (int(edge) for edge in edges)
        for layer in range(self.config.residuals):
            padded = F.pad(samples[None], (left, right, top, bottom), mode="replicate")[0]
            samples = add_convolution(padded, *self.residual(layer), chunk_of(samples.device))
        return samples

    # -- queries ---------------------------------------------------------------------------

    def native(self, rows: range, columns: range, parts: Parts | None = None) -> Tensor:
        """Samples of a rectangle of the coded picture: (channels, rows, columns)."""
        parts = Parts(self.bands()) if parts is None else parts
        halo = self.config.residuals
        outer = []
        for part, length in ((rows, self.height), (columns, self.width)):
            outer.append(range(max(0, part.start - halo), min(length, part.stop + halo)))
        features = parts.features(self.latents, *outer)
        if parts.fused is not None:
            layers = [self.residual(layer) for layer in range(halo)]
            tail = self.tail()
            out = parts.fused.samples(
                features, tail.first, tail.joint, [w for w, _ in layers], [b for _, b in layers]
            )
            y, x = rows.start - outer[0].start, columns.start - outer[1].start
            return out[:, y : y + len(rows), x : x + len(columns)]
        samples = self.tail()(features.flatten(1)).view(-1, len(outer[0]), len(outer[1]))
        if not halo:
            return samples
        edges = (
            outer[0].start == 0,
            outer[0].stop == self.height,
            outer[1].start == 0,
            outer[1].stop == self.width,
        )
        # Where the halo was cut off by the picture's edge, layers keep the size: cut it here.
        out = self.residuals(samples, edges)
        y, x = (
            rows.start - _start(outer[0], edges[0], halo),
            columns.start - _start(outer[1], edges[2], halo),
        )
        return out[:, y : y + len(rows), x : x + len(columns)]

    def forward(self, grid: AxisGrid) -> Tensor:
        """Samples on any grid: (channels, *grid.shape), around [0, 1], not clamped.

        At samples of the coded picture these are its samples. Between them the 1x1 tail is
        evaluated on interpolated features, and what the 3x3 layers add on the coded picture is
        interpolated with the same axis matrices.
        """
        found = self.bands()
        y, x = grid["y"], grid["x"]
        planes = []
        for latent, band in zip(self.latents, found, strict=True):
            rows = axis_matrix(band, latent.shape[0], y, self.height)
            columns = axis_matrix(band, latent.shape[1], x, self.width)
            top, left = _reached(rows), _reached(columns)  # a tile touches few of the latents
            planes.append(rows[:, top] @ latent[top, left] @ columns[:, left].t())
        samples = self.tail()(features_of(planes).flatten(1)).view(-1, y.numel(), x.numel())
        if not self.config.residuals:
            return samples
        near = [_near(y, self.height), _near(x, self.width)]
        parts = Parts(found)
        change = self.native(near[0], near[1], parts) - self._smooth(near[0], near[1], parts)
        identity = bands(None, change.new_zeros(1, 4))[0]
        matrices = [
            axis_matrix(identity, length, coords, length)[:, part.start : part.stop]
            for coords, part, length in ((y, near[0], self.height), (x, near[1], self.width))
        ]
        return samples + matrices[0] @ change @ matrices[1].t()

    def _smooth(self, rows: range, columns: range, parts: Parts) -> Tensor:
        """Samples of the 1x1 layers alone."""
        features = parts.features(self.latents, rows, columns)
        return self.tail()(features.flatten(1)).view(-1, len(rows), len(columns))

    def extra_repr(self) -> str:
        """Shape and size at a glance."""
        count = self.config.parameters(self.lengths, self.channels)
        return (
            f"core, {self.width}x{self.height}, channels={self.channels}, "
            f"levels={self.config.levels}+{self.config.colour}, weights={count}"
        )


def _start(outer: range, edge: bool, halo: int) -> int:
    """First sample that is left after the 3x3 layers."""
    return outer.start if edge else outer.start + halo


def _reached(matrix: Tensor) -> slice:
    """The columns of an axis matrix from the first to the last that is not zero."""
    used = matrix.any(0).nonzero()
    return slice(int(used[0]), int(used[-1]) + 1) if used.numel() else slice(0, 1)


def _near(coords: Tensor, length: int) -> range:
    """Samples of the coded picture that take part in the cubic at these coordinates."""
    low, high = math.floor(float(coords.min())) - 1, math.floor(float(coords.max())) + 3
    start = min(max(0, low), length - 1)
    return range(start, max(start + 1, min(length, high)))


def _initial(spec: TensorSpec, generator: torch.Generator, levels: int) -> Tensor:
    """Start values: an interpolating pyramid that adds up to grey, and a narrow, blind context.

    The colour grids begin with a direction of colour: red up, blue down.

    A context that expects zeros keeps the fine grids sparse; one that expects nothing lets them
    fill up with a coarse copy of the picture in the first steps, for good (docs/experiments.md).

    The nonlinear half of the tail and the 3x3 layers start at zero: while the latents are small,
    a random mixture of colours only turns their signs against each other.
    """
    shape = spec.shape
    _, _, kind = spec.name.partition(".")
    if spec.name == "kernel":
        half = torch.tensor(INITIAL)
        return (half / half.sum()).repeat(shape[0], 1)
    if spec.name == "output.bias":
        return torch.full(shape, 0.5)
    if spec.name == "skip":
        found = torch.full(shape, 0.25)
        found[:, levels:] = 0.25 * torch.tensor([1.0, 0.0, -1.0, 0.0])[: shape[0], None]
        return found
    if spec.name == "tail.weight":
        return torch.randn(shape, generator=generator) / math.sqrt(shape[1])
    if spec.name in ("context.first", "context.parent", "context.hidden"):
        inputs = {"first": 13, "parent": 9, "hidden": shape[1]}[kind]
        gain = 1.0 if kind == "hidden" else 0.5
        return torch.randn(shape, generator=generator) * gain / math.sqrt(inputs)
    if spec.name == "context.out":
        return torch.randn(shape, generator=generator) * 0.1 / math.sqrt(shape[1])
    if spec.name == "context.level":
        return torch.tensor([[0.0], [NARROW_START]]).expand(shape).clone()
    return torch.zeros(shape)
