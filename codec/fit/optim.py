"""The optimiser of the network weights: SOAP, or Adam for comparison."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from codec.fit.soap import Soap
from formats.errors import InputError

__all__ = ["OPTIMISERS", "build_optimiser"]

OPTIMISERS = ("soap", "adam")


def build_optimiser(
    name: str, parameters: Iterable[nn.Parameter], rate: float
) -> torch.optim.Optimizer:
    """An optimiser over the weights of one network.

    SOAP (`codec/fit/soap.py`) reaches in 300 steps what Adam does not in 1000
    (docs/experiments.md). Settings are those of Cool-chic 5.

    Raises:
        InputError: unknown name.
    """
    if name == "soap":
        return Soap(parameters, rate)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=rate, betas=(0.9, 0.99))
    raise InputError(f"optimiser: expected one of {', '.join(OPTIMISERS)}, got {name!r}")
