import numpy as np
import pytest

from formats.errors import CorruptError, InputError, TruncatedError
from formats.network import TensorSpec
from formats.weights import CodedTensor, pack_unit, unpack_unit

SPECS = [TensorSpec("a", (7, 5)), TensorSpec("b", (5,)), TensorSpec("c", (3, 3))]


def tensors() -> list[CodedTensor]:
    rng = np.random.default_rng(3)
    made = [
        CodedTensor(np.rint(rng.laplace(0, 9, s.shape)).astype(np.int32), step)
        for s, step in zip(SPECS, (-24, 0, 8), strict=True)
    ]
    made[1].symbols[:] = 0
    return made


def test_units_round_trip_with_their_steps() -> None:
    made = tensors()
    back = unpack_unit(pack_unit(4, made), 4, SPECS)
    for a, b in zip(made, back, strict=True):
        assert np.array_equal(a.symbols, b.symbols)
    assert [b.step for b in back] == [-24, 0, 8]


def test_values_are_exact_in_single_precision() -> None:
    coded = CodedTensor(np.array([65535, -65535, 1], dtype=np.int32), -24)
    assert coded.values.dtype == np.float32
    assert coded.values.tolist() == [65535 / 2**24, -65535 / 2**24, 2.0**-24]


def test_steps_outside_the_range_are_refused() -> None:
    with pytest.raises(InputError, match="step"):
        pack_unit(0, [CodedTensor(np.ones(1, dtype=np.int32), 9)])


@pytest.mark.parametrize("extra", [bytes(4), b"\xff" * 4, bytes(8), b"\x01\x02\x03\x04"])
def test_a_single_word_too_many_is_refused(extra: bytes) -> None:
    data = pack_unit(0, tensors())
    with pytest.raises(CorruptError, match="longer than its symbols"):
        unpack_unit(data + extra, 0, SPECS)


def test_truncated_units_are_typed_errors() -> None:
    data = pack_unit(0, tensors())
    for length in range(5):
        with pytest.raises(TruncatedError):
            unpack_unit(data[:length], 0, SPECS)
