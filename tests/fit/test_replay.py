"""A step that cannot be recorded is called; one that does not fit the memory is an error."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch

from codec.fit.replay import Replay


def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def failing(error: Exception) -> Callable[[Callable[[], torch.Tensor]], object]:
    def record(function: Callable[[], torch.Tensor]) -> object:
        raise error

    return record


def test_a_recording_that_does_not_fit_the_memory_is_an_error() -> None:
    function = Replay(doubled, failing(torch.OutOfMemoryError("out of memory")))  # type: ignore[arg-type]
    x = torch.ones(2)
    function(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(torch.OutOfMemoryError):
            function(x)
    assert not function.recorded


def test_a_recording_that_fails_otherwise_falls_back_to_calls() -> None:
    function = Replay(doubled, failing(RuntimeError("no graph")))  # type: ignore[arg-type]
    x = torch.ones(2)
    function(x)
    with pytest.warns(UserWarning, match="not recorded as a CUDA graph: no graph"):
        assert function(x).tolist() == [2, 2]
    assert function(x).tolist() == [2, 2]
