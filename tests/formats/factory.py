"""Small files with random weights, for the tests of the format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from formats.container import write_container
from formats.core import CoreConfig
from formats.header import Header, MediaKind
from formats.network import Encoding, NetworkConfig
from formats.priors import prior_shape
from formats.weights import CodedTensor, pack_unit

IMAGE_NET = NetworkConfig(
    encoding=Encoding.POSITIONAL, width=5, features=4, rank=2, branch_layers=2, tail_layers=2
)
VIDEO_NET = NetworkConfig(partition="x+y+t", width=4, features=3, rank=2, tail_layers=2)


def image_header(**changes: object) -> Header:
    fields: dict[str, object] = {
        "kind": MediaKind.IMAGE,
        "width": 20,
        "height": 13,
        "channels": 3,
        "bit_depth": 8,
        "network": IMAGE_NET,
    }
    return Header(**{**fields, **changes})  # type: ignore[arg-type]


def video_header(**changes: object) -> Header:
    fields: dict[str, object] = {
        "kind": MediaKind.VIDEO,
        "width": 16,
        "height": 12,
        "channels": 3,
        "bit_depth": 8,
        "network": VIDEO_NET,
        "rate": Fraction(30000, 1001),
        "subsampling": "420",
        "frames": 7,
    }
    return Header(**{**fields, **changes})  # type: ignore[arg-type]


def random_unit(header: Header, number: int, frames: int, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed + number)
    tensors = [
        CodedTensor(np.rint(rng.laplace(0, 6, spec.shape)).astype(np.int32), -5)
        for spec in header.tensors(frames)
    ]
    return pack_unit(number, tensors)


def image_file(**changes: object) -> bytes:
    header = image_header(**changes)
    return write_container(header, [random_unit(header, 0, 1)], [1])


def video_file(metadata: dict[str, bytes] | None = None) -> bytes:
    header = video_header()
    frames = [3, 3, 1]
    units = [random_unit(header, n, f) for n, f in enumerate(frames)]
    return write_container(header, units, frames, metadata)


def with_colour(config: CoreConfig, colour: int, level: int) -> CoreConfig:
    """With so many colour grids from a level on, or as many as its levels allow."""
    level %= config.levels
    colour = min(colour, config.levels - level)
    return replace(config, colour=colour, colour_level=level if colour else 0)


def of_prior(number: int, **changes: int) -> CoreConfig:
    """What a prior was made for; without its colour grids if there are too few levels."""
    fields = {"levels": 7, "prior": number, **prior_shape(number), **changes}
    if fields["levels"] < fields["colour_level"] + fields["colour"]:
        fields |= {"colour": 0, "colour_level": 0}
    return CoreConfig(**fields)


def core_tensors(
    config: CoreConfig, channels: int, seed: int = 0, spread: float = 10.0
) -> list[CodedTensor]:
    """Weights whose context network predicts all sorts of means and scales."""
    rng = np.random.default_rng(seed)
    tensors = []
    for spec in config.tensors({}, channels):
        context = spec.name.startswith("context")
        wide = spread if spec.name in ("context.hidden", "context.out") else 0.6 * spread
        symbols = np.rint(rng.laplace(0, wide, spec.shape)).astype(np.int32)
        step = (-7 if spec.name == "context.out" else -6) if context else -8
        tensors.append(CodedTensor(symbols, step))
    return tensors


def core_grids(
    config: CoreConfig, height: int, width: int, spread: float = 3.0, seed: int = 0
) -> list[np.ndarray[Any, np.dtype[np.int32]]]:
    """Random latents."""
    rng = np.random.default_rng(seed)
    return [
        np.rint(rng.laplace(0, spread, shape)).astype(np.int32)
        for shape in config.grid_shapes(height, width)
    ]


def numbered(
    config: CoreConfig, height: int, width: int, spread: float = 3.0, seed: int = 0
) -> dict[int, np.ndarray[Any, np.dtype[np.int32]]]:
    """The same by number."""
    return dict(enumerate(core_grids(config, height, width, spread, seed)))


def shapes_of(config: CoreConfig, height: int, width: int) -> dict[int, tuple[int, int]]:
    """Rows and columns of all grids by number."""
    return dict(enumerate(config.grid_shapes(height, width)))


def same_grids(
    found: Mapping[int, np.ndarray[Any, Any]], wanted: Mapping[int, np.ndarray[Any, Any]]
) -> bool:
    """Whether these are the same grids by number, in the same order."""
    return list(found) == list(wanted) and all(
        np.array_equal(grid, wanted[number]) for number, grid in found.items()
    )
