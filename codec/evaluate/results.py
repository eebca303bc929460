"""What an evaluation found, and the two files that say it: the means and the item table.

The file holds one entry a codec, each with `name`, `description` and `results` in the schema
of CompressAI ("bpp", "psnr-rgb", "ms-ssim-rgb", "encoding_time", "decoding_time": one value
a point). With exactly one codec these three also stand at the top level, so that CompressAI's
plotter reads the file as it is. Strict JSON: what is not a finite number is null.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codec.evaluate.ffmpeg import start_seconds
from codec.evaluate.interface import Codec
from codec.evaluate.machine import describe_machine
from codec.evaluate.metrics import mean_known
from codec.evaluate.registry import spec_of
from formats.atomic import atomic_path, check_target
from formats.errors import OutputError

__all__ = [
    "AVERAGING",
    "SCHEMA",
    "Failure",
    "Measurement",
    "build_report",
    "check_report_target",
    "to_json",
    "write_items",
    "write_report",
]

SCHEMA = 2
"""Of the result file and of what a measurement means: one of another schema is not reused."""

AVERAGING = (
    "mean over items of per-item bpp, PSNR, MS-SSIM and seconds, "
    "over the items that every codec completed at every point"
)


CLIP_AVERAGING = (
    "The PSNR and MS-SSIM of a clip are means over its frames; psnr-yuv is (4 y + u + v) / 6"
)

# The keys of CompressAI's result files, and of ours, with the field each is the mean of.
MEANS = {
    "bpp": "bpp",
    "bitrate": "bitrate",
    "psnr-rgb": "psnr",
    "psnr-y": "psnr_y",
    "psnr-u": "psnr_u",
    "psnr-v": "psnr_v",
    "psnr-yuv": "psnr_yuv",
    "ms-ssim-rgb": "ms_ssim",
    "lpips": "lpips",
    "vmaf": "vmaf",
    "encoding_time": "encoding_time",
    "decoding_time": "decoding_time",
}
ALWAYS = ("bpp", "psnr-rgb", "encoding_time", "decoding_time")


@dataclass(frozen=True)
class Measurement:
    """One item through one codec at one point.

    Attributes:
        item: the file, by its name or by its path where names repeat.
        sha256: of the file's bytes, hexadecimal.
        width, height, channels, bit_depth: of the source samples.
        codec: the codec's name.
        quality: the point of the sweep, a quality or a lambda.
        bytes: of the coded file, everything included.
        bpp: bits per pixel, and frame.
        mse: in squared integer steps, over all R'G'B' samples.
        encoding_time, decoding_time: seconds by the wall clock.
        peak_memory: bytes, the largest resident size of the process that coded: of ffmpeg
            where the codec is in ffmpeg, else of the measuring process, with the interpreter
            and all it has loaded. None where the system does not tell.
        psnr: dB over all samples (a clip: mean over frames); None when nothing was lost.
        ms_ssim: 0..1; None when not asked for or not defined at this size.
        lpips: 0.., of images; None when not asked for or not defined at this size.
        frames: of a clip; 1 for an image.
        bitrate: of a clip, in 1000 bits a second.
        psnr_y, psnr_u, psnr_v, psnr_yuv: of a clip, dB, see `codec.evaluate.clip_metrics`.
        vmaf: of a clip, 0..100; None when not asked for.
        device: "cpu", or the GPU's name.
        file: name of the coded file in the folder beside the result; None when not kept.
    """

    item: str
    sha256: str
    width: int
    height: int
    channels: int
    bit_depth: int
    codec: str
    quality: float
    bytes: int
    bpp: float
    mse: float
    encoding_time: float
    decoding_time: float
    peak_memory: int | None
    psnr: float | None = None
    ms_ssim: float | None = None
    lpips: float | None = None
    frames: int = 1
    bitrate: float | None = None
    psnr_y: float | None = None
    psnr_u: float | None = None
    psnr_v: float | None = None
    psnr_yuv: float | None = None
    vmaf: float | None = None
    device: str = "cpu"
    file: str | None = None


@dataclass(frozen=True)
class Failure:
    """A measurement that could not be made; without codec when the file cannot be read."""

    item: str
    error: str
    codec: str | None = None
    quality: float | None = None


def build_report(
    codecs: Sequence[Codec],
    versions: Sequence[str],
    measurements: Sequence[Measurement],
    failures: Sequence[Failure],
    *,
    command: str = "",
    video: bool = False,
    sources: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The content of a result file.

    Means are over the items that every codec completed at every point, so that all curves are
    of the same pictures. A codec that completed no item has empty lists and does not empty
    those of the others.

    Args:
        codecs: in the order of the report.
        versions: what `version()` of each said.
        measurements, failures: of all items.
        command: what was typed to get here, for the record.
        video: whether the items are clips.
        sources: where each item was read from, as it was named.
    """
    completed = [_completed(codec, measurements) for codec in codecs]
    judged = [items for items in completed if items]
    shared = set.intersection(*judged) if judged else set()
    entries = [
        _entry(codec, version, measurements, shared & items)
        for codec, version, items in zip(codecs, versions, completed, strict=True)
    ]
    order = list(dict.fromkeys(m.item for m in measurements))
    report: dict[str, Any] = {"schema": SCHEMA, "kind": "video" if video else "image"}
    if len(entries) == 1:
        report |= {key: entries[0][key] for key in ("name", "description", "results")}
    return report | {
        "machine": describe_machine() | _ffmpeg_facts(versions),
        "command": command,
        "averaging": AVERAGING + (f". {CLIP_AVERAGING}" if video else ""),
        "sources": dict(sources or {}),
        "averaged_items": [item for item in order if item in shared],
        "codecs": entries,
        "errors": [dataclasses.asdict(failure) for failure in failures],
    }


def _ffmpeg_facts(versions: Sequence[str]) -> dict[str, Any]:
    """What of every second measured through ffmpeg is the start of its process."""
    if not any(version.startswith("ffmpeg ") for version in versions):
        return {}
    return {"ffmpeg start, s": round(start_seconds(), 4)}


def check_report_target(path: Path) -> None:
    """Check that a result file can go to `path`, before the work is done.

    Raises:
        OutputError: it is not a .json file, or cannot be written.
    """
    if path.suffix.lower() != ".json":  # a slip of the hand must not replace a picture
        raise OutputError(f"cannot write {path}: expected a file name that ends in .json")
    check_target(path)


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Replace `path` by the report, or leave it as it was.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(to_json(report), encoding="utf-8")


def write_items(path: Path, measurements: Sequence[Measurement]) -> None:
    """Replace `path` by a table of JSON lines, one a measurement.

    Raises:
        OutputError: the file cannot be written.
    """
    lines = [json.dumps(dataclasses.asdict(m), allow_nan=False) + "\n" for m in measurements]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def to_json(value: object) -> str:
    """Strict, indented JSON; ValueError on NaN and infinity, which JSON does not have."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def _completed(codec: Codec, measurements: Sequence[Measurement]) -> set[str]:
    """The items that a codec completed at every point of its sweep."""
    found: dict[str, set[float]] = {}
    for m in measurements:
        if m.codec == codec.name:
            found.setdefault(m.item, set()).add(m.quality)
    return {item for item, points in found.items() if points >= set(codec.qualities)}


def _entry(
    codec: Codec, version: str, measurements: Sequence[Measurement], averaged: set[str]
) -> dict[str, Any]:
    mine = [m for m in measurements if m.codec == codec.name]
    points: list[dict[str, Any]] = []
    for q in codec.qualities if averaged else ():
        rows = [m for m in mine if m.quality == q and m.item in averaged]
        point: dict[str, Any] = {codec.point: q, "command": codec.command(q)}
        for key, field in MEANS.items():
            point[key] = mean_known([getattr(m, field) for m in rows])
        points.append(point)
    points.sort(key=lambda point: point["bpp"])  # a curve is drawn from point to point
    results = {key: [point[key] for point in points] for key in (codec.point, "command", *MEANS)}
    for key in MEANS:
        if key not in ALWAYS and all(value is None for value in results[key]):
            del results[key]
    return {
        "name": codec.name,
        "description": version,
        "spec": spec_of(codec),
        "point": codec.point,
        "results": results,
        "items": [dataclasses.asdict(m) for m in mine],
    }
