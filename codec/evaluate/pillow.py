"""Samples to the bytes of a file and back through Pillow, with its errors translated."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

from codec.evaluate.metrics import Samples
from formats.errors import InputError, MediaError, MissingLibraryError

__all__ = ["command", "load", "save", "version"]


def version(feature: str, library: str, library_name: str) -> str:
    """Pillow's version and that of the library inside it.

    Args:
        feature: what Pillow calls the file type ("jpg", "webp", "avif").
        library: what Pillow calls the library whose version is wanted.
        library_name: what everybody else calls it.

    Raises:
        MissingLibraryError: this Pillow was built without it.
    """
    if not features.check(feature):
        raise MissingLibraryError(
            f"this Pillow ({PIL.__version__}) was built without {library_name}: "
            "pip install --upgrade pillow"
        )
    return f"Pillow {PIL.__version__}, {library_name} {features.version(library)}"


def command(file_type: str, settings: dict[str, Any]) -> str:
    """The call that `save` makes, as one would type it."""
    arguments = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    return f"Image.save(format={file_type!r}, {arguments})"


def save(
    samples: Samples, file_type: str, channels: tuple[int, ...], settings: dict[str, Any]
) -> bytes:
    """The bytes of a file.

    Args:
        samples: (H, W, C) uint8.
        file_type: Pillow's name of it.
        channels: the values of C that the file type has.
        settings: passed to Image.save.

    Raises:
        InputError: another shape, dtype or channel count.
        MediaError: the library refused the picture (for one, a side over its limit).
    """
    if samples.ndim != 3 or samples.dtype != np.uint8 or samples.shape[2] not in channels:
        raise InputError(
            f"{file_type} takes (H, W, C) uint8 samples with C one of {channels}, "
            f"got {samples.shape} {samples.dtype}"
        )
    # Pillow tells greyscale, RGB and RGBA from the shape; it knows greyscale as (H, W) only.
    plane = samples[..., 0] if samples.shape[2] == 1 else samples
    buffer = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(plane)).save(buffer, format=file_type, **settings)
    except (OSError, ValueError, RuntimeError) as error:
        height, width = samples.shape[:2]
        raise MediaError(
            f"{file_type} cannot code this picture of {width} x {height}: {error}"
        ) from error
    return buffer.getvalue()


def load(data: bytes, file_type: str) -> Samples:
    """The samples (H, W, C) uint8 of a file that `save` made.

    Raises:
        MediaError: the bytes are not a whole file of this type.
    """
    try:
        with Image.open(io.BytesIO(data), formats=[file_type]) as image:
            samples = np.array(image)
    except (OSError, ValueError, RuntimeError, SyntaxError) as error:
        raise MediaError(f"cannot decode {len(data)} bytes as {file_type}: {error}") from error
    return samples[..., None] if samples.ndim == 2 else samples
