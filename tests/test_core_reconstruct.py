"""Blocks of a picture side by side on the threads of a CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import codec
from codec import core_reconstruct
from tests.conftest import picture


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
