"""Threads of a fit on a CPU.

The operations of a step are small: a library's own threads gain little on them, and on the tiny
matrices of an optimiser of network weights they cost many times the arithmetic. But the two terms
of the loss share nothing and take about as long as each other: each gets half of torch's threads
and a thread of its own; operations release the interpreter's lock. Machine code is one thread's in
each of the two: it keeps two cores busy and no more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["Lanes"]

First = TypeVar("First")
Second = TypeVar("Second")


class Lanes:
    """Runs computations with the threads that suit them; does nothing on a GPU.

    Args:
        device: where the tensors are.
    """

    def __init__(self, device: torch.device) -> None:
        self._threads = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None
        if self._threads > 1:
            # The number of threads is a property of each thread.
            self._pool = ThreadPoolExecutor(
                1, "codec-fit", torch.set_num_threads, (self._threads // 2,)
            )

    @property
    def parallel(self) -> bool:
        """Whether two computations run side by side."""
        return self._pool is not None

    def close(self) -> None:
        """End the thread of the second lane; `both` cannot be called any more."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    def both(
        self, first: Callable[[], First], second: Callable[[], Second]
    ) -> tuple[First, Second]:
        """Results of two computations, side by side, where `parallel` says that there are two
        lanes; the second runs without autograd."""
        assert self._pool is not None
        other = self._pool.submit(torch.no_grad()(second))
        with self._limited(self._threads - self._threads // 2):
            return first(), other.result()

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """A block in which operations take one thread each."""
        return self._limited(1)

    @contextlib.contextmanager
    def _limited(self, threads: int) -> Iterator[None]:
        if self._pool is None:
            yield
            return
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(self._threads)
