"""Recognise the ICC profiles that say no more than "sRGB"."""

from __future__ import annotations

import io

__all__ = ["is_srgb"]


def is_srgb(icc: bytes) -> bool:
    """Whether an ICC profile describes itself as plain sRGB.

    Such a profile can be replaced by the code points of `formats.colour.SRGB`. Anything else,
    variants such as "linear sRGB" and damaged profiles included, is not, and is kept as it is.
    """
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        name = ImageCms.getProfileDescription(profile).strip().lower()
    except (ImageCms.PyCMSError, OSError, ImportError):
        return False
    return name in ("srgb", "srgb built-in") or name.startswith("srgb iec61966-2")
