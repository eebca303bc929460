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

from formats.entropy import best_table, symbol_bits

__all__ = ["COARSEST", "Quadratic", "coded_bits"]

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


class Quadratic:
    """The loss around some weights: value(w + d) - value(w) = g d + d H d / 2, in bits.

    Args:
        centre: (n,) the weights w of all tensors, one after the other.
        gradient: (n,) g.
        curvature: (n, n) H, symmetric, positive definite.
        base: (n,) what symbols are relative to.
        sizes: weights of each tensor.
        finest: the least exponent of each tensor's step.
    """

    def __init__(
        self,
        centre: Floats,
        gradient: Floats,
        curvature: Floats,
        base: Floats,
        sizes: Sequence[int],
        finest: Sequence[int],
    ) -> None:
        self.centre, self.gradient, self.curvature = centre, gradient, curvature
        self.base, self.sizes, self.finest = base, list(sizes), list(finest)
        ends = np.cumsum([0, *sizes])
        self.parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
        self._tensor = np.repeat(np.arange(len(self.sizes)), self.sizes)

    def steps_of(self, exponents: Sequence[int]) -> Floats:
        """The step of every weight."""
        steps: Floats = np.repeat(np.ldexp(1.0, np.array(exponents)), self.sizes)
        return steps

    def split(self, symbols: Symbols) -> list[Symbols]:
        """The symbols of each tensor."""
        return [symbols[part] for part in self.parts]

    def cost(self, symbols: Symbols, exponents: Sequence[int]) -> float:
        """Model loss and bits of the symbols."""
        d = self.base + symbols * self.steps_of(exponents) - self.centre
        loss = float(self.gradient @ d + 0.5 * d @ (self.curvature @ d))
        return loss + coded_bits(self.split(symbols))

    def solve(self, exponents: Sequence[int], start: Symbols, sweeps: int = SWEEPS) -> Symbols:
        """Symbols with a low `cost`, by coordinate descent.

        Args:
            exponents: of each tensor's step.
            start: where to begin.
            sweeps: most passes over all weights.
        """
        steps = self.steps_of(exponents)
        symbols = start.astype(np.int64)
        slope = self.gradient + self.curvature @ (self.base + symbols * steps - self.centre)
        bend = np.diag(self.curvature) * steps * steps
        order = np.argsort(-bend, kind="stable")
        for _ in range(sweeps):
            prices = [symbol_bits(symbols[part].astype(np.int32)) for part in self.parts]
            moved = False
            for i in order:
                old, price = int(symbols[i]), prices[self._tensor[i]]
                new = _cheapest(old, old - slope[i] * steps[i] / bend[i], bend[i], price)
                if new != old:
                    slope += self.curvature[i] * ((new - old) * steps[i])
                    symbols[i] = new
                    moved = True
            if not moved:
                break
        return symbols.astype(np.int32)

    def sequential(self, exponents: Sequence[int], like: Symbols) -> Symbols:
        """Symbols with a low `cost`: weight by weight, all later ones move to make up for it.

        Args:
            exponents: of each tensor's step.
            like: symbols whose tables price the new ones.
        """
        steps = self.steps_of(exponents)
        curvature = self.curvature * steps[:, None] * steps
        order = np.argsort(-np.diag(curvature), kind="stable")
        inverse = np.linalg.inv(curvature[np.ix_(order, order)])
        try:
            factor = np.linalg.cholesky(inverse).T
        except np.linalg.LinAlgError:  # not positive definite to the last bit
            return self.solve(exponents, like)
        optimum = self.centre - np.linalg.solve(self.curvature, self.gradient) - self.base
        left = (optimum / steps)[order]
        prices = [symbol_bits(like[part]) for part in self.parts]
        symbols = np.empty(len(order), np.int32)
        for number, place in enumerate(order):
            scale = factor[number, number]
            chosen = _cheapest(0, left[number], scale**-2, prices[self._tensor[place]])
            symbols[place] = chosen
            left[number + 1 :] -= (left[number] - chosen) / scale * factor[number, number + 1 :]
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
    # Bits grow with |symbol|: the best one lies between zero and the optimum, near one of them.
    for symbol in {0, old, low, low + 1, low - 1 if low > 0 else low + 2}:
        if not -reach <= symbol <= reach:
            continue
        cost = 0.5 * bend * (symbol - optimum) ** 2 + price[symbol + middle]
        if cost < least or (cost == least and abs(symbol) < abs(best)):
            best, least = symbol, cost
    return best
