"""Integer samples in memory order to the normalised signal that a network is fitted to, and back.

Samples are (H, W, C) or (T, H, W, C) uint8/uint16; a signal is (C, [T,] H, W) float32 where 0
and 1 are the smallest and the largest code value.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from formats.errors import InputError

__all__ = [
    "MOST_DECIBEL",
    "Samples",
    "check_samples",
    "decibel",
    "empty_samples",
    "from_signal",
    "to_signal",
]

Samples = npt.NDArray[np.uint8 | np.uint16]
MOST_DECIBEL = 120.0
"""What a fit calls no error at all: it must reckon with the number."""


def check_samples(samples: Any, bit_depth: int | None = None) -> tuple[Samples, int]:
    """Validate an array given by a caller.

    Args:
        samples: (H, W), (H, W, C) or (T, H, W, C) with C in {1, 3, 4}; uint8 or uint16.
        bit_depth: code values are below 2^bit_depth; by default the depth of the type.

    Returns:
        The array with a channel axis, and the bit depth.

    Raises:
        InputError: anything else, saying what was expected and what came.
    """
    if isinstance(samples, Tensor):
        try:
            samples = samples.detach().cpu().numpy()
        except (TypeError, RuntimeError) as error:  # bfloat16, sparse, without data
            raise InputError(f"samples: no numpy array can be made of them: {error}") from error
    if not isinstance(samples, np.ndarray):
        raise InputError(f"samples: expected a numpy array, got {type(samples).__name__}")
    if np.ma.is_masked(samples):
        raise InputError("samples: expected a plain array, got one with masked values")
    samples = np.asarray(samples)  # subclasses, such as matrices, have rules of their own
    if samples.dtype not in (np.uint8, np.uint16):
        hint = ""
        if samples.dtype.kind == "f":
            bad = int((~np.isfinite(samples)).sum())
            hint = f" ({bad} of its values are NaN or infinite)" if bad else ""
            hint += "; scale it to 0..255 and convert: (x * 255).round().astype(numpy.uint8)"
        raise InputError(f"samples: expected dtype uint8 or uint16, got {samples.dtype}{hint}")
    if samples.ndim == 2:
        samples = samples[:, :, None]
    if samples.ndim not in (3, 4) or samples.shape[-1] not in (1, 3, 4):
        raise InputError(
            "samples: expected shape (H, W), (H, W, C) or (T, H, W, C) with C in {1, 3, 4}, "
            f"got {samples.shape}"
        )
    if 0 in samples.shape:
        raise InputError(f"samples: expected at least one sample an axis, got {samples.shape}")
    depth = bit_depth if bit_depth is not None else 8 * samples.dtype.itemsize
    if isinstance(depth, bool) or not isinstance(depth, int):
        raise InputError(f"bit_depth: expected an integer, got {depth!r}")
    if not 8 <= depth <= 8 * samples.dtype.itemsize:
        raise InputError(f"bit_depth: expected 8..{8 * samples.dtype.itemsize}, got {depth}")
    if depth < 16 and samples.dtype == np.uint16 and int(samples.max()) >= 1 << depth:
        raise InputError(
            f"samples: expected values below {1 << depth} for {depth} bits, "
            f"got {int(samples.max())}"
        )
    return samples, depth


def empty_samples(shape: tuple[int, ...], bit_depth: int) -> Samples:
    """An array for code values: uint8 for 8 bits, uint16 above. Its content is unspecified."""
    return np.empty(shape, dtype=np.uint8 if bit_depth == 8 else np.uint16)


def to_signal(samples: Samples, bit_depth: int, device: torch.device) -> Tensor:
    """(..., H, W, C) code values to a (C, ..., H, W) float32 signal on `device`."""
    # Through float32 on the device: a uint16 array has no counterpart on every backend.
    signal = torch.from_numpy(samples.astype(np.float32)).to(device)
    return signal.movedim(-1, 0).contiguous().div_((1 << bit_depth) - 1)


def from_signal(signal: Tensor, bit_depth: int) -> Samples:
    """(C, ..., H, W) signal to (..., H, W, C) code values, clamped and rounded."""
    top = (1 << bit_depth) - 1
    codes = signal.movedim(0, -1).mul(top).round_().clamp_(0, top)
    if bit_depth == 8:
        return codes.to(torch.uint8).contiguous().cpu().numpy()
    return codes.to(torch.int32).contiguous().cpu().numpy().astype(np.uint16)


def decibel(mse: float, most: float = math.inf) -> float:
    """Peak signal-to-noise ratio of a mean squared error in [0, 1], at most `most` dB."""
    return most if mse <= 0 else min(-10 * math.log10(mse), most)
