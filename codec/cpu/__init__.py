"""Machine code for a fit and for a decoder on a CPU, where it could be compiled.

Operation by operation a step of a fit moves activations through memory dozens of times. Here the
networks are evaluated for a few latents or pixels at a time, up to their gradients, in the first
levels of cache, and threads run them side by side. Without machine code torch's operations do
the same (`codec/rate/context.py`, `codec/fit/core_distortion.py`); they are the reference.
"""

from __future__ import annotations

from formats.native import chosen, native_on, numbers_of

try:
    from codec.cpu import _interpolation, _rate, _synthesis
except ImportError:  # not compiled
    _interpolation = _rate = _synthesis = None  # type: ignore[assignment]

__all__ = ["PLAIN", "SWITCH", "instruction_sets", "kernels_on", "machine_code"]

SWITCH = "COORDX_KERNELS"
"""Environment variable: 0 turns machine code off, the name of an instruction set chooses it."""
PLAIN = "plain"
"""Vectors of four: on x86-64 slower than torch's operations, elsewhere never measured. Fits use it
only where the environment asks for it."""


def instruction_sets() -> list[str]:
    """Those that fits and evaluations can use, the fastest first."""
    return list(numbers_of(_rate))


def _named() -> str | None:
    known = instruction_sets()
    return chosen(SWITCH, known, next((name for name in known if name != PLAIN), None))


def kernels_on() -> int | None:
    """The number of the instruction set that fits use on a CPU; None: torch's operations.

    Raises:
        InputError: the environment names one that is not there.
    """
    name = _named()
    return None if name is None else numbers_of(_rate)[name]


def machine_code() -> str:
    """What decodes latents and what fits and evaluates, in words; "none": numpy and torch.

    Raises:
        InputError: the environment names an instruction set that is not there.
    """
    latents, networks = native_on() or "none", _named() or "none"
    return networks if networks == latents else f"{latents} for latents, {networks} for networks"
