"""Suffixes of the names of pictures and videos that are read: what a file is meant to be.

What it is, its first bytes say (`codec/media/sniff.py`); writers have lists of their own.
"""

from __future__ import annotations

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES"]

_COMMON = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff")
IMAGE_SUFFIXES = frozenset((*_COMMON, ".ppm", ".pgm", ".pbm", ".pnm"))
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mkv", ".mov", ".avi", ".webm", ".y4m", ".yuv", ".ivf", ".mpg", ".mpeg")
)
