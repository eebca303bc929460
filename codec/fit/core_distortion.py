"""Mean squared error of a core-fusion network and all its gradients, chunk by chunk.

Interpolation goes through autograd: it is a handful of GEMMs. The tail, whose activations are
many times the size of the picture, is written out: chunks of pixels that stay in the processor's
cache, hidden activations computed a second time on the way back instead of stored. On a CPU it
is machine code where that could be compiled (`codec/cpu/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from codec.cpu import kernels_on
from codec.cpu.synthesis import FusedSynthesis
from codec.network.convolve import add_convolution, chunk_of, row_bands, windows
from codec.network.core import gain_of
from codec.network.kernels import Windows, bands, interpolate
from codec.network.tail import Tail, features_of
from codec.relu import through_relu
from formats.core import CoreConfig

__all__ = ["CoreDistortion", "DistortionResult"]

_Synthesised = tuple[Tensor, Tensor, dict[str, Tensor]]
"""Mean squared error and its gradients: by features (grids, n), and by tensors."""


@dataclass
class DistortionResult:
    """What one evaluation gives.

    Attributes:
        mse: scalar tensor, mean over samples in [0, 1].
        latents: its gradient by grid.
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

    Attributes:
        fused: what follows the interpolation in machine code, where there is some.
    """

    def __init__(self, config: CoreConfig, target: Tensor) -> None:
        self.config, self.target = config, target
        self.gain = gain_of(config)
        self.chunk = chunk_of(target.device)
        self._windows: Windows = {}
        cpu = target.device.type == "cpu" and target.dtype == torch.float32
        instructions = kernels_on() if cpu else None
        self.fused = None if instructions is None else FusedSynthesis(instructions)

    def __call__(
        self, weights: Mapping[str, Tensor], latents: Sequence[Tensor]
    ) -> DistortionResult:
        """The distortion and its gradients; samples are clamped, gradients pass the clamp.

        (A clamp without gradient lets bright or dark pictures collapse for good.)
        """
        _, height, width = self.target.shape
        w = {name: value.detach() for name, value in weights.items()}
        with torch.enable_grad():
            leaves = [w["filter"].requires_grad_()]
            kernel = w.get("kernel")
            if kernel is not None:
                leaves.append(kernel.requires_grad_())
            grids = [q.detach().requires_grad_() for q in latents]
            found = bands(kernel, w["filter"], self.config.grid_levels)
            planes = interpolate(grids, found, range(height), range(width), self._windows)
        features = self._features([plane.detach() for plane in planes])
        w = {name: value.detach() for name, value in w.items()}
        back = self._operations if self.fused is None else self._fused
        mse, by_features, grad = back(w, features)
        parts = list(by_features.view(-1, height, width).unbind(0))
        slopes = torch.autograd.grad(planes, [*leaves, *grids], parts)
        grad["filter"] = slopes[0]
        if len(leaves) > 1:
            grad["kernel"] = slopes[1]
        return DistortionResult(mse, list(slopes[len(leaves) :]), grad)

    def _fused(self, w: Mapping[str, Tensor], features: Tensor) -> _Synthesised:
        """In machine code."""
        assert self.fused is not None
        found = self.fused.error(features, *self._layers(w), self.target)
        grad: dict[str, Tensor] = {}
        self._name_tail(
            grad,
            found.first,
            found.output[:, self.config.hidden :],
            found.output[:, : self.config.hidden].contiguous(),
        )
        for layer in range(self.config.residuals):
            grad[f"residual{layer}.weight"] = found.kernels[layer]
            grad[f"residual{layer}.bias"] = found.biases[layer]
        return torch.tensor(found.mse), found.features, grad

    def _layers(self, w: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """As machine code takes them: both matrices of the 1x1 layers, kernels and biases of the
        3x3 layers."""
        tail, layers = self.tail(w), range(self.config.residuals)
        kernels = [w[f"residual{layer}.weight"] for layer in layers]
        return tail.first, tail.joint, kernels, [w[f"residual{layer}.bias"] for layer in layers]

    def _operations(self, w: Mapping[str, Tensor], features: Tensor) -> _Synthesised:
        """By torch's operations."""
        channels, height, width = self.target.shape
        features = features.flatten(1)
        tail = self.tail(w)
        samples = tail(features).view(channels, height, width)
        grad: dict[str, Tensor] = {}
        padded = []
        for layer in range(self.config.residuals):
            padded.append(F.pad(samples[None], (1, 1, 1, 1), mode="replicate")[0].contiguous())
            samples = self._convolve(w, layer, padded[-1])
        error = samples.clamp(0, 1) - self.target
        mse = error.square().mean()
        back = error.mul_(2.0 / error.numel())
        for layer in reversed(range(self.config.residuals)):
            back = self._convolve_back(w, grad, layer, padded[layer], back)
        return mse, self._tail_back(tail, grad, features, back.reshape(channels, -1)), grad

    # -- without gradients -----------------------------------------------------------------

    @torch.no_grad()
    def features(self, weights: Mapping[str, Tensor], latents: Sequence[Tensor]) -> Tensor:
        """What the 1x1 layers see: (grids + 1, height, width)."""
        _, height, width = self.target.shape
        found = bands(weights.get("kernel"), weights["filter"], self.config.grid_levels)
        planes = interpolate(latents, found, range(height), range(width), self._windows)
        return self._features(planes)

    @torch.no_grad()
    def samples(self, weights: Mapping[str, Tensor], latents: Sequence[Tensor]) -> Tensor:
        """Samples of all layers, not clamped: (channels, height, width)."""
        features = self.features(weights, latents)
        if self.fused is not None:
            return self.fused.samples(features, *self._layers(weights))
        return self._residuals(weights, self.smooth(weights, features))

    def tail(self, weights: Mapping[str, Tensor]) -> Tail:
        """The 1x1 layers of these weights."""
        return Tail(weights, self.gain)

    @torch.no_grad()
    def smooth(self, weights: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Samples of given features before the 3x3 layers: (channels, height, width)."""
        return self.tail(weights)(features.flatten(1)).view(self.target.shape)

    @torch.no_grad()
    def error(self, weights: Mapping[str, Tensor], samples: Tensor) -> float:
        """Mean squared error once the 3x3 layers have seen these samples."""
        samples = self._residuals(weights, samples)
        return float((samples.clamp(0, 1) - self.target).square_().mean())

    def _residuals(self, weights: Mapping[str, Tensor], samples: Tensor) -> Tensor:
        """The 3x3 layers."""
        for layer in range(self.config.residuals):
            padded = F.pad(samples[None], (1, 1, 1, 1), mode="replicate")[0].contiguous()
            samples = self._convolve(weights, layer, padded)
        return samples

    # -- 1x1 layers ------------------------------------------------------------------------

    def _features(self, planes: Sequence[Tensor]) -> Tensor:
        """What the 1x1 layers see of interpolated latents."""
        return features_of(planes)

    def _tail_back(
        self, tail: Tail, grad: dict[str, Tensor], features: Tensor, back: Tensor
    ) -> Tensor:
        result = torch.empty_like(features[:-1])
        first, output = torch.zeros_like(tail.first), torch.zeros_like(tail.output)
        by_first, by_skip = tail.first[:, :-1].t(), tail.skip[:, :-1].t()
        for chunk in tail.chunks(features):
            part, g = features[:, chunk], back[:, chunk]
            hidden = tail.hidden(part)
            output.addmm_(g, hidden.t())
            through = through_relu(torch.mm(tail.output.t(), g), hidden)
            first.addmm_(through, part.t())
            torch.mm(by_skip, g, out=result[:, chunk]).addmm_(by_first, through)
        self._name_tail(grad, first, torch.mm(back, features.t()), output)
        return result

    def _name_tail(
        self, grad: dict[str, Tensor], first: Tensor, skip: Tensor, output: Tensor
    ) -> None:
        """Gradients of the matrices of a `Tail` as those of the tensors they are made of."""
        grad["output.weight"] = output
        for names, found in (
            (("tail.weight", "tail.bias"), first),
            (("skip", "output.bias"), skip),
        ):
            # Dense ones: lists with others are clipped tensor by tensor.
            grad[names[0]], grad[names[1]] = found[:, :-1] * self.gain, found[:, -1].clone()

    # -- 3x3 layers ------------------------------------------------------------------------

    def _convolve(self, w: Mapping[str, Tensor], layer: int, padded: Tensor) -> Tensor:
        weight, bias = w[f"residual{layer}.weight"], w[f"residual{layer}.bias"]
        return add_convolution(padded, weight, bias, self.chunk)

    def _convolve_back(
        self,
        w: Mapping[str, Tensor],
        grad: dict[str, Tensor],
        layer: int,
        padded: Tensor,
        back: Tensor,
    ) -> Tensor:
        channels, height, width = back.shape
        grad[f"residual{layer}.bias"] = back.sum((1, 2))
        # The adjoint of a convolution is the convolution with the mirrored kernel; what falls
        # on the repeated border belongs to the outermost samples. The gradient of the kernel,
        # mirrored too, takes the same windows.
        mirrored = w[f"residual{layer}.weight"].flip(2, 3).transpose(0, 1).contiguous()
        slopes = torch.zeros_like(mirrored)
        wide = F.pad(back, (2, 2, 2, 2))
        out = back.new_empty(channels, height + 2, width + 2)
        for rows in row_bands(height + 2, width + 2, self.chunk):
            seen = windows(wide, rows, width + 2)
            part = torch.mm(mirrored.flatten(1), seen)
            out[:, rows] = part.view(channels, -1, width + 2)
            slopes.view(channels, -1).addmm_(padded[:, rows].reshape(channels, -1), seen.t())
        grad[f"residual{layer}.weight"] = slopes.transpose(0, 1).flip(2, 3).contiguous()
        out[:, 1] += out[:, 0]
        out[:, height] += out[:, height + 1]
        out[:, :, 1] += out[:, :, 0]
        out[:, :, width] += out[:, :, width + 1]
        return out[:, 1:-1, 1:-1] + back
