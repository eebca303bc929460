"""The only bridge between torch networks and the integers of `formats`."""

from __future__ import annotations

import torch

from codec.network import CoordX
from codec.quantise import load_tensors
from formats.container import Container
from formats.errors import VersionError
from formats.network import NetworkConfig

__all__ = ["network_of_unit"]


def network_of_unit(container: Container, number: int, device: torch.device) -> CoordX:
    """Decode one unit of a file into a network on `device`, ready to evaluate.

    Raises:
        FormatError: the unit's bytes are not what the header and the index announce, or it
            uses core fusion, which this decoder does not evaluate yet.
    """
    header = container.header
    if not isinstance(header.network, NetworkConfig):
        raise VersionError("the file uses core fusion; this decoder evaluates rank fusion only")
    coded = container.unit(number)
    lengths = header.lengths(container.unit_frames[number])
    net = CoordX(header.network, lengths, header.channels, seed=None)
    load_tensors(net, coded)
    return net.requires_grad_(False).eval().to(device)
