"""The curvature of the distortion, against its derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codec.fit.core_curvature import distortion_curvature
from formats.core import CoreConfig
from tests.core_nets import SMALL, noisy_net, weights_of


@pytest.mark.parametrize(
    ("config", "channels"),
    [
        (SMALL, 3),
        (CoreConfig(levels=1, width=2, hidden=3, residuals=0), 1),
        (CoreConfig(levels=2, width=2, hidden=3, residuals=1), 4),
        (CoreConfig(levels=3, width=2, hidden=3, residuals=1, colour=2, colour_level=1), 3),
    ],
)
def test_curvature_is_that_of_the_derivatives(config: CoreConfig, channels: int) -> None:
    """On a picture that the patches cover; its border pixels are only approximate."""
    net, distortion, _ = noisy_net(config=config, channels=channels)
    grids = net.latents
    weights = weights_of(net, context=False)
    found = distortion_curvature(distortion, weights, grids)

    def samples(name: str, value: torch.Tensor) -> torch.Tensor:
        changed = weights | {name: value}
        out = distortion.smooth(changed, distortion.features(changed, grids))
        for layer in [f"residual{number}" for number in range(config.residuals)]:
            kernel, bias = changed[f"{layer}.weight"], changed[f"{layer}.bias"]
            padded = torch.nn.functional.pad(out[None], (1, 1, 1, 1), mode="replicate")
            out = out + torch.nn.functional.conv2d(padded, kernel, bias)[0]
        return out.flatten()

    columns = []
    for name, value in weights.items():
        for place in range(value.numel()):
            moved = value.clone()
            moved.view(-1)[place] += 1e-2
            columns.append((samples(name, moved) - samples(name, value)) / 1e-2)
    jacobian = torch.stack(columns).double()
    wanted = (jacobian @ jacobian.t() * (2 / jacobian.shape[1])).numpy()
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()
    size = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted))) + 1e-12
    assert np.abs((found - wanted) / size).max() < 0.1
