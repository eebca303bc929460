"""Which torch device a request names."""

from __future__ import annotations

import contextlib

import torch

from formats.errors import InputError

__all__ = ["on_device", "pick_device"]


def on_device(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A block in which a GPU is the current one: streams, graphs and kernels of Triton go there."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def pick_device(name: str) -> torch.device:
    """ "auto", "cpu", "cuda" or "cuda:N" to a device.

    Raises:
        InputError: unknown, or not present on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError("device: cuda was asked for, and this machine has no CUDA device")
        if (device.index or 0) >= torch.cuda.device_count():
            raise InputError(
                f"device: {name} was asked for, and this machine has "
                f"{torch.cuda.device_count()} CUDA devices"
            )
    return device
