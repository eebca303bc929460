"""What a user may ask of an encode, validated once."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from codec.fit.core_config import LAMBDAS
from formats.core import CoreConfig
from formats.errors import InputError
from formats.network import PARTITIONS, NetworkConfig

__all__ = ["DEFAULT_EFFORT", "EFFORT_STEPS", "FUSIONS", "EncodeOptions", "lambda_of_quality"]

EFFORT_STEPS = {
    1: 300,
    2: 600,
    3: 1200,
    4: 2500,
    5: 5000,
    6: 10_000,
    7: 20_000,
    8: 40_000,
    9: 100_000,
}
"""Optimiser steps of one unit (an image, a GOP) at each effort."""
FUSIONS = ("core", "rank")
"""Latent grids with an entropy model (images), and networks without latents (the paper)."""
DEFAULT_EFFORT = 4
DEFAULT_QUALITY = 50.0
DEFAULT_GOP = 16


def lambda_of_quality(quality: float) -> float:
    """q 0..100 to lambda: 2e-2 at 0, 2e-3 at 50, 2e-4 at 100."""
    return 2e-2 * 10 ** (-quality / 50)


@dataclass(frozen=True)
class EncodeOptions:
    """One encode, see `codec.encode` for the meaning of each field.

    Raises:
        InputError: a value out of range, or more than one rate target.
    """

    quality: float | None = None
    lam: float | None = None
    target_bpp: float | None = None
    target_size: int | None = None
    target_psnr: float | None = None
    effort: int = DEFAULT_EFFORT
    steps: int | None = None
    seed: int = 0
    fusion: str | None = None
    split: str | None = None
    gop: int = DEFAULT_GOP
    device: str = "auto"
    network: NetworkConfig | CoreConfig | None = None

    def __post_init__(self) -> None:
        """Check every range; NumPy's scalars become Python's."""
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), np.generic):
                object.__setattr__(self, field.name, value.item())
        targets = {
            "quality": (self.quality, 0.0, 100.0),
            "lambda": (self.lam, *LAMBDAS),
            "target bpp": (self.target_bpp, 1e-4, 64.0),
            "target size": (self.target_size, 64, 2**40),
            "target PSNR": (self.target_psnr, 5.0, 90.0),
        }
        given = [name for name, (value, _, _) in targets.items() if value is not None]
        if len(given) > 1:
            raise InputError(f"rate: expected one target, got {' and '.join(given)}")
        for name, (value, low, high) in targets.items():
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InputError(f"{name}: expected a number, got {value!r}")
            if not low <= value <= high:  # nor is NaN
                got = f"{value:g}" if isinstance(value, float) else str(value)
                raise InputError(f"{name}: expected {low:g}..{high:g}, got {got}")
        for name, number, low, high in (
            ("effort", self.effort, min(EFFORT_STEPS), max(EFFORT_STEPS)),
            ("steps", 100 if self.steps is None else self.steps, 10, 10**7),
            ("seed", self.seed, 0, 2**31 - 1),
            ("gop", self.gop, 1, 1024),
        ):
            if isinstance(number, bool) or not isinstance(number, int):
                raise InputError(f"{name}: expected an integer, got {number!r}")
            if not low <= number <= high:
                raise InputError(f"{name}: expected {low}..{high}, got {number}")
        if self.fusion not in (None, *FUSIONS):
            raise InputError(f"fusion: expected one of {', '.join(FUSIONS)}, got {self.fusion!r}")
        if not isinstance(self.network, NetworkConfig | CoreConfig | None):
            raise InputError(
                f"network: expected a NetworkConfig or a CoreConfig, got {self.network!r}"
            )
        if self._of_network is not None and self.fusion not in (None, self._of_network):
            raise InputError(
                f"fusion: {self.fusion} was asked for, the network is for {self._of_network}"
            )
        if "core" in (self.fusion, self._of_network) and self.split is not None:
            raise InputError("split: core fusion has none; it belongs to --fusion rank")
        if self.split is not None and self.split not in tuple(PARTITIONS):
            raise InputError(f"split: expected one of {', '.join(PARTITIONS)}, got {self.split!r}")

    @property
    def _of_network(self) -> str | None:
        """The fusion that an explicit network is for."""
        if self.network is None:
            return None
        return "core" if isinstance(self.network, CoreConfig) else "rank"

    @property
    def budget(self) -> int:
        """Optimiser steps of one unit."""
        return self.steps if self.steps is not None else EFFORT_STEPS[self.effort]

    @property
    def fixed_lambda(self) -> float | None:
        """Lambda, where it is given directly or as a quality; None with a target."""
        if self.lam is not None:
            return self.lam
        if self.target_bpp is self.target_size is self.target_psnr is None:
            quality = DEFAULT_QUALITY if self.quality is None else self.quality
            return lambda_of_quality(quality)
        return None

    def fusion_of(self, video: bool) -> str:
        """The fusion to use: core for images, unless something asks for rank fusion.

        Raises:
            InputError: core fusion of a video.
        """
        usual = "rank" if video or self.split is not None else "core"
        chosen = self.fusion or self._of_network or usual
        if chosen == "core" and video:
            raise InputError("fusion: a video takes rank, got core")
        return chosen

    def partition(self, video: bool) -> str:
        """The split to use for an image or a video."""
        split = self.split or ("x+y+t" if video else "x+y")
        if ("t" in split) != video:
            names = ", ".join(name for name in PARTITIONS if ("t" in name) == video)
            kind = "a video" if video else "an image"
            raise InputError(f"split: {kind} takes one of {names}, got {split}")
        return split
