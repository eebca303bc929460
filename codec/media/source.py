"""Read a clip frame by frame: y4m natively, everything else through ffmpeg."""

from __future__ import annotations

import io
import os
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from codec.media.ffmpeg import Process, run
from codec.media.pixel_format import PixelFormat
from codec.media.planes import PlanarFormat
from codec.media.probe import file_argument, probe
from codec.media.sniff import HEAD_BYTES, image_format, read_bytes, sniff, source_name
from codec.media.values import Samples, VideoInfo
from codec.media.y4m import MAGIC, read_frames, read_header
from codec.media.ycbcr import MATRICES
from formats.errors import InputError, MediaError

__all__ = ["VideoSource", "open_video"]


class VideoSource:
    """A clip being read; use it as a context manager, or call `close`.

    Iterating yields frames (H, W, C), uint8 or uint16 (see `VideoInfo`), R'G'B' or grey, one
    at a time: memory does not grow with the length. They are the caller's to change. Each
    `iter()` starts at the first frame.

    Attributes:
        info: what is known of the clip in advance.
    """

    info: VideoInfo

    def __init__(self, info: VideoInfo, name: str) -> None:
        self.info = info
        self._name = name
        self._closed = False
        self._running: weakref.WeakSet[_Reading] = weakref.WeakSet()

    def __iter__(self) -> Iterator[Samples]:
        """Yield every frame once.

        Raises:
            MediaError: the clip is damaged, or ends in the middle of a frame. The frames
                before that have been yielded.
            InputError: the source is closed, or is closed while it is being read.
        """
        self._check_open()
        reading = _Reading()
        self._running.add(reading)
        with reading.stack:
            for frame in self._frames(reading.stack):
                yield frame
                self._check_open()

    def _frames(self, stack: ExitStack) -> Iterator[Samples]:
        """Yield the frames; what must be closed afterwards is entered into `stack`."""
        raise NotImplementedError

    def audio(self) -> bytes | None:
        """Return the sound as a Matroska file, copied without loss, or None if there is none.

        Raises:
            MediaError: the sound cannot be extracted.
            InputError: the source is closed.
        """
        self._check_open()
        return None

    def close(self) -> None:
        """Stop every iteration and free what it holds; safe to call twice."""
        self._closed = True
        for reading in list(self._running):
            reading.stack.close()

    def _check_open(self) -> None:
        if self._closed:
            raise InputError(f"{self._name}: expected an open video source, it is closed")

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        info = self.info
        return (
            f"{type(self).__name__}({self._name}, {info.width}x{info.height}, "
            f"{info.channels} channels, {info.bit_depth} bits, {info.rate} fps, "
            f"{'unknown' if info.frames is None else info.frames} frames)"
        )


class _Reading:
    """One iteration in progress: what it holds open."""

    def __init__(self) -> None:
        self.stack = ExitStack()


class _Y4mSource(VideoSource):
    def __init__(self, source: str | os.PathLike[str] | bytes, name: str) -> None:
        self._source = source
        with self._stream() as stream:
            info, self._layout = read_header(stream, name)
            start = stream.tell()
            length = stream.seek(0, os.SEEK_END)
        # A file of bare FRAME lines has a whole number of them; otherwise only reading tells.
        count, rest = divmod(length - start, len(b"FRAME\n") + self._layout.frame_bytes)
        super().__init__(replace(info, frames=None if rest else count), name)

    def _stream(self) -> AbstractContextManager[BinaryIO]:
        if isinstance(self._source, bytes):
            return io.BytesIO(self._source)
        try:
            return Path(self._source).open("rb")
        except OSError as error:
            raise MediaError(f"cannot read {self._source}: {error.strerror}") from error

    def _frames(self, stack: ExitStack) -> Iterator[Samples]:
        stream = stack.enter_context(self._stream())
        read_header(stream, self._name)
        yield from read_frames(stream, self._layout, self._name)


class _FFmpegSource(VideoSource):
    def __init__(self, path: Path, name: str, *, owned: bool) -> None:
        self._path = path
        # Runs on close(), or when the object or the interpreter goes away.
        self._release = weakref.finalize(self, path.unlink, missing_ok=True) if owned else None
        try:
            info, pixels = probe(path, name)
        except BaseException:
            if self._release is not None:
                self._release()
            raise
        super().__init__(info, name)
        self._pixel_name, self._layout = _pipe_format(info, pixels)

    def _frames(self, stack: ExitStack) -> Iterator[Samples]:
        layout, shape = self._layout, self.info.shape
        size = layout.frame_bytes if layout else int(np.prod(shape))
        arguments = [
            *("-xerror", "-i", file_argument(self._path), "-map", "0:V:0"),
            *("-fps_mode", "passthrough"),  # neither repeat nor drop a frame to even out times
            *("-f", "rawvideo", "-pix_fmt", self._pixel_name, "-"),
        ]
        task = f"cannot read {self._name} as a video"
        process = stack.enter_context(Process(arguments, task=task, error=MediaError, feed=False))
        index = 0
        while data := process.read(size):
            if len(data) < size:
                process.finish()
                raise MediaError(f"{task}: frame {index} has {len(data)} of {size} bytes")
            if layout is None:
                # A copy, because an array over bytes is read-only.
                yield np.frombuffer(data, np.uint8).reshape(shape).copy()
            else:
                yield layout.decode(data, f"{self._name}: frame {index}")
            index += 1
        process.finish()

    def audio(self) -> bytes | None:
        self._check_open()
        if not self.info.has_audio:
            return None
        arguments = [
            *("-loglevel", "error", "-i", file_argument(self._path), "-vn", "-map", "0:a"),
            # bitexact leaves out the random identifier, so that equal clips give equal bytes.
            *("-c:a", "copy", "-fflags", "+bitexact", "-f", "matroska", "-"),
        ]
        task = f"cannot read the sound of {self._name}"
        return run(arguments, task=task, error=MediaError)[0]

    def close(self) -> None:
        super().close()
        if self._release is not None:
            self._release()


def _pipe_format(info: VideoInfo, pixels: PixelFormat) -> tuple[str, PlanarFormat | None]:
    """Choose the pixel format to ask ffmpeg for, and its layout (None: packed rgb24).

    8-bit colour is converted by ffmpeg, as the published experiments did. Deeper samples
    come out as they are stored: ffmpeg would widen R'G'B' to 16 bits, whereas our own
    conversion keeps the depth and agrees with what a y4m copy of the clip gives.
    """
    deep = "" if info.bit_depth == 8 else f"{info.bit_depth}le"
    size = (info.width, info.height, info.bit_depth)
    if info.channels == 1:
        return f"gray{deep}", PlanarFormat(*size, "400", 1, info.colour.full_range)
    if not deep:
        return "rgb24", None
    if pixels.rgb or info.colour.matrix not in MATRICES:
        return f"gbrp{deep}", PlanarFormat(*size, "444", 0, full_range=True)
    layout = PlanarFormat(*size, info.subsampling, info.colour.matrix, info.colour.full_range)
    return f"yuv{info.subsampling}p{deep}", layout


def open_video(source: str | os.PathLike[str] | bytes) -> VideoSource:
    """Open a clip.

    y4m is read here; of everything else ffmpeg reads the first video stream, rotated as the
    file asks. Alpha is dropped. 8-bit frames are exactly ffmpeg's default rgb24 (which takes
    untagged Y'CbCr for BT.601; y4m and deeper clips from 720 rows on are taken for BT.709).

    Args:
        source: a path, or the bytes of a file. Compressed bytes wait in a temporary file
            until the source is closed.

    Raises:
        MediaError: the file is missing, empty, no video, or damaged at its start.
        MissingLibraryError: ffmpeg is needed and not installed.
    """
    name = source_name(source)
    head = read_bytes(source, HEAD_BYTES)
    if head.startswith(MAGIC):
        return _Y4mSource(source, name)
    if sniff(head) != "video" and image_format(head) != "GIF":  # a GIF may move
        got = {"image": "a picture", "crdx": "a .crdx"}.get(sniff(head), "none of these")
        raise MediaError(
            f"cannot read {name} as a video: expected y4m, MP4, MOV, Matroska, WebM, AVI, "
            f"MPEG or another container; got {got}"
        )
    if not isinstance(source, bytes):
        return _FFmpegSource(Path(source), name, owned=False)
    with tempfile.NamedTemporaryFile(prefix="coordx-", delete=False) as copy:
        copy.write(source)
    return _FFmpegSource(Path(copy.name), name, owned=True)
