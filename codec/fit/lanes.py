"""Two computations side by side on a CPU.

The operations of a step are small: a library's own threads gain little on them, while the two
terms of the loss share nothing and take about as long as each other. Each gets half of the
threads and a thread of its own; operations release the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["Lanes"]

First = TypeVar("First")
Second = TypeVar("Second")


class Lanes:
    """Runs pairs of computations; one after the other with one thread or on a GPU.

    Args:
        device: where the tensors of both are.
    """

    def __init__(self, device: torch.device) -> None:
        self.threads = torch.get_num_threads()
        self._pool: ThreadPoolExecutor | None = None
        if device.type == "cpu" and self.threads > 1:
            # The number of threads is a property of each thread.
            self._pool = ThreadPoolExecutor(
                1, "codec-fit", torch.set_num_threads, (self.threads // 2,)
            )

    def both(
        self, first: Callable[[], First], second: Callable[[], Second]
    ) -> tuple[First, Second]:
        """Results of the two; neither may need gradients of what the other one does."""
        if self._pool is None:
            return first(), second()
        other = self._pool.submit(torch.no_grad()(second))
        torch.set_num_threads(self.threads - self.threads // 2)
        try:
            return first(), other.result()
        finally:
            torch.set_num_threads(self.threads)
