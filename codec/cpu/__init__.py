"""Machine code for a fit and for a decoder on a CPU, where it could be compiled.

Operation by operation a step of a fit moves activations through memory dozens of times. Here the
networks are evaluated for a few latents or pixels at a time, up to their gradients, in the first
levels of cache, and threads run them side by side. Without machine code torch's operations do
the same (`codec/rate/context.py`, `codec/fit/core_distortion.py`); they are the reference.
"""

from __future__ import annotations

import os

from formats.errors import InputError
from formats.native import native_on

try:
    from codec.cpu import _rate, _synthesis
except ImportError:  # not compiled
    _rate = _synthesis = None  # type: ignore[assignment]

__all__ = ["PLAIN", "SWITCH", "instruction_sets", "kernels_on", "machine_code"]

SWITCH = "COORDX_KERNELS"
"""Environment variable: 0 turns machine code off, the name of an instruction set chooses it."""
PLAIN = "plain"
"""Vectors of four: on x86-64 slower than torch's operations, elsewhere never measured. Fits use it
only where the environment asks for it."""


def instruction_sets() -> list[str]:
    """Those that the module was compiled for and this processor has, the fastest first."""
    return [] if _rate is None else [name for name, there in _rate.instructions() if there]


def kernels_on() -> int | None:
    """The number of the instruction set that fits use on a CPU; None: torch's operations.

    Raises:
        InputError: the environment names one that is not there.
    """
    known, wanted = instruction_sets(), os.environ.get(SWITCH, "")
    if not wanted:
        wanted = next((name for name in known if name != PLAIN), "0")
    if wanted == "0":
        return None
    if wanted not in known:
        raise InputError(f"{SWITCH}: expected 0 or one of {known}, got {wanted!r}")
    assert _rate is not None
    return [name for name, _ in _rate.instructions()].index(wanted)


def machine_code() -> str:
    """What decodes latents and what fits and evaluates, in words; "none": numpy and torch.

    Raises:
        InputError: the environment names an instruction set that is not there.
    """
    number = kernels_on()
    fits = "none" if number is None or _rate is None else _rate.instructions()[number][0]
    latents = native_on() or "none"
    return fits if fits == latents else f"{latents} for latents, {fits} for networks"
