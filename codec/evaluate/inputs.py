"""Which files an evaluation covers: the images or the videos that paths and folders name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codec.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from formats.errors import InputError, MediaError

__all__ = ["Inputs", "find_inputs", "sha256_of"]


@dataclass(frozen=True)
class Inputs:
    """What is to be evaluated.

    Attributes:
        files: all images, or all videos.
        video: which of the two.
    """

    files: tuple[Path, ...]
    video: bool


def find_inputs(paths: Sequence[str | Path], limit: int | None = None) -> Inputs:
    """The files named, and of each folder named its images or its videos, by name.

    Subfolders are not searched. A file named by itself is taken whatever its suffix: as a
    video if the suffix is one of a video, as an image otherwise.

    Args:
        paths: files and folders; what is named twice is taken once.
        limit: at most so many of them, the first.

    Raises:
        InputError: nothing at a path, a limit below 1, or images and videos together.
        MediaError: a folder that holds neither.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit: expected at least 1, got {limit}")
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        for file in _files_of(path):
            found.setdefault(file.resolve(), file)
    files = list(found.values())
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    if videos and len(videos) < len(files):
        raise InputError(
            f"expected images only or videos only, got {len(files) - len(videos)} images "
            f"and {len(videos)} videos (such as {videos[0]})"
        )
    return Inputs(tuple(files[:limit]), bool(videos))


def sha256_of(path: Path) -> str:
    """Hexadecimal digest of a file's bytes, by which an item is known.

    Raises:
        MediaError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from error


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(entry for entry in path.iterdir() if entry.is_file())
        media = [f for f in files if f.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES]
        if not media:
            raise MediaError(
                f"{path}: expected a folder of images or videos, got {len(files)} files, "
                "none of them an image or a video"
            )
        return media
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    return [path]
