"""The optimiser of the network weights: SOAP, or Adam for comparison."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from formats.errors import InputError

__all__ = ["OPTIMISERS", "build_optimiser"]

OPTIMISERS = ("soap", "adam")


def build_optimiser(
    name: str, parameters: Iterable[nn.Parameter], rate: float
) -> torch.optim.Optimizer:
    """An optimiser over the weights of one network.

    SOAP (arXiv 2409.11321) runs Adam in the eigenbasis of Shampoo's preconditioner: on these
    small matrices it reaches in 300 steps what Adam does not in 1000 (docs/experiments.md).
    Settings are those of Cool-chic 5; sides over 512 are left without a preconditioner, since
    an eigenbasis of that size costs more than the step.

    Raises:
        InputError: unknown name.
    """
    if name == "soap":
        from pytorch_optimizer import SOAP

        optimiser: torch.optim.Optimizer = SOAP(
            parameters,
            lr=rate,
            betas=(0.95, 0.95),
            weight_decay=0.0,
            precondition_frequency=10,
            max_precondition_dim=512,
        )
        return optimiser
    if name == "adam":
        return torch.optim.Adam(parameters, lr=rate, betas=(0.9, 0.99))
    raise InputError(f"optimiser: expected one of {', '.join(OPTIMISERS)}, got {name!r}")
