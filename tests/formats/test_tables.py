import hashlib
from decimal import Decimal, getcontext

import numpy as np
import pytest

from formats.errors import CorruptError
from formats.tables import (
    FAR,
    GAUSSIAN,
    LATENT_SCALES,
    OFFSETS,
    PHI,
    TABLES,
    THETA,
    TOTAL,
    excess_frequencies,
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


KEYS = [(scale, offset) for scale in range(1, LATENT_SCALES) for offset in range(OFFSETS)]


def test_latent_constants_are_the_floor_of_the_exponential() -> None:
    getcontext().prec = 60
    assert len(PHI) == LATENT_SCALES
    for scale, phi in enumerate(PHI):
        b = Decimal(2) ** (Decimal(scale - 22) / 5)
        assert phi == int((-1 / (32 * b)).exp() * 2**62)


@pytest.mark.parametrize(("scale", "offset"), KEYS)
def test_latent_frequencies_are_those_of_the_specification(scale: int, offset: int) -> None:
    f = latent_frequencies()[scale, offset]
    assert f.tolist() == reference_core.table(scale, offset)
    assert int(f.min()) >= 1
    assert int(f.sum()) == TOTAL
    inner = f[1:-1]
    assert np.all(np.diff(inner[FAR:]) <= 0)
    assert np.all(np.diff(inner[: FAR - 1]) >= 0)
    if offset == 0:
        assert np.array_equal(f, f[::-1])
    else:  # the mean is positive: right is likelier than left
        assert np.all(f[FAR + 1 :] >= f[FAR - 1 :: -1])
    if offset == 16:  # half way between 0 and 1, mirrored there but for the remainder
        assert abs(int(f[FAR] - f[FAR + 1])) <= 4 * FAR


@pytest.mark.parametrize("scale", range(1, LATENT_SCALES))
def test_excess_frequencies_are_those_of_the_specification(scale: int) -> None:
    f = excess_frequencies(scale)
    assert f.tolist() == reference_core.excess_table(scale)
    assert f.shape == (latent_support(scale) - FAR + 1,)
    assert int(f.min()) >= 1
    assert int(f.sum()) == TOTAL
    assert np.all(np.diff(f) <= 0)


@pytest.mark.parametrize(("scale", "offset"), KEYS[::7])
def test_latent_tables_match_the_integrated_distribution(scale: int, offset: int) -> None:
    b, mean = 2.0 ** ((scale - 22) / 5), offset / 32
    reach = latent_support(scale)
    edges = np.arange(-reach, reach + 2) - 0.5 - mean
    cdf = np.where(edges < 0, np.exp(-np.abs(edges) / b) / 2, 1 - np.exp(-np.abs(edges) / b) / 2)
    expected = np.diff(cdf)
    near = latent_frequencies()[scale, offset] / TOTAL
    excess = excess_frequencies(scale) / TOTAL
    found = np.concatenate([near[0] * excess[::-1], near[1:-1], near[-1] * excess])
    # Every symbol has one 2^-24 for itself, which is taken from the others.
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
    digest = hashlib.sha256(latent_frequencies()[1:].astype("<i8").tobytes())
    for scale in range(1, LATENT_SCALES):
        digest.update(excess_frequencies(scale).astype("<i8").tobytes())
    assert digest.hexdigest() == "bf472d88fc03d7700ab50623b425767ffa5cb47bf52a43e822aa4e61d63261ca"
    for table in (latent_frequencies(), excess_frequencies(5)):
        with pytest.raises(ValueError, match="read-only"):
            table[...] = 2


def test_unknown_latent_scale_is_refused() -> None:
    for scale in (-1, 0, LATENT_SCALES):
        with pytest.raises(CorruptError, match="latent scale"):
            excess_frequencies(scale)
