"""Mean squared error of a core-fusion network and all its gradients, chunk by chunk.

Interpolation goes through autograd: it is a handful of GEMMs. The tail, whose activations are
many times the size of the picture, is written out: chunks of pixels that stay in the processor's
cache, hidden activations computed a second time on the way back instead of stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from codec.network.convolve import add_convolution, chunk_of, row_bands, windows
from codec.network.core import gain_of
from codec.network.kernels import bands, interpolate
from codec.relu import through_relu
from formats.core import CoreConfig

__all__ = ["CoreDistortion", "DistortionResult"]


@dataclass
class DistortionResult:
    """What one evaluation gives.

    Attributes:
        mse: scalar tensor, mean over samples in [0, 1].
        latents: its gradient by level.
        weights: and by tensor of the synthesis.
    """

    mse: Tensor
    latents: list[Tensor]
    weights: dict[str, Tensor]


class CoreDistortion:
    """The distortion of one picture.

    Args:
        config: the network.
        target: (channels, height, width) samples in [0, 1].
    """

    def __init__(self, config: CoreConfig, target: Tensor) -> None:
        self.config, self.target = config, target
        self.gain = gain_of(config)
        self.chunk = chunk_of(target.device)

    def __call__(
        self, weights: Mapping[str, Tensor], latents: Sequence[Tensor]
    ) -> DistortionResult:
        """The distortion and its gradients; samples are clamped, gradients pass the clamp.

        (A clamp without gradient lets bright or dark pictures collapse for good.)
        """
        channels, height, width = self.target.shape
        w = {name: value.detach() for name, value in weights.items()}
        with torch.enable_grad():
            leaves = [w["filter"].requires_grad_()]
            kernel = w.get("kernel")
            if kernel is not None:
                leaves.append(kernel.requires_grad_())
            grids = [q.detach().requires_grad_() for q in latents]
            planes = interpolate(grids, bands(kernel, w["filter"]), range(height), range(width))
        features = torch.stack([plane.detach() for plane in planes]).flatten(1).mul_(self.gain)
        w = {name: value.detach() for name, value in w.items()}
        grad = {n: torch.zeros_like(v) for n, v in w.items() if n not in ("kernel", "filter")}
        samples = self._tail(w, features).view(channels, height, width)
        padded = []
        for layer in range(self.config.residuals):
            padded.append(F.pad(samples[None], (1, 1, 1, 1), mode="replicate")[0].contiguous())
            samples = self._convolve(w, layer, padded[-1], samples)
        error = samples.clamp(0, 1) - self.target
        mse = error.square().mean()
        back = error.mul_(2.0 / error.numel())
        for layer in reversed(range(self.config.residuals)):
            back = self._convolve_back(w, grad, layer, padded[layer], back)
        feature_grad = self._tail_back(w, grad, features, back.reshape(channels, -1))
        parts = feature_grad.mul_(self.gain).view(-1, height, width).unbind(0)
        found = torch.autograd.grad(planes, [*leaves, *grids], list(parts))
        grad["filter"] = found[0]
        if len(leaves) > 1:
            grad["kernel"] = found[1]
        return DistortionResult(mse, list(found[len(leaves) :]), grad)

    # -- without gradients -----------------------------------------------------------------

    @torch.no_grad()
    def features(self, weights: Mapping[str, Tensor], latents: Sequence[Tensor]) -> Tensor:
        """Interpolated latents: (levels, pixels)."""
        _, height, width = self.target.shape
        found = bands(weights.get("kernel"), weights["filter"])
        planes = interpolate(latents, found, range(height), range(width))
        return torch.stack(planes).flatten(1).mul_(self.gain)

    @torch.no_grad()
    def smooth(self, weights: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Samples of given features before the 3x3 layers: (channels, height, width)."""
        return self._tail(weights, features).view(self.target.shape)

    @torch.no_grad()
    def error(self, weights: Mapping[str, Tensor], samples: Tensor) -> float:
        """Mean squared error once the 3x3 layers have seen these samples."""
        for layer in range(self.config.residuals):
            padded = F.pad(samples[None], (1, 1, 1, 1), mode="replicate")[0].contiguous()
            samples = self._convolve(weights, layer, padded, samples)
        return float((samples.clamp(0, 1) - self.target).square_().mean())

    # -- 1x1 layers ------------------------------------------------------------------------

    def _hidden(self, w: Mapping[str, Tensor], part: Tensor) -> Tensor:
        return torch.addmm(w["tail.bias"][:, None], w["tail.weight"], part).clamp_(min=0)

    def _tail(self, w: Mapping[str, Tensor], features: Tensor) -> Tensor:
        out = features.new_empty(w["output.bias"].numel(), features.shape[1])
        for start in range(0, features.shape[1], self.chunk):
            part = features[:, start : start + self.chunk]
            hidden = self._hidden(w, part)
            y = torch.addmm(w["output.bias"][:, None], w["output.weight"], hidden)
            out[:, start : start + self.chunk] = y.addmm_(w["skip"], part)
        return out

    def _tail_back(
        self, w: Mapping[str, Tensor], grad: dict[str, Tensor], features: Tensor, back: Tensor
    ) -> Tensor:
        result = torch.empty_like(features)
        for start in range(0, features.shape[1], self.chunk):
            part, g = features[:, start : start + self.chunk], back[:, start : start + self.chunk]
            hidden = self._hidden(w, part)
            grad["output.weight"].addmm_(g, hidden.t())
            grad["skip"].addmm_(g, part.t())
            through = torch.mm(w["output.weight"].t(), g)
            through_relu(through, hidden)
            grad["tail.weight"].addmm_(through, part.t())
            grad["tail.bias"] += through.sum(1)
            out = torch.mm(w["tail.weight"].t(), through)
            result[:, start : start + self.chunk] = out.addmm_(w["skip"].t(), g)
        grad["output.bias"] += back.sum(1)
        return result

    # -- 3x3 layers ------------------------------------------------------------------------

    def _convolve(
        self, w: Mapping[str, Tensor], layer: int, padded: Tensor, samples: Tensor
    ) -> Tensor:
        weight, bias = w[f"residual{layer}.weight"], w[f"residual{layer}.bias"]
        return add_convolution(samples, padded, weight, bias, self.chunk)

    def _convolve_back(
        self,
        w: Mapping[str, Tensor],
        grad: dict[str, Tensor],
        layer: int,
        padded: Tensor,
        back: Tensor,
    ) -> Tensor:
        channels, height, width = back.shape
        weight = w[f"residual{layer}.weight"]
        for rows in row_bands(height, width, self.chunk):
            part = back[:, rows].reshape(channels, -1)
            grad[f"residual{layer}.weight"].view(channels, -1).addmm_(
                part, windows(padded, rows, width).t()
            )
        grad[f"residual{layer}.bias"] += back.sum((1, 2))
        # The adjoint of a convolution is the convolution with the mirrored kernel; what falls
        # on the repeated border belongs to the outermost samples.
        mirrored = weight.flip(2, 3).transpose(0, 1).flatten(1)
        wide = F.pad(back, (2, 2, 2, 2))
        out = back.new_empty(channels, height + 2, width + 2)
        for rows in row_bands(height + 2, width + 2, self.chunk):
            part = torch.mm(mirrored, windows(wide, rows, width + 2))
            out[:, rows] = part.view(channels, -1, width + 2)
        out[:, 1] += out[:, 0]
        out[:, height] += out[:, height + 1]
        out[:, :, 1] += out[:, :, 0]
        out[:, :, width] += out[:, :, width + 1]
        return out[:, 1:-1, 1:-1] + back
