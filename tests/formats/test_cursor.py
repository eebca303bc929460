import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.cursor import Reader, Writer
from formats.errors import CorruptError, TruncatedError


@given(st.lists(st.integers(0, 2**63 - 1), max_size=20))
def test_varints_round_trip(values: list[int]) -> None:
    out = Writer()
    for value in values:
        out.varint(value)
    read = Reader(out.done(), "test")
    assert [read.varint("v") for _ in values] == values
    read.finish()


def test_varint_out_of_range_is_refused_by_the_writer() -> None:
    for value in (-1, 2**63):
        with pytest.raises(ValueError, match="varint"):
            Writer().varint(value)


def test_padded_varint_is_refused() -> None:
    with pytest.raises(CorruptError, match="shortest form"):
        Reader(b"\x81\x00", "test").varint("v")


def test_endless_varint_is_refused() -> None:
    with pytest.raises(CorruptError, match="over 9 bytes"):
        Reader(b"\xff" * 20, "test").varint("v")


def test_reading_past_the_end_names_the_field_and_the_offset() -> None:
    read = Reader(b"\x01\x02", "header", base=100)
    read.u8("first")
    with pytest.raises(TruncatedError, match=r"header: size at byte 101 needs 4 bytes, 1 are left"):
        read.take(4, "size")


def test_left_over_bytes_are_an_error() -> None:
    with pytest.raises(CorruptError, match="2 bytes are left over"):
        Reader(b"ab", "test").finish()
