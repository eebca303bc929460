"""Weights of a core-fusion network as a file has them: relative to a prior, in integer symbols."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from codec.network.core import CoreCoordX
from formats.priors import prior_tensors
from formats.weights import CodedTensor

__all__ = ["prior_weights", "set_weights", "start_from_prior"]


def prior_weights(net: CoreCoordX) -> dict[str, Tensor]:
    """What a network's coded weights are added to, by name, on its device.

    Tensors that start from zero are left out.
    """
    return {
        name: torch.from_numpy(tensor.weights.astype(np.float32)).to(net.parameter(name).detach())
        for name, tensor in prior_tensors(net.config, net.channels).items()
    }


@torch.no_grad()
def start_from_prior(net: CoreCoordX) -> None:
    """Replace the weights that the network's prior knows."""
    for name, value in prior_weights(net).items():
        net.parameter(name).copy_(value)


@torch.no_grad()
def set_weights(net: CoreCoordX, tensors: Sequence[CodedTensor]) -> None:
    """Set the network to what coded tensors mean."""
    prior = prior_weights(net)
    for spec, tensor in zip(net.specs, tensors, strict=True):
        parameter = net.parameter(spec.name)
        value = torch.from_numpy(tensor.values).to(parameter)
        parameter.copy_(value + prior[spec.name] if spec.name in prior else value)
