"""The only bridge between torch networks and the integers of `formats`."""

from __future__ import annotations

import torch

from codec.core_reconstruct import CoreReconstructor
from codec.network import CoordX
from codec.network.core import CoreCoordX
from codec.quantise import load_tensors
from codec.quantise_core import set_weights
from codec.reconstruct import Reconstructor
from formats.container import Container
from formats.core import CoreConfig

__all__ = ["reconstructor_of_unit"]


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
        core = CoreCoordX(header.network, lengths, header.channels, seed=None)
        set_weights(core, unit.tensors)
        core.load_latents(unit.grids())
        core = core.requires_grad_(False).eval().to(device)
        return CoreReconstructor(core, header.bit_depth)
    net = CoordX(header.network, lengths, header.channels, seed=None)
    load_tensors(net, container.unit(number))
    return Reconstructor(net.requires_grad_(False).eval().to(device), header.bit_depth)
