"""The same part of a picture through several codecs at equal bytes, for eyes to compare.

The budget is the size of one coded file of the evaluation. Codecs whose points are integers
are encoded again, at the best point that stays within the budget; of the others, and of clips,
the kept file nearest in size is shown, and says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np

from codec.evaluate.clips import Clip, like, reference_clip
from codec.evaluate.inputs import sha256_of
from codec.evaluate.interface import Codec, ImageCodec, QualityCodec, VideoCodec, with_shape
from codec.evaluate.metrics import Samples, bits_per_pixel, psnr
from codec.evaluate.registry import TEMPLATES, VIDEO_TEMPLATES, parse_codecs
from codec.evaluate.search import at_size
from formats.errors import CoordXError, MediaError, MissingLibraryError

__all__ = ["SideBySide", "View", "compare_crops", "find_source"]

Box = tuple[int, int, int, int]
NOTE_NEAREST = "nearest file of the sweep"


@dataclass(frozen=True)
class View:
    """One codec's picture of the crop.

    Attributes:
        codec: its name; "original" for the source.
        samples: (h, w, 3) uint8.
        bytes: of the whole file; 0 for the source.
        bpp: of the whole file.
        psnr: dB of the whole picture (of a clip: of the frame shown); None without loss.
        note: how the file was found.
    """

    codec: str
    samples: Samples
    bytes: int = 0
    bpp: float = 0.0
    psnr: float | None = None
    note: str = ""


@dataclass(frozen=True)
class SideBySide:
    """The same crop of one item by every codec.

    Attributes:
        item: its name.
        title: what part of it is shown.
        budget: bytes that the files were to keep to.
        views: the original first.
        missing: why a codec has no view, by its name.
    """

    item: str
    title: str
    budget: int
    views: tuple[View, ...]
    missing: Mapping[str, str]


def find_source(
    report: Mapping[str, Any], item: str, near: Path, folders: Sequence[Path] = ()
) -> Path:
    """The file that an item was read from, recognised by its content.

    Args:
        report: content of the result file; item: its name there.
        near: the result file, beside whose folder relative names are tried too.
        folders: where else to look for a file of that name.

    Raises:
        MediaError: it is nowhere, or has changed since.
    """
    named = Path(report.get("sources", {}).get(item, item))
    places = [named, near.parent / named, *(folder / named.name for folder in folders)]
    found = [place for place in places if place.is_file()]
    if not found:
        raise MediaError(f"{item}: the source is not at {named}; say where with --media")
    digests = {
        row["sha256"] for entry in report["codecs"] for row in entry["items"] if row["item"] == item
    }
    for place in found:
        if sha256_of(place) in digests:
            return place
    raise MediaError(f"{item}: {found[0]} has changed since it was evaluated")


def compare_crops(
    report: Mapping[str, Any],
    item: str,
    source: Path,
    files: Path,
    *,
    bpp: float = 0.3,
    box: Box | None = None,
    side: int = 320,
) -> SideBySide:
    """One item through every codec of a report at equal bytes.

    Args:
        report: content of a result file.
        item: an item of it.
        source: the item's file.
        files: the folder of coded files.
        bpp: the budget is the first codec's file nearest to this rate (coordx's, if there).
        box: (x, y, width, height) of the crop; the centre when None.
        side: of the crop, where `box` is None.

    Raises:
        MediaError: the source cannot be read, or no codec has a file of this item.
    """
    rows = {
        entry["name"]: [row for row in entry["items"] if row["item"] == item]
        for entry in report["codecs"]
    }
    budget = _budget(rows, bpp)
    views, missing = [], {}
    with _source(source, report["kind"] == "video") as scene:
        area = box or _centre(scene.picture, side)
        views.append(View("original", _cut(scene.picture, area)))
        for entry in report["codecs"]:
            try:
                view = _view(scene, entry, rows[entry["name"]], files, budget)
                views.append(View(**{**vars(view), "samples": _cut(view.samples, area)}))
            except (CoordXError, OSError) as error:
                missing[entry["name"]] = str(error)
    x, y, width, height = area
    title = f"{width} x {height} pixels at ({x}, {y}){scene.where}"
    return SideBySide(item, title, budget, tuple(views), missing)


@dataclass(frozen=True)
class _Scene:
    """A source: the picture, or the middle frame of a clip."""

    picture: Samples
    clip: Clip | None
    folder: Path

    @property
    def where(self) -> str:
        return "" if self.clip is None else f" of frame {self.clip.frames // 2}"


@contextmanager
def _source(path: Path, video: bool) -> Iterator[_Scene]:
    from codec.media import read_image

    with tempfile.TemporaryDirectory(prefix="coordx-") as name:
        folder = Path(name)
        if video:
            clip = reference_clip(path, folder)
            yield _Scene(_middle(clip, folder), clip, folder)
        else:
            yield _Scene(read_image(path).samples, None, folder)


def _middle(clip: Clip, folder: Path) -> Samples:
    frame = next(islice(clip.rgb_frames(folder), clip.frames // 2, None))
    return _eight_bits(frame, clip.depth)


def _eight_bits(frame: Samples, depth: int) -> Samples:
    return (frame >> (depth - 8)).astype(np.uint8)


def _budget(rows: Mapping[str, Sequence[Mapping[str, Any]]], bpp: float) -> int:
    names = sorted((name for name in rows if rows[name]), key=lambda n: not n.startswith("coordx"))
    if not names:
        raise MediaError("no codec has coded this item")
    nearest = min(rows[names[0]], key=lambda row: abs(row["bpp"] - bpp))
    return int(nearest["bytes"])


def _view(
    scene: _Scene,
    entry: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    files: Path,
    budget: int,
) -> View:
    """The codec's picture at the budget; `samples` are of the whole picture."""
    if entry.get("spec") is None:
        raise MissingLibraryError("the codec is not known here")
    templates = VIDEO_TEMPLATES if scene.clip is not None else TEMPLATES
    codec: Codec = parse_codecs([entry["spec"]], templates)[0]
    name = entry["name"]
    if scene.clip is None and hasattr(codec, "quality_range"):
        image_codec = cast(QualityCodec, codec)
        image_codec.version()
        sized = at_size(image_codec, scene.picture, budget, _bracket(image_codec, rows, budget))
        note = f"{codec.point} {sized.q:g}" + ("" if sized.fits else ", its smallest file")
        return _picture_view(name, image_codec, scene.picture, sized.data, note)
    kept = [row for row in rows if row.get("file") and (files / row["file"]).is_file()]
    if not kept:
        raise MediaError(f"{name}: the coded files of {files.name} are not there")
    row = min(kept, key=lambda row: abs(row["bytes"] - budget))
    data = (files / row["file"]).read_bytes()
    equal = len(data) == budget
    note = f"{codec.point} {row['quality']:g}" + ("" if equal else f", {NOTE_NEAREST}")
    if scene.clip is None:
        return _picture_view(name, cast(ImageCodec, codec), scene.picture, data, note)
    return _clip_view(name, cast(VideoCodec, codec), scene, data, note)


def _bracket(
    codec: QualityCodec, rows: Sequence[Mapping[str, Any]], budget: int
) -> tuple[float, float] | None:
    """Neighbours of the sweep on the two sides of the budget."""
    worst, best = codec.quality_range
    ordered = sorted(rows, key=lambda row: row["quality"], reverse=best < worst)
    for below, above in pairwise(ordered):
        if below["bytes"] <= budget < above["bytes"]:
            return below["quality"], above["quality"]
    return None


def _picture_view(name: str, codec: ImageCodec, picture: Samples, data: bytes, note: str) -> View:
    decoded = with_shape(codec.decode(data), picture.shape)
    depth = 8 * picture.dtype.itemsize
    value = psnr(picture, decoded, depth)
    height, width = picture.shape[:2]
    rate = bits_per_pixel(len(data), height, width)
    return View(name, decoded, len(data), rate, value if np.isfinite(value) else None, note)


def _clip_view(name: str, codec: VideoCodec, scene: _Scene, data: bytes, note: str) -> View:
    clip = scene.clip
    assert clip is not None
    with tempfile.TemporaryDirectory(dir=scene.folder) as inner:
        folder = Path(inner)
        answer = codec.decode_clip(data, folder)
        if isinstance(answer, Clip):
            frame = _middle(like(answer, clip, folder), folder)
        else:
            frame = _eight_bits(answer[clip.frames // 2], clip.depth)
    frame = with_shape(frame, scene.picture.shape)  # grey frames have one channel
    value = psnr(scene.picture, frame)
    rate = bits_per_pixel(len(data), clip.height, clip.width, clip.frames)
    return View(name, frame, len(data), rate, value if np.isfinite(value) else None, note)


def _centre(picture: Samples, side: int) -> Box:
    height, width = picture.shape[:2]
    w, h = min(side, width), min(side, height)
    return (width - w) // 2, (height - h) // 2, w, h


def _cut(picture: Samples, box: Box) -> Samples:
    """The box of a picture as 8-bit R'G'B'; alpha is left out."""
    x, y, width, height = box
    part = picture[y : y + height, x : x + width, :3]
    if part.shape[:2] != (height, width) or 0 in part.shape:
        raise MediaError(f"the crop {box} is not inside a picture of {picture.shape[1::-1]}")
    if part.dtype == np.uint16:
        part = (part >> 8).astype(np.uint8)
    return np.repeat(part, 3, axis=2) if part.shape[2] == 1 else part
