"""Run codecs over files: encode, decode from the bytes, measure, remember, go on."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from codec.evaluate.interface import ImageCodec, with_channels
from codec.evaluate.journal import Journal, measurement_key
from codec.evaluate.machine import peak_memory
from codec.evaluate.metrics import Samples, bits_per_pixel, load_ms_ssim, ms_ssim, mse, psnr
from codec.evaluate.results import Failure, Measurement, build_report, write_report
from formats.atomic import check_target
from formats.errors import CoordXError, InputError, MediaError, MissingLibraryError, OutputError

__all__ = ["METRICS", "Picture", "Progress", "evaluate", "journal_path"]

METRICS = ("psnr", "ms-ssim")


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
class Progress:
    """Said after each point of each codec on each item.

    Attributes:
        done, total: points, over all items and codecs.
        item, codec, quality: the one just done.
        status: "measured", "remembered" from an earlier run, or "failed".
        error: of a failure, one line.
    """

    done: int
    total: int
    item: str
    codec: str
    quality: float
    status: Literal["measured", "remembered", "failed"]
    error: str | None = None


def evaluate(
    files: Sequence[Path],
    codecs: Sequence[ImageCodec],
    *,
    out: Path,
    resume: bool = True,
    metrics: Sequence[str] = ("psnr",),
    progress: Callable[[Progress], None] | None = None,
    reader: Reader | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Measure every codec at every point on every file and write the result to `out`.

    Measurements are kept line by line in `journal_path(out)`. Killed and started again, the
    evaluation goes on where it was; what failed is tried again. The key of a measurement is
    the file's content, the codec's name, version and settings, and the metrics, not the
    file's name. Whatever goes wrong with one file is recorded and the others go on.

    Args:
        files: image files.
        codecs: with names that differ.
        out: the result file, `.json`; replaced atomically at the end.
        resume: False measures everything again.
        metrics: of METRICS; PSNR is always measured.
        progress: called after each point.
        reader: from a path to its samples and bit depth; `codec.media.read_image` when None.
        command: what was typed to get here, for the record.

    Returns:
        The content of the file, see `codec.evaluate.results`; `errors` is empty when all went
        well.

    Raises:
        InputError: no file or one twice, no codec or two of one name, an unknown metric.
        OutputError: `out` is not a .json file, or cannot be written.
        MissingLibraryError: a codec or a metric needs a library that is not installed.
    """
    _check_request(files, codecs, out, metrics)
    if "ms-ssim" in metrics:
        load_ms_ssim()  # missing? better said now than after the first encode of an hour
    versions = [codec.version() for codec in codecs]
    total = len(files) * sum(len(codec.qualities) for codec in codecs)
    measurements: list[Measurement] = []
    failures: list[Failure] = []
    done = 0
    with Journal(journal_path(out), resume=resume) as journal:
        for path, label in zip(files, _labels(files), strict=True):
            item = _Item(path, label, reader or _default_reader())
            for codec, q, outcome, status in _measure_item(
                item, codecs, versions, metrics, journal
            ):
                done += 1
                if isinstance(outcome, Measurement):
                    measurements.append(outcome)
                elif outcome not in failures:  # an unreadable file is one failure, not one a point
                    failures.append(outcome)
                if progress is not None:
                    error = outcome.error if isinstance(outcome, Failure) else None
                    progress(Progress(done, total, label, codec.name, q, status, error))
    report = build_report(codecs, versions, measurements, failures, command=command)
    write_report(out, report)
    return report


def journal_path(out: Path) -> Path:
    """The file beside `out` that holds its measurements line by line."""
    return out.with_name(f"{out.stem}.journal.jsonl")


class _Item:
    """A file, hashed and read when first needed and not before."""

    def __init__(self, path: Path, label: str, reader: Reader) -> None:
        self.label = label
        self._path, self._reader = path, reader
        self._picture: Picture | None = None

    def sha256(self) -> str:
        try:
            with self._path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise MediaError(f"cannot read {self._path}: {error.strerror or error}") from error

    def picture(self) -> Picture:
        if self._picture is None:
            self._picture = self._reader(self._path)
        return self._picture


_Outcome = tuple[
    ImageCodec, float, Measurement | Failure, Literal["measured", "remembered", "failed"]
]


def _measure_item(
    item: _Item,
    codecs: Sequence[ImageCodec],
    versions: Sequence[str],
    metrics: Sequence[str],
    journal: Journal,
) -> Iterator[_Outcome]:
    """Every point of every codec on one item; failures are values, except a missing library."""
    unreadable: Failure | None = None
    sha256 = ""
    try:
        sha256 = item.sha256()
    except MediaError as error:
        unreadable = Failure(item.label, str(error))
    for codec, version in zip(codecs, versions, strict=True):
        for q in codec.qualities:
            if unreadable is not None:
                yield codec, q, unreadable, "failed"
                continue
            key = measurement_key(sha256, codec.name, version, codec.command(q), sorted(metrics))
            known = journal.get(key)
            if known is not None:
                yield codec, q, dataclasses.replace(known, item=item.label), "remembered"
                continue
            try:
                picture = item.picture()
            except MissingLibraryError:
                raise
            except Exception as error:  # any reader may be plugged in
                unreadable = Failure(item.label, _one_line(error))
                yield codec, q, unreadable, "failed"
                continue
            try:
                measurement = _measure(item.label, sha256, picture, codec, q, metrics)
            except MissingLibraryError:
                raise
            except Exception as error:  # any codec may be plugged in; one failure is one result
                yield codec, q, Failure(item.label, _one_line(error), codec.name, q), "failed"
                continue
            journal.add(key, measurement)
            yield codec, q, measurement, "measured"


def _measure(
    label: str,
    sha256: str,
    picture: Picture,
    codec: ImageCodec,
    q: float,
    metrics: Sequence[str],
) -> Measurement:
    """One real encode, one real decode from the bytes, and what they are worth."""
    samples, depth = picture.samples, picture.bit_depth
    height, width, channels = samples.shape
    start = time.perf_counter()
    data = codec.encode(samples, q)
    encoded = time.perf_counter()
    decoded = codec.decode(data)
    end = time.perf_counter()
    peak = peak_memory()  # before the metrics, which need memory of their own
    decoded = with_channels(decoded, channels)
    quality = psnr(samples, decoded, depth)
    return Measurement(
        item=label,
        sha256=sha256,
        width=width,
        height=height,
        channels=channels,
        bit_depth=depth,
        codec=codec.name,
        quality=q,
        bytes=len(data),
        bpp=bits_per_pixel(len(data), height, width),
        mse=mse(samples, decoded),
        psnr=quality if math.isfinite(quality) else None,
        ms_ssim=ms_ssim(samples, decoded, depth) if "ms-ssim" in metrics else None,
        encoding_time=encoded - start,
        decoding_time=end - encoded,
        peak_memory=peak,
    )


def _one_line(error: Exception) -> str:
    """The message; with the type in front where it is not an error of ours that says it all."""
    message = " ".join(str(error).split())
    return message if isinstance(error, CoordXError) else f"{type(error).__name__}: {message}"


def _default_reader() -> Reader:
    from codec.media import read_image  # here, so that a reader of one's own needs no media

    return read_image


def _labels(files: Sequence[Path]) -> list[str]:
    names = [path.name for path in files]
    return [path.name if names.count(path.name) == 1 else path.as_posix() for path in files]


def _check_request(
    files: Sequence[Path], codecs: Sequence[ImageCodec], out: Path, metrics: Sequence[str]
) -> None:
    if not files or len(set(files)) < len(files):
        raise InputError(f"files: expected at least one, none twice, got {[str(f) for f in files]}")
    names = [codec.name for codec in codecs]
    if not names or len(set(names)) < len(names):
        raise InputError(f"codecs: expected at least one, with names that differ, got {names}")
    unknown = set(metrics) - set(METRICS)
    if unknown:
        raise InputError(f"metrics: expected some of {METRICS}, got {sorted(unknown)}")
    if out.suffix.lower() != ".json":  # a slip of the hand must not replace a picture
        raise OutputError(f"cannot write {out}: expected a file name that ends in .json")
    check_target(out)
