import hashlib
from decimal import Decimal, getcontext

import numpy as np
import pytest

from formats.errors import CorruptError
from formats.tables import (
    GAUSSIAN,
    LATENT_SCALES,
    LATENT_TABLES,
    OFFSETS,
    PHI,
    TABLES,
    THETA,
    TOTAL,
    coarseness,
    frequencies,
    latent_frequencies,
    latent_support,
    support,
)
from tests.conformance import reference_core


def test_constants_are_the_floor_of_the_exponential() -> None:
    getcontext().prec = 60
    for scale, theta in enumerate(THETA):
        b = Decimal(2) ** (Decimal(scale - 8) / 4)
        assert theta == int((-1 / b).exp() * 2**62)


@pytest.mark.parametrize("table", range(TABLES))
def test_frequencies_are_positive_symmetric_and_sum_to_the_total(table: int) -> None:
    f = frequencies(table)
    assert f.shape == (2 * support(table) + 1,)
    assert int(f.min()) >= 1
    assert int(f.sum()) == TOTAL
    assert np.array_equal(f, f[::-1])
    right = f[support(table) :]
    assert np.all(np.diff(right) <= 0)


def test_tables_are_frozen() -> None:
    """A change here breaks every file ever written."""
    digest = hashlib.sha256()
    for table in range(TABLES):
        digest.update(frequencies(table).astype("<i8").tobytes())
    assert digest.hexdigest() == "331c2877a942012de633ccfdfb01c91d529e3b124395b6c2c281c9250a4d9507"


def test_laplace_table_matches_the_distribution() -> None:
    table = 24  # b = 2^4
    f = frequencies(table) / TOTAL
    k = np.abs(np.arange(-support(table), support(table) + 1))
    expected = np.exp(-k / 16.0)
    expected /= expected.sum()
    assert np.abs(f - expected).max() < 1e-4


def test_gaussian_table_matches_the_distribution() -> None:
    table = GAUSSIAN + 28  # b = 2^5, sigma = 4
    f = frequencies(table) / TOTAL
    k = np.arange(-support(table), support(table) + 1)
    expected = np.exp(-(k.astype(float) ** 2) / 32.0)
    expected /= expected.sum()
    assert np.abs(f - expected).max() < 1e-4


def test_unknown_table_is_refused() -> None:
    for table in (-1, TABLES, 255):
        with pytest.raises(CorruptError, match="frequency table"):
            frequencies(table)


LATENT_KEYS = [
    scale * OFFSETS + offset
    for scale in range(1, LATENT_SCALES)
    for offset in range(0, OFFSETS, 1 << coarseness(scale))
]


def test_latent_constants_are_the_floor_of_the_exponential() -> None:
    getcontext().prec = 60
    assert len(PHI) == LATENT_SCALES
    for scale, phi in enumerate(PHI):
        b = Decimal(2) ** (Decimal(scale - 22) / 5)
        assert phi == int((-1 / (32 * b)).exp() * 2**62)


@pytest.mark.parametrize("key", LATENT_KEYS)
def test_latent_frequencies_are_those_of_the_specification(key: int) -> None:
    reach = latent_support(key // OFFSETS)
    f = latent_frequencies(key)
    assert (reach, f.tolist()) == reference_core.table(key)
    assert f.shape == (2 * reach + 1,)
    assert int(f.min()) >= 1
    assert int(f.sum()) == TOTAL
    assert np.all(np.diff(f[reach + 1 :]) <= 0)
    assert np.all(np.diff(f[:reach]) >= 0)
    if key % OFFSETS == 0:  # mean 0
        assert np.array_equal(f, f[::-1])
    else:  # the mean is positive: right is likelier than left
        assert np.all(f[reach + 1 :] >= f[reach - 1 :: -1])
    if key % OFFSETS == 16:  # half way between 0 and 1, mirrored there but for the remainder
        assert abs(int(f[reach] - f[reach + 1])) <= 2 * reach


@pytest.mark.parametrize("key", LATENT_KEYS[::7])
def test_latent_tables_match_the_integrated_distribution(key: int) -> None:
    scale, offset = divmod(key, OFFSETS)
    b, mean = 2.0 ** ((scale - 22) / 5), offset / 32
    reach = latent_support(scale)
    edges = np.arange(-reach, reach + 2) - 0.5 - mean
    cdf = np.where(edges < 0, np.exp(-np.abs(edges) / b) / 2, 1 - np.exp(-np.abs(edges) / b) / 2)
    expected = np.diff(cdf)
    found = latent_frequencies(key) / TOTAL
    # Every symbol has one 2^-24 for itself: 2 T + 1 of them are taken from the others.
    assert np.abs(found - expected).max() < (2 * reach + 3) / TOTAL
    inside = expected > 0
    divergence = (expected[inside] * np.log2(expected[inside] / found[inside])).sum()
    assert divergence < 0.001  # bits a latent


def test_latent_reach_is_about_sixteen_scales() -> None:
    for scale in range(1, LATENT_SCALES):
        b = 2.0 ** ((scale - 22) / 5)
        assert latent_support(scale) >= 16 * b
        assert latent_support(scale) == 255 or latent_support(scale) <= 32 * b
    assert latent_support(LATENT_SCALES - 1) == 8192


def test_latent_tables_are_frozen() -> None:
    """A change here breaks every file of core fusion ever written."""
    digest = hashlib.sha256()
    for key in LATENT_KEYS:
        digest.update(latent_frequencies(key).astype("<i8").tobytes())
    assert digest.hexdigest() == "15a44f3529e2d4c006610f5602b2c88ec3723a0afb6683d5625c7a6cd57a6581"
    with pytest.raises(ValueError, match="read-only"):
        latent_frequencies(17)[0] = 2


def test_unknown_latent_scale_is_refused() -> None:
    for key in (-1, 0, 16, LATENT_TABLES):
        with pytest.raises(CorruptError, match="latent scale"):
            latent_frequencies(key)


def test_means_finer_than_a_scale_knows_are_refused() -> None:
    for scale, offset in ((10, 1), (16, 2), (63, 15)):
        with pytest.raises(CorruptError, match="means in multiples"):
            latent_frequencies(scale * OFFSETS + offset)
