"""Golden streams decode to what they were written from, for ever."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

import codec
from formats.container import Container
from formats.errors import CoordXError, TruncatedError
from tests.conformance import reference

FOLDER = Path(__file__).parent
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())
NAMES = sorted(MANIFEST)


def stream(name: str) -> bytes:
    return (FOLDER / f"{name}.crdx").read_bytes()


def test_the_manifest_lists_every_stream() -> None:
    assert sorted(p.stem for p in FOLDER.glob("*.crdx")) == NAMES
    assert len(NAMES) >= 8


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_bit_exact(name: str) -> None:
    data = stream(name)
    assert hashlib.sha256(data).hexdigest() == MANIFEST[name]["file"]
    digest = hashlib.sha256()
    with Container.open(data) as box:
        for number in range(len(box.unit_spans)):
            for tensor in box.unit(number):
                digest.update(tensor.step.to_bytes(2, "little", signed=True))
                digest.update(tensor.symbols.astype("<i4").tobytes())
    assert digest.hexdigest() == MANIFEST[name]["weights"]


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_within_the_tolerance(name: str) -> None:
    expected = np.load(FOLDER / f"{name}.npy", allow_pickle=False)
    decoded = codec.decode(stream(name), device="cpu")
    assert decoded.dtype == expected.dtype
    difference = np.abs(decoded.astype(int) - expected.astype(int))
    # 16 bits have 257 codes where 8 bits have one: float32 arithmetic is good to a few of them.
    assert int(difference.max()) <= (1 if expected.dtype == np.uint8 else 4)
    if expected.dtype == np.uint8:
        assert np.count_nonzero(difference) <= max(1, 0.001 * difference.size)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_implementation_reads_the_same_integers(name: str) -> None:
    data = stream(name)
    units = reference.decode(data)
    with Container.open(data) as box:
        assert len(units) == len(box.unit_spans)
        for number, unit in enumerate(units):
            for (step, symbols), tensor in zip(unit, box.unit(number), strict=True):
                assert symbols == tensor.symbols.reshape(-1).tolist()
                assert step == tensor.step


@pytest.mark.parametrize("name", NAMES)
def test_every_prefix_is_truncated(name: str) -> None:
    data = stream(name)
    for length in range(len(data)):
        with pytest.raises(TruncatedError):
            Container.open(data[:length]).verify()


@pytest.mark.parametrize("name", NAMES[:3])
def test_every_flipped_bit_is_noticed(name: str) -> None:
    data = stream(name)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CoordXError):
            Container.open(bytes(changed)).verify()


def spec_example() -> bytes:
    text = (FOLDER.parents[1] / "formats" / "SPEC.md").read_text()
    block = text.split("## 8. A worked example")[1].split("Symbols:")[0]
    data = bytearray()
    for line in block.splitlines():
        if line.startswith("    ") and (
            found := re.match(r" +((?:[0-9a-f]{2} +)*[0-9a-f]{2})", line)
        ):
            data += bytes.fromhex(found[1])
    return bytes(data)


def test_the_worked_example_of_the_specification_is_true() -> None:
    data = spec_example()
    assert len(data) == 60
    steps_and_symbols = reference.decode(data)[0]
    assert [q for _, q in steps_and_symbols] == [[2, -1], [0, 0], [-3, 1], [1, 0], [4, -2], [5]]
    assert [s for s, _ in steps_and_symbols] == [-1, 0, -1, -2, -3, -4]
    assert codec.decode(data, device="cpu")[..., 0].tolist() == [[5, 58, 131], [154, 101, 28]]
