"""A computation whose kernels are launched once and then replayed, where the device can do that.

A step of a fit is hundreds of small kernels (`tools/count_launches.py`), which a GPU should run in
less time than a process takes to launch them. A CUDA graph holds the launches and the addresses of
all tensors; replaying it is one launch.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["Recorder", "Replay", "cuda_graph", "preparing", "recorder_of"]

Result = TypeVar("Result")

Recorder = Callable[[Callable[[], Result]], tuple[Result, Callable[[], None]]]
"""Takes a computation; returns its results and what computes them anew, in the same tensors."""

preparing = threading.RLock()
"""Held by a thread that records or that begins its steps. A recording fails when any other thread
waits for the whole device, as what is loaded for first steps may. Replays need no lock."""
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
        self._recording: tuple[Result, Callable[[], None]] | None = None

    def __call__(self, *inputs: Tensor) -> Result:
        """The function's result for these inputs."""
        self._calls += 1
        if self._recording is None and self._recorder is not None and self._calls > 1:
            self._record(inputs)
        if self._recording is None:
            return self._function(*inputs)
        for place, value in zip(self._inputs, inputs, strict=True):
            place.copy_(value)
        result, replay = self._recording
        replay()
        return result

    @property
    def recorded(self) -> bool:
        """Whether the next call is a replay."""
        return self._recording is not None

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        assert self._recorder is not None
        self._inputs = [value.clone() for value in inputs]
        try:
            self._recording = self._recorder(lambda: self._function(*self._inputs))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # Slower, and right: a driver or a library that cannot record is no reason to stop.
            warnings.warn(f"steps are not recorded as a CUDA graph: {error}", stacklevel=2)
            self._recorder = None


def cuda_graph(
    function: Callable[[], Result], warm_up: int = WARM_UP
) -> tuple[Result, Callable[[], None]]:
    """Record a computation as a CUDA graph.

    Args:
        function: the computation.
        warm_up: calls before; none for one that changes what it starts from.

    Raises:
        RuntimeError: it does what a graph cannot hold.
    """
    outside = torch.cuda.current_stream()
    graph = torch.cuda.CUDAGraph()
    with preparing:
        side = _recording_stream(torch.cuda.current_device())
        # A recording that fails leaves its stream the current one, and what this thread calls would
        # go into the recordings of others.
        with torch.cuda.stream(side):
            side.wait_stream(outside)
            for _ in range(warm_up):
                function()
            outside.wait_stream(side)
            # Other threads may have fits of their own, and go on with them.
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                result = function()
    return result, graph.replay


@functools.cache
def _recording_stream(device: int) -> torch.cuda.Stream:
    """The stream of all recordings. (There are 32, which new ones share in turn: after some fits a
    new stream is one that another fit works in.)"""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def recorder_of(device: torch.device) -> Recorder[Result] | None:
    """How computations on this device are recorded; None: they are not."""
    return cuda_graph if device.type == "cuda" else None
