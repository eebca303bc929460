"""Named networks, and the sizes that a budget of bits buys.

Every constant here comes from an ablation in docs/experiments.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from formats.core import CoreConfig
from formats.errors import InputError
from formats.limits import MAX_MACS_PER_UNIT, MAX_PARAMETERS
from formats.network import Activation, Encoding, NetworkConfig, RankMode
from formats.priors import prior_shape

__all__ = [
    "BITS_PER_WEIGHT",
    "coding_network",
    "core_network",
    "latent_gain",
    "paper_network",
    "sized_network",
]

BITS_PER_WEIGHT = 5.6
"""Bits a weight at the best trade of size against precision: fewer, finer weights and more,
coarser ones are both worse."""

_SHAPE = NetworkConfig(
    encoding=Encoding.POSITIONAL,  # exact octaves cost no bits; learned frequencies cost 10 each
    activation=Activation.SINE,
    rank_mode=RankMode.REDUCED,
    branch_layers=2,
    tail_layers=3,
)


def sized_network(partition: str, size: int) -> NetworkConfig:
    """The coding network of a given feature count.

    Args:
        partition: e.g. "x+y"; "xy" and "xyt" give the plain MLP.
        size: M, features after the fusion.
    """
    if partition in ("xy", "xyt"):
        return replace(_SHAPE, partition=partition, width=size, features=size, rank=1)
    rank = max(2, round(size / 4))
    return replace(
        _SHAPE, partition=partition, width=max(4, round(size * 4 / 3)), features=size, rank=rank
    )


def coding_network(
    partition: str, lengths: Mapping[str, int], channels: int, bits: float
) -> NetworkConfig:
    """The largest coding network whose weights fit a budget of bits, and the format's limits.

    Args:
        partition: how the axes are split.
        lengths: samples along each axis.
        channels: output channels.
        bits: what the weights may cost in all.
    """
    raw_bits = 8.0 * channels * math.prod(lengths.values())  # more would not be compression
    wanted = min(bits, raw_bits) / BITS_PER_WEIGHT
    wanted = min(wanted, MAX_PARAMETERS)
    best = sized_network(partition, 4)
    for size in range(4, 513):
        config = sized_network(partition, size)
        if config.parameters(dict(lengths), channels) > wanted:
            break
        if config.macs(dict(lengths), channels) > MAX_MACS_PER_UNIT:
            break
        best = config
    return best


def paper_network(partition: str, features: int = 256, rank: int = 1) -> NetworkConfig:
    """The network of the paper's experiments: SIREN layers, three before the fusion, two after.

    Raises:
        InputError: an unknown partition.
    """
    try:
        return NetworkConfig(
            partition=partition,
            encoding=Encoding.SINE,
            activation=Activation.SINE,
            branch_layers=3,
            width=features,
            features=features,
            rank=rank,
            tail_layers=2,
        )
    except InputError as error:
        raise InputError(f"paper network: {error}") from error


COLOUR = {"colour": 3, "colour_level": 2}
"""Grids besides those of the levels, for pictures that have colours: of the levels 2, 3 and 4."""
COLOUR_FROM = 60_000
"""Bits of a transform coder from which they pay for their weights."""
NARROW, WIDE, NARROW_COLOUR = 1, 2, 3
"""Numbers of the priors: a context of 16 and a synthesis of 32 units, of 32 and 48 with colour
grids, and the first with colour grids."""
WIDE_FROM = 120_000
"""Bits of a transform coder from which the wide network pays for its weights; core fusion spends
about half as many."""
WIDE_DENSITY = 1.3
"""Bits a pixel of a transform coder from which its time is worth it in a shorter fit: below, a
decoder that has few symbols to decode would take half as long again."""
FREE_STEPS, LONG_STEPS = 2000, 5000
"""Steps from which a picture of many bits is fitted without a prior: what pictures have in common
holds a longer fit back, and its own network becomes worth its bits; and from which it is one of
`LONG_SHAPES`."""
FREE_PIXELS = 250_000
"""Pixels from which that is so. Kodak's pictures gain; on quarters of them, whose weights are four
times as much of the bits, priors stay ahead."""
FREE_SHAPES = ((120_000, 0.3, 16, 32), (150_000, 0.38, 24, 48), (280_000, 0.71, 32, 48))
LONG_SHAPES = ((80_000, 0.2, 16, 32), (150_000, 0.38, 24, 48), (300_000, 0.76, 32, 48))
"""Networks without a prior: bits of a transform coder and bits a pixel from which a picture has
one, and its units of context and synthesis. The bits a pixel are what those bits are in pictures
of Kodak's size."""
TILED_PIXELS = 4_000_000
"""Above this, latents are coded in tiles: a crop decodes only those that it touches."""


def latent_gain(lam: float) -> int:
    """Gain of the latents for a lambda, in eighths of an octave.

    The best quantisation step grows with the square root of lambda; with it in the header, the
    same networks suit every rate.
    """
    return max(-64, min(63, round(8 * 0.5 * math.log2(lam / 1e-3))))


def core_network(
    height: int, width: int, lam: float, bits: float, steps: int = 0, channels: int = 3
) -> CoreConfig:
    """The core-fusion network for a picture of this size and a lambda.

    Levels up to stride 2^6 below a megapixel, one more up to three and two beyond (Cool-chic 5);
    fewer where a grid would have a single latent anyway.

    Args:
        height, width: pixels.
        lam: mean squared error per bit per pixel.
        bits: what a transform coder would spend (`codec.fit.budget.transform_bits`): where there
            are many, a wider network is worth the bits of its weights.
        steps: of the fit: see `FREE_STEPS` and `LONG_STEPS`.
        channels: of the picture.
    """
    pixels = height * width
    levels = 7 + (pixels >= 1_000_000) + (pixels >= 3_000_000)
    levels = min(levels, max(1, (max(height, width) - 1).bit_length()))
    coloured = channels >= 3 and levels >= sum(COLOUR.values()) and bits >= COLOUR_FROM
    prior = NARROW_COLOUR if coloured else NARROW
    if bits >= max(WIDE_FROM, WIDE_DENSITY * pixels):
        prior = WIDE
    shape = prior_shape(prior)
    if steps >= FREE_STEPS and pixels >= FREE_PIXELS:
        for least, density, units, hidden in LONG_SHAPES if steps >= LONG_STEPS else FREE_SHAPES:
            if bits >= max(least, density * pixels):
                prior, shape = 0, {"width": units, "hidden": hidden, **COLOUR}
    if not coloured:
        shape |= dict.fromkeys(COLOUR, 0)
    return CoreConfig(
        levels=levels,
        **shape,
        prior=prior,
        tile=10 if pixels > TILED_PIXELS else 0,
        gain=latent_gain(lam),
    )
