"""One thread of BLAS while latents are coded, and as many as before afterwards."""

from __future__ import annotations

import contextlib
import os

import numpy as np  # loads the library
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from codec.blas import one_blas_thread

assert np.ones(1).size


def threads() -> list[int]:
    """Of numpy's library; others may come to the process later."""
    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return [pool["num_threads"] for pool in found if "numpy" in pool["filepath"]]


def test_the_last_to_leave_restores_what_the_first_found() -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        if 2 not in before:
            pytest.skip("this BLAS has no threads to limit")
        first, second = contextlib.ExitStack(), contextlib.ExitStack()
        first.enter_context(one_blas_thread())
        second.enter_context(one_blas_thread())
        assert set(threads()) == {1}
        first.close()
        assert set(threads()) == {1}
        second.close()
        assert threads() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_begins_without_limits() -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        with one_blas_thread():
            child = os.fork()
            if not child:
                os._exit(0 if threads() == before else 1)
            assert os.waitpid(child, 0)[1] == 0


def test_an_error_restores_them_too() -> None:
    before = threads()
    with pytest.raises(ValueError, match="inside"), one_blas_thread():
        raise ValueError("inside")
    assert threads() == before
