"""Still pictures through the ffmpeg of imageio-ffmpeg: JPEG XL, HEVC intra, VVC intra.

HEVC and VVC code Y'CbCr: R'G'B' is converted with the BT.601 matrix at full range, as in JPEG
and BPG, to 10 bits a sample, which costs nothing in rate and leaves no rounding to be seen.
The file is the bare elementary stream, tagged with its colour; no container is counted.
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from codec.evaluate import ffmpeg
from codec.evaluate.metrics import Samples
from codec.evaluate.settings import (
    VVENC_PRESETS,
    X26_PRESETS,
    check_choice,
    check_points,
    integer_point,
)
from codec.media.planes import PlanarFormat
from codec.media.y4m import read_frames, read_header
from formats.errors import InputError, MediaError

__all__ = ["HevcIntra", "JpegXl", "VvcIntra"]

DEPTH = 10
DECODE_LIMIT = 300.0  # seconds; a 20-byte JPEG XL file was seen to keep ffmpeg 9 busy for ever
BT601 = 6  # H.273 MatrixCoefficients
TAGS = "setparams=range=pc:colorspace=smpte170m:color_primaries=bt709:color_trc=iec61966-2-1"
PLANES = "ffmpeg -f rawvideo -s WIDTHxHEIGHT -r 1"
"""Start of a command: it reads the planes of Y'CbCr that docs/evaluation.md defines."""


@dataclass(frozen=True)
class JpegXl:
    """JPEG XL by libjxl, lossy in XYB; quality is the scale of cjxl.

    JPEG XL aims at a perceptual distance: its PSNR says less of it than that of the others.
    """

    effort: int = 7
    qualities: tuple[float, ...] = (12, 30, 50, 65, 80, 90, 95)

    options: ClassVar[Mapping[str, Callable[[str], object]]] = {"effort": int}
    point: ClassVar[str] = "quality"
    suffix: ClassVar[str] = ".jxl"
    quality_range: ClassVar[tuple[int, int]] = (11, 99)  # libjxl takes distances up to 15

    def __post_init__(self) -> None:
        """Check the settings once."""
        if not 1 <= self.effort <= 9:
            raise InputError(f"jxl effort: expected 1..9, got {self.effort}")
        check_points("quality", self.qualities, self.quality_range)

    @property
    def name(self) -> str:
        """`jxl`, or `jxl-e9` and so on."""
        return "jxl" if self.effort == 7 else f"jxl-e{self.effort}"

    def version(self) -> str:
        """ffmpeg and the library inside it."""
        return ffmpeg.require("encoder", "libjxl")

    def command(self, q: float) -> str:
        """The arguments of ffmpeg at quality `q`."""
        return " ".join(("ffmpeg -i SOURCE", *self._settings(q), "FILE.jxl"))

    def encode(self, samples: Samples, q: float) -> bytes:
        """A JPEG XL file; greyscale, RGB or RGBA, 8 bits."""
        pixels = _check_samples("jxl", samples, {1: "gray", 3: "rgb24", 4: "rgba"})
        if samples.shape[2] == 4 and not samples[..., 3].all():
            # ffmpeg cannot ask libjxl to keep them, and the metrics count every sample.
            raise InputError("jxl: the colours under transparent samples would not be kept")
        arguments = [*_raw_input(samples, pixels), *self._settings(q), "-f", "image2pipe", "-"]
        data = np.ascontiguousarray(samples).tobytes()
        return ffmpeg.run(arguments, task="cannot encode with libjxl", stdin=data).stdout

    def decode(self, data: bytes) -> Samples:
        """Samples (H, W, 1, 3 or 4) uint8."""
        arguments = [
            "-threads",
            "1",
            "-f",
            "jpegxl_pipe",
            "-i",
            "-",
            "-f",
            "image2pipe",
            "-c:v",
            "pam",
            "-",
        ]
        task = f"cannot decode {len(data)} bytes as JPEG XL"
        return _pam(ffmpeg.run(arguments, task=task, stdin=data, limit=DECODE_LIMIT).stdout, task)

    def _settings(self, q: float) -> tuple[str, ...]:
        distance = _distance(integer_point("quality", q, self.quality_range))
        settings = ("-c:v", "libjxl", "-threads", "1", "-effort", str(self.effort))
        return (*settings, "-distance", f"{distance:.4g}")


@dataclass(frozen=True)
class HevcIntra:
    """HEVC intra by x265: one key frame at a constant quantiser, tuned for PSNR.

    4:4:4 unless told otherwise, as BPG 4:4:4 is: at high rates 4:2:0 cannot reach the PSNR.
    """

    preset: str = "slow"
    chroma: str = "4:4:4"
    qualities: tuple[float, ...] = (42, 37, 32, 27, 22, 17)

    options: ClassVar[Mapping[str, Callable[[str], object]]] = {"preset": str, "chroma": str}
    point: ClassVar[str] = "qp"
    suffix: ClassVar[str] = ".hevc"
    quality_range: ClassVar[tuple[int, int]] = (51, 4)

    def __post_init__(self) -> None:
        """Check the settings once."""
        check_choice("hevc-intra preset", self.preset, X26_PRESETS)
        check_choice("hevc-intra chroma", self.chroma, ("4:2:0", "4:4:4"))
        check_points("qp", self.qualities, self.quality_range)

    @property
    def name(self) -> str:
        """`hevc-intra`, with preset and chroma where they are not the default."""
        preset = "" if self.preset == "slow" else f"-{self.preset}"
        return f"hevc-intra{preset}{'' if self.chroma == '4:4:4' else '-420'}"

    def version(self) -> str:
        """ffmpeg and the library inside it."""
        return ffmpeg.require("encoder", "libx265")

    def command(self, q: float) -> str:
        """The arguments of ffmpeg at quantiser `q`."""
        pixels = f"-pix_fmt yuv{self.chroma.replace(':', '')}p10le"
        return " ".join(
            (PLANES, pixels, "-i SOURCE.yuv -vf", TAGS, *self._settings(q), "FILE.hevc")
        )

    def encode(self, samples: Samples, q: float) -> bytes:
        """An HEVC elementary stream; greyscale (as 4:0:0) or RGB, 8 bits."""
        _check_samples("hevc-intra", samples, {1: "", 3: ""})
        chroma = self.chroma.replace(":", "") if samples.shape[2] == 3 else "400"
        return _encode(samples, chroma, self._settings(q), "hevc", "libx265")

    def decode(self, data: bytes) -> Samples:
        """Samples (H, W, 1 or 3) uint8."""
        return _decode(data, "hevc", "HEVC")

    def _settings(self, q: float) -> tuple[str, ...]:
        qp = integer_point("qp", q, self.quality_range)
        one_thread = "pools=none:frame-threads=1"  # the bytes do not depend on the machine
        parameters = f"qp={qp}:keyint=1:info=0:log-level=error:{one_thread}"
        settings = ("-c:v", "libx265", "-preset", self.preset, "-tune", "psnr")
        return (*settings, "-threads", "1", "-x265-params", parameters)


@dataclass(frozen=True)
class VvcIntra:
    """VVC intra by VVenC: one picture at a constant quantiser, no perceptual adaptation.

    VVenC has 4:2:0 only, so that its curve flattens at high rates where those of 4:4:4 codecs
    do not.
    """

    preset: str = "medium"
    qualities: tuple[float, ...] = (42, 37, 32, 27, 22)

    options: ClassVar[Mapping[str, Callable[[str], object]]] = {"preset": str}
    point: ClassVar[str] = "qp"
    suffix: ClassVar[str] = ".vvc"
    quality_range: ClassVar[tuple[int, int]] = (63, 4)

    def __post_init__(self) -> None:
        """Check the settings once."""
        check_choice("vvc-intra preset", self.preset, VVENC_PRESETS)
        check_points("qp", self.qualities, self.quality_range)

    @property
    def name(self) -> str:
        """`vvc-intra`, or `vvc-intra-slow` and so on."""
        return "vvc-intra" if self.preset == "medium" else f"vvc-intra-{self.preset}"

    def version(self) -> str:
        """ffmpeg and the library inside it."""
        return ffmpeg.require("encoder", "libvvenc")

    def command(self, q: float) -> str:
        """The arguments of ffmpeg at quantiser `q`."""
        pixels = "-pix_fmt yuv420p10le"
        return " ".join((PLANES, pixels, "-i SOURCE.yuv -vf", TAGS, *self._settings(q), "FILE.vvc"))

    def encode(self, samples: Samples, q: float) -> bytes:
        """A VVC elementary stream; greyscale (with empty chroma) or RGB, 8 bits."""
        _check_samples("vvc-intra", samples, {1: "", 3: ""})
        return _encode(samples, "420", self._settings(q), "vvc", "libvvenc")

    def decode(self, data: bytes) -> Samples:
        """Samples (H, W, 3) uint8; H and W even, the caller crops what was odd."""
        return _decode(data, "vvc", "VVC")

    def _settings(self, q: float) -> tuple[str, ...]:
        qp = integer_point("qp", q, self.quality_range)
        settings = ("-c:v", "libvvenc", "-preset", self.preset, "-threads", "1")
        return (*settings, "-qp", str(qp), "-qpa", "0")


def _encode(
    samples: Samples, chroma: str, settings: tuple[str, ...], muxer: str, library: str
) -> bytes:
    """(H, W, 1 or 3) uint8 to a stream of one 10-bit picture of the given subsampling."""
    if chroma == "420":  # an odd row or column is doubled: 4:2:0 streams have even sizes
        odd = (samples.shape[0] % 2, samples.shape[1] % 2)
        samples = np.pad(samples, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
    height, width = samples.shape[:2]
    layout = PlanarFormat(width, height, DEPTH, chroma, BT601, full_range=True, siting="left")
    planes = layout.encode(_to_depth(samples))
    pixels = "gray10le" if chroma == "400" else f"yuv{chroma}p10le"
    # Not to standard output: VVenC writes its warnings there, which would be in the stream.
    arguments = [*_raw_input(samples, pixels), "-vf", TAGS, *settings, "-f", muxer, "coded"]
    with tempfile.TemporaryDirectory(prefix="coordx-") as name:
        folder = Path(name)
        ffmpeg.run(arguments, task=f"cannot encode with {library}", stdin=planes, folder=folder)
        return (folder / "coded").read_bytes()


def _decode(data: bytes, demuxer: str, what: str) -> Samples:
    task = f"cannot decode {len(data)} bytes as {what}"
    read = ["-xerror", "-threads", "1", "-f", demuxer, "-i", "-"]
    arguments = [*read, "-strict", "-1", "-f", "yuv4mpegpipe", "-"]
    stream = io.BytesIO(ffmpeg.run(arguments, task=task, stdin=data, limit=DECODE_LIMIT).stdout)
    if not stream.getvalue():
        raise MediaError(f"{task}: it holds no picture")
    _, layout = read_header(stream, task)
    if layout.bit_depth != DEPTH:
        raise MediaError(f"{task}: expected {DEPTH} bits a sample, got {layout.bit_depth}")
    tagged = replace(layout, matrix=BT601, full_range=True, siting="left")
    frame = next(iter(read_frames(stream, tagged, task)), None)
    if frame is None:
        raise MediaError(f"{task}: it holds no picture")
    top = (1 << DEPTH) - 1
    scaled: Samples = ((frame.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
    return scaled


def _to_depth(samples: Samples) -> Samples:
    """8-bit full-range samples at DEPTH bits, to the nearest."""
    top = (1 << DEPTH) - 1
    wide: Samples = ((samples.astype(np.uint32) * top + 127) // 255).astype(np.uint16)
    return wide


def _raw_input(samples: Samples, pixels: str) -> tuple[str, ...]:
    height, width = samples.shape[:2]
    size = ("-s", f"{width}x{height}", "-r", "1")
    return ("-f", "rawvideo", "-pix_fmt", pixels, *size, "-i", "-", "-frames:v", "1")


def _pam(data: bytes, task: str) -> Samples:
    """Samples of the PAM file that ffmpeg writes; 16-bit ones are rounded to 8."""
    head, found, body = data.partition(b"ENDHDR\n")
    words = head.split()
    if not found or words[0] != b"P7":
        raise MediaError(f"{task}: it holds no picture")
    fields = {words[n]: words[n + 1] for n in range(1, len(words) - 1, 2)}
    shape = tuple(int(fields[key]) for key in (b"HEIGHT", b"WIDTH", b"DEPTH"))
    wide = int(fields[b"MAXVAL"]) > 255
    samples = np.frombuffer(body, ">u2" if wide else "u1", math.prod(shape)).reshape(shape)
    if not wide:
        return samples.copy()
    return ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _distance(quality: int) -> float:
    """Butteraugli distance of a quality, on the scale that cjxl uses."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25


def _check_samples(name: str, samples: Samples, pixels: Mapping[int, str]) -> str:
    channels = samples.shape[2] if samples.ndim == 3 else 0
    if channels not in pixels or samples.dtype != np.uint8:
        raise InputError(
            f"{name} takes (H, W, C) uint8 samples with C one of {tuple(pixels)}, "
            f"got {samples.shape} {samples.dtype}"
        )
    return pixels[channels]
