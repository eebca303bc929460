"""Fits and decodes where tensors are not on the CPU: the way to a GPU, walked without one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import codec
from codec import decoder, encoder
from codec.fit import core_loop
from codec.fit.core_config import CoreFitConfig
from codec.fit.core_loop import CoreFitter
from codec.fit.replay import Replay
from codec.fit.state import load_state, save_state
from codec.network.coded import start_from_prior
from codec.network.core import CoreCoordX
from codec.network.presets import core_network
from codec.rate.predictor import TorchContextNetwork
from codec.signal import to_signal
from formats.container import Container
from tests.conftest import REPOSITORY, clip, picture
from tests.other_device import OtherDevice, other_device

CORE = REPOSITORY / "tests" / "conformance" / "core"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtherDevice]:
    """The device, which device="cuda" means until the test ends."""
    with other_device(monkeypatch) as mode:

        def pick(name: str) -> torch.device:
            return torch.device("cpu") if name == "cpu" else mode.device

        for module in (encoder, decoder):
            monkeypatch.setattr(module, "pick_device", pick)
        yield mode


def test_the_device_is_none_to_mix_with_the_cpu(elsewhere: OtherDevice) -> None:
    there = torch.ones(3, device=elsewhere.device)
    assert there.device.type != "cpu"
    assert (there + 1).device == there.device
    with pytest.raises(RuntimeError, match="expected all tensors on elsewhere"):
        there + torch.ones(3)
    with pytest.raises(RuntimeError):
        there.numpy()
    assert elsewhere.waits == elsewhere.uploads == []
    torch.ones(3).to(elsewhere.device)
    assert len(elsewhere.uploads) == 1
    assert float(there.sum()) == 3
    assert there.cpu().tolist() == [1, 1, 1]
    assert len(elsewhere.waits) == 2


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (picture(24, 32), {"lam": 1e-3, "steps": 30}),
        (picture(24, 32), {"fusion": "rank", "quality": 30, "steps": 40}),
        (clip(), {"quality": 30, "steps": 40}),
    ],
    ids=["core", "rank", "clip"],
)
def test_what_is_encoded_there_decodes_alike(
    elsewhere: OtherDevice, source: np.ndarray, options: dict[str, Any]
) -> None:
    here = codec.encode(source, device="cpu", **options)
    there = codec.encode(source, device="cuda", **options)
    # Sums in another order, and short fits go their own ways.
    assert there.stats.psnr == pytest.approx(here.stats.psnr, abs=1)
    assert len(there.data) == pytest.approx(len(here.data), rel=0.3)
    for part in ({}, {"crop": (3, 5, 16, 9)}, {"scale": 1.5}):
        ours = codec.decode(there.data, device="cpu", **part).astype(int)
        theirs = codec.decode(there.data, device="cuda", **part).astype(int)
        assert np.abs(ours - theirs).max() <= (1 if source.dtype == np.uint8 else 4)


@pytest.mark.parametrize("stream", sorted(CORE.glob("*.crdx")), ids=lambda path: path.stem)
def test_latents_are_the_same_there(elsewhere: OtherDevice, stream: Path) -> None:
    with Container.open(stream) as box:
        unit = box.core_unit(0)
    network = TorchContextNetwork(unit.network, elsewhere.device)
    theirs = dataclasses.replace(unit, network=network).grids()
    for a, b in zip(unit.grids(), theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def fitter(device: torch.device) -> CoreFitter:
    config = core_network(40, 56, 1e-3, 0)
    net = CoreCoordX(config, {"y": 40, "x": 56}, 3, seed=0)
    start_from_prior(net)
    target = to_signal(picture(40, 56), 8, device)
    return CoreFitter(net.to(device), target, CoreFitConfig.of(1e-3, 100))


def test_a_step_does_not_wait_for_the_device(elsewhere: OtherDevice) -> None:
    fit = fitter(elsewhere.device)
    fit.advance()  # what all steps use is made in the first
    for step in range(2, 22):
        elsewhere.waits.clear()
        elsewhere.uploads.clear()
        fit.advance()
        reported, turned = step % 10 == 0, step % 10 == 1  # SOAP's bases, of rows and of columns
        assert len(elsewhere.waits) == (2 if reported or turned else 0), elsewhere.waits
        assert len(elsewhere.uploads) == (2 if turned else 0)


def test_a_fit_there_resumes(elsewhere: OtherDevice, tmp_path: Path) -> None:
    first, second = fitter(elsewhere.device), fitter(elsewhere.device)
    for _ in range(12):
        first.advance()
    save_state(tmp_path / "state", first.state())
    second.restore(load_state(tmp_path / "state", elsewhere.device))
    for _ in range(10):  # past a turn of the bases
        first.advance()
        second.advance()
    assert torch.equal(first.latents, second.latents)
    for name, value in first.net.by_name().items():
        assert torch.equal(value, second.net.by_name()[name]), name


def test_steps_that_are_replayed_are_the_same_steps(
    elsewhere: OtherDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = fitter(elsewhere.device)
    monkeypatch.setattr(core_loop, "recorder_of", lambda device: elsewhere.record)
    replayed = fitter(elsewhere.device)
    for _ in range(12):
        assert called.advance() == replayed.advance()
    assert replayed.steps_recorded
    assert not called.steps_recorded
    assert torch.equal(called.latents, replayed.latents)
    for name, value in called.net.by_name().items():
        assert torch.equal(value, replayed.net.by_name()[name]), name


def test_what_cannot_be_recorded_is_called(elsewhere: OtherDevice) -> None:
    def reads(x: torch.Tensor) -> torch.Tensor:
        return x * float(x.sum())

    function = Replay(reads, elsewhere.record)
    x = torch.ones(3, device=elsewhere.device)
    assert function(x).cpu().tolist() == [3, 3, 3]
    with pytest.warns(UserWarning, match="not recorded as a CUDA graph: a graph holds no"):
        assert function(2 * x).cpu().tolist() == [12, 12, 12]
    assert function(x).cpu().tolist() == [3, 3, 3]
