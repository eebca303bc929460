"""What goes into an encode and what comes out of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from codec.fit.progress import Progress
from codec.signal import Samples
from formats.atomic import write_bytes
from formats.colour import SRGB, Colour

__all__ = ["EncodeProgress", "EncodeStats", "Encoded", "Media", "Survey"]


@dataclass(frozen=True)
class Media:
    """Samples to encode and how to present them.

    Attributes:
        units: a function that starts a new pass over the units: (H, W, C) for an image, or
            GOPs (T, H, W, C) in order. Videos are passed over twice.
        video: whether units are GOPs.
        bit_depth: of the samples.
        colour, subsampling, rate: see `formats.header.Header`.
        metadata: optional chunks, see `formats.container.METADATA`.
    """

    units: Callable[[], Iterable[Samples]]
    video: bool
    bit_depth: int
    colour: Colour = SRGB
    subsampling: str = "444"
    rate: Fraction = Fraction(1)
    metadata: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class EncodeProgress:
    """Where an encode stands.

    Attributes:
        unit, units: unit being fitted (from 0), and how many there are.
        round: fit of this unit (targets may take several), from 0.
        fit: the fit's own progress.
    """

    unit: int
    units: int
    round: int
    fit: Progress


@dataclass(frozen=True)
class EncodeStats:
    """What an encode gave; quality is that of the decoded samples.

    Attributes:
        bytes: size of the file.
        bpp: bits per pixel: all bytes of the file but the copied audio.
        audio_bytes: bytes of the copied audio.
        psnr: dB over all samples, from the decoded integer samples.
        width, height, frames, channels: of the media.
        parameters: weights of a unit.
        steps: optimiser steps run, all units and rounds (since the resumption, if resumed).
        seconds: wall time of the encode (of this run, if it was resumed).
        device: where it ran.
        lam: lambda of the last unit.
        target_met: False when a target PSNR was not reached.
        network: the architecture.
        units: bytes, PSNR and frames of each unit.
    """

    bytes: int
    bpp: float
    audio_bytes: int
    psnr: float
    width: int
    height: int
    frames: int
    channels: int
    parameters: int
    steps: int
    seconds: float
    device: str
    lam: float
    target_met: bool
    network: dict[str, Any]
    units: list[dict[str, float]]


@dataclass(frozen=True)
class Encoded:
    """The result of an encode.

    Attributes:
        data: the bytes of a `.crdx` file.
        stats: size, quality, time, network.
    """

    data: bytes = field(repr=False)
    stats: EncodeStats

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Write the file atomically.

        Raises:
            OutputError: it cannot be written, or exists and `overwrite` is False.
        """
        write_bytes(path, self.data, overwrite=overwrite)


@dataclass
class Survey:
    """What a first pass over the media tells."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)
    bits: list[float] = field(default_factory=list)
    digest: str = ""
