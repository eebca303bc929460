import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.entropy import best_table, decode_symbols, encode_symbols, table_bits
from formats.errors import CorruptError
from formats.tables import TABLES, ZERO, support


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, TABLES - 1), st.integers(0, 40), st.integers(0, 2**31)),
        max_size=5,
    )
)
def test_any_symbols_inside_the_support_round_trip(plan: list[tuple[int, int, int]]) -> None:
    groups = []
    for table, count, seed in plan:
        reach = support(table)
        symbols = np.random.default_rng(seed).integers(-reach, reach, count, endpoint=True)
        groups.append((symbols.astype(np.int32), table))
    decoded = decode_symbols(encode_symbols(groups), [(s.size, t) for s, t in groups], "test")
    for (symbols, _), back in zip(groups, decoded, strict=True):
        assert np.array_equal(symbols, back)


def test_stream_length_matches_the_cost_of_the_tables() -> None:
    rng = np.random.default_rng(0)
    groups = []
    for scale in (0.5, 4.0, 100.0):
        symbols = np.rint(rng.laplace(0, scale, 4000)).astype(np.int32)
        groups.append((symbols, best_table(symbols)[0]))
    bits = sum(table_bits(s, t) for s, t in groups)
    assert bits <= 8 * len(encode_symbols(groups)) <= bits * 1.0005 + 48


def test_best_table_is_the_cheapest_of_all() -> None:
    rng = np.random.default_rng(1)
    for symbols in (
        np.rint(rng.laplace(0, 7, 300)).astype(np.int32),
        np.rint(rng.normal(0, 7, 300)).astype(np.int32),
        np.rint(rng.laplace(0, 0.2, 300)).astype(np.int32),
        np.array([5], dtype=np.int32),
        np.array([0, 0, 60000], dtype=np.int32),
    ):
        table, bits = best_table(symbols)
        assert bits == pytest.approx(min(table_bits(symbols, t) for t in range(TABLES)))
        assert table_bits(symbols, table) == bits


def test_zeros_cost_nothing() -> None:
    zeros = np.zeros(1000, dtype=np.int32)
    assert best_table(zeros) == (ZERO, 0.0)
    data = encode_symbols([(zeros, ZERO)])
    assert data == b""
    assert np.array_equal(decode_symbols(data, [(1000, ZERO)], "test")[0], zeros)


def test_symbols_outside_every_table_are_refused() -> None:
    with pytest.raises(CorruptError, match="65536"):
        best_table(np.array([65536]))
    assert table_bits(np.array([1]), ZERO) == float("inf")
    assert table_bits(np.array([300]), 0) == float("inf")


def test_streams_that_are_not_whole_words_are_refused() -> None:
    with pytest.raises(CorruptError, match="32-bit words"):
        decode_symbols(b"abc", [(1, 3)], "test")


def test_left_over_words_are_refused() -> None:
    data = encode_symbols([(np.arange(-5, 5, dtype=np.int32), 10)])
    with pytest.raises(CorruptError, match="longer than its symbols"):
        decode_symbols(data + b"\x01\x02\x03\x04" * 4, [(10, 10)], "test")


def test_garbage_gives_a_typed_error_or_symbols_inside_the_support() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        data = rng.integers(0, 256, 4 * int(rng.integers(0, 20)), dtype=np.uint8).tobytes()
        table = int(rng.integers(0, TABLES))
        try:
            (symbols,) = decode_symbols(data, [(50, table)], "test")
        except CorruptError:
            continue
        assert int(np.abs(symbols).max()) <= support(table)
