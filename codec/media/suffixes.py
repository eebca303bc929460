"""Suffixes of the names of pictures and videos: what a file is meant to be, not what it is."""

from __future__ import annotations

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES"]

_COMMON = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff")
IMAGE_SUFFIXES = frozenset((*_COMMON, ".ppm", ".pgm", ".pbm", ".pnm"))
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mkv", ".mov", ".avi", ".webm", ".y4m", ".yuv", ".ivf", ".mpg", ".mpeg")
)
