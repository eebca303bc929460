"""The only bridge between torch networks and the integers of `formats`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from codec.blas import one_blas_thread
from codec.core_reconstruct import CoreReconstructor, TiledLatents
from codec.network import CoordX
from codec.network.coded import set_weights
from codec.network.core import CoreCoordX
from codec.quantise import load_tensors
from codec.reconstruct import Reconstructor
from formats.container import Container
from formats.core import CoreConfig
from formats.unit import CoreUnit
from formats.weights import CodedTensor

__all__ = ["core_reconstructor", "reconstructor_of_unit"]


def reconstructor_of_unit(
    container: Container, number: int, device: torch.device
) -> Reconstructor | CoreReconstructor:
    """Decode one unit of a file into networks on `device`, ready to evaluate.

    Raises:
        FormatError: the unit's bytes are not what the header and the index announce.
    """
    header = container.header
    lengths = header.lengths(container.unit_frames[number])
    if isinstance(header.network, CoreConfig):
        unit = container.core_unit(number)
        return core_reconstructor(
            header.network,
            lengths,
            header.channels,
            unit.tensors,
            unit,
            header.bit_depth,
            device,
        )
    net = CoordX(header.network, lengths, header.channels, seed=None)
    load_tensors(net, container.unit(number))
    return Reconstructor(net.requires_grad_(False).eval().to(device), header.bit_depth)


def core_reconstructor(
    config: CoreConfig,
    lengths: Mapping[str, int],
    channels: int,
    tensors: Sequence[CodedTensor],
    latents: CoreUnit | Sequence[npt.NDArray[np.integer[Any]]],
    bit_depth: int,
    device: torch.device,
) -> CoreReconstructor:
    """The integers of a picture with core fusion as a network on `device`, ready to evaluate.

    Args:
        config: its network.
        lengths: {"y": height, "x": width} in pixels.
        channels: of its samples.
        tensors: weights in coding order.
        latents: by grid, (h_l, w_l), as a decoder sees them, or the unit that holds them; of
            one with tiles each is decoded when it is needed.
        bit_depth: of the samples returned.
        device: where to evaluate.
    """
    net = CoreCoordX(config, lengths, channels, seed=None)
    set_weights(net, tensors)
    net = net.requires_grad_(False).eval().to(device)
    if isinstance(latents, CoreUnit):
        if config.tile:
            return CoreReconstructor(net, bit_depth, TiledLatents(latents, net))
        with one_blas_thread():
            latents = latents.grids()
    net.load_latents(latents)
    return CoreReconstructor(net, bit_depth)
