"""Where a signal is sampled: one coordinate vector per axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from formats.errors import InputError

__all__ = ["AXES", "AxisGrid"]

# Slowest to fastest, as samples lie in memory: (T, H, W).
AXES = ("t", "y", "x")


@dataclass(frozen=True)
class AxisGrid:
    """A Cartesian grid: the product of one coordinate vector per axis.

    Coordinates are in pixel (or frame) units of the coded signal: the centre of sample i is
    i, its edges are i - 0.5 and i + 0.5. A crop, a scale, a range of frames and a single
    pixel are all grids; the network does not know the difference.

    Attributes:
        axes: axis names in memory order, a subsequence of ("t", "y", "x").
        coords: one float32 vector per axis, any length >= 1, any order.
    """

    axes: tuple[str, ...]
    coords: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        """Check names and shapes once."""
        if not self.axes or tuple(a for a in AXES if a in self.axes) != self.axes:
            raise InputError(f"axes: expected a subsequence of {AXES}, got {self.axes}")
        if len(self.coords) != len(self.axes):
            raise InputError(f"coords: expected {len(self.axes)} vectors, got {len(self.coords)}")
        for axis, vector in zip(self.axes, self.coords, strict=True):
            if vector.dim() != 1 or vector.numel() == 0:
                raise InputError(
                    f"coords of axis {axis}: expected a non-empty vector, "
                    f"got shape {tuple(vector.shape)}"
                )

    @classmethod
    def full(cls, lengths: Mapping[str, int], device: torch.device | None = None) -> AxisGrid:
        """Every sample of a signal of these axis lengths, e.g. {"y": 512, "x": 768}."""
        axes = tuple(axis for axis in AXES if axis in lengths)
        return cls(
            axes,
            tuple(torch.arange(lengths[a], dtype=torch.float32, device=device) for a in axes),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of samples along each axis, in memory order."""
        return tuple(vector.numel() for vector in self.coords)

    def __getitem__(self, axis: str) -> Tensor:
        """The coordinate vector of one axis."""
        return self.coords[self.axes.index(axis)]

    def replace(self, **vectors: Tensor) -> AxisGrid:
        """The same grid with other coordinates on the named axes."""
        unknown = set(vectors) - set(self.axes)
        if unknown:
            raise InputError(f"axes {sorted(unknown)} are not among {self.axes}")
        return AxisGrid(
            self.axes,
            tuple(vectors.get(a, c) for a, c in zip(self.axes, self.coords, strict=True)),
        )

    def select(self, axis: str, index: Sequence[int] | slice | Tensor) -> AxisGrid:
        """The grid restricted to some samples of one axis."""
        if isinstance(index, slice):
            return self.replace(**{axis: self[axis][index]})
        return self.replace(**{axis: self[axis][torch.as_tensor(index, device=self[axis].device)]})

    def scaled(self, scale: float, axes: Sequence[str] = ("y", "x")) -> AxisGrid:
        """The same extent sampled `scale` times as densely along `axes`.

        Output sample j of round(n * scale) lies at (j + 0.5) * n / round(n * scale) - 0.5
        (pixel areas are aligned, not pixel centres), the convention of image resizing.
        """
        if not scale > 0:
            raise InputError(f"scale: expected a number above 0, got {scale}")
        grid = self
        for axis in axes:
            grid = grid.resampled(axis, max(1, round(self[axis].numel() * scale)))
        return grid

    def supersampled(self, scale: float) -> tuple[AxisGrid, dict[str, int], dict[str, int]]:
        """The grid to evaluate for a picture `scale` times as large, and what of it to average.

        Below 1, every output sample is the mean of one evaluation per sample that it covers.

        Returns:
            The grid, and by axis y and x the output samples, and the evaluations of each.
        """
        sizes = {axis: max(1, round(self[axis].numel() * scale)) for axis in ("y", "x")}
        dense = {axis: math.ceil(self[axis].numel() / size) for axis, size in sizes.items()}
        grid = self
        for axis, size in sizes.items():
            grid = grid.resampled(axis, size * dense[axis])
        return grid, sizes, dense

    def resampled(self, axis: str, count: int) -> AxisGrid:
        """The same extent of one axis of consecutive samples, in `count` equal parts."""
        vector = self[axis]
        part = torch.arange(count, dtype=torch.float64) + 0.5
        position = part * (vector.numel() / count) - 0.5 + float(vector[0])
        return self.replace(**{axis: position.to(vector)})

    def to(self, device: torch.device) -> AxisGrid:
        """The same grid with its vectors on `device`."""
        return AxisGrid(self.axes, tuple(vector.to(device) for vector in self.coords))

    def points(self) -> Tensor:
        """All grid points as rows, shape (prod(shape), len(axes)), last axis fastest."""
        mesh = torch.meshgrid(*self.coords, indexing="ij")
        return torch.stack([m.reshape(-1) for m in mesh], dim=-1)
