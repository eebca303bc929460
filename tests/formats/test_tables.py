import hashlib
from decimal import Decimal, getcontext

import numpy as np
import pytest

from formats.errors import CorruptError
from formats.tables import GAUSSIAN, TABLES, THETA, TOTAL, frequencies, support


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
