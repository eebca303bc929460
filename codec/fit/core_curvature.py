"""How the mean squared error bends with the weights of the synthesis.

Gauss-Newton: the outer products of the derivatives of the samples, on patches spread over the
picture. All layers but the ReLUs are linear, so that a derivative is written down where its weight
enters, and goes through the layers that follow, many at a time. Those of the interpolation's few
weights are differences of features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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
BATCH = 32
"""Derivatives that go through the 3x3 layers at a time: they stay in a cache. (That a GPU rounds
the inputs of convolutions does not matter to a model.)"""


@torch.no_grad()
def distortion_curvature(
    distortion: CoreDistortion, weights: Mapping[str, Tensor], grids: Sequence[Tensor]
) -> npt.NDArray[np.float64]:
    """Second derivatives of the mean squared error, about.

    Args:
        distortion: the picture's.
        weights: of the synthesis, by name.
        grids: latents by number.

    Returns:
        (n, n), n weights in the order of `weights`, each tensor's in row-major order.
    """
    halo = distortion.config.residuals
    _, height, width = distortion.target.shape
    rows, columns = (_spread(length, halo, distortion.target.device) for length in (height, width))

    def patches(w: Mapping[str, Tensor]) -> Tensor:
        planes = F.pad(distortion.features(w, grids)[None], (halo,) * 4, mode="replicate")[0]
        found = planes[:, rows[:, None, :, None], columns[None, :, None, :]]
        return found.flatten(1, 2)  # (grids + 1, patches, side, side)

    jacobian = _Jacobian(distortion, weights, patches)
    found = torch.cat([jacobian.of(name) for name in weights])
    product = (found @ found.t()).double().cpu().numpy() * (2.0 / found.shape[1])
    curvature: npt.NDArray[np.float64] = product
    return curvature


def _spread(length: int, halo: int, device: torch.device) -> Tensor:
    """Coordinates (patches, side + 2 halo) in the padded picture, evenly spread."""
    side = min(SIDE, length)
    count = max(1, min(PATCHES, length // side))
    starts = torch.linspace(0, length - side, count, device=device).round().long()
    return starts[:, None] + torch.arange(side + 2 * halo, device=device)


class _Jacobian:
    """Derivatives of the samples of some patches by the weights of a synthesis.

    Args:
        distortion: the picture's.
        weights: by name.
        patches: features of the patches with these weights, (grids + 1, patches, side, side).
    """

    def __init__(
        self,
        distortion: CoreDistortion,
        weights: Mapping[str, Tensor],
        patches: Callable[[Mapping[str, Tensor]], Tensor],
    ) -> None:
        self.weights, self.patches = weights, patches
        self.layers, self.gain = distortion.config.residuals, distortion.gain
        self.features = patches(weights)
        self.tail = distortion.tail(weights)
        self.hidden = torch.einsum("kl,l...->k...", self.tail.first, self.features).clamp_(min=0)
        self.active = (self.hidden > 0).to(self.features)
        samples = self._mixed(self.features, self.hidden)
        self.inputs = []  # of each 3x3 layer
        for layer in range(self.layers):
            self.inputs.append(samples)
            samples = self._layer(samples, layer, 1.0)

    def of(self, name: str) -> Tensor:
        """Derivatives by the weights of a tensor: (weights, samples)."""
        kind, _, part = name.partition(".")
        if kind in INTERPOLATION:
            return self._through(self._by_features(name))
        if kind.startswith("residual"):
            layer = int(kind.removeprefix("residual"))
            return self._through(self._by_layer(layer, part), layer + 1)
        if kind == "tail":
            few = max(1, BATCH // len(self.features))
            parts = [slice(k, k + few) for k in range(0, len(self.hidden), few)]
            return torch.cat([self._through(self._by_units(part, units)) for units in parts])
        return self._through(self._by_output(name))

    def _mixed(self, features: Tensor, hidden: Tensor) -> Tensor:
        """What features and hidden activations add up to: (patches, channels, h, w)."""
        straight = torch.einsum("cl,lp...->pc...", self.tail.skip, features)
        return straight + torch.einsum("ck,kp...->pc...", self.tail.output, hidden)

    def _layer(self, samples: Tensor, layer: int, bias: float) -> Tensor:
        """A 3x3 layer of (n, channels, h, w) with this much of its bias."""
        name = f"residual{layer}"
        change = F.conv2d(
            samples, self.weights[f"{name}.weight"], bias * self.weights[f"{name}.bias"]
        )
        return samples[:, :, 1:-1, 1:-1] + change

    def _through(self, change: Tensor, first: int = 0) -> Tensor:
        """From changes (m, patches, channels, h, w) before a 3x3 layer to those of samples."""
        found = []
        for part in torch.split(change, BATCH):
            moved = part.flatten(0, 1)
            for layer in range(first, self.layers):
                moved = self._layer(moved, layer, 0.0)
            found.append(moved.reshape(len(part), -1))
        return torch.cat(found)

    def _by_units(self, part: str, units: slice) -> Tensor:
        """Changes of what the 1x1 layers say, by the weights or the biases of hidden units."""
        ways = self.gain * self.features[:-1] if part == "weight" else self.features[-1:]
        output, active = self.tail.output[:, units], self.active[units]
        return torch.einsum("ck,kpyx,lpyx->klpcyx", output, active, ways).flatten(0, 1)

    def _by_output(self, name: str) -> Tensor:
        """The same by a weight that leads to the samples."""
        sources = {
            "output.weight": self.hidden,
            "output.bias": self.features[-1:],
            "skip": self.gain * self.features[:-1],
        }[name]
        return self._each_channel(sources)

    def _by_layer(self, layer: int, part: str) -> Tensor:
        """Changes of what a 3x3 layer says, by one of its weights."""
        inputs = self.inputs[layer].transpose(0, 1)
        if part == "bias":
            return self._each_channel(torch.ones_like(inputs[:1, :, 1:-1, 1:-1]))
        height, width = inputs.shape[-2] - 2, inputs.shape[-1] - 2
        windows = [inputs[:, :, y : y + height, x : x + width] for y in range(3) for x in range(3)]
        return self._each_channel(torch.stack(windows, 1).flatten(0, 1))

    def _each_channel(self, sources: Tensor) -> Tensor:
        """Sources (m, patches, h, w) added to one channel after the other."""
        channels = torch.eye(len(self.tail.output), dtype=sources.dtype, device=sources.device)
        return torch.einsum("cd,mpyx->cmpdyx", channels, sources).flatten(0, 1)

    def _by_features(self, name: str) -> Tensor:
        """Changes of what the 1x1 layers say, by a weight of the interpolation."""
        w = {key: value.clone() for key, value in self.weights.items()}
        flat, found = w[name].view(-1), []
        for place in range(flat.numel()):
            before = flat[place].clone()
            flat[place] += CHANGE * max(1.0, float(before.abs()))
            change = (self.patches(w) - self.features) / (flat[place] - before)
            flat[place] = before
            hidden = torch.einsum("kl,l...->k...", self.tail.first, change) * self.active
            found.append(self._mixed(change, hidden))
        return torch.stack(found)
