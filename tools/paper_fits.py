"""Fits of the CoordX paper's experiments: networks, samplers, timings. Used by paper_tables.py.

Networks are ours (codec.network) at the paper's sizes; the loss is the mean squared error, the
optimiser Adam, as there. Nothing is quantised: these are fits, not files.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from codec.evaluate import psnr
from codec.network import AxisGrid, CoordX
from codec.network.presets import paper_network
from codec.reconstruct import Reconstructor
from codec.signal import Samples
from formats.network import Activation, Encoding, NetworkConfig


def low_start(length: int) -> int:
    """Bandwidth in 1/64 of Nyquist nearest to 30 radians per unit, for an axis of this length.

    30 is what SIREN's and the paper's code start with. At 512 samples our networks have 25.
    """
    return max(1, round(30 * 64 / (math.pi * length / 2)))


@dataclass(frozen=True)
class Budget:
    """How much work a fit is.

    Attributes:
        steps: optimiser steps.
        samples: of the signal a step; 0 for all.
        rate: of Adam, in a cosine to 0 at the end.
    """

    steps: int
    samples: int
    rate: float


@dataclass(frozen=True)
class Method:
    """A network and how it is trained.

    Attributes:
        name: in the tables.
        config: the network.
        points: True draws independent points, each through every branch; False draws a
            Cartesian product of per-axis samples (the paper's accelerated variant, -A).
    """

    name: str
    config: NetworkConfig
    points: bool


def image_methods(width: int = 256) -> list[Method]:
    """The rows of the image table."""
    plain, split = paper_network("xy", width), paper_network("x+y", width)
    slow = {"bandwidth": low_start(512)}
    pe = replace(plain, encoding=Encoding.POSITIONAL, activation=Activation.RELU)
    return [
        Method("SIREN, low start", replace(plain, **slow), points=True),
        Method("SIREN, our start", plain, points=True),
        Method("PE-MLP", pe, points=True),
        Method("CoordX, low start", replace(split, **slow), points=True),
        Method("CoordX, our start", split, points=True),
        Method("CoordX-A, low start", replace(split, **slow), points=False),
        Method("CoordX-A, our start", split, points=False),
    ]


def rank_methods(width: int = 256, ranks: tuple[int, ...] = (1, 2, 4, 8)) -> list[Method]:
    """The rank sweep: only the last layer before the fusion widens (the paper's reduced mode)."""
    networks = {r: paper_network("x+y", width, r) for r in ranks}
    return [
        Method(f"CoordX-A, R = {r}", replace(network, bandwidth=low_start(512)), points=False)
        for r, network in networks.items()
    ]


def depth_methods(width: int = 256) -> list[Method]:
    """Fully split (nothing after the fusion) against partially split, five layers each."""
    split = replace(paper_network("x+y", width), bandwidth=low_start(512))
    full = [
        replace(split, branch_layers=5, tail_layers=0, features=3, rank=rank)
        for rank in (1, max(1, width // 3))
    ]
    return [
        Method("partially split, R = 1", split, False),
        *(Method(f"fully split, R = {config.rank}", config, False) for config in full),
    ]


def video_methods(width: int = 1024, longest: int = 176) -> list[Method]:
    """The rows of the video table, all with the low start.

    Args:
        width: of every layer.
        longest: samples along the longest axis.
    """
    start = {"bandwidth": low_start(longest)}
    rows = (
        ("SIREN, xyt", "xyt", True),
        ("CoordX-A, xy+t", "xy+t", False),
        ("CoordX-A, x+y+t", "x+y+t", False),
    )
    return [
        Method(name, replace(paper_network(split, width), **start), points)
        for name, split, points in rows
    ]


def fit(
    method: Method, target: Tensor, lengths: Mapping[str, int], budget: Budget, seed: int = 0
) -> dict[str, Any]:
    """Train on one signal and measure.

    Args:
        method: what to train.
        target: (C, *lengths) in [0, 1], on the device to train on.
        lengths: samples along each axis.
        budget: how long.
        seed: of weights and draws.

    Returns:
        "network", "psnr" in dB of the 8-bit samples, "seconds" of training, "step_ms" (median),
        "weights", and "macs" per sample at a full grid.
    """
    device = target.device
    channels = target.shape[0]
    network = CoordX(method.config, dict(lengths), channels, seed=seed).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=budget.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, budget.steps)
    generator = torch.Generator().manual_seed(seed)
    times = []
    for _ in range(budget.steps):
        started = _now(device)
        prediction, wanted = _step(method, network, target, lengths, budget, generator)
        loss = torch.mean((prediction - wanted) ** 2)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        times.append(_now(device) - started)
    samples = math.prod(lengths.values())
    return {
        "network": network,
        "psnr": quality(network, target, lengths),
        "seconds": sum(times),
        "step_ms": 1000 * statistics.median(times),
        "weights": method.config.parameters(dict(lengths), channels),
        "macs": method.config.macs(dict(lengths), channels) / samples,
        "steps": budget.steps,
        "samples": budget.samples,
        "rate": budget.rate,
    }


def _step(
    method: Method,
    network: CoordX,
    target: Tensor,
    lengths: Mapping[str, int],
    budget: Budget,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Prediction and target of the samples of one step."""
    axes = [axis for axis in ("t", "y", "x") if axis in lengths]
    total = math.prod(lengths.values())
    count = min(budget.samples or total, total)
    if method.points:
        flat = (
            torch.arange(total)
            if count == total
            else torch.randint(total, (count,), generator=generator)
        )
        index = torch.unravel_index(flat, tuple(lengths[a] for a in axes))
        places = torch.stack(index, dim=1).to(target.device)
        wanted = target[(slice(None), *places.unbind(1))].t()
        return network.points(places.float()), wanted
    share = (count / total) ** (1 / len(axes))
    drawn = {}
    for axis in axes:
        size = max(1, round(lengths[axis] * share))
        drawn[axis] = torch.randperm(lengths[axis], generator=generator)[:size].sort().values
    grid = AxisGrid(tuple(axes), tuple(drawn[a].float().to(target.device) for a in axes))
    wanted = target
    for position, axis in enumerate(axes, start=1):
        wanted = wanted.index_select(position, drawn[axis].to(target.device))
    return network(grid), wanted


def quality(network: CoordX, target: Tensor, lengths: Mapping[str, int]) -> float:
    """PSNR in dB of the network's 8-bit samples."""
    decoded = evaluate(network, lengths)
    wanted = eight_bits(target)
    return psnr(decoded.reshape(wanted.shape), wanted)


def eight_bits(signal: Tensor) -> Samples:
    """(C, ...) in [0, 1] as samples (..., C) uint8."""
    samples: Samples = (signal.movedim(0, -1) * 255).round().to(torch.uint8).cpu().numpy()
    return samples


def evaluate(network: CoordX, lengths: Mapping[str, int]) -> Any:
    """The whole signal as 8-bit samples, by the decoder's own reconstruction."""
    frames = range(lengths.get("t", 1))
    with torch.no_grad():
        return Reconstructor(network, 8).region(frames, None)


def inference_ms(
    config: NetworkConfig, lengths: Mapping[str, int], device: torch.device, repeats: int = 3
) -> float:
    """Median time of a full evaluation, axis features included, after one to warm up."""
    network = CoordX(config, dict(lengths), 3).requires_grad_(False).to(device)
    times = []
    for _ in range(repeats + 1):
        started = _now(device)
        evaluate(network, lengths)
        times.append(_now(device) - started)
    return 1000 * statistics.median(times[1:])


def svd(target: Tensor, numbers: int, bits: int | None = None) -> dict[str, float]:
    """The truncated SVD of each channel that has at most so many numbers in all.

    Args:
        target: (C, H, W) in [0, 1].
        numbers: that may be stored: rank * (H + W) for each channel, singular values folded in.
        bits: of a uniform quantiser of each factor, over its range; None keeps floats.
    """
    channels, height, width = target.shape
    rank = max(1, numbers // (channels * (height + width)))
    u, s, v = torch.linalg.svd(target.double().cpu(), full_matrices=False)
    rank = min(rank, s.shape[1])
    root = s[:, :rank].sqrt()
    left, right = u[:, :, :rank] * root[:, None], v[:, :rank] * root[:, :, None]
    if bits is not None:
        left, right = uniform(left, bits), uniform(right, bits)
    value = psnr(eight_bits((left @ right).clamp(0, 1)), eight_bits(target))
    return {"psnr": value, "rank": rank, "numbers": channels * rank * (height + width)}


def uniform(values: Tensor, bits: int) -> Tensor:
    """Values on 2^bits levels over their range."""
    low, high = values.min(), values.max()
    step = (high - low) / (2**bits - 1)
    return low + ((values - low) / step).round() * step if step > 0 else values


def quantised_quality(
    method: Method, network: CoordX, target: Tensor, lengths: Mapping[str, int], bits: int
) -> float:
    """PSNR with every weight tensor on 2^bits levels."""
    weights = {
        spec.name: uniform(network.parameter(spec.name).detach(), bits) for spec in network.specs
    }
    copy = CoordX(method.config, dict(lengths), target.shape[0], seed=None).to(target.device)
    copy.assign(weights)
    return quality(copy, target, lengths)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
