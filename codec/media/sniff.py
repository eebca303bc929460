"""Tell what a file is from its first bytes; its name is never believed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from formats.errors import MediaError

__all__ = ["image_format", "read_bytes", "sniff", "source_name"]

Kind = Literal["image", "video", "crdx", "unknown"]

HEAD_BYTES = 1024  # enough for five MPEG transport packets, the longest pattern looked for

CRDX_MAGIC = b"\x8aCRDX"

_IMAGE_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
# Brands of ISO base media files that hold a still picture. HEIC is recognised so that the
# error can name it, although no reader here decodes it.
_STILL_BRANDS = {b"avif": "AVIF", b"mif1": "AVIF", b"heic": "HEIC", b"heix": "HEIC"}

_BMP_HEADERS = tuple(size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124))

_VIDEO_MAGIC = (
    b"YUV4MPEG2 ",
    b"\x1aE\xdf\xa3",  # EBML: Matroska, WebM
    b"FLV\x01",
    b"OggS",
    b"DKIF",  # IVF
    b"nut/multimedia container\0",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
    b".RMF",
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG-1/2 video
    b"\x00\x00\x00\x01",  # H.264, H.265, H.266 byte streams
    b"\x00\x00\x01\x67",
    b"\x12\x00\x0a",  # AV1 low-overhead stream: temporal delimiter, sequence header
)
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp")


def source_name(source: str | os.PathLike[str] | bytes) -> str:
    """Return what an error message calls `source`."""
    return f"{len(source)} bytes of data" if isinstance(source, bytes) else str(source)


def read_bytes(source: str | os.PathLike[str] | bytes, limit: int | None = None) -> bytes:
    """Return the first `limit` bytes of a file, or all of them; bytes come back as they are.

    Raises:
        MediaError: there is no such file, it is a folder, it is empty, or it cannot be read.
    """
    if isinstance(source, bytes):
        data = source if limit is None else source[:limit]
    else:
        path = Path(source)
        try:
            with path.open("rb") as stream:
                data = stream.read() if limit is None else stream.read(limit)
        except FileNotFoundError as error:
            raise MediaError(f"cannot read {path}: no such file") from error
        except IsADirectoryError as error:
            raise MediaError(f"cannot read {path}: expected a file, it is a folder") from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = getattr(error, "strerror", None) or str(error)
            raise MediaError(f"cannot read {path}: {reason}") from error
    if not data:
        raise MediaError(f"cannot read {source_name(source)}: the file is empty")
    return data


def image_format(head: bytes) -> str | None:
    """Return "PNG", "JPEG", "WEBP", "BMP", "TIFF", "PNM", "GIF", "AVIF", "HEIC", or None."""
    for magic, name in _IMAGE_MAGIC:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    # "BM" alone is two letters of text: the four reserved bytes are zero, and the size of
    # the next header is one of few.
    if head[:2] == b"BM" and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS:
        return "BMP"
    if re.match(rb"P[1-6][ \t\r\n#]", head):
        return "PNM"
    if head[4:8] == b"ftyp":
        return _STILL_BRANDS.get(head[8:12])
    return None


def _is_video(head: bytes) -> bool:
    if head.startswith(_VIDEO_MAGIC) or head[4:8] in _MP4_BOXES:
        return True
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return True
    # MPEG transport streams repeat 0x47 every packet, of 188 bytes, or of 192 on Blu-ray.
    return any(
        all(head[start + n * size : start + n * size + 1] == b"G" for n in range(4))
        for start, size in ((0, 188), (4, 192))
    )


def sniff(source: str | os.PathLike[str] | bytes) -> Kind:
    """Say what a file, or its bytes, holds.

    Args:
        source: a path, or the bytes themselves (the first `HEAD_BYTES` are enough).

    Returns:
        "image", "video", "crdx" or "unknown". A GIF is an image; it may be animated.

    Raises:
        MediaError: the path is missing, a folder or not readable, or there are no bytes.
    """
    head = read_bytes(source, HEAD_BYTES)
    if head.startswith(CRDX_MAGIC):
        return "crdx"
    if image_format(head) is not None:
        return "image"
    return "video" if _is_video(head) else "unknown"
