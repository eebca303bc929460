"""A computation whose kernels are launched once and then replayed, where the device can do that.

A step of a fit is hundreds of small kernels (`tools/count_launches.py`), which a GPU should run in
less time than a process takes to launch them. A CUDA graph holds the launches and the addresses of
all tensors; replaying it is one launch.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["Recorder", "Replay", "cuda_graph", "recorder_of", "recording"]

Result = TypeVar("Result")

Recorder = Callable[[Callable[[], Result]], tuple[Result, Callable[[], None]]]
"""Takes a computation; returns its results and what computes them anew, in the same tensors."""

_one_at_a_time = threading.Lock()
WARM_UP = 2
"""Calls before the recording: libraries allocate their workspaces at the first ones."""


class Replay(Generic[Result]):
    """Calls a function, at the second call records it, and from then on replays it.

    The function must not read from the device, nor copy to it, and all that it uses besides its
    arguments must stay at its place in memory. What it returned belongs to the recording: the
    next call overwrites it.

    Args:
        function: of tensors whose shapes never change.
        recorder: see `recorder_of`; None: every call is a call.
    """

    def __init__(self, function: Callable[..., Result], recorder: Recorder[Result] | None) -> None:
        self._function, self._recorder = function, recorder
        self._calls = 0
        self._inputs: list[Tensor] = []
        self._replay: Callable[[], None] | None = None
        self._result: Result | None = None

    def __call__(self, *inputs: Tensor) -> Result:
        """The function's result for these inputs."""
        self._calls += 1
        if self._replay is None:
            if self._recorder is None or self._calls == 1:
                return self._function(*inputs)
            self._record(inputs)
            if self._replay is None:
                return self._function(*inputs)
        for place, value in zip(self._inputs, inputs, strict=True):
            place.copy_(value)
        self._replay()
        assert self._result is not None
        return self._result

    @property
    def recorded(self) -> bool:
        """Whether the next call is a replay."""
        return self._replay is not None

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        assert self._recorder is not None
        self._inputs = [value.clone() for value in inputs]
        try:
            self._result, self._replay = self._recorder(lambda: self._function(*self._inputs))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # Slower, and right: a driver or a library that cannot record is no reason to stop.
            warnings.warn(f"steps are not recorded as a CUDA graph: {error}", stacklevel=2)
            self._recorder = None


def cuda_graph(function: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
    """Record a computation as a CUDA graph.

    Raises:
        RuntimeError: it does what a graph cannot hold.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with recording(graph):
        result = function()
    return result, graph.replay


@contextlib.contextmanager
def recording(graph: torch.cuda.CUDAGraph) -> Iterator[None]:
    """A block whose kernels are recorded instead of launched.

    Other threads may have fits of their own, and go on with them.
    """
    with _one_at_a_time, torch.cuda.graph(graph, capture_error_mode="thread_local"):
        yield


def recorder_of(device: torch.device) -> Recorder[Result] | None:
    """How computations on this device are recorded; None: they are not."""
    return cuda_graph if device.type == "cuda" else None
