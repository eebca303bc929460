"""The network a file describes: enums, small integers, and the tensors that follow from them.

Integer arithmetic only. The decoder learns from this module how many weights to expect and
what they will cost, before it allocates anything; `codec/network` turns the same description
into floating-point layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

from formats.errors import InputError

__all__ = ["Activation", "Encoding", "Fusion", "NetworkConfig", "RankMode", "TensorSpec"]

PARTITIONS = {
    # name -> branches, each a tuple of axes in memory order (t, y, x); the id is the position
    "xy": (("y", "x"),),
    "x+y": (("y",), ("x",)),
    "xyt": (("t", "y", "x"),),
    "xy+t": (("t",), ("y", "x")),
    "x+y+t": (("t",), ("y",), ("x",)),
    "x+yt": (("t", "y"), ("x",)),
    "xt+y": (("t", "x"), ("y",)),
}


class Encoding(IntEnum):
    """What a branch does to its coordinates before its first linear layer."""

    SINE = 0
    """Nothing; the first activation is a sine with learned frequencies (SIREN)."""
    POSITIONAL = 1
    """u and sin/cos of 2^k pi u, k = 0.. up to the axis' Nyquist frequency."""
    FOURIER = 2
    """u and sin/cos at `frequencies` log-spaced frequencies up to `bandwidth`."""


class Activation(IntEnum):
    """The nonlinearity between linear layers."""

    SINE = 0
    GELU = 1
    RELU = 2


class Fusion(IntEnum):
    """How branch features meet at a sample."""

    PRODUCT = 0
    """fused[m] = gain * sum over r of the product over branches of f_i[m, r]."""
    SUM = 1
    """fused[m] = gain * sum over r and branches of f_i[m, r]."""


class RankMode(IntEnum):
    """Which layers before the fusion are `features * rank` wide."""

    FULL = 0
    """All of them."""
    REDUCED = 1
    """Only the last; the others are `width` wide."""


@dataclass(frozen=True)
class TensorSpec:
    """One weight tensor: its name, its shape (inputs, outputs) or (outputs,)."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


def _check(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"network {name}: expected an integer in {low}..{high}, got {value!r}")


@dataclass(frozen=True)
class NetworkConfig:
    """A CoordX network, up to its weights.

    Attributes:
        partition: how the axes are split into branches, e.g. "x+y" (one branch an axis) or
            "xy" (one branch for both: a plain coordinate MLP).
        encoding: input encoding of every branch.
        activation: nonlinearity before the fusion and inside the tail.
        fusion: product or sum.
        rank_mode: full or reduced.
        branch_layers: linear layers before the fusion, at least 1. The first belongs to its
            branch, the others are shared by all branches.
        width: outputs of the layers before the fusion but the last (reduced mode; in full
            mode it is ignored and must equal features * rank).
        features: M, values per sample after the fusion; the tail's width.
        rank: R, products summed per feature.
        tail_layers: linear layers after the fusion; 0 is the fully split network, whose last
            branch layer is linear and has the output channels as features.
        bandwidth: highest initial (sine) or fixed (Fourier) frequency in 1/64 of Nyquist
            (pi radians a sample), 1..64.
        frequencies: sin/cos pairs per axis of the Fourier encoding; 0 for the others.
        gain: whether fused features are scaled to the variance the next layer expects.
    """

    partition: str = "x+y"
    encoding: Encoding = Encoding.SINE
    activation: Activation = Activation.SINE
    fusion: Fusion = Fusion.PRODUCT
    rank_mode: RankMode = RankMode.REDUCED
    branch_layers: int = 2
    width: int = 64
    features: int = 32
    rank: int = 16
    tail_layers: int = 2
    bandwidth: int = 32
    frequencies: int = 0
    gain: bool = True

    def __post_init__(self) -> None:
        """Reject what no decoder could build."""
        if self.partition not in PARTITIONS:
            raise InputError(
                f"network partition: expected one of {', '.join(PARTITIONS)}, "
                f"got {self.partition!r}"
            )
        _check("branch_layers", self.branch_layers, 1, 15)
        _check("width", self.width, 1, 4096)
        _check("features", self.features, 1, 1024)
        _check("rank", self.rank, 1, 1024)
        _check("tail_layers", self.tail_layers, 0, 15)
        _check("bandwidth", self.bandwidth, 1, 64)
        _check("frequencies", self.frequencies, 0, 1024)
        if (self.encoding == Encoding.FOURIER) != (self.frequencies > 0):
            raise InputError(
                "network frequencies: expected above 0 for the Fourier encoding and 0 for the "
                f"others, got {self.frequencies} with {self.encoding.name}"
            )
        if self.rank_mode == RankMode.FULL and self.width != self.features * self.rank:
            raise InputError(
                "network width: in full rank mode expected features * rank = "
                f"{self.features * self.rank}, got {self.width}"
            )

    @property
    def branches(self) -> tuple[tuple[str, ...], ...]:
        """Axes of each branch."""
        return PARTITIONS[self.partition]

    @property
    def axes(self) -> tuple[str, ...]:
        """All axes, in memory order."""
        names = {axis for branch in self.branches for axis in branch}
        return tuple(axis for axis in ("t", "y", "x") if axis in names)

    def encoded_size(self, axis_length: int) -> int:
        """Inputs that one axis of this length gives to its branch's first layer."""
        if self.encoding == Encoding.POSITIONAL:
            return 1 + 2 * positional_octaves(axis_length)
        if self.encoding == Encoding.FOURIER:
            return 1 + 2 * self.frequencies
        return 1

    def tensors(self, lengths: dict[str, int], channels: int) -> list[TensorSpec]:
        """Every weight tensor in coding order, for a signal of these axis lengths."""
        fused = self.features if self.tail_layers else channels
        widths = [self.width] * (self.branch_layers - 1) + [fused * self.rank]
        specs = []
        for number, branch in enumerate(self.branches):
            inputs = sum(self.encoded_size(lengths[axis]) for axis in branch)
            specs.append(TensorSpec(f"branch{number}.weight", (inputs, widths[0])))
            specs.append(TensorSpec(f"branch{number}.bias", (widths[0],)))
        for number in range(1, self.branch_layers):
            specs.append(TensorSpec(f"shared{number}.weight", (widths[number - 1], widths[number])))
            specs.append(TensorSpec(f"shared{number}.bias", (widths[number],)))
        for number in range(self.tail_layers):
            last = number == self.tail_layers - 1
            outputs = channels if last else self.features
            specs.append(TensorSpec(f"tail{number}.weight", (self.features, outputs)))
            specs.append(TensorSpec(f"tail{number}.bias", (outputs,)))
        if not self.tail_layers:
            specs.append(TensorSpec("output.bias", (channels,)))
        return specs

    def parameters(self, lengths: dict[str, int], channels: int) -> int:
        """Number of weights."""
        return sum(spec.size for spec in self.tensors(lengths, channels))

    def macs(self, lengths: dict[str, int], channels: int) -> int:
        """Multiply-accumulates to evaluate every sample of the signal once, split."""
        fused = self.features if self.tail_layers else channels
        samples = math.prod(lengths[axis] for axis in self.axes)
        widths = [self.width] * (self.branch_layers - 1) + [fused * self.rank]
        shared = sum(a * b for a, b in pairwise(widths))
        total = 0
        for branch in self.branches:
            points = math.prod(lengths[axis] for axis in branch)
            inputs = sum(self.encoded_size(lengths[axis]) for axis in branch)
            total += points * (inputs * widths[0] + shared)
        if len(self.branches) > 1:
            total += samples * fused * self.rank
        tail = [self.features] * self.tail_layers + [channels]
        total += samples * sum(a * b for a, b in pairwise(tail))
        return total


def positional_octaves(axis_length: int) -> int:
    """Octaves of the positional encoding: the highest is at most Nyquist for this length.

    Frequency 2^k pi on [-1, 1] is 2^k pi * 2 / n radians a sample; Nyquist is pi.
    """
    return max(1, (max(axis_length, 2) // 2).bit_length())
