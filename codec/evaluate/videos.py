"""The video codecs others use, at named presets: x264, x265, SVT-AV1, VP9, VVenC.

All through the ffmpeg that imageio-ffmpeg carries, 4:2:0, one thread each, constant quality,
tuned for PSNR where the encoder has such a setting. The file is the bare elementary stream
(IVF for VP9, which has no other): no container and no sound is counted. A key frame is
requested at least every `keyint` frames, which the name states.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

from codec.evaluate import ffmpeg
from codec.evaluate.clips import Clip, at_depth, read_clip
from codec.evaluate.settings import (
    VVENC_PRESETS,
    X26_PRESETS,
    check_choice,
    check_points,
    integer_point,
)
from formats.errors import InputError

__all__ = ["VIDEO_ENCODERS", "Encoder", "FFmpegVideo"]

DEFAULT_KEYINT = 32


@dataclass(frozen=True)
class Encoder:
    """What differs from one encoder to the next.

    Attributes:
        name: short name of the codec.
        library: ffmpeg's name of the encoder.
        muxer, demuxer: ffmpeg's names of the stream format.
        presets: the presets it has, by the names its users know.
        preset: the default one.
        point: what a point of the sweep is called, "crf" or "qp".
        points: the default sweep.
        limit: the largest point.
        settings: (preset, point, keyint) to arguments.
        depth: bits a sample that it needs, 0 for those of the clip.
        passes: 1 or 2.
    """

    name: str
    library: str
    muxer: str
    demuxer: str
    presets: tuple[str, ...]
    preset: str
    point: str
    points: tuple[float, ...]
    limit: int
    settings: Callable[[str, int, int], tuple[str, ...]]
    depth: int = 0
    passes: int = 1


def _x264(preset: str, crf: int, keyint: int) -> tuple[str, ...]:
    return ("-preset", preset, "-tune", "psnr", "-crf", str(crf), "-g", str(keyint))


def _x265(preset: str, crf: int, keyint: int) -> tuple[str, ...]:
    one_thread = "pools=none:frame-threads=1:info=0:log-level=error"
    parameters = f"crf={crf}:keyint={keyint}:{one_thread}"
    return ("-preset", preset, "-tune", "psnr", "-x265-params", parameters)


def _svt_av1(preset: str, crf: int, keyint: int) -> tuple[str, ...]:
    parameters = ("-svtav1-params", "tune=1:lp=1")  # tune 1 is PSNR
    return ("-preset", preset, "-crf", str(crf), "-g", str(keyint), *parameters)


def _vp9(preset: str, crf: int, keyint: int) -> tuple[str, ...]:
    speed = ("-deadline", "good", "-cpu-used", preset, "-row-mt", "0", "-tune", "psnr")
    return (*speed, "-crf", str(crf), "-b:v", "0", "-g", str(keyint))


def _vvenc(preset: str, qp: int, keyint: int) -> tuple[str, ...]:
    period = ("-vvenc-params", f"intraperiod={keyint}")
    return ("-preset", preset, "-qp", str(qp), "-qpa", "0", *period)


_SPEEDS = tuple(str(n) for n in range(14))
_CRF = (22.0, 27.0, 32.0, 37.0)
_AV1 = (25.0, 35.0, 45.0, 55.0)

VIDEO_ENCODERS: Mapping[str, Encoder] = {
    encoder.name: encoder
    for encoder in (
        Encoder("x264", "libx264", "h264", "h264", X26_PRESETS, "medium", "crf", _CRF, 51, _x264),
        Encoder("x265", "libx265", "hevc", "hevc", X26_PRESETS, "medium", "crf", _CRF, 51, _x265),
        Encoder("svt-av1", "libsvtav1", "obu", "obu", _SPEEDS, "6", "crf", _AV1, 63, _svt_av1),
        Encoder(
            "vp9", "libvpx-vp9", "ivf", "ivf", _SPEEDS[:6], "2", "crf", _AV1, 63, _vp9, passes=2
        ),
        Encoder(
            "vvenc", "libvvenc", "vvc", "vvc", VVENC_PRESETS, "medium", "qp", _CRF, 63, _vvenc, 10
        ),
    )
}


@dataclass(frozen=True)
class FFmpegVideo:
    """One encoder at one preset.

    Attributes:
        encoder: a key of VIDEO_ENCODERS.
        preset: of the encoder; its default when empty.
        keyint: frames between key frames at most.
        qualities: points of the sweep; the encoder's default when empty.

    Raises:
        InputError: a setting that the encoder does not have.
    """

    encoder: str = "x264"
    preset: str = ""
    keyint: int = DEFAULT_KEYINT
    qualities: tuple[float, ...] = ()

    options: ClassVar[Mapping[str, Callable[[str], object]]] = {"preset": str, "keyint": int}

    def __post_init__(self) -> None:
        """Fill in the encoder's defaults and check the settings once."""
        check_choice("video encoder", self.encoder, VIDEO_ENCODERS)
        about = self._about
        if not self.preset:
            object.__setattr__(self, "preset", about.preset)
        if not self.qualities:
            object.__setattr__(self, "qualities", about.points)
        check_choice(f"{self.encoder} preset", self.preset, about.presets)
        if not 1 <= self.keyint <= 1000:
            raise InputError(f"{self.encoder} keyint: expected 1..1000, got {self.keyint}")
        check_points(about.point, self.qualities, (0, about.limit))

    @property
    def _about(self) -> Encoder:
        return VIDEO_ENCODERS[self.encoder]

    @property
    def name(self) -> str:
        """`x265-medium-k32`: encoder, preset, key frame interval."""
        return f"{self.encoder}-{self.preset}-k{self.keyint}"

    @property
    def point(self) -> str:
        """`crf` or `qp`."""
        return self._about.point

    @property
    def suffix(self) -> str:
        """Of the elementary stream."""
        return f".{self._about.muxer}"

    def version(self) -> str:
        """ffmpeg and the library inside it."""
        return ffmpeg.require("encoder", self._about.library)

    def command(self, q: float) -> str:
        """The arguments of ffmpeg at point `q`; COLOURS are the clip's (docs/evaluation.md)."""
        about = self._about
        start = ("ffmpeg -i CLIP.y4m -vf setparams=COLOURS", *self._arguments(q))
        if about.passes == 1:
            return " ".join((*start, f"FILE.{about.muxer}"))
        return " && ".join(
            " ".join((*start, "-pass", str(number), "-passlogfile pass", target))
            for number, target in ((1, "-f null -"), (2, f"FILE.{about.muxer}"))
        )

    def encode_clip(self, clip: Clip, q: float) -> bytes:
        """The elementary stream of a clip."""
        about = self._about
        task = f"cannot encode with {about.library}"
        with tempfile.TemporaryDirectory(prefix="coordx-") as name:
            folder = Path(name)
            source = at_depth(clip, about.depth or clip.depth, folder)
            read = ["-i", str(source.path.absolute()), "-vf", clip.tags]
            for number in range(1, about.passes + 1):
                last = number == about.passes
                target = ["-f", about.muxer, "coded"] if last else ["-f", "null", "-"]
                passes = ["-pass", str(number), "-passlogfile", "pass"] if about.passes > 1 else []
                arguments = [*read, *self._arguments(q), *passes, *target]
                ffmpeg.run(arguments, task=task, folder=folder)
            return (folder / "coded").read_bytes()

    def decode_clip(self, data: bytes, folder: Path) -> Clip:
        """The clip of a stream that `encode_clip` made, at the depth it was coded with."""
        task = f"cannot decode {len(data)} bytes as {self.encoder}"
        (folder / "coded").write_bytes(data)
        read = ["-xerror", "-f", self._about.demuxer, "-i", "coded", "-fps_mode", "passthrough"]
        write = ["-threads", "1", "-f", "yuv4mpegpipe", "-strict", "-1", "decoded.y4m"]
        ffmpeg.run(["-threads", "1", *read, *write], task=task, folder=folder)
        return read_clip(folder / "decoded.y4m", Fraction(25), 6, full_range=False)

    def _arguments(self, q: float) -> tuple[str, ...]:
        about = self._about
        point = integer_point(about.point, q, (0, about.limit))
        settings = about.settings(self.preset, point, self.keyint)
        return ("-c:v", about.library, "-threads", "1", *settings)
