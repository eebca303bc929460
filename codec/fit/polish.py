"""Moves of single latents once the networks are fixed: D + lambda R of the file itself decides.

A fit ends with latents that are rounded, none of which was ever asked whether its neighbour would
be better. Here a model proposes: the gradient and the curvature of the distortion, the table of a
latent, and the gradient of what it does to the tables of others. The picture decides: it is cut
into cells, in each of which one latent moves, and a move is kept where the error and the bits of
its cell together became less. (Cells are larger than what a latent of their level reaches, but for
little.) A latent is tried once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from codec.areas import grids_of
from codec.fit.core_distortion import CoreDistortion
from codec.network.core import CoreCoordX
from codec.network.kernels import bands, interpolate
from codec.rate import ContextRate
from codec.rate.context import PARTS, log_scale_of
from codec.rate.laplace import FLOOR, laplace_bits_each, laplace_rate
from formats.context import MIDDLE

__all__ = ["Polish"]

CELL = 16
"""Side of a cell in latents of the grid whose latents move; they do in its inner half."""
HOPEFUL = 1.0
"""Bits that a move may lose by the model, and still be tried."""
GRIDS = (0, 1, 2)
"""Grids whose latents move, in turn; nearly all of a file's bits are theirs."""
TURN = 4
"""Rounds of a grid before it is the next one's turn."""
MOST_BITS = 20.0
"""Of a latent: what `codec.rate.laplace.FLOOR` leaves."""
assert FLOOR == 2.0**-MOST_BITS


@dataclass
class _State:
    """Latents and what they cost.

    Attributes:
        latents: (n,) integers.
        error: (height, width) each pixel's share of the mean squared error.
        bits: (n,) of each latent.
        mean, log_scale: (n,) of their distributions.
    """

    latents: Tensor
    error: Tensor
    bits: Tensor
    mean: Tensor
    log_scale: Tensor

    def joined(self, other: _State, pixels: Tensor, latents: Tensor) -> _State:
        """This one, but where the masks of pixels and of latents are set the other."""
        return _State(
            torch.where(latents, other.latents, self.latents),
            torch.where(pixels, other.error, self.error),
            torch.where(latents, other.bits, self.bits),
            torch.where(latents, other.mean, self.mean),
            torch.where(latents, other.log_scale, self.log_scale),
        )


class Polish:
    """Moves latents of one picture.

    Args:
        net: the network, with the weights of the file.
        distortion, rate: the two terms of the loss.
        lam: mean squared error per bit per pixel.
    """

    def __init__(
        self, net: CoreCoordX, distortion: CoreDistortion, rate: ContextRate, lam: float
    ) -> None:
        self.distortion, self.rate = distortion, rate
        weights = net.by_name()
        self.context = {n: w for n, w in weights.items() if n.startswith("context.")}
        self.synthesis = {n: w for n, w in weights.items() if n not in self.context}
        self.size = net.height, net.width
        self.price = lam / (net.height * net.width)
        self.levels = net.config.grid_levels
        self.shapes = net.config.grid_shapes(*self.size)
        self.random = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def __call__(self, latents: Tensor, rounds: int) -> Tensor:
        """Better latents.

        Args:
            latents: (n,) integers, all grids by number.
            rounds: how many times moves are tried.
        """
        if not rounds:
            return latents
        best = self._state(latents)
        curvature = self._curvature(latents)
        tried = torch.zeros_like(latents, dtype=torch.bool)
        grids = [grid for grid in GRIDS if grid < len(self.shapes)]
        idle = 0
        while rounds and idle < len(grids):
            state, moves = best, min(TURN, rounds)
            rounds -= moves
            for _ in range(moves):
                state = self._round(state, grids[0], curvature, tried)
            grids = grids[1:] + grids[:1]
            # Errors and bits were put together from cells: look at all of them anew.
            state = self._state(state.latents)
            better = self._cost(state) < self._cost(best)
            idle, best = (0, state) if better else (idle + 1, best)
        return best.latents

    def _cost(self, state: _State) -> float:
        bits = state.bits.sum(dtype=torch.float64)
        return float(state.error.sum(dtype=torch.float64) + self.price * bits)

    def _state(self, latents: Tensor) -> _State:
        samples = self.distortion.samples(self.synthesis, grids_of(latents, self.shapes))
        error = (samples.clamp(0, 1) - self.distortion.target).square_().sum(0)
        mean, scale = self.rate.predict(self.context, latents)
        mean, log_scale = mean / PARTS, log_scale_of(scale - MIDDLE)
        bits = laplace_bits_each(latents, mean, log_scale).clamp_(max=MOST_BITS)
        return _State(latents, error / self.distortion.target.numel(), bits, mean, log_scale)

    def _round(self, state: _State, grid: int, curvature: Tensor, tried: Tensor) -> _State:
        """Try one move in each cell; those that are kept are in what is returned."""
        change, sign = self._model(state, curvature)
        cells = _Cells(self.size, self.shapes, self.levels, grid, self.random, change.device)
        chosen = cells.best(change.masked_fill_(tried, torch.inf), HOPEFUL * self.price)
        if not chosen.numel():
            return state
        tried[chosen] = True
        moved = state.latents.clone()
        moved[chosen] += sign[chosen]
        other = self._state(moved)
        by_cell = cells.sums(other.error - state.error, self.price * (other.bits - state.bits))
        return state.joined(other, *cells.masks(by_cell < 0))

    def _model(self, state: _State, curvature: Tensor) -> tuple[Tensor, Tensor]:
        """What the better one of two moves of each latent is expected to change, and its sign."""
        latents, mean, log_scale = state.latents, state.mean, state.log_scale
        slopes = self.distortion(self.synthesis, grids_of(latents, self.shapes)).latents
        slope = torch.cat([part.flatten() for part in slopes])
        by_others = self.rate(self.context, latents).latents
        by_others -= laplace_rate(latents, mean, log_scale)[1]
        least, sign = torch.full_like(latents, torch.inf), torch.ones_like(latents)
        for step in (1.0, -1.0):
            bits = laplace_bits_each(latents + step, mean, log_scale) - state.bits
            change = step * slope + 0.5 * curvature + self.price * (bits + step * by_others)
            sign = torch.where(change < least, step, sign)
            least = torch.minimum(least, change)
        return least, sign

    def _curvature(self, latents: Tensor) -> Tensor:
        """The second derivative of the mean squared error by every latent, about: 3x3 layers are
        left out, and at the border each of the samples that repeat counts for itself."""
        features = self.distortion.features(self.synthesis, grids_of(latents, self.shapes))
        tail = self.distortion.tail(self.synthesis)
        squares = tail.squared_slopes(features.flatten(1)).view(-1, *self.size)
        found = bands(self.synthesis.get("kernel"), self.synthesis["filter"], self.levels)
        squared = [replace(band, matrix=band.matrix.square()) for band in found]
        with torch.enable_grad():  # the way back of an interpolation with squared weights
            grids = [
                grid.requires_grad_() for grid in grids_of(torch.zeros_like(latents), self.shapes)
            ]
            planes = interpolate(grids, squared, range(self.size[0]), range(self.size[1]))
        slopes = torch.autograd.grad(planes, grids, list(squares.unbind()))
        parts = torch.cat([slope.flatten() for slope in slopes])
        return parts * (2 / self.distortion.target.numel())


class _Cells:
    """A picture cut into squares from a random place on.

    Args:
        size: of the picture.
        shapes, levels: of the grids.
        grid: whose latents move.
        random: where the cuts come from.
        device: where the masks are.
    """

    def __init__(
        self,
        size: tuple[int, int],
        shapes: Sequence[tuple[int, int]],
        levels: Sequence[int],
        grid: int,
        random: torch.Generator,
        device: torch.device,
    ) -> None:
        side = CELL << levels[grid]
        starts = torch.randint(side, (2,), generator=random).tolist()
        lines = [torch.arange(length) + start for length, start in zip(size, starts, strict=True)]
        rows, columns = (line // side for line in lines)
        self._across = int(columns[-1]) + 1
        self.count = (int(rows[-1]) + 1) * self._across
        self.pixels = (rows[:, None] * self._across + columns).to(device)
        # Latents lie at the first pixel of their square.
        self.latents = torch.cat(
            [self.pixels[:: 1 << level, :: 1 << level].flatten() for level in levels]
        )
        inner = [(line % side - side // 4) // (side // 2) == 0 for line in lines]
        stride = 1 << levels[grid]
        both = (inner[0][:, None] & inner[1])[::stride, ::stride].flatten().to(device)
        before = sum(h * w for h, w in shapes[:grid])
        self._movable = before + both.nonzero()[:, 0]

    def best(self, change: Tensor, limit: float) -> Tensor:
        """Numbers of the latents, one a cell at most, whose change is least and below a limit."""
        own = self._movable[change[self._movable] < limit]
        # Of several numbers that are written to one place the last one stays on a CPU, any on a
        # GPU; the least change of a cell is the same wherever it is computed.
        least = change.new_full((self.count,), torch.inf)
        least.scatter_reduce_(0, self.latents[own], change[own], "amin")
        first = own[change[own] == least[self.latents[own]]]
        chosen = first.new_full((self.count,), len(change))
        chosen.scatter_reduce_(0, self.latents[first], first, "amin")
        found: Tensor = chosen[chosen < len(change)]
        return found

    def sums(self, pixels: Tensor, latents: Tensor) -> Tensor:
        """Values of pixels (height, width) and of latents (n,) added up in each cell."""
        found = latents.new_zeros(self.count, dtype=torch.float64)
        found.index_add_(0, self.pixels.flatten(), pixels.flatten().double())
        found.index_add_(0, self.latents, latents.double())
        return found

    def masks(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """The pixels and the latents of some cells (count,)."""
        return cells[self.pixels], cells[self.latents]
