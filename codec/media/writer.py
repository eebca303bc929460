"""Write a clip frame by frame, into whichever container the file name's suffix asks for.

| suffix | written | exact? |
|---|---|---|
| .y4m | uncompressed Y'CbCr, natively | up to the conversion to Y'CbCr |
| .mp4 .m4v .mov | H.264, at `crf` | no; plays everywhere |
| .webm | VP9, at `crf` | no |
| .mkv | FFV1, R'G'B' or grey | yes: every sample comes back |

H.264 and VP9 get 4:2:0 at 8 bits (10 bits for deeper clips). They get 4:4:4 where the source
had it, and where a size is odd, which 4:2:0 H.264 cannot express. Every file is tagged with
the colour it was converted to.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from codec.media.ffmpeg import Process, run
from codec.media.planes import PlanarFormat
from codec.media.probe import file_argument
from codec.media.values import Samples, VideoInfo, check_frame
from codec.media.y4m import Y4mEncoder, output_colour
from formats.atomic import atomic_path
from formats.errors import InputError, MediaError, OutputError

__all__ = ["VideoWriter", "open_video_writer"]

_SUFFIXES = (".y4m", ".mp4", ".m4v", ".mov", ".mkv", ".webm")
# Sound that a container takes as it is; other sound is encoded anew with the codec behind.
_COPIED = {
    ".webm": (("opus", "vorbis"), "libopus"),
    ".mp4": (("aac", "mp3", "opus", "ac3", "eac3", "alac", "flac"), "aac"),
    ".m4v": (("aac", "mp3", "ac3", "alac"), "aac"),
    ".mov": (("aac", "mp3", "ac3", "alac", "pcm_s16le", "pcm_s24le"), "aac"),
}


class VideoWriter:
    """A clip being written; use it as a context manager.

    The file appears, whole, when the context is left without an exception; otherwise, and
    until then, whatever was at that path before stays. Use `open_video_writer`.
    """

    def __init__(self, path: Path, info: VideoInfo, *, overwrite: bool) -> None:
        self._path, self._info = path, info
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(atomic_path(path, overwrite=overwrite))
        self._frames = 0
        self._done = False

    def write(self, frame: Samples) -> None:
        """Append one frame, (H, W, C) of the type that `info` announces.

        Raises:
            InputError: the frame does not fit, or the writer is closed.
            OutputError: the file does not take it.
        """
        if self._done:
            raise InputError(f"{self._path}: expected an open video writer, it is closed")
        check_frame(frame, self._info)
        if self._frames == 0:
            self._start()
        self._frames += 1
        self._append(frame)

    def close(self) -> None:
        """Finish the file and put it in its place; a second call does nothing.

        Raises:
            InputError: no frame was written.
            OutputError: the file cannot be finished. It is not there then.
        """
        self.__exit__(None, None, None)

    def _start(self) -> None:
        raise NotImplementedError

    def _append(self, frame: Samples) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._done:
            return
        self._done = True
        if error is not None:
            # Any exception tells atomic_path to remove the file. Given the real one, it would
            # turn an OSError of the caller's own into a failure to write.
            abandoned = OutputError("abandoned")
            self._stack.__exit__(OutputError, abandoned, None)
            return
        with self._stack:  # closes the stream or the process first, then renames
            if self._frames == 0:
                raise InputError(f"cannot write {self._path}: expected at least one frame")
            self._finish()


class _Y4mWriter(VideoWriter):
    _stream: BinaryIO

    def _start(self) -> None:
        self._encoder = Y4mEncoder(self._info)
        try:
            self._stream = self._stack.enter_context(self._temporary.open("wb"))
            self._stream.write(self._encoder.header())
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror}") from error

    def _append(self, frame: Samples) -> None:
        try:
            self._stream.write(self._encoder.frame(frame))
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror}") from error

    def _finish(self) -> None:
        """Nothing: leaving the stack closes the stream."""


class _FFmpegWriter(VideoWriter):
    def __init__(
        self, path: Path, info: VideoInfo, *, audio: bytes | None, overwrite: bool, crf: int
    ) -> None:
        super().__init__(path, info, overwrite=overwrite)
        self._audio, self._crf = audio, crf
        self._suffix = path.suffix.lower()
        self._pixel_name, self._layout, self._depth = _encoded_format(info, self._suffix)

    def _start(self) -> None:
        info = self._info
        arguments = [
            *("-f", "rawvideo", "-pix_fmt", self._pixel_name, "-s", f"{info.width}x{info.height}"),
            *("-framerate", f"{info.rate.numerator}/{info.rate.denominator}", "-i", "pipe:0"),
        ]
        if self._audio is not None:
            sound = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="coordx-"))
            path = Path(sound) / "sound.mka"
            path.write_bytes(self._audio)
            arguments += ["-i", file_argument(path), "-map", "0:v:0", "-map", "1:a"]
            arguments += ["-c:a", _sound_codec(path, self._suffix)]
        arguments += _video_options(self._suffix, self._crf)
        arguments += self._colour_options()
        arguments += ["-y", file_argument(self._temporary)]
        task = f"cannot write {self._path}"
        self._process = self._stack.enter_context(
            Process(arguments, task=task, error=OutputError, feed=True)
        )

    def _colour_options(self) -> list[str]:
        """Tag the frames before the encoder sees them: an option behind it could convert."""
        colour = output_colour(self._info)
        matrix, full = self._layout.matrix, self._layout.full_range
        tags = f"range={'pc' if full else 'tv'}"
        if self._layout.subsampling != "400":
            tags += f":color_primaries={colour.primaries}:color_trc={colour.transfer}"
            tags += f":colorspace={matrix}"
        return ["-vf", f"setparams={tags}"]

    def _append(self, frame: Samples) -> None:
        shift = self._info.bit_depth - self._depth
        if shift > 0:  # round to the encoder's depth; encode() clips the one value above it
            frame = ((frame.astype(np.uint32) + (1 << shift >> 1)) >> shift).astype(np.uint16)
        self._process.write(self._layout.encode(frame))

    def _finish(self) -> None:
        self._process.finish()


def _encoded_format(info: VideoInfo, suffix: str) -> tuple[str, PlanarFormat, int]:
    """Choose what the encoder is given: ffmpeg's name of it, its layout, and its bit depth."""
    size = (info.width, info.height)
    if suffix == ".mkv":
        deep = "" if info.bit_depth == 8 else f"{info.bit_depth}le"
        subsampling, name = ("400", "gray") if info.channels == 1 else ("444", "gbrp")
        layout = PlanarFormat(*size, info.bit_depth, subsampling, 0, full_range=True)
        return f"{name}{deep}", layout, info.bit_depth
    depth = 8 if info.bit_depth == 8 else 10  # the deepest that x264 and most players take
    odd = info.width % 2 or info.height % 2
    subsampling = "444" if odd or info.subsampling == "444" else "420"
    colour = output_colour(info)
    full = colour.full_range and info.channels == 3  # grey goes out as ordinary video
    layout = PlanarFormat(*size, depth, subsampling, colour.matrix, full)
    return f"yuv{subsampling}p{'10le' if depth == 10 else ''}", layout, depth


def _video_options(suffix: str, crf: int) -> list[str]:
    if suffix == ".mkv":
        # Version 3 with a checksum per slice; every frame is a key frame: it can be cut anywhere.
        return ["-c:v", "ffv1", "-level", "3", "-slicecrc", "1", "-g", "1"]
    if suffix == ".webm":
        return ["-c:v", "libvpx-vp9", "-crf", str(crf), "-b:v", "0", "-row-mt", "1"]
    # faststart puts the index in front, so that a player on the web can start at once.
    return ["-c:v", "libx264", "-crf", str(crf), "-movflags", "+faststart"]


def _sound_codec(path: Path, suffix: str) -> str:
    """Return "copy" where the container takes every stream as it is, else what to encode to."""
    if suffix not in _COPIED:
        return "copy"
    arguments = ["-i", file_argument(path), "-c", "copy", "-f", "null", "-"]
    _, log = run(arguments, task="cannot use the sound", error=MediaError)
    described = log.partition("Stream mapping:")[0].splitlines()
    kinds = [line.partition("Audio: ")[2].split(",")[0].split(" ")[0] for line in described]
    taken, otherwise = _COPIED[suffix]
    return "copy" if all(kind in taken for kind in kinds if kind) else otherwise


def open_video_writer(
    path: str | os.PathLike[str],
    info: VideoInfo,
    *,
    audio: bytes | None = None,
    overwrite: bool = True,
    crf: int = 14,
) -> VideoWriter:
    """Open a clip for writing; the table at the top of this module says what each suffix gives.

    Args:
        path: the file to write: .y4m, .mp4, .m4v, .mov, .mkv or .webm.
        info: the frames that will come; `subsampling` and `colour` steer the conversion.
            For R'G'B' sources (matrix 0) it is BT.709 or BT.601 by height, video range.
        audio: sound as `VideoSource.audio` returns it. It is copied; where the container
            cannot hold it, it is encoded anew (Opus for .webm, else AAC). y4m holds none.
        overwrite: with False an existing file is an error, before anything is written.
        crf: quality of H.264 and VP9, 0..51, lower is better. 14 is visually lossless: the
            loss that is seen should be the codec's, not the container's.

    Raises:
        MediaError: the suffix is unknown, or .y4m was given sound.
        OutputError: the file cannot be written there.
        InputError: `crf` is out of range.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in _SUFFIXES:
        expected = ", ".join(_SUFFIXES)
        raise MediaError(f"cannot write {target} as a video: expected {expected}, got {suffix!r}")
    if not 0 <= crf <= 51:
        raise InputError(f"crf: expected 0..51, got {crf}")
    info = replace(info, frames=None)
    if suffix == ".y4m":
        if audio is not None:
            raise MediaError(f"cannot write sound to {target}: .y4m holds none; .mkv does")
        return _Y4mWriter(target, info, overwrite=overwrite)
    return _FFmpegWriter(target, info, audio=audio, overwrite=overwrite, crf=crf)
