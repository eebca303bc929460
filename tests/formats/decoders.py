"""Every decoder of latents at once: numpy's and machine code of every instruction set."""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from formats.errors import CorruptError
from formats.latents import decode_by_passes
from formats.native import decode_segment, instruction_sets

NOTHING: Mapping[int, npt.NDArray[np.int32]] = {}


def can_compile() -> bool:
    """Whether an installation here makes the modules in machine code."""
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    compilers = any(map(shutil.which, ("gcc", "clang")))
    return sys.platform != "win32" and compilers and headers.exists()


def decode_segment_alike(
    network: Any,
    shapes: Mapping[int, tuple[int, int]],
    data: bytes,
    where: str,
    known: Mapping[int, npt.NDArray[np.int32]] = NOTHING,
) -> dict[int, npt.NDArray[np.int32]]:
    """As `formats.latents.decode_segment`; all decoders find the same, or refuse the stream."""
    try:
        wanted = decode_by_passes(network, shapes, data, where, known)
    except CorruptError:
        for instructions in instruction_sets():
            with pytest.raises(CorruptError, match=f"^{re.escape(where)}: "):
                decode_segment(network, shapes, data, where, known, instructions)
        raise
    for instructions in instruction_sets():
        found = decode_segment(network, shapes, data, where, known, instructions)
        assert list(found) == list(wanted) == sorted(shapes)
        for number, grid in found.items():
            assert grid.dtype == np.int32
            np.testing.assert_array_equal(grid, wanted[number], f"{instructions}, {number}")
    return wanted
