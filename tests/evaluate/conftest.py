"""Codecs and pictures that cost nothing, for tests of what surrounds a codec."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from codec.evaluate import ffmpeg
from codec.evaluate.metrics import Samples
from tests.conftest import SAMPLES, picture


@dataclass(frozen=True)
class StepCodec:
    """Samples rounded to multiples of a step, a byte each: real bytes, known error.

    Counts its encodes; fails on a picture whose first sample is `poison`.
    """

    name: str = "step"
    qualities: tuple[float, ...] = (1, 8, 32)
    revision: str = "1"
    poison: int | None = None
    encodes: list[float] = field(default_factory=list)
    before_encode: Callable[[int], None] | None = None

    point: ClassVar[str] = "step"
    suffix: ClassVar[str] = ".step"
    options: ClassVar[Mapping[str, Callable[[str], object]]] = {"revision": str}

    def version(self) -> str:
        return f"step codec {self.revision}"

    def command(self, q: float) -> str:
        return f"step={q:g}"

    def encode(self, samples: Samples, q: float) -> bytes:
        if self.before_encode is not None:
            self.before_encode(len(self.encodes))
        self.encodes.append(q)
        if self.poison is not None and samples.flat[0] == self.poison:
            raise RuntimeError("the picture\nis poisoned")
        coded = samples.astype(np.uint16) // int(q) * int(q)
        # Fewer bytes for a larger step, as a codec would: a byte string of the levels' bits.
        bits = max(1, int(256 / q - 1).bit_length())
        levels = (coded // int(q)).astype(np.uint8).ravel()
        planes = np.unpackbits(levels[:, None], axis=1)[:, 8 - bits :]
        head = struct.pack("<HHBBB", *samples.shape, int(q), bits)
        return head + np.packbits(planes).tobytes()

    def decode(self, data: bytes) -> Samples:
        height, width, channels, step, bits = struct.unpack("<HHBBB", data[:7])
        count = height * width * channels
        planes = np.unpackbits(np.frombuffer(data[7:], np.uint8))[: count * bits]
        padded = np.pad(planes.reshape(count, bits), ((0, 0), (8 - bits, 0)))
        levels = np.packbits(padded, axis=1).reshape(height, width, channels)
        return levels * np.uint8(step)


@pytest.fixture(scope="session")
def astronaut() -> Samples:
    """The bundled photograph, (512, 512, 3) uint8."""
    with Image.open(SAMPLES / "astronaut.png") as image:
        return np.array(image.convert("RGB"))


@pytest.fixture(scope="session")
def photo(astronaut: Samples) -> Samples:
    """The face in it, (96, 128, 3) uint8."""
    return astronaut[40:136, 160:288]


def cut_bunny(path: Path, frames: int) -> Path:
    """The first frames of the bundled clip, as they are coded, without sound."""
    copy = ["-i", str(SAMPLES / "bunny.mp4"), "-an", "-c:v", "copy", "-frames:v", str(frames)]
    ffmpeg.run([*copy, str(path)], task="cut")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Two small RGB files, of different content."""
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    Image.fromarray(picture()).save(paths[0])
    Image.fromarray(255 - picture(20, 28)).save(paths[1])
    return paths
