"""Run codecs over files: encode, decode from the bytes, measure, remember, go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from codec.evaluate import ffmpeg
from codec.evaluate.inputs import sha256_of
from codec.evaluate.interface import Codec
from codec.evaluate.journal import Journal, measurement_key
from codec.evaluate.measure import Job, Reader
from codec.evaluate.metrics import load_ms_ssim
from codec.evaluate.perceptual import load_lpips
from codec.evaluate.results import (
    SCHEMA,
    Failure,
    Measurement,
    build_report,
    check_report_target,
    write_items,
    write_report,
)
from codec.evaluate.workers import run_jobs
from formats.atomic import check_target
from formats.errors import InputError, MediaError, OutputError

__all__ = ["METRICS", "Progress", "evaluate", "files_folder", "items_path", "journal_path"]

METRICS = {False: ("psnr", "ms-ssim", "lpips"), True: ("psnr", "ms-ssim", "vmaf")}
"""Metrics of images (False) and of videos (True)."""


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
    codecs: Sequence[Codec],
    *,
    out: Path,
    video: bool = False,
    resume: bool = True,
    metrics: Sequence[str] = ("psnr",),
    workers: int = 0,
    keep_files: bool = False,
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
        files: image files, or with `video` clips.
        codecs: with names that differ; video codecs with `video`.
        out: the result file, `.json`; replaced atomically at the end, and so is the item table
            `items_path(out)`.
        resume: False measures everything again.
        metrics: of METRICS; PSNR is always measured.
        workers: processes that measure; 0 measures in this one.
        keep_files: keep every coded file in `files_folder(out)`; what was measured without, or
            whose file is gone, is measured again.
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
    _check_request(files, codecs, out, metrics, video)
    _check_libraries(metrics)
    versions = {codec.name: codec.version() for codec in codecs}
    keep = files_folder(out) if keep_files else None
    if keep is not None:
        _make_folder(keep)
    plan = _plan(files, codecs, tuple(metrics), video, keep)
    ledger = _Ledger(len(plan), progress)
    with Journal(journal_path(out), resume=resume) as journal:
        keys: dict[_Place, str] = {}
        for job, unreadable in plan:
            key = measurement_key(
                SCHEMA,
                job.sha256,
                job.codec.name,
                versions[job.codec.name],
                job.codec.command(job.q),
                sorted(metrics),
            )
            keys[_place(job)] = key
            if unreadable is not None:
                ledger.add(job, Failure(job.label, unreadable))
            elif (known := journal.get(key)) is not None and _still_kept(known, keep):
                ledger.add(job, dataclasses.replace(known, item=job.label), remembered=True)
        jobs = [job for job, _ in plan if not ledger.knows(job)]
        for job, outcome in run_jobs(jobs, workers, reader):
            if isinstance(outcome, Measurement):
                journal.add(keys[_place(job)], outcome)
            ledger.add(job, outcome)
    measurements = ledger.measurements([job for job, _ in plan])
    report = build_report(
        codecs,
        list(versions.values()),
        measurements,
        ledger.failures,
        command=command,
        video=video,
        sources={label: path.as_posix() for path, label in zip(files, _labels(files), strict=True)},
    )
    write_items(items_path(out), measurements)
    write_report(out, report)
    return report


def journal_path(out: Path) -> Path:
    """The file beside `out` that holds its measurements line by line, as they came."""
    return out.with_name(f"{out.stem}.journal.jsonl")


def items_path(out: Path) -> Path:
    """The table beside `out`: one line of JSON a measurement, in the order of the report."""
    return out.with_name(f"{out.stem}.items.jsonl")


def files_folder(out: Path) -> Path:
    """The folder beside `out` of the coded files."""
    return out.with_name(f"{out.stem}.files")


_Place = tuple[str, str, float]


def _place(job: Job) -> _Place:
    return job.label, job.codec.name, job.q


class _Ledger:
    """Outcomes by their place in the plan, and who is told of them."""

    def __init__(self, total: int, progress: Callable[[Progress], None] | None) -> None:
        self.failures: list[Failure] = []
        self._found: dict[_Place, Measurement | Failure] = {}
        self._total, self._progress = total, progress

    def add(self, job: Job, outcome: Measurement | Failure, *, remembered: bool = False) -> None:
        self._found[_place(job)] = outcome
        failed = isinstance(outcome, Failure)
        if isinstance(outcome, Failure) and outcome not in self.failures:
            self.failures.append(outcome)  # an unreadable file is one failure, not one a point
        if self._progress is not None:
            status: Literal["measured", "remembered", "failed"] = "measured"
            status = "failed" if failed else "remembered" if remembered else status
            error = outcome.error if isinstance(outcome, Failure) else None
            place = (job.label, job.codec.name, job.q)
            self._progress(Progress(len(self._found), self._total, *place, status, error))

    def knows(self, job: Job) -> bool:
        return _place(job) in self._found

    def measurements(self, jobs: Sequence[Job]) -> list[Measurement]:
        """In the order of the jobs, whatever the order in which workers ended them."""
        found = [self._found.get(_place(job)) for job in jobs]
        return [outcome for outcome in found if isinstance(outcome, Measurement)]


def _plan(
    files: Sequence[Path],
    codecs: Sequence[Codec],
    metrics: tuple[str, ...],
    video: bool,
    keep: Path | None,
) -> list[tuple[Job, str | None]]:
    """Every point of every codec on every file, with the reason why the file has no content."""
    plan: list[tuple[Job, str | None]] = []
    for path, label in zip(files, _labels(files), strict=True):
        sha256, unreadable = "", None
        try:
            sha256 = sha256_of(path)
        except MediaError as error:
            unreadable = str(error)
        plan += [
            (Job(path, label, sha256, video, codec, q, metrics, keep), unreadable)
            for codec in codecs
            for q in codec.qualities
        ]
    return plan


def _labels(files: Sequence[Path]) -> list[str]:
    names = [path.name for path in files]
    return [path.name if names.count(path.name) == 1 else path.as_posix() for path in files]


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror or error}") from error


def _still_kept(known: Measurement, keep: Path | None) -> bool:
    """Whether its coded file is there, where files are wanted; else it is encoded again."""
    if keep is None:
        return True
    try:
        return known.file is not None and (keep / known.file).stat().st_size == known.bytes
    except OSError:
        return False


def _check_libraries(metrics: Sequence[str]) -> None:
    """Missing? Better said now than after the first encode of an hour."""
    if "ms-ssim" in metrics:
        load_ms_ssim()
    if "lpips" in metrics:
        load_lpips()
    if "vmaf" in metrics:
        ffmpeg.require("filter", "libvmaf")


def _check_request(
    files: Sequence[Path],
    codecs: Sequence[Codec],
    out: Path,
    metrics: Sequence[str],
    video: bool,
) -> None:
    if not files or len(set(files)) < len(files):
        raise InputError(f"files: expected at least one, none twice, got {[str(f) for f in files]}")
    names = [codec.name for codec in codecs]
    if not names or len(set(names)) < len(names):
        raise InputError(f"codecs: expected at least one, with names that differ, got {names}")
    needed = "encode_clip" if video else "encode"
    for codec in codecs:
        if not hasattr(codec, needed):
            kind = "videos" if video else "images"
            raise InputError(f"codec {codec.name!r} does not code {kind}")
    unknown = set(metrics) - set(METRICS[video])
    if unknown:
        raise InputError(f"metrics: expected some of {METRICS[video]}, got {sorted(unknown)}")
    check_report_target(out)
    check_target(items_path(out))
