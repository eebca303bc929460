"""LPIPS: what it is given, and what is said where it cannot be had."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from codec.cli import main
from codec.evaluate import perceptual
from codec.evaluate.perceptual import load_lpips, lpips
from formats.errors import InputError, MissingLibraryError
from tests.conftest import picture


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No network left over from another test."""
    load_lpips.cache_clear()
    yield
    load_lpips.cache_clear()


class Network:
    """Stands for the learned network: the mean absolute difference of what it is given."""

    def __init__(self, net: str, verbose: bool) -> None:
        assert net == "alex"
        assert not verbose  # it would print

    def eval(self) -> Network:
        return self

    def requires_grad_(self, _: bool) -> Network:
        return self

    def __call__(self, a: Any, b: Any) -> Any:
        assert a.shape[:2] == (1, 3)
        assert -1 <= float(a.min()) <= float(a.max()) <= 1
        return (a - b).abs().mean()


def install(monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any]) -> None:
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=make))


def test_pictures_are_given_in_the_range_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Network)
    black, white = np.zeros((40, 50, 3), np.uint8), np.full((40, 50, 3), 255, np.uint8)
    assert lpips(black, white) == pytest.approx(2)
    assert lpips(picture(40, 50, 1), picture(40, 50, 1)) == 0
    rgba = picture(40, 50, 4)
    other = rgba.copy()
    other[..., 3] //= 2
    assert lpips(rgba, other) == 0  # alpha does not count
    assert lpips(black[:31], white[:31]) is None
    with pytest.raises(InputError, match="uint8"):
        lpips(picture(40, 50, bits=16), picture(40, 50, bits=16))


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_weights(**_: Any) -> None:
        raise OSError("no route to host")

    install(monkeypatch, no_weights)
    with pytest.raises(MissingLibraryError, match=r"AlexNet weights .* no route to host"):
        load_lpips()
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(MissingLibraryError, match=r"coordx-codec\[lpips\]"):
        load_lpips()


def test_the_metric_reaches_the_result(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codec.evaluate.anchors import Jpeg
    from codec.evaluate.runner import evaluate

    monkeypatch.setattr(perceptual, "MIN_SIDE", 16)
    install(monkeypatch, Network)
    report = evaluate(
        photos, [Jpeg(qualities=(5, 90))], out=tmp_path / "out.json", metrics=["lpips"]
    )
    low, high = report["results"]["lpips"]
    assert low > high > 0


def test_asking_for_it_without_the_package_stops_before_any_work(
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    out = tmp_path / "out.json"
    arguments = ["eval", str(photos[0]), "--codec", "jpeg:50", "--metrics", "lpips"]
    assert main([*arguments, "-o", str(out)]) == 1
    assert "pip install 'coordx-codec[lpips]'" in capsys.readouterr().err
    assert not out.exists()
