"""Golden streams of core fusion decode to what they were written from, for ever."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re

import numpy as np
import numpy.typing as npt
import pytest
import torch

import codec
from codec.rate.predictor import TorchContextNetwork
from formats.blocks import BlockGrid, Pass
from formats.container import Container, write_container
from formats.context import Scratch
from formats.errors import CoordXError, TruncatedError
from formats.native import SWITCH, instruction_sets
from formats.unit import pack_core_unit
from tests.conformance import reference_core as reference
from tests.conformance.make_core import FOLDER, digests

Means = Scales = npt.NDArray[np.intp]
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())
NAMES = sorted(MANIFEST)


def stream(name: str) -> bytes:
    return (FOLDER / f"{name}.crdx").read_bytes()


def test_the_manifest_lists_every_stream() -> None:
    assert sorted(p.stem for p in FOLDER.glob("*.crdx")) == NAMES
    assert len(NAMES) >= 7


@pytest.mark.parametrize("decoder", ["0", *instruction_sets()])
@pytest.mark.parametrize("name", NAMES)
def test_weights_and_latents_are_bit_exact(
    monkeypatch: pytest.MonkeyPatch, name: str, decoder: str
) -> None:
    monkeypatch.setenv(SWITCH, decoder)
    assert digests(stream(name)) == MANIFEST[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_second_implementation_reads_the_same_integers(name: str) -> None:
    data = stream(name)
    tensors, segments = reference.decode(data)
    with Container.open(data) as box:
        names = [spec.name for spec in box.header.tensors(1)]
        unit = box.core_unit(0)
    assert list(tensors) == names
    for other, tensor in zip(tensors.values(), unit.tensors, strict=True):
        assert other.symbols == tensor.symbols.reshape(-1).tolist()
        assert other.step == tensor.step
    assert len(segments) == len(unit.segments)
    for grids, (_, decoded, _) in zip(segments, unit.decode(), strict=True):
        assert grids == {number: grid.tolist() for number, grid in decoded.items()}


@pytest.mark.parametrize("name", ["certain_300x40", "colour_certain_40x30"])
def test_a_stream_has_grids_of_certain_latents_coded_in_full_and_skipped(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(SWITCH, "0")  # numpy asks for every pass
    with Container.open(stream(name)) as box:
        unit = box.core_unit(0)
    full, least = unit.network.full, [63] * unit.network.config.grids
    predict = unit.network.predict

    def seen(step: Pass, level: int, scratch: Scratch | None = None) -> tuple[Means, Scales]:
        found = predict(step, level, scratch)
        least[level] = min(least[level], int(found[1].min()))
        return found

    unit.network.predict = seen  # type: ignore[method-assign]
    unit.grids()
    grids = [(full >> n & 1, index) for n, index in enumerate(least)]
    levels = unit.network.config.levels
    for pyramid in (grids[:levels], grids[levels:]) if "colour" in name else (grids,):
        assert (0, 0) in pyramid
        assert (1, 1) in pyramid
        assert (1, 0) not in pyramid


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_torch_decodes_the_same_latents(name: str, threads: int, device: str) -> None:
    digest = hashlib.sha256()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with Container.open(stream(name)) as box:
            unit = box.core_unit(0)
        network = TorchContextNetwork(unit.network, torch.device(device))
        for grid in dataclasses.replace(unit, network=network).grids():
            digest.update(grid.astype("<i4").tobytes())
    finally:
        torch.set_num_threads(before)
    assert digest.hexdigest() == MANIFEST[name]["latents"]


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("encoded")])
def test_samples_are_within_the_tolerance(name: str) -> None:
    expected = np.load(FOLDER / f"{name}.npy", allow_pickle=False)
    decoded = codec.decode(stream(name), device="cpu")
    assert decoded.dtype == expected.dtype
    difference = np.abs(decoded.astype(int) - expected.astype(int))
    assert int(difference.max()) <= (1 if expected.dtype == np.uint8 else 4)
    if expected.dtype == np.uint8:
        assert np.count_nonzero(difference) <= max(1, 0.001 * difference.size)


@pytest.mark.parametrize("name", NAMES)
def test_coding_what_was_decoded_gives_the_same_bytes(name: str) -> None:
    data = stream(name)
    with Container.open(data) as box:
        header, unit = box.header, box.core_unit(0)
    config = unit.network.config
    payload, _ = pack_core_unit(0, config, unit.tensors, unit.grids(), header.height, header.width)
    assert write_container(header, [payload], [1]) == data


def test_the_worked_example_of_the_specification_is_true() -> None:
    text = (FOLDER.parents[2] / "formats" / "SPEC.md").read_text()
    block = text.split("### 9.8 A worked example")[1].split("`context.first` is")[0]
    data = bytearray()
    for line in block.splitlines():
        if line.startswith("    ") and (
            found := re.match(r" +((?:[0-9a-f]{2} +)*[0-9a-f]{2})(?: |$)", line)
        ):
            data += bytes.fromhex(found[1])
    assert len(data) == 83
    tensors, segments = reference.decode(bytes(data))
    assert segments == [{0: [[5, 4, 3], [4, 4, 14]]}]
    assert tensors["context.bias"].symbols == [0, 2, 2, 0, 0]
    with Container.open(bytes(data)) as box:
        box.verify()
        unit = box.core_unit(0)
    (grid,) = unit.grids()
    assert grid.tolist() == segments[0][0]
    known, means = BlockGrid((2, 3), 8, None), []
    values = known.split(grid)
    for step in known.passes():
        predicted = (found.tolist() for found in unit.network.predict(step, 0))
        means.append((*predicted, step.of(values).reshape(-1).tolist()))
        known.put(step, step.of(values).reshape(-1))
    assert means == [
        ([128], [12], [5]),
        ([144], [12], [4]),
        ([128, 144], [12, 12], [3, 4]),
        ([128], [12], [4]),
        ([112], [12], [14]),
    ]


@pytest.mark.parametrize("name", ["grey_1x1", "large_blocks_rgba_7x7"])
def test_damage_is_noticed(name: str) -> None:
    data = stream(name)
    for length in range(len(data)):
        with pytest.raises(TruncatedError):
            Container.open(data[:length]).verify()
    rng = np.random.default_rng(0)
    for bit in rng.choice(8 * len(data), 500, replace=False):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CoordXError):
            Container.open(bytes(changed)).verify()
