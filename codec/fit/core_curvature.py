"""How the mean squared error bends with the weights of the synthesis.

Gauss-Newton: the outer products of the derivatives of the samples, on patches spread over the
picture. The derivatives are differences: there are a few hundred weights, and a patch is small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from codec.fit.core_distortion import CoreDistortion

__all__ = ["distortion_curvature"]

SIDE = 8
PATCHES = 14
"""Patches along each axis, at most."""
CHANGE = 2.0**-8
INTERPOLATION = ("kernel", "filter")


@torch.no_grad()
def distortion_curvature(
    distortion: CoreDistortion, weights: Mapping[str, Tensor], grids: Sequence[Tensor]
) -> npt.NDArray[np.float64]:
    """Second derivatives of the mean squared error, about.

    Args:
        distortion: the picture's.
        weights: of the synthesis, by name.
        grids: latents by level.

    Returns:
        (n, n), n weights in the order of `weights`, each tensor's in row-major order.
    """
    halo = distortion.config.residuals
    _, height, width = distortion.target.shape
    rows, columns = (_spread(length, halo, distortion.target.device) for length in (height, width))

    def patches(w: Mapping[str, Tensor]) -> Tensor:
        planes = F.pad(distortion.features(w, grids)[None], (halo,) * 4, mode="replicate")[0]
        found = planes[:, rows[:, None, :, None], columns[None, :, None, :]]
        return found.flatten(1, 2).double()  # (levels + 1, patches, side, side)

    w = {name: value.clone() for name, value in weights.items()}
    features = patches(w)
    start = _samples(distortion, w, features)
    derivatives = []
    for name, value in w.items():
        flat = value.view(-1)
        for place in range(flat.numel()):
            before = flat[place].clone()
            flat[place] += CHANGE * max(1.0, float(before.abs()))
            changed = patches(w) if name in INTERPOLATION else features
            moved = (_samples(distortion, w, changed) - start) / (flat[place] - before).double()
            derivatives.append(moved.flatten().float())
            flat[place] = before
    jacobian = torch.stack(derivatives)
    product = (jacobian @ jacobian.t()).double().cpu().numpy() * (2.0 / jacobian.shape[1])
    found: npt.NDArray[np.float64] = product
    return found


def _spread(length: int, halo: int, device: torch.device) -> Tensor:
    """Coordinates (patches, side + 2 halo) in the padded picture, evenly spread."""
    side = min(SIDE, length)
    count = max(1, min(PATCHES, length // side))
    starts = torch.linspace(0, length - side, count, device=device).round().long()
    return starts[:, None] + torch.arange(side + 2 * halo, device=device)


def _samples(distortion: CoreDistortion, weights: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """Samples of patches: (patches, channels, side, side)."""
    w = {name: value.double() for name, value in weights.items()}
    out = distortion.tail(w)(features.flatten(1))
    samples = out.view(-1, *features.shape[1:]).transpose(0, 1)
    for layer in range(distortion.config.residuals):
        change = F.conv2d(samples, w[f"residual{layer}.weight"], w[f"residual{layer}.bias"])
        samples = samples[:, :, 1:-1, 1:-1] + change
    return samples
