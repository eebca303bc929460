"""Triton kernels of the steps of a fit on a GPU, one for each pass over the latents or the pixels.

A step of a fit moves activations through memory many times when every operation is a kernel of
its own. Here a layer's input is loaded once, and everything up to its gradients is computed in
registers. Triton comes with torch's CUDA builds for Linux; without it fits run operation by
operation.

The modules of kernels import Triton, so they are imported where `fused_on` says that it is there.
"""

from __future__ import annotations

import importlib.util
import os

import torch

__all__ = ["fused_on", "tile_side"]

SWITCH = "COORDX_FUSED"
"""Environment variable: 0 turns the kernels off."""
LEAST = (8, 0)
"""Compute capability: tensor cores take float32 numbers since then."""


def fused_on(device: torch.device) -> bool:
    """Whether fits on this device try the kernels of this package (`codec/gpu/step.py`)."""
    if device.type != "cuda" or os.environ.get(SWITCH) == "0" or torch.version.hip is not None:
        return False
    if importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= LEAST


def tile_side(length: int) -> int:
    """Rows or columns of a tile that holds so many: products take powers of two from 16 on."""
    return max(16, 1 << (length - 1).bit_length())
