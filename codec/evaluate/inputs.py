"""Which files an evaluation covers: the images that paths and folders name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from formats.errors import InputError, MediaError

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "find_images"]

COMMON_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff")
IMAGE_SUFFIXES = frozenset((*COMMON_SUFFIXES, ".ppm", ".pgm", ".pbm", ".pnm"))
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mkv", ".mov", ".avi", ".webm", ".y4m", ".yuv", ".ivf", ".mpg", ".mpeg")
)


def find_images(paths: Sequence[str | Path], limit: int | None = None) -> list[Path]:
    """The files named, and of each folder named its images, by name, not of its subfolders.

    A file named by itself is taken whatever its suffix, except a video.

    Args:
        paths: files and folders; what is named twice is taken once.
        limit: at most so many of them, the first.

    Raises:
        InputError: nothing at a path, a limit below 1.
        MediaError: a video, or a folder that holds no image.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit: expected at least 1, got {limit}")
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        for file in _images_of(path):
            found.setdefault(file.resolve(), file)
    return list(found.values())[:limit]


def _images_of(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(entry for entry in path.iterdir() if entry.is_file())
        images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        if not images:
            videos = sum(file.suffix.lower() in VIDEO_SUFFIXES for file in files)
            raise MediaError(
                f"{path}: expected a folder of images, got {len(files)} files, "
                f"{videos} of them videos and none an image; videos cannot be evaluated yet"
            )
        return images
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise MediaError(f"{path}: expected an image, videos cannot be evaluated yet")
    return [path]
