"""Weights to integer symbols: rate-distortion optimised quantisation on a quadratic model.

Near a minimum, moving the weights by d costs g d + d H d / 2 bits of loss, and H is far from
diagonal: most directions cost nothing. So a weight is not simply rounded. Weights are quantised one
after the other, those that are left make up for the error (GPTQ, arXiv 2210.17323), and a symbol
is chosen by the sum of model loss and entropy-coded bits, so that what does not matter becomes
zero. Passes of coordinate descent with the same objective follow.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from formats.entropy import best_table, symbol_bits

__all__ = ["COARSEST", "LARGEST", "Quadratic", "coded_bits", "inverse_factor", "per_weight"]

Floats = npt.NDArray[np.float64]
Symbols = npt.NDArray[np.int32]

SWEEPS = 6
"""Most passes over all weights; the bits of a symbol are those of the table that fits best."""
QUICK_SWEEPS = 2
"""Passes to try a step that starts from the symbols of another."""
SEARCHES = 3
"""Most passes over all tensors in the search of steps."""
COARSEST = 1
LARGEST = 32_767
"""No symbol gets larger; tables know up to 65,535."""
HEADER_BITS = 16
"""A tensor's table and step; one without symbols needs no step."""


def coded_bits(parts: Sequence[Symbols]) -> float:
    """Bits of the symbols of some tensors in the file, their tables and steps included."""
    return sum(
        best_table(part)[1] + (HEADER_BITS if part.any() else HEADER_BITS // 2) for part in parts
    )


def per_weight(exponents: Sequence[int], sizes: Sequence[int]) -> Floats:
    """The step of every weight, from the exponent of each tensor's."""
    steps: Floats = np.repeat(np.ldexp(1.0, np.array(exponents)), sizes)
    return steps


def inverse_factor(curvature: Floats, order: npt.NDArray[np.intp]) -> Floats | None:
    """U, upper triangular, with U^T U the inverse of the curvature, its weights reordered.

    Args:
        curvature: (n, n) symmetric.
        order: (n,) the weights' new order.

    Returns:
        (n, n); None where the curvature is not positive definite to the last bit.
    """
    # H = M M^T with M upper triangular is a Cholesky decomposition from the last row to the first.
    backward = order[::-1].copy()
    matrix = torch.from_numpy(curvature[np.ix_(backward, backward)])
    lower, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        return None
    upper = lower.flip(0, 1).contiguous()
    eye = torch.eye(len(order), dtype=upper.dtype)
    factor: Floats = torch.linalg.solve_triangular(upper, eye, upper=True).numpy()
    return factor


class Quadratic:
    """The loss around some weights: value(w + d) - value(w) = g d + d (H + D) d / 2, in bits.

    Args:
        centre: (n,) the weights w of all tensors, one after the other.
        gradient: (n,) g.
        curvature: (n, n) H, symmetric.
        damping: (n,) the diagonal of D, such that H + D is positive definite.
        base: (n,) what symbols are relative to.
        sizes: weights of each tensor.
        finest: the least exponent of each tensor's step.
    """

    def __init__(
        self,
        centre: Floats,
        gradient: Floats,
        curvature: Floats,
        damping: Floats,
        base: Floats,
        sizes: Sequence[int],
        finest: Sequence[int],
    ) -> None:
        self.centre, self.gradient = centre, gradient
        self.curvature, self.damping = curvature, damping
        self.base, self.sizes, self.finest = base, list(sizes), list(finest)
        ends = np.cumsum([0, *sizes])
        self.parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
        self._tensor = np.repeat(np.arange(len(self.sizes)), self.sizes)

    def split(self, symbols: Symbols) -> list[Symbols]:
        """The symbols of each tensor."""
        return [symbols[part] for part in self.parts]

    def cost(self, symbols: Symbols, exponents: Sequence[int]) -> float:
        """Model loss and bits of the symbols."""
        d = self.base + symbols * per_weight(exponents, self.sizes) - self.centre
        loss = float(self.gradient @ d + 0.5 * d @ (self.curvature @ d + self.damping * d))
        return loss + coded_bits(self.split(symbols))

    def solve(self, exponents: Sequence[int], start: Symbols, sweeps: int = SWEEPS) -> Symbols:
        """Symbols with a low `cost`, by coordinate descent.

        Args:
            exponents: of each tensor's step.
            start: where to begin.
            sweeps: most passes over all weights.
        """
        steps = per_weight(exponents, self.sizes)
        symbols = start.astype(np.int64)
        d = self.base + symbols * steps - self.centre
        slope = self.gradient + self.curvature @ d + self.damping * d
        bend = (np.diag(self.curvature) + self.damping) * steps * steps
        order = np.argsort(-bend, kind="stable")
        for _ in range(sweeps):
            prices = _Prices([symbol_bits(symbols[part].astype(np.int32)) for part in self.parts])
            # Most weights stay. Those that would not, as things are, are asked again in turn.
            optimum = symbols - slope * steps / bend
            restless = prices.cheapest(symbols, optimum, bend, self._tensor) != symbols
            moved = False
            for i in order[restless[order]]:
                old, price = int(symbols[i]), prices.tables[self._tensor[i]]
                new = _cheapest(old, old - slope[i] * steps[i] / bend[i], bend[i], price)
                if new != old:
                    move = (new - old) * steps[i]
                    slope += self.curvature[i] * move
                    slope[i] += self.damping[i] * move
                    symbols[i] = new
                    moved = True
            if not moved:
                break
        return symbols.astype(np.int32)

    def sequential(
        self,
        exponents: Sequence[int],
        like: Symbols,
        order: npt.NDArray[np.intp],
        factor: Floats,
    ) -> Symbols:
        """Symbols with a low `cost`: weight by weight, all later ones move to make up for it.

        Args:
            exponents: of each tensor's step.
            like: symbols whose tables price the new ones.
            order: of the weights; best those first that bend the loss most.
            factor: `inverse_factor` of H + D in this order.
        """
        steps = per_weight(exponents, self.sizes)
        newton = factor.T @ (factor @ self.gradient[order])
        left = (self.centre - self.base)[order] - newton
        left /= steps[order]
        prices = [symbol_bits(like[part]) for part in self.parts]
        symbols = np.empty(len(order), np.int32)
        for number, place in enumerate(order):
            # In symbols: weights are divided by their steps, and so are the columns of the factor.
            row = factor[number, number:] / steps[order[number:]]
            chosen = _cheapest(0, left[number], row[0] ** -2, prices[self._tensor[place]])
            symbols[place] = chosen
            left[number + 1 :] -= (left[number] - chosen) / row[0] * row[1:]
        return self.solve(exponents, symbols)

    def search(self, symbols: Symbols, exponents: Sequence[int]) -> tuple[Symbols, list[int]]:
        """Symbols and steps with a low `cost`: tensor by tensor, steps twice or half as large.

        Args:
            symbols, exponents: where to begin.
        """
        found = list(exponents)
        least = self.cost(symbols, found)
        for _ in range(SEARCHES):
            before = list(found)
            for number, part in enumerate(self.parts):
                for change in (-1, 1):
                    other = list(found)
                    other[number] += change
                    if not self.finest[number] <= other[number] <= COARSEST:
                        continue
                    start = symbols.copy()
                    start[part] = np.rint(np.ldexp(symbols[part].astype(float), -change))
                    if np.abs(start[part]).max() > LARGEST:
                        continue
                    tried = self.solve(other, start, QUICK_SWEEPS)
                    if (cost := self.cost(tried, other)) < least:
                        least, symbols, found = cost, tried, other
                        break
            if found == before:
                break
        return symbols, found


class _Prices:
    """Bits of the symbols of some tensors.

    Args:
        tables: of the symbols -T..T of each tensor.
    """

    def __init__(self, tables: list[Floats]) -> None:
        self.tables = tables
        self._all = np.concatenate(tables)
        middles = np.array([len(table) // 2 for table in tables])
        self._zero = np.cumsum([0, *map(len, tables)])[:-1] + middles  # where symbol 0 is
        self._reach = np.minimum(middles, LARGEST)

    def cheapest(
        self,
        old: npt.NDArray[np.int64],
        optimum: Floats,
        bend: Floats,
        tensor: npt.NDArray[np.intp],
    ) -> npt.NDArray[np.int64]:
        """`_cheapest` for all weights at once; `tensor`: the number of each one's."""
        reach, zero = self._reach[tensor], self._zero[tensor]
        low = np.floor(np.clip(optimum, -reach, reach - 1)).astype(np.int64)
        inwards = np.where(low > 0, low - 1, np.minimum(low + 2, 0))
        tried = np.stack([np.zeros_like(low), old, low, low + 1, inwards])
        allowed = np.abs(tried) <= reach
        near = np.where(allowed, tried, 0)
        cost = 0.5 * bend * (near - optimum) ** 2 + self._all[zero + near]
        cost[~allowed] = np.inf
        # Among equals the smallest, as there.
        least = np.where(cost == cost.min(0), np.abs(tried), np.iinfo(np.int64).max).argmin(0)
        found: npt.NDArray[np.int64] = tried[least, np.arange(len(low))]
        return found


def _cheapest(old: int, optimum: float, bend: float, price: Floats) -> int:
    """The symbol with the least bend / 2 (symbol - optimum)^2 + price.

    Args:
        old: the present one.
        optimum: where the model loss is least.
        price: bits of the symbols -T..T.
    """
    middle = len(price) // 2
    reach = min(middle, LARGEST)
    low = math.floor(min(max(optimum, -reach), reach - 1))
    best, least = old, math.inf
    # Bits grow with |symbol|: the best one lies between zero and the optimum, nearly always at
    # one of these. Looking at all of them did not make the sum over all weights smaller.
    for symbol in {0, old, low, low + 1, low - 1 if low > 0 else min(low + 2, 0)}:
        if not -reach <= symbol <= reach:
            continue
        cost = 0.5 * bend * (symbol - optimum) ** 2 + price[symbol + middle]
        if cost < least or (cost == least and abs(symbol) < abs(best)):
            best, least = symbol, cost
    return best
