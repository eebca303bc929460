"""Mean squared error of a core-fusion network and all its gradients, chunk by chunk.

By torch's operations, interpolation goes through autograd: it is a handful of GEMMs. The tail,
whose activations are many times the size of the picture, is written out: chunks of pixels that
stay in the processor's cache, hidden activations computed a second time on the way back instead
of stored. On a CPU both are machine code where that could be compiled (`codec/cpu/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from codec.cpu import kernels_on
from codec.cpu.interpolation import FusedInterpolation
from codec.cpu.synthesis import FusedSynthesis
from codec.network.convolve import add_convolution, chunk_of, row_bands, windows
from codec.network.core import gain_of
from codec.network.kernels import Kernel, Windows, band_of, composites, interpolate
from codec.network.tail import Tail, features_of
from codec.relu import through_relu
from formats.core import CoreConfig

__all__ = ["CoreDistortion", "DistortionResult"]

_Synthesised = tuple[Tensor, Tensor, dict[str, Tensor]]
"""Mean squared error and its gradients: by features (grids, n), and by tensors."""
_Evaluated = tuple[Tensor, list[Tensor], tuple[Tensor, ...], dict[str, Tensor]]
"""The same by latents, by the tensors that the kernels are made of, and by the other ones."""


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
        fused: interpolation and the layers after it in machine code, where there is some.
    """

    def __init__(self, config: CoreConfig, target: Tensor) -> None:
        self.config, self.target = config, target
        self.gain = gain_of(config)
        self.chunk = chunk_of(target.device)
        self._windows: Windows = {}
        self._room: Tensor | None = None
        cpu = target.device.type == "cpu" and target.dtype == torch.float32
        instructions = kernels_on() if cpu else None
        self.fused: tuple[FusedInterpolation, FusedSynthesis] | None = None
        if instructions is not None:
            self.fused = FusedInterpolation(instructions), FusedSynthesis(instructions)

    def __call__(
        self, weights: Mapping[str, Tensor], latents: Sequence[Tensor]
    ) -> DistortionResult:
        """The distortion and its gradients; samples are clamped, gradients pass the clamp.

        (A clamp without gradient lets bright or dark pictures collapse for good.)
        """
        w = {name: value.detach() for name, value in weights.items()}
        leaves = [w["filter"].requires_grad_()]
        if "kernel" in w:
            leaves.append(w["kernel"].requires_grad_())
        grids = [q.detach() for q in latents]
        with torch.enable_grad():
            kernels = composites(w.get("kernel"), w["filter"], self.config.grid_levels)
        w = {name: value.detach() for name, value in w.items()}
        if self.fused is None:
            found = self._through_operations(w, kernels, grids, leaves)
        else:
            found = self._through_machine_code(w, kernels, grids, leaves)
        mse, by_latents, by_leaves, grad = found
        grad |= zip(("filter", "kernel"), by_leaves, strict=False)  # one level has no kernel
        return DistortionResult(mse, by_latents, grad)

    def _through_operations(
        self,
        w: Mapping[str, Tensor],
        kernels: Sequence[Kernel],
        grids: list[Tensor],
        leaves: list[Tensor],
    ) -> _Evaluated:
        """By torch's operations."""
        _, height, width = self.target.shape
        with torch.enable_grad():
            grids = [grid.requires_grad_() for grid in grids]
            found = [band_of(kernel) for kernel in kernels]
            planes = interpolate(grids, found, range(height), range(width), self._windows)
        features = self._features([plane.detach() for plane in planes])
        mse, by_features, grad = self._operations(w, features)
        parts = list(by_features.view(-1, height, width).unbind(0))
        slopes = torch.autograd.grad(planes, [*leaves, *grids], parts)
        return mse, list(slopes[len(leaves) :]), slopes[: len(leaves)], grad

    def _through_machine_code(
        self,
        w: Mapping[str, Tensor],
        kernels: Sequence[Kernel],
        grids: list[Tensor],
        leaves: list[Tensor],
    ) -> _Evaluated:
        """In machine code, all but the few numbers that the kernels are made of."""
        assert self.fused is not None
        interpolation, synthesis = self.fused
        _, height, width = self.target.shape
        if self._room is None:
            self._room = self.target.new_empty(len(grids) + 1, height, width)
        area = range(height), range(width)
        features = interpolation.samples(grids, kernels, *area, self._room)
        mse, by_features, grad = self._synthesis(synthesis, w, features)
        slopes = by_features.view(-1, height, width)
        by_latents, by_kernels = interpolation.back(grids, kernels, slopes)
        by_leaves = torch.autograd.grad([kernel.taps for kernel in kernels], leaves, by_kernels)
        return mse, by_latents, by_leaves, grad

    def _synthesis(
        self, fused: FusedSynthesis, w: Mapping[str, Tensor], features: Tensor
    ) -> _Synthesised:
        """The layers in machine code."""
        found = fused.error(features, *self._layers(w), self.target)
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
        """The layers by torch's operations."""
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

    def release(self) -> None:
        """Give back the memory that an evaluation keeps for the next one."""
        self._room = None
        if self.fused is not None:
            self.fused[1].release()

    # -- without gradients -----------------------------------------------------------------

    @torch.no_grad()
    def features(self, weights: Mapping[str, Tensor], latents: Sequence[Tensor]) -> Tensor:
        """What the 1x1 layers see: (grids + 1, height, width)."""
        _, height, width = self.target.shape
        rows, columns = range(height), range(width)
        kernels = composites(weights.get("kernel"), weights["filter"], self.config.grid_levels)
        if self.fused is not None:
            return self.fused[0].samples(latents, kernels, rows, columns)
        found = [band_of(kernel) for kernel in kernels]
        return self._features(interpolate(latents, found, rows, columns, self._windows))

    @torch.no_grad()
    def samples(self, weights: Mapping[str, Tensor], latents: Sequence[Tensor]) -> Tensor:
        """Samples of all layers, not clamped: (channels, height, width)."""
        features = self.features(weights, latents)
        if self.fused is not None:
            return self.fused[1].samples(features, *self._layers(weights))
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
        """What the 1x1 layers see of interpolated latents; experiments have more (tools/)."""
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
