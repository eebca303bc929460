"""One measurement: a real encode, a real decode from the bytes, and what they are worth."""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from codec.evaluate import ffmpeg
from codec.evaluate.clip_metrics import compare_clips
from codec.evaluate.clips import Clip, from_frames, reference_clip
from codec.evaluate.interface import Codec, ImageCodec, VideoCodec, device_of, with_shape
from codec.evaluate.machine import peak_memory, reset_peak_memory
from codec.evaluate.metrics import Samples, bits_per_pixel, ms_ssim, mse, psnr
from codec.evaluate.perceptual import lpips
from codec.evaluate.results import Failure, Measurement
from formats.atomic import write_bytes
from formats.errors import CoordXError, MissingLibraryError

__all__ = ["Bench", "Job", "Picture", "Reader", "attempt", "coded_name"]


class Picture(Protocol):
    """What a reader returns."""

    @property
    def samples(self) -> Samples:
        """(H, W, C) uint8 or uint16."""

    @property
    def bit_depth(self) -> int:
        """Bits a sample."""


Reader = Callable[[Path], Picture]


@dataclass(frozen=True)
class Job:
    """One item through one codec at one point.

    Attributes:
        path: the file; label: what it is called in the results; sha256: of its bytes.
        video: whether it is a clip.
        codec, q: what to do.
        metrics: which figures.
        keep: folder for the coded file, or None.
    """

    path: Path
    label: str
    sha256: str
    video: bool
    codec: Codec
    q: float
    metrics: tuple[str, ...]
    keep: Path | None = None


class Bench:
    """What one process keeps from job to job: libraries, the item read last. A context manager."""

    def __init__(self, reader: Reader | None = None) -> None:
        self._reader = reader
        self._folder = tempfile.TemporaryDirectory(prefix="coordx-eval-")
        self._held: tuple[Path, Picture | Clip] | None = None
        self._warm: set[str] = set()

    def warm(self, codec: Codec) -> None:
        """Let a codec load its libraries once in this process, before a clock runs."""
        if codec.name not in self._warm:
            codec.version()
            self._warm.add(codec.name)

    @property
    def folder(self) -> Path:
        """For temporary files."""
        return Path(self._folder.name)

    def picture(self, path: Path) -> Picture:
        """The samples of an image file."""
        if self._held is None or self._held[0] != path:
            self._held = (path, (self._reader or _default_reader())(path))
        return cast(Picture, self._held[1])

    def clip(self, path: Path) -> Clip:
        """The decoded clip of a video file."""
        if self._held is None or self._held[0] != path:
            self._held = None
            self._held = (path, reference_clip(path, self.folder))
        return cast(Clip, self._held[1])

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def attempt(job: Job, bench: Bench) -> Measurement | Failure:
    """Do a job; whatever goes wrong is a value, except that a library is missing.

    A failure without codec means that the item itself cannot be read.

    Raises:
        MissingLibraryError: the codec or a metric needs a library that is not installed.
    """
    try:
        source = bench.clip(job.path) if job.video else bench.picture(job.path)
    except MissingLibraryError:
        raise
    except Exception as error:  # any reader may be plugged in
        return Failure(job.label, _one_line(error))
    try:
        bench.warm(job.codec)
        if isinstance(source, Clip):
            return _measure_clip(job, source, bench)
        return _measure_picture(job, source)
    except MissingLibraryError:
        raise
    except Exception as error:  # any codec may be plugged in; one failure is one result
        return Failure(job.label, _one_line(error), job.codec.name, job.q)


def coded_name(job: Job) -> str:
    """Name of the coded file: item, codec and point, told apart by the item's content."""
    digest = hashlib.sha256(f"{job.sha256} {job.codec.command(job.q)}".encode()).hexdigest()[:6]
    stem = f"{Path(job.label).stem[:60]}.{job.codec.name}.{job.codec.point}{job.q:g}.{digest}"
    return f"{stem.replace('/', '_')}{job.codec.suffix}"


def _measure_picture(job: Job, picture: Picture) -> Measurement:
    codec = cast(ImageCodec, job.codec)
    samples, depth = picture.samples, picture.bit_depth
    height, width, channels = samples.shape
    _start_memory()
    start = time.perf_counter()
    data = codec.encode(samples, job.q)
    encoded = time.perf_counter()
    decoded = codec.decode(data)
    end = time.perf_counter()
    peak = _stop_memory()  # before the metrics, which need memory of their own
    decoded = with_shape(decoded, samples.shape)
    quality = psnr(samples, decoded, depth)
    return Measurement(
        item=job.label,
        sha256=job.sha256,
        width=width,
        height=height,
        channels=channels,
        bit_depth=depth,
        codec=codec.name,
        quality=job.q,
        bytes=len(data),
        bpp=bits_per_pixel(len(data), height, width),
        mse=mse(samples, decoded),
        psnr=quality if math.isfinite(quality) else None,
        ms_ssim=ms_ssim(samples, decoded, depth) if "ms-ssim" in job.metrics else None,
        lpips=lpips(samples, decoded) if "lpips" in job.metrics else None,
        encoding_time=encoded - start,
        decoding_time=end - encoded,
        peak_memory=peak,
        device=device_of(codec),
        file=_kept(job, data),
    )


def _measure_clip(job: Job, clip: Clip, bench: Bench) -> Measurement:
    codec = cast(VideoCodec, job.codec)
    with tempfile.TemporaryDirectory(dir=bench.folder) as name:
        folder = Path(name)
        _start_memory()
        start = time.perf_counter()
        data = codec.encode_clip(clip, job.q)
        encoded = time.perf_counter()
        answer = codec.decode_clip(data, folder)
        end = time.perf_counter()
        peak = _stop_memory()
        decoded = answer if isinstance(answer, Clip) else _as_clip(answer, clip, folder)
        figures = compare_clips(clip, decoded, folder, job.metrics)
    mean_error = figures.pop("mse")
    assert mean_error is not None
    return Measurement(
        item=job.label,
        sha256=job.sha256,
        width=clip.width,
        height=clip.height,
        channels=3,
        bit_depth=clip.depth,
        codec=codec.name,
        quality=job.q,
        bytes=len(data),
        bpp=bits_per_pixel(len(data), clip.height, clip.width, clip.frames),
        bitrate=float(8 * len(data) / 1000 / (clip.frames / clip.rate)),
        frames=clip.frames,
        mse=mean_error,
        encoding_time=encoded - start,
        decoding_time=end - encoded,
        peak_memory=peak,
        device=device_of(codec),
        file=_kept(job, data),
        **figures,
    )


def _as_clip(frames: Samples, reference: Clip, folder: Path) -> Clip:
    return from_frames(
        frames,
        reference.depth,
        reference.rate,
        folder,
        matrix=reference.matrix,
        full_range=reference.full_range,
    )


def _start_memory() -> None:
    ffmpeg.child_peak()
    reset_peak_memory()


def _stop_memory() -> int | None:
    """Peak of the processes started meanwhile, or of this one when none was."""
    child = ffmpeg.child_peak()
    return peak_memory() if child is None else child


def _kept(job: Job, data: bytes) -> str | None:
    if job.keep is None:
        return None
    name = coded_name(job)
    write_bytes(job.keep / name, data)
    return name


def _one_line(error: Exception) -> str:
    """The message; with the type in front where it is not an error of ours that says it all."""
    message = " ".join(str(error).split())
    return message if isinstance(error, CoordXError) else f"{type(error).__name__}: {message}"


def _default_reader() -> Reader:
    from codec.media import read_image  # here, so that a reader of one's own needs no media

    return read_image
