"""Frozen integer frequency tables for weight symbols and for latents.

A table is a distribution over the integers -T..T, as integer frequencies, each at least 1, that
sum to 2^24. It is computed with integers only, from the constants below, so it is the same on
every machine for ever. The tables of weights are two families of 64 scales each
(formats/SPEC.md, 5):

    Laplace   v[k] = theta^|k|       ids 0..63      theta = exp(-1 / b)
    Gaussian  v[k] = theta^(k * k)   ids 64..127    theta = exp(-1 / b)
    b = 2^((s - 8) / 4), s = id mod 64: scales from 1/4 to 13777 in steps of 19%

`THETA[s]` is floor(2^62 exp(-1/b)); powers are built by repeated multiplication with a 62-bit
right shift.

The tables of latents (formats/SPEC.md, 9.4) are Laplace distributions of 63 finer scales and of
means 0, 1/32 .. 16/32, integrated over bins of width 1. They end at residuals of +-FAR; what is
beyond decays geometrically whatever the mean was, under one table a scale.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from formats.errors import CorruptError

__all__ = [
    "FAR",
    "GAUSSIAN",
    "LAPLACE",
    "LATENT_SCALES",
    "MEAN_BITS",
    "OFFSETS",
    "TABLES",
    "TOTAL",
    "ZERO",
    "excess_frequencies",
    "frequencies",
    "latent_frequencies",
    "latent_support",
    "support",
]

TOTAL = 1 << 24
SCALES = 64
LAPLACE = 0
"""Id of the first Laplace table."""
GAUSSIAN = 64
"""Id of the first Gaussian table."""
TABLES = 128
ZERO = 255
"""The id that says: every symbol is 0 and nothing is coded."""

SHIFT = 62
# fmt: off
THETA = (
    0x12c155b8213cf47, 0x23710c672735f02, 0x3c863781f502459, 0x5eec1517dac3eba,
    0x8a95551dfc0e5cf, 0xbe814e594d61d60, 0xf8f397de0564bd0, 0x137c50959bbee4ea,
    0x178b56362cef37c6, 0x1b9acebdaaed720d, 0x1f8e6ffc0e572ffb, 0x235062658276291e,
    0x26d165f8df2c13fc, 0x2a083b2fbd261884, 0x2cf0a80a34c9f355, 0x2f8a5c1b16878b21,
    0x31d7df3d590415d0, 0x33dda2ea08dfca2e, 0x35a13fdc2c454e83, 0x3728e0948772b988,
    0x387ad449db04430f, 0x399d43a2c2b94798, 0x3a9600299b2af3ee, 0x3b6a67f4e3780c4c,
    0x3c1f57f78e05479c, 0x3cb9288261c44b2b, 0x3d3bb0855fae1cb5, 0x3daa4d01cc33e131,
    0x3e07ead5116baf22, 0x3e571193e8ad4fc3, 0x3e99ee9957396021, 0x3ed25fbc5f615101,
    0x3f01fd57fddf4924, 0x3f2a23788580b3bd, 0x3f4bfa1c1a617e92, 0x3f687c85737fdd44,
    0x3f807faad54449f2, 0x3f94b7d16c2cbd6a, 0x3fa5bd68452cd9d5, 0x3fb4113728efccc0,
    0x3fc01ff557ff778e, 0x3fca455b155bf070, 0x3fd2cebf6e3c5f31, 0x3fd9fd51fd17cfdc,
    0x3fe007feaad55111, 0x3fe51d07c35edf3f, 0x3fe9636120dd76a5, 0x3fecfbd5c1dec43d,
    0x3ff001ffd557ffdd, 0x3ff28d1a23dbab56, 0x3ff4b0b0bdab4dcf, 0x3ff67d35f6e2788e,
    0x3ff8007ffaaad554, 0x3ff9463298f72564, 0x3ffa5818647d83d9, 0x3ffb3e6dbd915de8,
    0x3ffc001fff5557ff, 0x3ffca302ad0d92be, 0x3ffd2bfc32f3c235, 0x3ffd9f2b8ee51bdd,
    0x3ffe0007ffeaaad5, 0x3ffe517bae853d26, 0x3ffe95fa1990816e, 0x3ffecf92f36c3549,
)
# fmt: on


def support(table: int) -> int:
    """T of a table: symbols -T..T can be coded.

    About 16 b for the Laplace and 6 sigma for the Gaussian family, at least 255 and at most
    65535, so that the cost of an outlier is bounded by 24 bits and no escape code is needed.
    """
    if not 0 <= table < TABLES:
        raise CorruptError(f"frequency table: expected an id in 0..{TABLES - 1}, got {table}")
    scale = table % SCALES
    quarter = (scale - 8 + 3) // 4  # ceil((s - 8) / 4): 2^quarter >= b
    if table >= GAUSSIAN:
        quarter = (quarter + 1) // 2  # sigma = sqrt(b / 2)
        return max(255, min(65535, 6 << max(quarter, 0)))
    return max(255, min(65535, 16 << max(quarter, 0)))


@lru_cache(maxsize=TABLES)
def frequencies(table: int) -> npt.NDArray[np.int64]:
    """Frequencies of the symbols -T..T of a table: (2 T + 1,) int64, each >= 1, sum 2^24.

    Raises:
        CorruptError: no such table.
    """
    reach = support(table)
    theta = THETA[table % SCALES]
    one = 1 << SHIFT
    values = [one]
    factor = theta
    square = theta * theta >> SHIFT
    for _ in range(reach):
        values.append(values[-1] * factor >> SHIFT)
        if table >= GAUSSIAN:  # theta^(k^2) = theta^((k-1)^2) * theta^(2k - 1)
            factor = factor * square >> SHIFT
    size = 2 * reach + 1
    total = values[0] + 2 * sum(values[1:])
    half = [1 + v * (TOTAL - size) // total for v in values]
    half[0] += TOTAL - half[0] - 2 * sum(half[1:])
    right = np.array(half, dtype=np.int64)
    table_frequencies = np.concatenate([right[:0:-1], right])
    table_frequencies.flags.writeable = False
    return table_frequencies


LATENT_SCALES = 64
"""Scale indices 0..63; under 0 nothing is coded, so it has no table."""
MEAN_BITS = 5
"""Fractional bits of a latent's mean."""
OFFSETS = 17
"""Means of a latent's tables: 0..16 parts of 2^MEAN_BITS."""
FAR = 8
"""Residuals of FAR and more are one symbol, those of -FAR and less another; how far beyond they
are is a second symbol."""

# fmt: off
PHI = (
    0x21162d118e7c44eb, 0x24095bd2fd20566f, 0x26d165f8df2c13fc, 0x2969dd8b294f3b30,
    0x2bd063db4b43cd42, 0x2e044bac58ac2105, 0x30063ccf92f34d5d, 0x31d7df3d590415d0,
    0x337b90ec7123bbbb, 0x34f427a5793649b1, 0x3644beb706c551d5, 0x37708f9e0da9b0e9,
    0x387ad449db04430f, 0x3966b17bf3902fa5, 0x3a3727c96033554a, 0x3aef09e1c61151d3,
    0x3b90f6ec080eef55, 0x3c1f57f78e05479c, 0x3c9c5faf6d7dba09, 0x3d0a0ba6ad1c74e2,
    0x3d6a26b964fe2d93, 0x3dbe4c1d3ee4b7e9, 0x3e07ead5116baf22, 0x3e48494f8fbe26e7,
    0x3e808908f9b33694, 0x3eb1aa14118da677, 0x3edc8e780473f28d, 0x3f01fd57fddf4924,
    0x3f22a5de4c062ac8, 0x3f3f21e8b5a1b22c, 0x3f57f8763eb9d5a8, 0x3f6d9fd85f989070,
    0x3f807faad54449f2, 0x3f90f295e08ca2ef, 0x3f9f47df20a3435f, 0x3fabc4cd51770a19,
    0x3fb6a5e32774b24f, 0x3fc01ff557ff778e, 0x3fc8611fa24251c1, 0x3fcf919c666af46e,
    0x3fd5d4820f4e76e9, 0x3fdb486947a0fb0c, 0x3fe007feaad55111, 0x3fe42a825c0b5cae,
    0x3fe7c437ac2a2335, 0x3feae6c6bbe46a2e, 0x3feda191cf288a54, 0x3ff001ffd557ffdd,
    0x3ff213bd7c6d8cdb, 0x3ff3e0f5fcad97c2, 0x3ff57284a649f822, 0x3ff6d0201a2fff81,
    0x3ff8007ffaaad554, 0x3ff9097dc744664a, 0x3ff9f031810731aa, 0x3ffab90aa0a35226,
    0x3ffb67e5d6b743cf, 0x3ffc001fff5557ff, 0x3ffc84a6a493efff, 0x3ffcf8066050e858,
    0x3ffd5c77631e40a8, 0x3ffdb3e85d627783, 0x3ffe0007ffeaaad5, 0x3ffe424d425c2fd0,
)
# fmt: on
"""floor(2^62 exp(-1 / (32 b))), b = 2^((s - 22) / 5), for s = 0..63."""


def latent_support(scale: int) -> int:
    """T of a latent scale: residuals -T..T can be coded; between 16 b and 32 b, in 255..8192.

    Raises:
        CorruptError: no such scale.
    """
    if not 1 <= scale < LATENT_SCALES:
        raise CorruptError(f"latent scale: expected 1..{LATENT_SCALES - 1}, got {scale}")
    return max(255, 16 << max((scale - 18) // 5, 0))


def _powers(factor: int, count: int) -> list[int]:
    """2^62 times the powers 0..count of factor / 2^62, by repeated multiplication."""
    found = [1 << SHIFT]
    for _ in range(count):
        found.append(found[-1] * factor >> SHIFT)
    return found


def _times(a: npt.NDArray[np.uint64], b: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """(a * b) >> 62 exactly, for values up to 2^62: products of 31-bit halves fit 64 bits."""
    half, low = np.uint64(31), np.uint64((1 << 31) - 1)
    a1, a0, b1, b0 = a >> half, a & low, b >> half, b & low
    product: npt.NDArray[np.uint64] = a1 * b1 + ((a1 * b0 + a0 * b1 + (a0 * b0 >> half)) >> half)
    return product


@lru_cache(maxsize=1)
def latent_frequencies() -> npt.NDArray[np.int64]:
    """Frequencies of the residuals of latents under every table.

    Returns:
        (64, 17, 17) int64, by scale, by mean in 1/32 and by residual: "-FAR and less",
        -FAR + 1 .. FAR - 1, "FAR and more". Each >= 1, sum 2^24; those of scale 0 are not used.
    """
    small = np.zeros((LATENT_SCALES, 2 * OFFSETS - 1), np.uint64)  # exp(-j / 32 b)
    large = np.zeros((LATENT_SCALES, FAR), np.uint64)  # exp(-k / b)
    for scale in range(1, LATENT_SCALES):
        small[scale] = fine = _powers(PHI[scale], 1 << MEAN_BITS)
        large[scale] = _powers(fine[-1], FAR - 1)
    # Twice the mass from k + j / 32 on: of residuals beyond k if the side begins j / 32 away.
    tails = _times(small[:, :, None], large[:, None, :]).astype(np.int64)
    tails[..., :-1] -= tails[..., 1:].copy()
    free = TOTAL - (2 * FAR + 1)
    masses = 1 + ((tails >> 23) * free >> 40)
    result = np.zeros((LATENT_SCALES, OFFSETS, 2 * FAR + 1), np.int64)
    result[..., FAR + 1 :] = masses[:, OFFSETS - 1 :: -1]  # j = 16 - f
    result[..., :FAR] = masses[:, OFFSETS - 1 :, ::-1]  # j = 16 + f
    result[..., FAR] = TOTAL - result.sum(-1)
    result.flags.writeable = False
    return result


@lru_cache(maxsize=LATENT_SCALES)
def excess_frequencies(scale: int) -> npt.NDArray[np.int64]:
    """Frequencies of |residual| - FAR = 0, 1 .. T - FAR: int64, each >= 1, sum 2^24.

    Args:
        scale: 1..63.

    Raises:
        CorruptError: no such scale.
    """
    count = latent_support(scale) - FAR + 1
    powers = np.array(_powers(_powers(PHI[scale], 1 << MEAN_BITS)[-1], count), np.int64)
    result: npt.NDArray[np.int64] = 1 + ((powers[:-1] - powers[1:] >> 23) * (TOTAL - count) >> 39)
    result[0] = 0
    result[0] = TOTAL - result.sum()
    result.flags.writeable = False
    return result
