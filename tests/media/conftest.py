"""Media that the tests make themselves, and the optional real media beside the repository."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from codec.media import VideoInfo
from codec.media.values import Samples
from formats.colour import BT709, Colour

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLES = REPOSITORY / "codec" / "samples"
SHARED = REPOSITORY.parent / "shared" / "data"


@pytest.fixture
def shared() -> Path:
    """The folder of real test media; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: the real test media are not part of the repository")
    return SHARED


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def noise(rng: np.random.Generator, shape: tuple[int, ...], bits: int = 8) -> Samples:
    """Uniform samples of `bits` bits: nothing that a codec or a filter could guess."""
    kind = np.uint8 if bits == 8 else np.uint16
    return rng.integers(0, 1 << bits, shape, dtype=np.uint32).astype(kind)


def smooth(height: int, width: int, bits: int = 8, phase: float = 0.0) -> Samples:
    """A slowly varying R'G'B' frame: chroma subsampling changes it little."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [0.5 + 0.3 * np.sin(x / 25 + c + phase) * np.cos(y / 30 - c) for c in range(3)]
    kind = np.uint8 if bits == 8 else np.uint16
    return np.round(np.stack(waves, axis=-1) * ((1 << bits) - 1)).astype(kind)


def clip_info(
    width: int = 32,
    height: int = 24,
    *,
    channels: int = 3,
    bits: int = 8,
    rate: Fraction = Fraction(25),
    colour: Colour = BT709,
    subsampling: str = "420",
) -> VideoInfo:
    return VideoInfo(width, height, channels, bits, rate, colour, subsampling)


@pytest.fixture
def ffmpeg() -> Callable[..., bytes]:
    """Run ffmpeg as an independent witness, or to make a clip; returns its standard output."""
    from codec.media.ffmpeg import executable

    def call(*arguments: object) -> bytes:
        command = [executable(), "-v", "error", "-nostdin", "-y", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, check=True).stdout

    return call
