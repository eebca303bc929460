"""One thread of BLAS while latents are coded.

The matrix products of a pass are small, and there are thousands of them: a second thread costs more
than it computes (docs/performance.md). The number of threads belongs to the process, so that what
other threads do with numpy meanwhile takes one too.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

__all__ = ["one_blas_thread"]

_lock = threading.Lock()
_limits: list[Any] = []
_users = 0


@cache
def _controller() -> Any:
    """What knows the BLAS libraries of the process; None where its package is not installed."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:  # slower, nothing else
        return None
    return ThreadpoolController()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """A block in which numpy's products take one thread; blocks of several threads may overlap."""
    global _users
    with _lock:
        _users += 1
        if _users == 1 and _controller() is not None:
            _limits.append(_controller().limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users and _limits:
                _limits.pop().restore_original_limits()


def _start_anew() -> None:
    """In a forked process none of the blocks of other threads will ever end."""
    global _lock, _users
    _lock, _users = threading.Lock(), 0
    while _limits:
        _limits.pop().restore_original_limits()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
