"""The core-fusion network a file describes: latent grids, a context network, synthesis.

An image is held by integer grids, one per level, each half the size of the one before (level 0
has the image's size). An integer context network (`formats/context.py`) says how likely each
latent is; a small floating-point network upsamples the grids and turns them into samples. This
module is what a decoder learns from the header: the tensors, the shapes, the work. Integers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from formats.errors import InputError
from formats.network import TensorSpec
from formats.priors import PRIORS, check_prior

__all__ = ["NEIGHBOURS", "PARENTS", "CoreConfig", "Segment"]

NEIGHBOURS = (12, 12, 16)
"""Context inputs of a position from its own grid, by its type d, h, v (formats/lattice.py)."""
PARENTS = 9
"""Context inputs from the next coarser grid: a 3x3 window."""
TAPS = 4
"""Weights of each upsampling kernel and of each grid's filter."""


@dataclass(frozen=True)
class Segment:
    """The part of an image whose latents are coded together: one tile.

    Attributes:
        top, left: its first pixel, a multiple of 2^(levels - 1).
        height, width: pixels, cropped at the image, at least 1.
    """

    top: int
    left: int
    height: int
    width: int

    def crop(self, level: int) -> tuple[slice, slice]:
        """Rows and columns of the grid of `level` that belong to it."""
        rows, cols = (-(-side // 2**level) for side in (self.height, self.width))
        top, left = self.top >> level, self.left >> level
        return slice(top, top + rows), slice(left, left + cols)


@dataclass(frozen=True)
class CoreConfig:
    """A core-fusion network, up to its weights and latents.

    Attributes:
        levels: grids L, 1..10; the grid of level l has ceil(side / 2^l) rows or columns.
        hidden: units of the synthesis' hidden layer, 1..64.
        residuals: 3x3 convolutions after it, 0..4.
        width: units w of the context network's layers, 1..64.
        octaves: interlacing steps K of each grid, 0..4.
        magnitudes: whether the context network also sees the neighbours' absolute values.
        prior: number of the weights that the coded ones are relative to (formats/priors.py).
        gain: latents enter the synthesis times 2^(gain / 8 - 1), -64..63: the quantisation step.
        tile: log2 of the tile's side in pixels: 8..15 and at least levels - 1; 0: one tile.

    Raises:
        InputError: a field is outside its range.
    """

    levels: int = 7
    hidden: int = 16
    residuals: int = 2
    width: int = 16
    octaves: int = 3
    magnitudes: bool = False
    prior: int = 0
    tile: int = 0
    gain: int = 0

    def __post_init__(self) -> None:
        """Reject what no decoder could build."""
        for name, low, high in (
            ("levels", 1, 10),
            ("hidden", 1, 64),
            ("residuals", 0, 4),
            ("width", 1, 64),
            ("octaves", 0, 4),
            ("prior", 0, 255),
            ("tile", 0, 15),
            ("gain", -64, 63),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise InputError(
                    f"core network {name}: expected an integer in {low}..{high}, got {value!r}"
                )
        if not isinstance(self.magnitudes, bool):
            raise InputError(
                f"core network magnitudes: expected True or False, got {self.magnitudes!r}"
            )
        if self.prior not in (0, *PRIORS):
            raise InputError(
                f"core network prior: expected one of {(0, *PRIORS)}, got {self.prior}"
            )
        check_prior(self)
        lowest = max(8, self.levels - 1)
        if self.tile and self.tile < lowest:
            raise InputError(
                f"core network tile: expected 0 or {lowest}..15 with {self.levels} levels, "
                f"got {self.tile}"
            )

    @property
    def axes(self) -> tuple[str, ...]:
        """All axes, in memory order: core fusion holds images."""
        return ("y", "x")

    # -- shapes ----------------------------------------------------------------------------

    def level_shapes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Rows and columns of every grid of a signal or a tile of this size, level 0 first."""
        return [(-(-height // 2**level), -(-width // 2**level)) for level in range(self.levels)]

    def latents(self, height: int, width: int) -> int:
        """Latents of all grids together."""
        return sum(rows * cols for rows, cols in self.level_shapes(height, width))

    def segment_count(self, height: int, width: int) -> int:
        """Number of tiles."""
        if not self.tile:
            return 1
        side = 1 << self.tile
        return -(-height // side) * -(-width // side)

    def segments(self, height: int, width: int) -> list[Segment]:
        """The tiles in raster order."""
        side = 1 << self.tile if self.tile else max(height, width)
        return [
            Segment(top, left, min(side, height - top), min(side, width - left))
            for top in range(0, height, side)
            for left in range(0, width, side)
        ]

    def tensors(self, lengths: Mapping[str, int], channels: int) -> list[TensorSpec]:
        """Every weight tensor in coding order; the shapes do not depend on `lengths`."""
        del lengths
        w, columns = self.width, sum(NEIGHBOURS) * (1 + self.magnitudes)
        shapes: dict[str, tuple[int, ...]] = {"context.first": (w, columns)}
        if self.levels > 1:
            shapes["context.parent"] = (w, PARENTS)
        shapes["context.bias"] = (w, 3 * self.octaves + 1)
        shapes["context.hidden"] = (w, w)
        shapes["context.hidden_bias"] = (w,)
        shapes["context.out"] = (2, w)
        shapes["context.level"] = (2, self.levels)
        if self.levels > 1:
            shapes["kernel"] = (self.levels - 1, TAPS)
        shapes["filter"] = (self.levels, TAPS)
        shapes["tail.weight"] = (self.hidden, self.levels)
        shapes["tail.bias"] = (self.hidden,)
        shapes["output.weight"] = (channels, self.hidden)
        shapes["output.bias"] = (channels,)
        shapes["skip"] = (channels, self.levels)
        for number in range(self.residuals):
            shapes[f"residual{number}.weight"] = (channels, channels, 3, 3)
            shapes[f"residual{number}.bias"] = (channels,)
        return [TensorSpec(name, shape) for name, shape in shapes.items()]

    def parameters(self, lengths: Mapping[str, int], channels: int) -> int:
        """Number of weights."""
        return sum(spec.size for spec in self.tensors(lengths, channels))

    def macs(self, lengths: Mapping[str, int], channels: int) -> int:
        """Multiply-accumulates to decode every latent and evaluate every sample once.

        A latent costs the largest pass of the context network and two filters of 7 taps, each
        sample of each upsampling 8, a pixel the synthesis.
        """
        shapes = self.level_shapes(lengths["y"], lengths["x"])
        sizes = [rows * cols for rows, cols in shapes]
        inputs = NEIGHBOURS[2] * (1 + self.magnitudes) + PARENTS
        context = self.width * (inputs + self.width + 2)
        upsampled = sum(level * size for level, size in enumerate(reversed(sizes)))
        synthesis = self.hidden * (self.levels + channels) + channels * self.levels
        synthesis += self.residuals * 9 * channels * channels
        return sum(sizes) * (context + 14) + 8 * upsampled + sizes[0] * synthesis
