"""Read a still picture: whichever of eight formats its bytes are in, at full depth, upright.

Pillow decodes all but PNM (codec/media/pnm.py). Its classes are called by name, for the
format that the first bytes announce: no other of its fifty parsers sees untrusted data, and
its process-wide size limit, which warns on stderr, is replaced by ours.
"""

from __future__ import annotations

import importlib
import io
import os
from typing import TYPE_CHECKING, cast

import numpy as np

from codec.media.exif import orient, split_orientation
from codec.media.pnm import decode_pnm
from codec.media.sniff import image_format, read_bytes, source_name
from codec.media.values import ImageMedia, Samples, check_size
from formats.errors import MediaError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

__all__ = ["read_image"]

_EXPECTED = "expected PNG, JPEG, WebP, BMP, TIFF, PPM/PGM/PBM, GIF or AVIF"

_READERS = {
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
}

# The other byte of a 16-bit sample. Pillow's unpackers for 16-bit colour keep the high byte
# of each sample; told the opposite byte order, the same unpacker keeps the low byte.
_NATIVE, _FOREIGN = ("L", "B") if np.little_endian else ("B", "L")
_OTHER_BYTE = {"L": "B", "B": "L", "N": _FOREIGN}
_WIDE_COLOUR = ("RGB;16", "RGBX;16", "RGBA;16")
_WIDE_GREY = ("I;16", "I;16B", "I;16L", "I;16N")
_SPACES = {b"GRAY", b"RGB ", b"CMYK", b"Lab "}
"""Colour spaces that ICC profiles name in bytes 16 to 19."""


def _open(data: bytes, kind: str, name: str) -> ImageFile:
    """Parse the header only, and check the size before anything is decoded."""
    module, reader = _READERS[kind]
    image = cast("ImageFile", getattr(importlib.import_module(module), reader)(io.BytesIO(data)))
    check_size(*image.size, name)
    return image


def _raw_modes(image: ImageFile) -> set[str]:
    """Return the layouts in which the file stores its samples, in Pillow's names."""
    arguments = (tile.args for tile in image.tile)
    return {str(args[0]) if isinstance(args, tuple) else str(args) for args in arguments}


def _wide_colour(data: bytes, kind: str, name: str, raw: str) -> Samples:
    """Decode 16-bit colour: once for the high bytes, once for the low bytes."""
    halves = []
    for order in (raw[-1], _OTHER_BYTE[raw[-1]]):
        image = _open(data, kind, name)
        layout = raw[:-1] + order
        image.tile = [
            tile._replace(args=(layout, *tile.args[1:]) if isinstance(tile.args, tuple) else layout)
            for tile in image.tile
        ]
        image.load()
        halves.append(np.asarray(image).astype(np.uint16))
    return (halves[0] << 8) | halves[1]


def _wide_grey_alpha(data: bytes, name: str) -> Samples:
    """Decode PNG's 16-bit grey and alpha as four bytes a pixel, then pair the bytes."""
    image = _open(data, "PNG", name)
    image.tile = [tile._replace(args="RGBA") for tile in image.tile]
    image.load()
    pairs = np.asarray(image).astype(np.uint16)
    grey, alpha = (pairs[..., 0] << 8) | pairs[..., 1], (pairs[..., 2] << 8) | pairs[..., 3]
    return np.stack([grey, grey, grey, alpha], axis=-1)


def _wide_grey(image: ImageFile, raw: str) -> Samples:
    image.load()
    samples = np.asarray(image).astype(np.uint16)[..., None]
    if raw == "I;12":  # 12-bit TIFF: spread over 16 bits like every other maximum
        samples = ((samples.astype(np.uint32) * 65535 + 2047) // 4095).astype(np.uint16)
    return samples


def _with_key(samples: Samples, key: object) -> Samples:
    """Make the one transparent colour of a 16-bit PNG an alpha channel."""
    if key is None:
        return samples
    wanted = np.array(key, dtype=np.uint16).reshape(-1)
    opaque = (samples != wanted).any(axis=-1, keepdims=True)
    colour = np.broadcast_to(samples, (*samples.shape[:2], 3))
    return np.concatenate([colour, opaque * np.uint16(65535)], axis=-1)


def _narrow(image: ImageFile, kind: str, data: bytes, name: str) -> Samples:
    """Decode 8-bit samples: grey, R'G'B', or R'G'B' with alpha."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise MediaError(
            f"cannot read {name}: expected unsigned samples of 8 or 16 bits, "
            f"got {kind} with Pillow mode {image.mode!r}"
        )
    key = image.info.get("transparency")
    if kind == "PNG" and image.mode == "L" and isinstance(key, int):
        # The key is in the file's depth, the samples are already spread over 8 bits.
        image.info["transparency"] = key * 255 // ((1 << data[24]) - 1)
    image.load()
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        target = "RGBA"
    elif image.mode in ("1", "L"):
        target = "L"
    else:  # RGB, P, CMYK, YCbCr, RGBX
        target = "RGB"
    pixels = image if image.mode == target else image.convert(target)
    return np.atleast_3d(np.array(pixels))  # asarray would be read-only


def _decode(data: bytes, kind: str, name: str) -> ImageMedia:
    if kind == "PNM":
        samples, depth = decode_pnm(data, name)
        return ImageMedia(samples, depth)
    image = _open(data, kind, name)
    modes = _raw_modes(image)
    raw = next(iter(modes)) if len(modes) == 1 else ""
    wide = any("16" in mode or mode == "I;12" for mode in modes)
    key, cmyk = image.info.get("transparency"), image.mode == "CMYK"
    if not wide:
        samples = _narrow(image, kind, data, name)
    elif raw in _WIDE_GREY or raw == "I;12":
        samples = _with_key(_wide_grey(image, raw), key)
    elif raw == "LA;16B":
        samples = _wide_grey_alpha(data, name)
    elif raw[:-1] in _WIDE_COLOUR:
        samples = _with_key(_wide_colour(data, kind, name, raw), key)
    else:
        raise MediaError(
            f"cannot read {name}: expected 16-bit samples as unsigned grey, RGB or RGBA, got "
            f"{kind} with layout {', '.join(sorted(modes))}"
        )
    exif, xmp, icc = (image.info.get(key) for key in ("exif", "xmp", "icc_profile"))
    orientation, block = split_orientation(exif) if exif else (1, b"")
    # A profile of CMYK, of L*a*b* or of grey does not describe the R'G'B' made here.
    space = b"GRAY" if samples.shape[2] == 1 else b"RGB "
    fits = not cmyk and (icc or b"")[16:20] not in _SPACES - {space}
    return ImageMedia(
        orient(samples, orientation),
        bit_depth=16 if wide else 8,
        icc=(icc or None) if fits else None,
        exif=block or None,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
    )


def read_image(source: str | os.PathLike[str] | bytes) -> ImageMedia:
    """Read a picture at the depth it is stored in.

    Palettes become R'G'B', grey with alpha becomes R'G'B' with alpha, 1, 2 and 4 bits become
    8, CMYK and L*a*b* become R'G'B' (a profile of another colour space is left out), of an
    animation the first frame is read, and an Exif orientation is applied and removed. AVIF is
    read at 8 bits.

    Args:
        source: a path, or the bytes of a file.

    Returns:
        The samples with the file's ICC profile, Exif and XMP (TIFF: profile and XMP only).

    Raises:
        MediaError: the file is missing, empty, not a picture of a known format, damaged,
            over 2^28 pixels, or stores samples that are neither 8 nor 16-bit integers.
    """
    name = source_name(source)
    data = read_bytes(source)
    kind = image_format(data)
    if kind is None or kind == "HEIC":
        got = "HEIC" if kind else "none of these"
        raise MediaError(f"cannot read {name} as an image: {_EXPECTED}; got {got}")
    try:
        return _decode(data, kind, name)
    except MediaError:
        raise
    except Exception as error:
        # On damaged files Pillow's decoders raise from OSError and SyntaxError to struct.error
        # and AssertionError; here is the boundary where all of it means one thing.
        raise MediaError(f"cannot read {name} as an image: damaged {kind}: {error}") from error
