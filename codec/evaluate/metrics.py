"""Distortion and rate of decoded pictures: MSE, PSNR, MS-SSIM, bits per pixel.

All take integer samples as they were coded and decoded, (H, W, C) for an image or
(T, H, W, C) for a clip, in uint8 or uint16. Nothing is converted to another colour space:
the PSNR of an RGB picture is the PSNR over its R, G and B samples together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.errors import InputError, MissingLibraryError

__all__ = ["Samples", "bits_per_pixel", "load_ms_ssim", "mean_known", "ms_ssim", "mse", "psnr"]

Samples = NDArray[np.integer[Any]]

# MS-SSIM halves the picture four times and then slides an 11 x 11 window over it
# (Wang, Simoncelli, Bovik 2003, five scales), which needs a side above (11 - 1) * 2^4.
MS_SSIM_MIN_SIDE = 161


def mse(a: Samples, b: Samples) -> float:
    """Mean squared error over all samples, in squared integer steps.

    The sum is taken in integers, so the result does not depend on the machine.

    Args:
        a, b: (H, W, C) or (T, H, W, C), uint8 or uint16, same shape and dtype.

    Raises:
        InputError: shape or dtype differ or are not among those above.
    """
    _check_pair(a, b)
    total = 0
    for frame_a, frame_b in zip(_frames(a), _frames(b), strict=True):
        difference = frame_a.astype(np.int64) - frame_b
        total += int(np.sum(difference * difference))
    return total / a.size


def psnr(a: Samples, b: Samples, bit_depth: int = 8) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(peak^2 / MSE), peak = 2^bit_depth - 1.

    One MSE over all samples, all channels and all frames together.

    Args:
        a, b: (H, W, C) or (T, H, W, C), uint8 or uint16, same shape and dtype.
        bit_depth: bits a sample, 1..8 for uint8, 1..16 for uint16.

    Returns:
        dB; infinity when the two are equal.

    Raises:
        InputError: shape or dtype differ, or a sample does not fit in `bit_depth` bits.
    """
    error = mse(a, b)
    peak = _peak(a, b, bit_depth)
    return math.inf if error == 0 else 10 * math.log10(peak * peak / error)


def ms_ssim(a: Samples, b: Samples, bit_depth: int = 8) -> float | None:
    """Multi-scale structural similarity in 0..1, the mean over channels and frames.

    Args:
        a, b: (H, W, C) or (T, H, W, C), uint8 or uint16, same shape and dtype.
        bit_depth: bits a sample.

    Returns:
        The index, 1 for equal pictures; None when a side is below 161 samples, for which the
        five-scale index is not defined.

    Raises:
        InputError: as in `psnr`.
        MissingLibraryError: pytorch-msssim is not installed.
    """
    _check_pair(a, b)
    peak = _peak(a, b, bit_depth)
    if min(a.shape[-3:-1]) < MS_SSIM_MIN_SIDE:
        return None
    index = load_ms_ssim()
    values = []
    for frame_a, frame_b in zip(_frames(a), _frames(b), strict=True):
        # A plane at a time in float64: the index treats channels independently, a third of
        # the memory is enough, and E[x^2] - E[x]^2 cancels badly in float32 on flat areas.
        for channel in range(frame_a.shape[-1]):
            values.append(index(frame_a[..., channel], frame_b[..., channel], peak))
    return float(np.mean(values))


def load_ms_ssim() -> Callable[[Samples, Samples, float], float]:
    """The MS-SSIM of two planes (H, W) of a given peak value.

    Raises:
        MissingLibraryError: pytorch-msssim is not installed.
    """
    try:
        import pytorch_msssim
        import torch
    except ImportError as error:
        raise MissingLibraryError(
            "MS-SSIM needs pytorch-msssim: pip install 'coordx-codec[metrics]'"
        ) from error

    def index(a: Samples, b: Samples, peak: float) -> float:
        planes = [torch.from_numpy(x.astype(np.float64))[None, None] for x in (a, b)]  # 1, 1, H, W
        return float(pytorch_msssim.ms_ssim(*planes, data_range=peak, size_average=True))

    return index


def bits_per_pixel(nbytes: int, height: int, width: int, frames: int = 1) -> float:
    """Bits of a file over its picture positions (not samples: channels do not count).

    Raises:
        InputError: a negative byte count, or a size below 1.
    """
    if nbytes < 0 or min(height, width, frames) < 1:
        raise InputError(
            "bits per pixel: expected nbytes >= 0 and height, width, frames >= 1, "
            f"got {nbytes}, {height}, {width}, {frames}"
        )
    return 8 * nbytes / (height * width * frames)


def mean_known(values: Sequence[float | None]) -> float | None:
    """The mean; None when there is no value, or one is unknown (or, for PSNR, infinite)."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _frames(samples: Samples) -> Iterator[Samples]:
    yield from samples.reshape(-1, *samples.shape[-3:])


def _check_pair(a: Samples, b: Samples) -> None:
    if a.shape != b.shape or a.dtype != b.dtype:
        raise InputError(
            "expected two pictures of one shape and dtype, "
            f"got {a.shape} {a.dtype} and {b.shape} {b.dtype}"
        )
    if a.dtype not in (np.uint8, np.uint16) or a.ndim not in (3, 4) or a.size == 0:
        raise InputError(
            "expected non-empty samples (H, W, C) or (T, H, W, C) in uint8 or uint16, "
            f"got {a.shape} {a.dtype}"
        )


def _peak(a: Samples, b: Samples, bit_depth: int) -> int:
    if not 1 <= bit_depth <= 8 * a.dtype.itemsize:
        raise InputError(
            f"bit_depth: expected 1..{8 * a.dtype.itemsize} for {a.dtype}, got {bit_depth}"
        )
    peak: int = 2**bit_depth - 1
    largest = max(int(a.max()), int(b.max()))
    if largest > peak:  # a 10-bit picture measured as 8-bit would gain 12 dB unnoticed
        raise InputError(
            f"bit_depth {bit_depth} allows samples up to {peak}, got a sample of {largest}"
        )
    return peak
