"""Blocks of a picture side by side on the threads of a CPU."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import codec
from codec import core_reconstruct
from codec.core_reconstruct import TiledLatents
from codec.network.core import CoreCoordX
from formats.core import CoreConfig
from formats.errors import CorruptError
from formats.unit import CoreUnit, pack_core_unit, unpack_core_unit
from tests.conftest import picture
from tests.formats.factory import core_grids, core_tensors, image_header


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_blocks_on_several_threads_are_those_of_one(
    threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_reconstruct, "CPU_BLOCK", 64)
    data = codec.encode(picture(150, 200), lam=1e-3, steps=15, device="cpu").data
    found = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        found.append(codec.decode(data, device="cpu"))
        crop = codec.decode(data, device="cpu", crop=(30, 50, 100, 90))
        assert np.array_equal(crop, found[-1][50:140, 30:130])
        assert np.array_equal(codec.decode(data, device="cpu"), found[-1])
        assert torch.get_num_threads() == count
    for other in found[1:]:
        assert int(np.abs(other.astype(int) - found[0]).max()) <= 1  # formats/SPEC.md, section 7


def test_later_threads_begin_with_the_threads_of_the_caller(
    threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_reconstruct, "CPU_BLOCK", 64)
    data = codec.encode(picture(150, 200), lam=1e-3, steps=10, device="cpu").data
    torch.set_num_threads(3)
    core_reconstruct._workers.cache_clear()
    codec.decode(data, device="cpu")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 3


def test_a_damaged_tile_leaves_nothing_going_on(
    threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first fault stops the others, none of which is still at work when it is told."""
    monkeypatch.setattr(core_reconstruct, "native_on", lambda: "plain")  # decode side by side
    torch.set_num_threads(3)
    config = CoreConfig(tile=8, width=3, levels=3)
    size = 512, 768
    payload, seen = pack_core_unit(
        0, config, core_tensors(config, 3), core_grids(config, *size), *size
    )
    header = image_header(network=config, height=size[0], width=size[1])
    unit = unpack_core_unit(payload, 0, header)
    net = CoreCoordX(config, {"y": size[0], "x": size[1]}, 3).requires_grad_(False)
    tiles = TiledLatents(unit, net)
    at_work, lock = 0, threading.Lock()
    decode = CoreUnit.segment

    def segment(self: CoreUnit, index: int, shared: object = None) -> object:
        nonlocal at_work
        if index == 1:
            raise CorruptError("this tile is damaged")
        with lock:
            at_work += 1
        time.sleep(0.05)
        found = decode(self, index, shared)  # type: ignore[arg-type]
        with lock:
            at_work -= 1
        return found

    monkeypatch.setattr(CoreUnit, "segment", segment)
    for _ in range(2):
        with pytest.raises(CorruptError, match="this tile is damaged"):
            tiles.need(range(size[0]), range(size[1]))
        assert at_work == 0
        assert torch.get_num_threads() == 3
    tiles.need(range(400, 512), range(600, 768))
    np.testing.assert_array_equal(net.latents[0][400:, 600:].numpy(), seen[0][400:, 600:])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_has_threads_of_its_own() -> None:
    pool = core_reconstruct._workers(2)
    assert pool.submit(int, "5").result(10) == 5
    child = os.fork()
    if not child:  # the parent's threads are not there: waiting for them would never end
        own = core_reconstruct._workers(2)
        os._exit(0 if own is not pool and own.submit(int, "7").result(10) == 7 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
