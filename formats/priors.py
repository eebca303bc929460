"""Priors: weights that the symbols of a core-fusion file are relative to.

Networks of different pictures resemble each other; a file that names a prior codes only the
differences, most of which are zero. A prior is part of the format: its integers never change, a
better one gets a new number. `tools/train_prior.py` makes them. Number 0 is "all zeros".

A prior is trained with seven levels, colour grids at some of them or none, and three channels.
For more levels, what belongs to the coarsest one is repeated; for fewer, the coarser ones are left
out, and so are the colour grids of a picture without. A grey picture starts from the weights of
green, alpha from zero; 3x3 layers of other than three channels start from zero.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from formats.errors import InputError

if TYPE_CHECKING:
    from formats.core import CoreConfig

__all__ = ["PRIORS", "PriorTensor", "check_prior", "prior_shape", "prior_tensors"]

PRIORS: tuple[int, ...] = (1, 2, 3)
"""Numbers of the priors that this version knows, besides 0."""

GRID_AXIS = {"context.level": 1, "filter": 0, "tail.weight": 1, "skip": 1}
"""Axis of a tensor that runs over grids."""
BY_CHANNEL = ("output.weight", "output.bias", "skip")
"""Tensors whose first axis runs over channels."""


@dataclass(frozen=True)
class PriorTensor:
    """Start of one tensor: values * 2^exponent, exactly.

    Attributes:
        values: int64, of the tensor's shape.
        exponent: -24..0; the context's is the fixed point of its tensor.
    """

    values: npt.NDArray[np.int64]
    exponent: int

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """The real values."""
        return np.ldexp(self.values.astype(np.float64), self.exponent)


@lru_cache(maxsize=8)
def _load(number: int) -> dict[str, Any]:
    text = resources.files("formats").joinpath(f"data/prior{number}.json").read_text("ascii")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def prior_shape(number: int) -> dict[str, Any]:
    """The fields of `CoreConfig` that a prior is made for besides `block`, 0: units of both
    networks, and the colour grids, which may be left out."""
    stored = _load(number)
    return {name: stored[name] for name in ("hidden", "width", "colour", "colour_level")}


def check_prior(config: CoreConfig) -> None:
    """Refuse a configuration that its prior was not made for.

    Raises:
        InputError: it has other dimensions than the prior's networks, other colour grids, or
            grids of many blocks.
    """
    if not config.prior:
        return
    if config.block:
        raise InputError(
            f"core network block: prior {config.prior} is for grids of one block (0), "
            f"got {config.block}"
        )
    for name, wanted in prior_shape(config.prior).items():
        if name.startswith("colour") and not config.colour:
            continue
        if getattr(config, name) != wanted:
            raise InputError(
                f"core network {name}: prior {config.prior} is for {wanted}, "
                f"got {getattr(config, name)}"
            )


def prior_tensors(config: CoreConfig, channels: int) -> dict[str, PriorTensor]:
    """The start of every tensor that has one; the others start from zero."""
    if not config.prior:
        return {}
    entry, found = _load(config.prior), {}
    stored, levels = entry["tensors"], entry["levels"]
    grids = [min(level, levels - 1) for level in range(config.levels)]
    grids += range(levels, levels + config.colour)
    for spec in config.tensors({}, channels):
        if spec.name not in stored:
            continue
        entry = stored[spec.name]
        values = np.array(entry["values"], dtype=np.int64).reshape(entry["shape"])
        if spec.name in GRID_AXIS:
            values = values.take(grids, axis=GRID_AXIS[spec.name])
        if spec.name == "kernel":  # the stages between levels
            values = values[[min(stage, levels - 2) for stage in range(config.levels - 1)]]
        if spec.name in BY_CHANNEL and channels == 1:
            values = values[1:2]
        if spec.name in BY_CHANNEL and channels == 4:
            values = np.concatenate([values, np.zeros_like(values[:1])])
        if values.shape == spec.shape:
            found[spec.name] = PriorTensor(values, entry["exponent"])
    return found
