"""A core-fusion network with weights and latents that do something, for tests of its losses."""

from __future__ import annotations

import torch

from codec.fit.core_distortion import CoreDistortion
from codec.network.core import CoreCoordX
from codec.signal import to_signal
from formats.core import CoreConfig
from tests.conftest import picture

CPU = torch.device("cpu")
SMALL = CoreConfig(levels=3, width=4, hidden=4, block=5)


def noisy_net(
    seed: int = 0, config: CoreConfig = SMALL, height: int = 24, width: int = 24, channels: int = 3
) -> tuple[CoreCoordX, CoreDistortion, torch.Tensor]:
    """The network, its distortion for a picture of this size, and integer latents."""
    torch.manual_seed(seed)
    net = CoreCoordX(config, {"y": height, "x": width}, channels)
    with torch.no_grad():
        for spec in net.specs:
            net.parameter(spec.name).add_(0.1 * torch.randn(spec.shape))
        net.parameter("output.bias").fill_(0.5)
        net.parameter("context.level")[1] = -2.0
    latents = torch.cat([q.flatten() for q in net.latents]).normal_(0, 1).round()
    net.latents = grids_of(net, latents)
    return net, CoreDistortion(config, to_signal(picture(height, width, channels), 8, CPU)), latents


def grids_of(net: CoreCoordX, latents: torch.Tensor) -> list[torch.Tensor]:
    """One vector of all latents as grids by number."""
    sizes = [q.numel() for q in net.latents]
    return [p.view(q.shape) for p, q in zip(latents.split(sizes), net.latents, strict=True)]


def weights_of(net: CoreCoordX, context: bool) -> dict[str, torch.Tensor]:
    """The weights of the context network or of the synthesis, by name."""
    return {
        spec.name: net.parameter(spec.name).detach()
        for spec in net.specs
        if spec.name.startswith("context.") == context
    }
