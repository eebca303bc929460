"""The layers from features to samples, and back from the error, hidden ones never in memory.

The 1x1 layers are products of tiles (codec/network/tail.py); hidden activations are computed a
second time on the way back. The 3x3 layers are in `codec/gpu/convolution.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor

from codec.gpu import convolution, tile_side
from codec.gpu.sums import Sums
from codec.network.core import gain_of
from formats.core import CoreConfig

__all__ = ["FEATURES", "FusedSynthesis"]

FEATURES = 16
"""Rows of features that the kernels hold: at most 15 grids, and the ones."""
PIXELS = 64
"""Of a block of the 1x1 layers."""
SAMPLES = 512
"""Of a block of the 3x3 layers: four for each thread."""
PROGRAMS = 528
"""At most as many programs add to the gradients of weights."""
FORWARD, BACKWARD = "tf32x3", "tf32"
"""Precision of products: about float32, and with the mantissa of a half."""
COARSE_FROM = 1e-4
"""Lambda from which the mantissa of a half will do on the way there: what it rounds away, a mean
squared error of 1e-8, is nothing beside that of the picture."""
OPTIONS = {"num_warps": 4, "maxnreg": 128}
"""Of the launch of `_tail_back`: four programs for each multiprocessor of an H100."""


@triton.jit
def _layer(at_weight, at_bias, gain, h, i, hidden, grids):
    """Where the weights (units, 16) of the features are: of the latents, which have a gain, and
    the biases; which there are; what they are multiplied with."""
    there = (h < hidden)[:, None] & (i <= grids)[None, :]
    latent = (i < grids)[None, :]
    at = tl.where(latent, at_weight + h[:, None] * grids + i[None, :], at_bias + h[:, None])
    return at, there, tl.where(latent, gain, 1.0)


@triton.jit
def _pack(
    weights,
    packed,
    at_weight,
    at_bias,
    at_output,
    at_skip,
    at_offset,
    grids,
    hidden,
    gain,
    HIDDEN: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Layers padded to powers of two, with the gain of the latents: first, skip, output."""
    i, h, c = tl.arange(0, 16), tl.arange(0, HIDDEN), tl.arange(0, 16)
    at, there, factor = _layer(at_weight, at_bias, gain, h, i, hidden, grids)
    first = tl.load(weights + at, mask=there, other=0.0) * factor
    tl.store(packed + h[:, None] * 16 + i[None, :], first)
    packed += HIDDEN * 16
    at, there, factor = _layer(at_skip, at_offset, gain, c, i, CHANNELS, grids)
    skip = tl.load(weights + at, mask=there, other=0.0) * factor
    tl.store(packed + c[:, None] * 16 + i[None, :], skip)
    packed += 16 * 16
    output = tl.load(
        weights + at_output + c[:, None] * hidden + h[None, :],
        mask=(c < CHANNELS)[:, None] & (h < hidden)[None, :],
        other=0.0,
    )
    tl.store(packed + c[:, None] * HIDDEN + h[None, :], output)


@triton.jit
def _tail(
    features,
    packed,
    samples,
    grids,
    pixels,
    HIDDEN: tl.constexpr,
    CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    i, h, c = tl.arange(0, 16), tl.arange(0, HIDDEN), tl.arange(0, 16)
    n = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = (n < pixels)[None, :]
    x = tl.load(
        features + i[:, None] * pixels + n[None, :],
        mask=(i <= grids)[:, None] & inside,
        other=0.0,
    )
    first = tl.load(packed + h[:, None] * 16 + i[None, :])
    packed += HIDDEN * 16
    skip = tl.load(packed + c[:, None] * 16 + i[None, :])
    packed += 16 * 16
    output = tl.load(packed + c[:, None] * HIDDEN + h[None, :])
    a = tl.maximum(tl.dot(first, x, input_precision=PRECISION), 0.0)
    found = tl.dot(output, a, input_precision=PRECISION)
    found = tl.dot(skip, x, found, input_precision=PRECISION)
    tl.store(
        samples + c[:, None] * pixels + n[None, :], found, mask=(c < CHANNELS)[:, None] & inside
    )


@triton.jit
def _tail_back(
    features,
    packed,
    back,
    planes,
    slopes,
    at_weight,
    at_bias,
    at_output,
    at_skip,
    at_offset,
    grids,
    hidden,
    pixels,
    gain,
    HIDDEN: tl.constexpr,
    CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    i, h, c = tl.arange(0, 16), tl.arange(0, HIDDEN), tl.arange(0, 16)
    channel, latent = (c < CHANNELS)[:, None], (i < grids)[:, None]
    first_sum = tl.zeros([HIDDEN, 16], tl.float32)
    output_sum = tl.zeros([16, HIDDEN], tl.float32)
    skip_sum = tl.zeros([16, 16], tl.float32)
    to_skip = packed + HIDDEN * 16
    to_output = to_skip + 16 * 16
    block = tl.program_id(0)
    while block * SIZE < pixels:
        n = block * SIZE + tl.arange(0, SIZE)
        inside = (n < pixels)[None, :]
        x = tl.load(
            features + i[:, None] * pixels + n[None, :],
            mask=(i <= grids)[:, None] & inside,
            other=0.0,
        )
        g = tl.load(back + c[:, None] * pixels + n[None, :], mask=channel & inside, other=0.0)
        # Weights are loaded again where they are needed: registers are scarce.
        first = tl.load(packed + h[:, None] * 16 + i[None, :])
        a = tl.maximum(tl.dot(first, x, input_precision=PRECISION), 0.0)
        output_sum += tl.dot(g, tl.trans(a), input_precision=PRECISION)
        skip_sum += tl.dot(g, tl.trans(x), input_precision=PRECISION)
        output = tl.load(to_output + c[None, :] * HIDDEN + h[:, None])
        through = tl.where(a > 0, tl.dot(output, g, input_precision=PRECISION), 0.0)
        first_sum += tl.dot(through, tl.trans(x), input_precision=PRECISION)
        turned = tl.load(packed + h[None, :] * 16 + i[:, None])
        skip = tl.load(to_skip + c[None, :] * 16 + i[:, None])
        plane = tl.dot(turned, through, input_precision=PRECISION)
        plane = tl.dot(skip, g, plane, input_precision=PRECISION)
        tl.store(planes + i[:, None] * pixels + n[None, :], plane, mask=latent & inside)
        block += tl.num_programs(0)
    at, there, factor = _layer(at_weight, at_bias, gain, h, i, hidden, grids)
    tl.atomic_add(slopes + at, first_sum * factor, mask=there, sem="relaxed")
    at, there, factor = _layer(at_skip, at_offset, gain, c, i, CHANNELS, grids)
    tl.atomic_add(slopes + at, skip_sum * factor, mask=there, sem="relaxed")
    tl.atomic_add(
        slopes + at_output + c[:, None] * hidden + h[None, :],
        output_sum,
        mask=channel & (h < hidden)[None, :],
        sem="relaxed",
    )


class FusedSynthesis:
    """The layers after the fusion, of one picture.

    Args:
        config: the network.
        target: (channels, height, width) samples in [0, 1].
        starts: where each tensor begins in the vector of all weights, by name.
        lam: of the fit.
    """

    def __init__(
        self, config: CoreConfig, target: Tensor, starts: Mapping[str, int], lam: float
    ) -> None:
        assert config.grids < FEATURES
        self.config, self.target, self.starts = config, target.contiguous(), starts
        self.channels, self.height, self.width = target.shape
        self._forward = BACKWARD if lam >= COARSE_FROM else FORWARD
        self._samples = [torch.empty_like(self.target) for _ in range(config.residuals + 1)]
        self._back = [torch.empty_like(self.target) for _ in range(min(2, config.residuals + 1))]
        self._units = tile_side(config.hidden)
        self._packed = target.new_empty(16 * (2 * self._units + 16))
        self.planes = target.new_empty(config.grids, self.height, self.width)

    def __call__(self, weights: Tensor, features: Tensor, sums: Sums) -> Tensor:
        """Evaluate, and add what is found.

        Args:
            weights: of the networks, one vector.
            features: (grids + 1, height, width), the last plane ones.
            sums: error, and the gradients of weights.

        Returns:
            (grids, height, width) gradients by the features; the next call overwrites them.
        """
        at, config = self.starts, self.config
        pixels = self.height * self.width
        layers = {
            "at_weight": at["tail.weight"],
            "at_bias": at["tail.bias"],
            "at_output": at["output.weight"],
            "at_skip": at["skip"],
            "at_offset": at["output.bias"],
            "grids": config.grids,
            "hidden": config.hidden,
            "gain": gain_of(config),
            "HIDDEN": self._units,
            "CHANNELS": self.channels,
        }
        _pack[(1,)](weights, self._packed, **layers)
        blocks = triton.cdiv(pixels, PIXELS)
        _tail[(blocks,)](
            features,
            self._packed,
            self._samples[0],
            config.grids,
            pixels,
            HIDDEN=self._units,
            CHANNELS=self.channels,
            SIZE=PIXELS,
            PRECISION=self._forward,
        )
        shape = {
            "height": self.height,
            "width": self.width,
            "CHANNELS": self.channels,
            "SIZE": SAMPLES,
        }
        padded = triton.next_power_of_2(self.channels)
        grid = (triton.cdiv(pixels, SAMPLES),)
        for layer in range(config.residuals):
            name = f"residual{layer}"
            convolution.convolve[grid](
                self._samples[layer],
                weights,
                self._samples[layer + 1],
                at[f"{name}.weight"],
                at[f"{name}.bias"],
                **shape,
                PADDED=padded,
            )
        back, other = self._back[0], self._back[-1]
        count = self.target.numel()
        convolution.error[(triton.cdiv(count, 1024),)](
            self._samples[-1], self.target, back, sums.error, count, 1 / count, SIZE=1024
        )
        edges = triton.cdiv(2 * (self.width + self.height), PIXELS)
        for layer in reversed(range(config.residuals)):
            weight, bias = at[f"residual{layer}.weight"], at[f"residual{layer}.bias"]
            convolution.correlate[(min(2 * PROGRAMS, blocks),)](
                self._samples[layer],
                back,
                sums.weights,
                weight,
                bias,
                self.height,
                self.width,
                CHANNELS=self.channels,
                TAPS=32 if self.channels <= 3 else 64,
                SIZE=PIXELS,
                PRECISION=BACKWARD,
            )
            convolution.convolve_back[grid](back, weights, other, weight, **shape, PADDED=padded)
            convolution.edges_back[(edges,)](
                back, weights, other, weight, **(shape | {"SIZE": PIXELS}), PADDED=padded
            )
            back, other = other, back
        _tail_back[(min(PROGRAMS, blocks),)](
            features,
            self._packed,
            back,
            self.planes,
            sums.weights,
            **layers,
            pixels=pixels,
            SIZE=PIXELS,
            PRECISION=BACKWARD,
            **OPTIONS,
        )
        return self.planes
