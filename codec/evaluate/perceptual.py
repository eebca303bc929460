"""LPIPS: the learned perceptual distance of Zhang et al. (2018), an optional extra.

The package `lpips` brings the weights of its linear layers; those of AlexNet come from
torchvision, which downloads them once. Without them there is no LPIPS, and we say so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from codec.evaluate.metrics import Samples
from formats.errors import InputError, MissingLibraryError

__all__ = ["MIN_SIDE", "load_lpips", "lpips"]

MIN_SIDE = 32  # below, AlexNet's last feature map is empty


@functools.cache
def load_lpips() -> Callable[[Samples, Samples], float]:
    """The distance of two pictures (H, W, 3) uint8; loads the network once.

    Raises:
        MissingLibraryError: a package is not installed, or the weights cannot be had.
    """
    try:
        import lpips as package
        import torch
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch
        raise MissingLibraryError(
            "LPIPS needs lpips and the torchvision that belongs to this torch: "
            f"pip install 'coordx-codec[lpips]' ({error})"
        ) from error
    try:
        network = package.LPIPS(net="alex", verbose=False).eval().requires_grad_(False)
    except (OSError, RuntimeError) as error:
        raise MissingLibraryError(
            "LPIPS needs the AlexNet weights of torchvision, which it downloads once into "
            f"torch's hub folder ({torch.hub.get_dir()}): {error}"
        ) from error

    def distance(a: Samples, b: Samples) -> float:
        planes = [
            torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
            for x in (a, b)
        ]  # 1, 3, H, W in [-1, 1]
        return float(network(*planes))

    return distance


def lpips(a: Samples, b: Samples) -> float | None:
    """LPIPS (AlexNet, version 0.1) of two pictures; 0 when equal.

    Args:
        a, b: (H, W, 1, 3 or 4) uint8; grey is repeated, alpha left out.

    Returns:
        The distance, or None where a side is below 32 samples, for which it is not defined.

    Raises:
        InputError: shapes differ, or the samples are not 8-bit.
        MissingLibraryError: see `load_lpips`.
    """
    if a.shape != b.shape or a.ndim != 3 or a.dtype != np.uint8 or b.dtype != np.uint8:
        raise InputError(
            "LPIPS: expected two pictures (H, W, C) of one shape in uint8, "
            f"got {a.shape} {a.dtype} and {b.shape} {b.dtype}"
        )
    if min(a.shape[:2]) < MIN_SIDE:
        return None
    colour = [np.repeat(x, 3, axis=2) if x.shape[2] == 1 else x[..., :3] for x in (a, b)]
    return load_lpips()(*colour)
