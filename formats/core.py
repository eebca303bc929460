"""The core-fusion network a file describes: latent grids, a context network, synthesis.

An image is held by integer grids, one per level, each half the size of the one before (level 0
has the image's size), and by a few more of some of these levels, the colour grids: one number
a place cannot say what is brighter and what is redder. An integer context network
(`formats/context.py`) says how likely each latent is; a small floating-point network upsamples the
grids and turns them into samples. This module is what a decoder learns from the header: the
tensors, the shapes, the work. Integers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from formats.blocks import BEFORE, FLAGS, WHOLE, WINDOW
from formats.errors import InputError
from formats.network import TensorSpec
from formats.priors import PRIORS, check_prior

__all__ = ["PARENTS", "CoreConfig", "Segment"]

PARENTS = 9
"""Context inputs from the next coarser grid: a 3x3 window."""
TAPS = 4
"""Weights of each upsampling kernel and of each grid's filter."""


MAX_COLOUR = 5
"""Colour grids, at most: with ten levels, as many features as kernels hold."""
LEAST_BLOCK = 5
"""log2 of the side that blocks are not halved below."""
SHARED = 5
"""Levels whose stride is above 2^(tile - SHARED - 1) belong to no tile but to the whole image."""


@dataclass(frozen=True)
class Segment:
    """The part of an image whose latents are coded together: some grids of a rectangle.

    Attributes:
        top, left: its first pixel, a multiple of the stride of the grids' parents elsewhere.
        height, width: pixels, cropped at the image, at least 1.
        grids: their numbers, ascending; the last one is coded first.
        config: the network.
        tile: whether it is one; grids outside it may be the parents of some.
    """

    top: int
    left: int
    height: int
    width: int
    grids: tuple[int, ...]
    config: CoreConfig = field(repr=False)
    tile: bool = False

    def crop(self, grid: int) -> tuple[slice, slice]:
        """Rows and columns of a grid of the whole image that belong to the rectangle."""
        level = self.config.level_of(grid)
        rows, cols = (-(-side // 2**level) for side in (self.height, self.width))
        top, left = self.top >> level, self.left >> level
        return slice(top, top + rows), slice(left, left + cols)

    def parents(self) -> list[int]:
        """Grids that are not in it, but the parents of some that are."""
        found = (self.config.parent(grid) for grid in self.grids)
        return [grid for grid in found if grid is not None and grid not in self.grids]

    def shapes(self) -> dict[int, tuple[int, int]]:
        """Rows and columns of its grids, by number."""
        shapes = self.config.grid_shapes(self.height, self.width)
        return {grid: shapes[grid] for grid in self.grids}


@dataclass(frozen=True)
class CoreConfig:
    """A core-fusion network, up to its weights and latents.

    Attributes:
        levels: L, 1..10, with a grid each; one of level l has ceil(side / 2^l) rows or columns.
        hidden: units of the synthesis' hidden layer, 1..64.
        residuals: 3x3 convolutions after it, 0..4.
        width: units w of the context network's layers, 1..64.
        block: 0: every grid is coded as one block; or log2 of the side of the blocks that the
            finest grid is coded in (`side`), 3..8; with tiles at most tile - 3, so that a tile has
            many blocks.
        prior: number of the weights that the coded ones are relative to (formats/priors.py).
        gain: latents enter the synthesis times 2^(gain / 8 - 1), -64..63: the quantisation step.
        tile: log2 of the tile's side in pixels, 8..15; 0: one tile.
        colour: more grids, after those of the levels: a second, shorter pyramid, 0..5.
        colour_level: level of the finest of them; 0 if there are none.

    Raises:
        InputError: a field is outside its range.
    """

    levels: int = 7
    hidden: int = 16
    residuals: int = 2
    width: int = 16
    block: int = 0
    prior: int = 0
    tile: int = 0
    gain: int = 0
    colour: int = 0
    colour_level: int = 0

    def __post_init__(self) -> None:
        """Reject what no decoder could build."""
        for name, low, high in (
            ("levels", 1, 10),
            ("hidden", 1, 64),
            ("residuals", 0, 4),
            ("width", 1, 64),
            ("block", 0, 8),
            ("prior", 0, 255),
            ("tile", 0, 15),
            ("gain", -64, 63),
            ("colour", 0, MAX_COLOUR),
            ("colour_level", 0, 9),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise InputError(
                    f"core network {name}: expected an integer in {low}..{high}, got {value!r}"
                )
        if self.colour_level + self.colour > self.levels or (self.colour_level and not self.colour):
            raise InputError(
                f"core network colour: expected grids at some of {self.levels} levels, got "
                f"{self.colour} from level {self.colour_level} on"
            )
        if 0 < self.block < 3:
            raise InputError(f"core network block: expected 0 or 3..8, got {self.block}")
        if self.prior not in (0, *PRIORS):
            raise InputError(
                f"core network prior: expected one of {(0, *PRIORS)}, got {self.prior}"
            )
        check_prior(self)
        if 0 < self.tile < 8:
            raise InputError(f"core network tile: expected 0 or 8..15, got {self.tile}")
        if self.tile and self.block > self.tile - 3:
            raise InputError(
                f"core network block: expected at most {self.tile - 3} with tiles of "
                f"2^{self.tile}, got {self.block}"
            )

    @property
    def axes(self) -> tuple[str, ...]:
        """All axes, in memory order: core fusion holds images."""
        return ("y", "x")

    # -- shapes ----------------------------------------------------------------------------

    @property
    def grids(self) -> int:
        """Number of grids: one a level, numbered by it, then the colour grids."""
        return self.levels + self.colour

    @property
    def grid_levels(self) -> list[int]:
        """The level of every grid."""
        return [self.level_of(grid) for grid in range(self.grids)]

    def level_of(self, grid: int) -> int:
        """The level of a grid."""
        return grid if grid < self.levels else self.colour_level + grid - self.levels

    def parent(self, grid: int) -> int | None:
        """The next coarser grid of the same pyramid, which is coded before; None: there is none."""
        return None if grid + 1 in (self.levels, self.grids) else grid + 1

    def grid_shapes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Rows and columns of every grid of a signal or a tile of this size."""
        return [(-(-height // 2**level), -(-width // 2**level)) for level in self.grid_levels]

    def side(self, grid: int) -> int:
        """Side of the blocks that a grid is coded in: larger than any grid without blocks.

        The finest grids, which hold most of the bits, have large blocks, whose latents know more
        of their neighbours; every second level halves them, down to 32: passes of small grids
        take as long as those of large ones.
        """
        if not self.block:
            return WHOLE
        return 1 << max(min(self.block, LEAST_BLOCK), self.block - self.level_of(grid) // 2)

    @property
    def window(self) -> tuple[int, ...]:
        """Numbers of the inputs in `formats.blocks.WINDOW` that the context network has."""
        return tuple(range(len(WINDOW))) if self.block else BEFORE

    @property
    def flags(self) -> int:
        """How many of `formats.blocks.FLAGS` it has: a single block has no borders to tell of."""
        return FLAGS if self.block else 1

    def latents(self, height: int, width: int) -> int:
        """Latents of all grids together."""
        return sum(rows * cols for rows, cols in self.grid_shapes(height, width))

    @property
    def tiled_levels(self) -> int:
        """How many of the finest levels are coded tile by tile.

        A latent reaches at most 7 strides: the finest levels of a tile stay within a ninth of
        its side, so a crop needs few tiles. The coarser grids are small, and reach far: they
        are coded once for the whole image.
        """
        return min(self.levels, self.tile - SHARED) if self.tile else 0

    def segment_count(self, height: int, width: int) -> int:
        """Number of segments."""
        if not self.tile:
            return 1
        side = 1 << self.tile
        tiles = -(-height // side) * -(-width // side)
        return tiles + (self.tiled_levels < self.levels)

    def segments(self, height: int, width: int) -> list[Segment]:
        """The segments in coding order: grids of the whole image, then tiles row by row."""
        tiled = self.tiled_levels
        levels = list(enumerate(self.grid_levels))
        shared = tuple(grid for grid, level in levels if level >= tiled)
        found = [Segment(0, 0, height, width, shared, self)] if shared else []
        if tiled:
            side = 1 << self.tile
            cut = tuple(grid for grid, level in levels if level < tiled)
            found += [
                Segment(
                    top, left, min(side, height - top), min(side, width - left), cut, self, True
                )
                for top in range(0, height, side)
                for left in range(0, width, side)
            ]
        return found

    def tensors(self, lengths: Mapping[str, int], channels: int) -> list[TensorSpec]:
        """Every weight tensor in coding order; the shapes do not depend on `lengths`."""
        del lengths
        w = self.width
        shapes: dict[str, tuple[int, ...]] = {"context.first": (w, len(self.window))}
        if self.levels > 1:
            shapes["context.parent"] = (w, PARENTS)
        shapes["context.bias"] = (w, self.flags)
        shapes["context.hidden"] = (w, w)
        shapes["context.hidden_bias"] = (w,)
        shapes["context.out"] = (2, w)
        shapes["context.level"] = (2, self.grids)
        if self.levels > 1:
            shapes["kernel"] = (self.levels - 1, TAPS)
        shapes["filter"] = (self.grids, TAPS)
        shapes["tail.weight"] = (self.hidden, self.grids)
        shapes["tail.bias"] = (self.hidden,)
        shapes["output.weight"] = (channels, self.hidden)
        shapes["output.bias"] = (channels,)
        shapes["skip"] = (channels, self.grids)
        for number in range(self.residuals):
            shapes[f"residual{number}.weight"] = (channels, channels, 3, 3)
            shapes[f"residual{number}.bias"] = (channels,)
        return [TensorSpec(name, shape) for name, shape in shapes.items()]

    def parameters(self, lengths: Mapping[str, int], channels: int) -> int:
        """Number of weights."""
        return sum(spec.size for spec in self.tensors(lengths, channels))

    @property
    def context_macs(self) -> int:
        """Multiply-accumulates of the context network for a latent."""
        return self.width * (len(self.window) + PARENTS + self.flags + self.width + 2)

    def macs(self, lengths: Mapping[str, int], channels: int) -> int:
        """Multiply-accumulates to decode every latent and evaluate every sample once.

        A latent costs the context network and two filters of 7 taps, each
        sample of each upsampling 8, a pixel the synthesis.
        """
        shapes = self.grid_shapes(lengths["y"], lengths["x"])
        sizes = [rows * cols for rows, cols in shapes]
        # A stage that ends at a level is passed by every grid that is coarser.
        coarser = [sum(level > n for level in self.grid_levels) for n in range(self.levels)]
        upsampled = sum(sizes[n] * count for n, count in enumerate(coarser))
        synthesis = self.hidden * (self.grids + channels) + channels * self.grids
        synthesis += self.residuals * 9 * channels * channels
        return sum(sizes) * (self.context_macs + 14) + 8 * upsampled + sizes[0] * synthesis
