"""Write a still picture in the format that its file name asks for, or say which one could."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codec.media.exif import PREFIX
from codec.media.png import encode_png
from codec.media.pnm import encode_pnm
from codec.media.values import ImageMedia
from formats.atomic import write_bytes
from formats.errors import MediaError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["image_bytes", "require_writable", "write_image"]

_ALIASES = {"jpeg": "jpg", "jpe": "jpg", "tiff": "tif", "pnm": "pnm", "dib": "bmp"}
_FORMATS = ("png", "jpg", "webp", "bmp", "tif", "ppm", "pgm", "pnm")

# Only JPEG loses samples here. Its chroma stays at full resolution: the picture it is given
# is already the output of a codec, and losing chroma twice would be charged to us.
_JPEG: dict[str, Any] = {"quality": 95, "subsampling": 0, "optimize": True}
_WEBP: dict[str, Any] = {"lossless": True, "exact": True, "method": 4}  # exact: keep colour
_TIFF: dict[str, Any] = {"compression": "tiff_adobe_deflate"}  # under transparent pixels too


def _image_suffix(path: str | os.PathLike[str]) -> str:
    """The suffix of the name of a picture's file.

    Raises:
        MediaError: it has none, or no format has it.
    """
    suffix = Path(path).suffix
    if not suffix:
        raise MediaError(f"cannot write {path}: expected a suffix such as .png")
    _format(suffix)
    return suffix


def _format(name: str) -> str:
    kind = name.lower().removeprefix(".")
    kind = _ALIASES.get(kind, kind)
    if kind not in _FORMATS:
        expected = ", ".join("." + known for known in _FORMATS)
        raise MediaError(f"cannot write a picture as {name!r}: expected {expected}")
    return kind


def require_writable(path: str | os.PathLike[str], channels: int, bit_depth: int) -> None:
    """Refuse a file that `write_image` could not write, before there are samples for it.

    Raises:
        MediaError: as for `image_bytes`.
    """
    _require_held(channels, bit_depth, _format(_image_suffix(path)))


def _require_held(channels: int, bit_depth: int, kind: str) -> None:
    if channels == 4 and kind in ("jpg", "bmp", "ppm", "pgm", "pnm"):
        raise MediaError(f"cannot write alpha to .{kind}: it holds none; .png does")
    if channels == 3 and kind == "pgm":
        raise MediaError("cannot write colour to .pgm: it holds grey only; .ppm holds colour")
    if bit_depth == 16:
        if kind in ("jpg", "webp", "bmp"):
            raise MediaError(f"cannot write 16-bit samples to .{kind}: it holds 8; .png holds 16")
        if kind == "tif" and channels > 1:
            raise MediaError("cannot write 16-bit colour to .tif here; .png holds it")


def _pillow_image(media: ImageMedia) -> Image:
    from PIL import Image

    samples = media.samples
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def _pillow_bytes(media: ImageMedia, kind: str) -> bytes:
    image = _pillow_image(media)
    options: dict[str, Any] = {}
    if media.icc is not None:
        options["icc_profile"] = media.icc
    if kind in ("jpg", "webp"):
        if media.exif is not None:
            options["exif"] = PREFIX + media.exif if kind == "jpg" else media.exif
        if media.xmp is not None:
            options["xmp"] = media.xmp
    settings = {"jpg": ("JPEG", _JPEG), "webp": ("WEBP", _WEBP), "tif": ("TIFF", _TIFF)}
    name, fixed = settings.get(kind, ("BMP", {}))
    if kind == "bmp":
        options = {}
    if kind == "webp" and image.mode == "L":  # WebP knows no grey
        image = image.convert("RGB")
    buffer = io.BytesIO()
    try:
        image.save(buffer, name, **fixed, **options)
    except (OSError, ValueError, OverflowError) as error:
        height, width = media.samples.shape[:2]
        raise MediaError(f"cannot write {width}x{height} samples to .{kind}: {error}") from error
    return buffer.getvalue()


def image_bytes(media: ImageMedia, format: str = "png") -> bytes:
    """Return the file of a picture.

    PNG keeps everything. PPM, PGM, BMP, TIFF and WebP are lossless too, but BMP and PNM drop
    metadata, TIFF keeps only the ICC profile of it, and PPM and WebP turn grey into three
    equal channels. JPEG is lossy: quality 95 without chroma subsampling.

    Args:
        media: the picture.
        format: png, jpg, webp, bmp, tif, ppm, pgm or pnm (and jpeg, jpe, tiff, dib), in any
            case, with or without a leading dot.

    Raises:
        MediaError: the format is unknown, or cannot hold these samples; the message names
            one that can.
    """
    kind = _format(format)
    _require_held(media.samples.shape[2], media.bit_depth, kind)
    if kind == "png":
        return encode_png(media)
    if kind == "ppm" and media.samples.shape[2] == 1:
        return encode_pnm(np.repeat(media.samples, 3, axis=2))
    if kind in ("ppm", "pgm", "pnm"):
        return encode_pnm(media.samples)
    return _pillow_bytes(media, kind)


def write_image(path: str | os.PathLike[str], media: ImageMedia, *, overwrite: bool = True) -> None:
    """Write a picture atomically, in the format of the file name's suffix.

    Args:
        path: the file to write; see `image_bytes` for the suffixes.
        media: the picture.
        overwrite: with False an existing file is an error.

    Raises:
        MediaError: as for `image_bytes`.
        OutputError: the file cannot be written, or exists and may not be replaced.
    """
    write_bytes(path, image_bytes(media, _image_suffix(path)), overwrite=overwrite)
