"""The latents' part of a step, in one pass each: soft rounding with noise, and Adam; and the soft
rounding of the context's weights.

A step's settings are a row of a table on the device, and the number of the step is counted there:
nothing of a step depends on the host, so that it can be recorded once and replayed.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

__all__ = ["COLUMNS", "adam", "firm", "next_step", "soft_round_noisy"]

COLUMNS = (
    "temperature",
    "factor",
    "sigma",
    "latents_rate",
    "second",
    "networks_rate",
    "firm_temperature",
    "firm_factor",
)
"""Of the table of settings, one row a step: temperature T and noise of the soft rounding, and
factor = 0.5 / tanh(0.5 / T); what multiplies the first moment of the latents' Adam and the root
of its second; what multiplies SOAP's change; temperature and factor for weights, 0 while they are
not rounded."""
BLOCK = 512


@triton.jit
def _soft(x, temperature, factor):
    """Soft rounding and its slope (codec/fit/soft.py)."""
    middle = tl.floor(x) + 0.5
    # tanh(z) = 1 - 2 / (exp(2 z) + 1)
    t = 1 - 2 / (tl.exp(2 * (x - middle) / temperature) + 1)
    return middle + factor * t, (1 - t * t) * (factor / temperature)


@triton.jit(do_not_specialize=["seed"])
def _soft_round_noisy(
    latents,
    softened,
    slopes,
    settings,
    counter,
    seed,
    count,
    COLUMNS: tl.constexpr,
    SIZE: tl.constexpr,
):
    at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = at < count
    step = tl.load(counter)
    row = settings + step * COLUMNS
    temperature, factor, sigma = tl.load(row), tl.load(row + 1), tl.load(row + 2)
    x = tl.load(latents + at, mask=inside, other=0.0)
    first, slope = _soft(x, temperature, factor)
    first += sigma * tl.randn(seed + step, at)
    second, outer = _soft(first, temperature, factor)
    tl.store(softened + at, second, mask=inside)
    tl.store(slopes + at, slope * outer, mask=inside)


@triton.jit
def _adam(
    latents,
    mean,
    square,
    slopes,
    grad,
    settings,
    counter,
    count,
    epsilon,
    BETA1: tl.constexpr,
    BETA2: tl.constexpr,
    COLUMNS: tl.constexpr,
    SIZE: tl.constexpr,
):
    at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = at < count
    row = settings + tl.load(counter) * COLUMNS
    rate, second = tl.load(row + 3), tl.load(row + 4)
    g = tl.load(grad + at, mask=inside, other=0.0)
    g *= tl.load(slopes + at, mask=inside, other=0.0)
    m = tl.load(mean + at, mask=inside, other=0.0)
    m += (1 - BETA1) * (g - m)
    v = BETA2 * tl.load(square + at, mask=inside, other=0.0) + (1 - BETA2) * g * g
    x = tl.load(latents + at, mask=inside, other=0.0)
    tl.store(mean + at, m, mask=inside)
    tl.store(square + at, v, mask=inside)
    tl.store(latents + at, x - rate * m / (tl.sqrt(v) * second + epsilon), mask=inside)


@triton.jit(do_not_specialize=["seed"])
def _firm(
    weights,
    seen,
    slopes,
    prior,
    inverse,
    settings,
    counter,
    seed,
    sigma,
    context,
    count,
    COLUMNS: tl.constexpr,
    SIZE: tl.constexpr,
):
    at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = at < count
    step = tl.load(counter)
    row = settings + step * COLUMNS
    temperature, factor = tl.load(row + 6), tl.load(row + 7)
    rounded = at < tl.where(temperature > 0, context, 0)
    temperature = tl.where(temperature > 0, temperature, 1.0)
    w = tl.load(weights + at, mask=inside, other=0.0)
    start = tl.load(prior + at, mask=inside, other=0.0)
    steps = tl.load(inverse + at, mask=inside, other=1.0)
    first, slope = _soft((w - start) * steps, temperature, factor)
    first += sigma * tl.randn(seed + step, at)
    second, outer = _soft(first, temperature, factor)
    tl.store(seen + at, tl.where(rounded, start + second / steps, w), mask=inside)
    tl.store(slopes + at, tl.where(rounded, slope * outer, 1.0), mask=inside)


@triton.jit
def _next(counter):
    tl.store(counter, tl.load(counter) + 1)


def soft_round_noisy(
    latents: Tensor,
    softened: Tensor,
    slopes: Tensor,
    settings: Tensor,
    counter: Tensor,
    seed: int,
) -> None:
    """s(s(x) + noise) and its derivative.

    Args:
        latents: (n,).
        softened, slopes: (n,) what is found.
        settings: (steps, `COLUMNS`).
        counter: (1,) int32, number of the step.
        seed: of the noise of step 0; the next one's is one more.
    """
    _soft_round_noisy[(triton.cdiv(latents.numel(), BLOCK),)](
        latents,
        softened,
        slopes,
        settings,
        counter,
        seed,
        latents.numel(),
        COLUMNS=len(COLUMNS),
        SIZE=BLOCK,
    )


def firm(
    weights: Tensor,
    seen: Tensor,
    slopes: Tensor,
    prior: Tensor,
    inverse: Tensor,
    settings: Tensor,
    counter: Tensor,
    seed: int,
    sigma: float,
    context: int,
) -> None:
    """`codec.fit.firm_weights.FirmWeights` for all weights, those of the synthesis as they are.

    Args:
        weights: (n,), the context's first.
        seen, slopes: (n,) what is found.
        prior, inverse: (n,) what weights are coded relative to, and one over their steps.
        settings, counter, seed: as of `soft_round_noisy`.
        sigma: of the noise.
        context: how many are the context's.
    """
    _firm[(triton.cdiv(weights.numel(), BLOCK),)](
        weights,
        seen,
        slopes,
        prior,
        inverse,
        settings,
        counter,
        seed,
        sigma,
        context,
        weights.numel(),
        COLUMNS=len(COLUMNS),
        SIZE=BLOCK,
    )


def adam(
    latents: Tensor,
    moments: tuple[Tensor, Tensor],
    gradient: tuple[Tensor, Tensor],
    settings: Tensor,
    counter: Tensor,
    betas: tuple[float, float],
    epsilon: float,
) -> None:
    """Move the latents: torch's Adam.

    Args:
        latents: (n,).
        moments: averages of gradients and of their squares, (n,) each.
        gradient: slope of the soft rounding, and the gradient by what it gave.
        settings, counter: as of `soft_round_noisy`.
        betas, epsilon: of Adam.
    """
    _adam[(triton.cdiv(latents.numel(), BLOCK),)](
        latents,
        *moments,
        *gradient,
        settings,
        counter,
        latents.numel(),
        epsilon,
        BETA1=betas[0],
        BETA2=betas[1],
        COLUMNS=len(COLUMNS),
        SIZE=BLOCK,
    )


def next_step(counter: Tensor) -> None:
    """Count a step."""
    _next[(1,)](counter)
