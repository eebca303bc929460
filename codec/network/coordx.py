"""The CoordX network: branches per group of axes, a fusion, a small tail.

CoordX (arXiv 2201.12425, section 3): an MLP whose first layers run once per *axis value*
instead of once per sample. With branches f_i of R * M features,

    fused[m] = gain * sum_r prod_i f_i[m, r]          sample = tail(fused)

the branches cost O(W + H + T), only the fusion and the tail cost O(W * H * T).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from codec.network.encoding import encode_axis, first_layer_bounds
from codec.network.grid import AxisGrid
from codec.network.store import WeightStore
from formats.errors import InputError
from formats.network import Activation, Encoding, Fusion, NetworkConfig, RankMode, TensorSpec

__all__ = ["CoordX"]


def _activate(activation: Activation, x: Tensor) -> Tensor:
    if activation == Activation.SINE:
        return torch.sin(x)
    if activation == Activation.GELU:
        return F.gelu(x, approximate="tanh")
    return F.relu(x)


class CoordX(WeightStore):
    """A function of coordinates that can be evaluated axis by axis.

    Args:
        config: the architecture.
        lengths: samples of the signal along each axis of the config, e.g. {"y": 512, "x": 768}.
        channels: output channels, 1..4.
        seed: initial weights; the same seed gives the same weights on every device. None leaves
            them zero, for weights that are about to be loaded.
    """

    def __init__(
        self, config: NetworkConfig, lengths: Mapping[str, int], channels: int, seed: int | None = 0
    ) -> None:
        if set(lengths) != set(config.axes):
            raise InputError(
                f"lengths: partition {config.partition} has the axes {config.axes}, "
                f"got {tuple(lengths)}"
            )
        generator = torch.Generator().manual_seed(seed or 0)

        def initial(spec: TensorSpec) -> Tensor:
            if seed is None:
                return torch.zeros(spec.shape)
            return self._initial(config, lengths, spec, generator)

        super().__init__(config.tensors(dict(lengths), channels), initial)
        self.config = config
        self.lengths = dict(lengths)
        self.channels = channels

    @staticmethod
    def _initial(
        config: NetworkConfig,
        lengths: Mapping[str, int],
        spec: TensorSpec,
        generator: torch.Generator,
    ) -> Tensor:
        """Initial values that keep the variance of sine features near 1/2 at every layer."""
        shape = spec.shape
        layer, kind = spec.name.split(".")
        uniform = torch.rand(shape, generator=generator) * 2 - 1
        last = CoordX.tail_name(config.tail_layers - 1)
        if layer == "output" or (layer == last and kind == "bias"):
            return torch.full(shape, 0.5)  # mid-grey: samples are in [0, 1]
        if layer.startswith("branch"):
            axes = config.branches[int(layer.removeprefix("branch"))]
            if config.encoding == Encoding.SINE:
                if kind == "bias":
                    return uniform * math.pi
                bounds = torch.tensor([first_layer_bounds(config, lengths[a]) for a in axes])
                return uniform * bounds[:, None]
            inputs = sum(config.encoded_size(lengths[a]) for a in axes)
            return uniform * (math.sqrt(6 / inputs) if kind == "weight" else 1.0)
        if kind == "bias":
            if layer.startswith("shared") and config.activation == Activation.SINE:
                return uniform * math.pi  # a random phase: products of pure sines lack cosines
            return torch.zeros(shape)
        bound = math.sqrt(6 / shape[0])
        if layer == last:
            bound = math.sqrt(3 / shape[0]) * 0.2  # start near grey
        return uniform * bound

    @staticmethod
    def tail_name(number: int) -> str:
        """Layer name of the tail's linear layer of this number."""
        return f"tail{number}"

    # -- evaluation ------------------------------------------------------------------------

    def branch(self, number: int, inputs: Tensor) -> Tensor:
        """One branch on encoded points: (n, inputs) -> (n, M * R)."""
        config = self.config
        x = torch.addmm(
            self.tensor(f"branch{number}.bias"), inputs, self.tensor(f"branch{number}.weight")
        )
        for layer in range(1, config.branch_layers):
            # A sine-encoded first layer is a sine whatever the others use (SIREN).
            first = layer == 1 and config.encoding == Encoding.SINE
            x = _activate(Activation.SINE if first else config.activation, x)
            x = torch.addmm(
                self.tensor(f"shared{layer}.bias"), x, self.tensor(f"shared{layer}.weight")
            )
        if config.tail_layers == 0:
            return x
        only = config.branch_layers == 1 and config.encoding == Encoding.SINE
        return _activate(Activation.SINE if only else config.activation, x)

    def axis_inputs(self, grid: AxisGrid, branch: Sequence[str]) -> Tensor:
        """Encoded points of one branch: (product of its axes' samples, inputs)."""
        encoded = [encode_axis(self.config, grid[a], self.lengths[a]) for a in branch]
        sizes = [e.shape[0] for e in encoded]
        expanded = []
        for position, e in enumerate(encoded):
            shape = [1] * len(sizes) + [e.shape[1]]
            shape[position] = e.shape[0]
            expanded.append(e.view(shape).expand(*sizes, e.shape[1]))
        return torch.cat(expanded, dim=-1).reshape(math.prod(sizes), -1)

    def branch_features(self, number: int, grid: AxisGrid) -> Tensor:
        """Features of one branch on a grid: (M, points of the branch, R)."""
        x = self.branch(number, self.axis_inputs(grid, self.config.branches[number]))
        return x.view(x.shape[0], -1, self.config.rank).transpose(0, 1)

    def features(self, grid: AxisGrid) -> list[Tensor]:
        """Features of every branch on a grid, each (M, points of the branch, R)."""
        return [self.branch_features(n, grid) for n in range(len(self.config.branches))]

    @property
    def fusion_gain(self) -> float:
        """Scale that brings fused sine features back to the variance of one (1/2)."""
        config = self.config
        if not config.gain:
            return 1.0
        count = len(config.branches)
        if config.fusion == Fusion.SUM:
            return 1 / math.sqrt(count * config.rank)
        return math.sqrt(2 ** (count - 1) / config.rank)

    def fuse(self, features: Sequence[Tensor]) -> Tensor:
        """Branch features to fused features on the product of the branches' points.

        Args:
            features: per branch (M, n_i, R).

        Returns:
            (M, n_0 * n_1 * ...), the first branch slowest.
        """
        gain = self.fusion_gain
        last = features[-1]
        if self.config.fusion == Fusion.SUM:
            total = features[0].sum(-1)
            for f in features[1:]:
                total = (total[:, :, None] + f.sum(-1)[:, None, :]).flatten(1)
            return total * gain
        if len(features) == 1:
            return last.sum(-1) * gain
        left = features[0] * gain
        for f in features[1:-1]:
            left = (left[:, :, None, :] * f[:, None, :, :]).flatten(1, 2)
        if self.config.rank == 1:  # an outer product: a GEMM of depth 1 would be 10 times slower
            return (left[:, :, None, 0] * last[:, None, :, 0]).flatten(1)
        # sum_r left[m, i, r] * last[m, j, r]: a batched GEMM, batch M.
        return torch.bmm(left, last.transpose(1, 2)).flatten(1)

    def tail(self, fused: Tensor) -> Tensor:
        """Fused features to samples: (M, n) -> (channels, n)."""
        config = self.config
        if not config.tail_layers:
            return fused + self.tensor("output.bias")[:, None]
        x = fused
        for layer in range(config.tail_layers):
            if layer:
                x = _activate(config.activation, x)
            name = self.tail_name(layer)
            x = torch.addmm(
                self.tensor(f"{name}.bias")[:, None], self.tensor(f"{name}.weight").t(), x
            )
        return x

    def to_grid(self, samples: Tensor, grid: AxisGrid) -> Tensor:
        """Samples in branch order to memory order: (C, n) -> (C, *grid.shape)."""
        order = [axis for branch in self.config.branches for axis in branch]
        shaped = samples.view(samples.shape[0], *(grid[a].numel() for a in order))
        return shaped.permute(0, *(1 + order.index(a) for a in grid.axes))

    def forward(self, grid: AxisGrid) -> Tensor:
        """Samples on a grid: (channels, *grid.shape), around [0, 1], not clamped."""
        return self.to_grid(self.tail(self.fuse(self.features(grid))), grid)

    def points(self, coords: Tensor) -> Tensor:
        """Samples at arbitrary points: (n, axes) pixel coordinates -> (n, channels).

        Every point goes through every branch: the cost of the plain network. Equal to the
        grid query up to the rounding of sums (1e-5).
        """
        config = self.config
        product: Tensor | None = None
        for number, branch in enumerate(config.branches):
            columns = [
                encode_axis(config, coords[:, config.axes.index(a)], self.lengths[a])
                for a in branch
            ]
            f = self.branch(number, torch.cat(columns, dim=1))
            if product is None:
                product = f
            else:
                product = product + f if config.fusion == Fusion.SUM else product * f
        assert product is not None
        fused = product.view(product.shape[0], -1, config.rank).sum(-1) * self.fusion_gain
        return self.tail(fused.t()).t()

    def extra_repr(self) -> str:
        """Shape and size at a glance."""
        count = self.config.parameters(self.lengths, self.channels)
        mode = RankMode(self.config.rank_mode).name.lower()
        return (
            f"{self.config.partition}, lengths={self.lengths}, channels={self.channels}, "
            f"M={self.config.features}, R={self.config.rank} ({mode}), parameters={count}"
        )
