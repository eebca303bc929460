"""The image codecs that Pillow carries: JPEG, JPEG 2000, WebP, AVIF, as plug-ins of one interface.

Every figure comes from real bytes: encode() returns the file a user would store, decode()
sees nothing but those bytes. Each codec runs in one thread, so that seconds can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from codec.evaluate import pillow
from codec.evaluate.metrics import Samples
from codec.evaluate.settings import check_choice, check_points, check_sweep, integer_point
from formats.errors import InputError

__all__ = ["Avif", "Jpeg", "Jpeg2000", "WebP"]

SUBSAMPLINGS = ("4:2:0", "4:2:2", "4:4:4")


@dataclass(frozen=True)
class Jpeg:
    """Anchor of all comparisons: libjpeg-turbo, optimised Huffman tables, progressive scan.

    `scan="baseline"` has the default tables and a sequential scan, as Pillow writes when only
    a quality is asked for: the files of most published curves, 5 to 10% larger.
    """

    subsampling: str = "4:2:0"
    scan: str = "progressive"
    qualities: tuple[float, ...] = (5, 10, 20, 35, 50, 70, 85, 95)

    options: ClassVar[Mapping[str, Callable[[str], object]]] = {"subsampling": str, "scan": str}
    point: ClassVar[str] = "quality"
    suffix: ClassVar[str] = ".jpg"
    quality_range: ClassVar[tuple[int, int]] = (1, 100)

    def __post_init__(self) -> None:
        """Check the settings once."""
        if self.scan not in ("progressive", "baseline"):
            raise InputError(f"jpeg scan: expected progressive or baseline, got {self.scan!r}")
        check_choice("subsampling", self.subsampling, SUBSAMPLINGS)
        check_points("quality", self.qualities, self.quality_range)

    @property
    def name(self) -> str:
        """`jpeg`, or `jpeg-baseline`, `jpeg-444` and so on."""
        scan = "" if self.scan == "progressive" else f"-{self.scan}"
        chroma = "" if self.subsampling == "4:2:0" else f"-{_digits(self.subsampling)}"
        return f"jpeg{scan}{chroma}"

    def version(self) -> str:
        """Pillow and the JPEG library inside it."""
        return pillow.version("jpg", "libjpeg_turbo", "libjpeg-turbo")

    def command(self, q: float) -> str:
        """The call of Pillow at quality `q`."""
        return pillow.command("JPEG", self._settings(q))

    def encode(self, samples: Samples, q: float) -> bytes:
        """A JPEG file; greyscale or RGB, 8 bits."""
        return pillow.save(samples, "JPEG", (1, 3), self._settings(q))

    def decode(self, data: bytes) -> Samples:
        """Samples (H, W, 1 or 3) uint8."""
        return pillow.load(data, "JPEG")

    def _settings(self, q: float) -> dict[str, Any]:
        quality = integer_point("quality", q, self.quality_range)
        return {
            "quality": quality,
            "subsampling": self.subsampling,
            "optimize": self.scan == "progressive",
            "progressive": self.scan == "progressive",
        }


@dataclass(frozen=True)
class WebP:
    """Lossy WebP (VP8 intra, always 4:2:0) at its slowest, best method."""

    method: int = 6
    qualities: tuple[float, ...] = (1, 10, 25, 45, 65, 80, 90, 95)

    options: ClassVar[Mapping[str, Callable[[str], object]]] = {"method": int}
    point: ClassVar[str] = "quality"
    suffix: ClassVar[str] = ".webp"
    quality_range: ClassVar[tuple[int, int]] = (0, 100)

    def __post_init__(self) -> None:
        """Check the settings once."""
        if not 0 <= self.method <= 6:
            raise InputError(f"webp method: expected 0..6, got {self.method}")
        check_points("quality", self.qualities, self.quality_range)

    @property
    def name(self) -> str:
        """`webp`, or `webp-m4` and so on."""
        return "webp" if self.method == 6 else f"webp-m{self.method}"

    def version(self) -> str:
        """Pillow and the libwebp inside it."""
        return pillow.version("webp", "webp", "libwebp")

    def command(self, q: float) -> str:
        """The call of Pillow at quality `q`."""
        return pillow.command("WEBP", self._settings(q))

    def encode(self, samples: Samples, q: float) -> bytes:
        """A WebP file; RGB or RGBA, 8 bits; greyscale is stored as RGB, WebP has no other."""
        if samples.ndim == 3 and samples.shape[2] == 1:
            samples = np.repeat(samples, 3, axis=2)
        return pillow.save(samples, "WEBP", (3, 4), self._settings(q))

    def decode(self, data: bytes) -> Samples:
        """Samples (H, W, 3 or 4) uint8; an opaque alpha channel is not stored."""
        return pillow.load(data, "WEBP")

    def _settings(self, q: float) -> dict[str, Any]:
        # exact: WebP otherwise changes the colours under transparent samples to save bytes,
        # and the metrics count every sample.
        return {
            "quality": integer_point("quality", q, self.quality_range),
            "method": self.method,
            "exact": True,
        }


@dataclass(frozen=True)
class Avif:
    """AVIF by libaom, 4:4:4 unless told otherwise.

    Speed 4 is some ten times as fast as speed 0 for a few percent of rate; the name carries
    the speed because a curve without it says little.
    """

    speed: int = 4
    subsampling: str = "4:4:4"
    qualities: tuple[float, ...] = (15, 30, 45, 55, 65, 75, 85, 92)

    options: ClassVar[Mapping[str, Callable[[str], object]]] = {"speed": int, "subsampling": str}
    point: ClassVar[str] = "quality"
    suffix: ClassVar[str] = ".avif"
    quality_range: ClassVar[tuple[int, int]] = (0, 100)

    def __post_init__(self) -> None:
        """Check the settings once."""
        if not 0 <= self.speed <= 10:
            raise InputError(f"avif speed: expected 0..10, got {self.speed}")
        check_choice("subsampling", self.subsampling, SUBSAMPLINGS)
        check_points("quality", self.qualities, self.quality_range)

    @property
    def name(self) -> str:
        """`avif-s4`, or `avif-s4-420` and so on."""
        suffix = "" if self.subsampling == "4:4:4" else f"-{_digits(self.subsampling)}"
        return f"avif-s{self.speed}{suffix}"

    def version(self) -> str:
        """Pillow and the libavif inside it."""
        return pillow.version("avif", "avif", "libavif")

    def command(self, q: float) -> str:
        """The call of Pillow at quality `q`."""
        return pillow.command("AVIF", self._settings(q))

    def encode(self, samples: Samples, q: float) -> bytes:
        """An AVIF file; greyscale, RGB or RGBA, 8 bits."""
        settings = self._settings(q)
        if samples.ndim == 3 and samples.shape[2] == 1:
            settings["subsampling"] = "4:0:0"
        return pillow.save(samples, "AVIF", (1, 3, 4), settings)

    def decode(self, data: bytes) -> Samples:
        """Samples (H, W, 3 or 4) uint8."""
        return pillow.load(data, "AVIF")

    def _settings(self, q: float) -> dict[str, Any]:
        # Automatic tiling depends on the number of threads: the bytes would depend on the
        # machine. One thread also makes the seconds comparable with the other codecs.
        return {
            "quality": integer_point("quality", q, self.quality_range),
            "speed": self.speed,
            "subsampling": self.subsampling,
            "codec": "aom",
            "autotiling": False,
            "max_threads": 1,
        }


@dataclass(frozen=True)
class Jpeg2000:
    """JPEG 2000 by OpenJPEG: 9/7 wavelet, one layer aimed at a PSNR, colour transform on.

    Points are PSNR targets in dB, of which OpenJPEG falls short by a little: the samples'
    rounding and the colour transform come on top of what it counts.
    """

    qualities: tuple[float, ...] = (24, 27, 30, 33, 36, 39, 42)

    options: ClassVar[Mapping[str, Callable[[str], object]]] = {}
    point: ClassVar[str] = "target"
    suffix: ClassVar[str] = ".jp2"
    quality_range: ClassVar[tuple[int, int]] = (15, 60)
    quality_step: ClassVar[float] = 0.25

    def __post_init__(self) -> None:
        """Check the settings once."""
        check_sweep("target", self.qualities)
        for q in self.qualities:
            self._settings(q, 3)

    @property
    def name(self) -> str:
        """`jpeg2000`."""
        return "jpeg2000"

    def version(self) -> str:
        """Pillow and the OpenJPEG inside it."""
        return pillow.version("jpg_2000", "jpg_2000", "OpenJPEG")

    def command(self, q: float) -> str:
        """The call of Pillow at a target of `q` dB."""
        return pillow.command("JPEG2000", self._settings(q, 3))

    def encode(self, samples: Samples, q: float) -> bytes:
        """A JP2 file; greyscale, RGB or RGBA, 8 bits."""
        channels = samples.shape[-1] if samples.ndim == 3 else 0
        return pillow.save(samples, "JPEG2000", (1, 3, 4), self._settings(q, channels))

    def decode(self, data: bytes) -> Samples:
        """Samples (H, W, 1, 3 or 4) uint8."""
        return pillow.load(data, "JPEG2000")

    def _settings(self, q: float, channels: int) -> dict[str, Any]:
        low, high = self.quality_range
        if not low <= q <= high:
            raise InputError(f"jpeg2000 target: expected {low}..{high} dB, got {q:g}")
        return {
            "quality_mode": "dB",
            "quality_layers": [float(q)],
            "irreversible": True,
            "mct": int(channels == 3),
        }


def _digits(subsampling: str) -> str:
    return subsampling.replace(":", "")
