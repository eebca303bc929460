"""When fits use the kernels."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from codec.gpu import SWITCH, fused_on


def test_kernels_are_for_cuda_where_triton_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert fused_on(torch.device("cuda"))
    assert not fused_on(torch.device("cpu"))
    monkeypatch.setenv(SWITCH, "0")
    assert not fused_on(torch.device("cuda"))
    monkeypatch.setenv(SWITCH, "1")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not fused_on(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.version, "hip", "6.0")
    assert not fused_on(torch.device("cuda"))
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not fused_on(torch.device("cuda"))
