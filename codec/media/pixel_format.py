"""Read what a pixel format stores from the name that ffmpeg gives it."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["PixelFormat"]

_DEPTHS = (8, 10, 12, 16)
_GREY = re.compile(r"(?:gray|ya)(f?\d*)$|mono[wb]$")
_RGB = re.compile(r"[0ax]*2?(?:rgb|bgr|gbr)|pal8$|xyz12$|bayer_")
_RGB_DEPTH = re.compile(r"(?:gbra?p|rgba?|bgra?|xyz|bayer_[rgb]{4})(f?\d+)$")
_PLANAR = re.compile(r"yuv[aj]?(4\d\d)p(\d*)$")
_SEMIPLANAR = re.compile(r"p([024])(\d\d)$")  # p010, p216, p412: chroma scheme, then depth
_PACKED = re.compile(r"(y2|xv|v)(\d\d)x?$")  # y210, xv36, v30x
# Schemes beside the three: counted as the next finer one, so that no chroma is thrown away.
_FINER = {"410": "420", "411": "422", "440": "444"}
_BY_SEMIPLANAR = {"0": "420", "2": "422", "4": "444"}
# Some names give the bits of a whole pixel; all others above 16 (24, 565) are of 8-bit samples.
_PIXEL_BITS = {"30": 10, "36": 12, "32": 16, "48": 16, "64": 16, "96": 16, "128": 16}
_NAMED = {"nv12": "420", "nv21": "420", "nv16": "422", "nv20": "422", "yuyv422": "422"}
_NAMED |= {"uyvy422": "422", "yvyu422": "422", "uyyvyy411": "422"}


def _depth(digits: str) -> int:
    """Return the depth that holds samples of `digits` bits; floats get the deepest."""
    if digits.startswith("f"):
        return 16
    bits = _PIXEL_BITS.get(digits) or int(digits or 8)
    return next((depth for depth in _DEPTHS if bits <= depth), 8)


@dataclass(frozen=True)
class PixelFormat:
    """What one of ffmpeg's pixel formats stores.

    Attributes:
        rgb: R'G'B' rather than Y'CbCr or grey.
        subsampling: "400", "420", "422" or "444"; for other schemes the next finer one.
        bit_depth: 8, 10, 12 or 16; the next higher one for 9 and 14 bits, 16 for floats.
    """

    rgb: bool
    subsampling: str
    bit_depth: int

    @classmethod
    def parse(cls, name: str) -> PixelFormat:
        """Read a name such as yuv420p10le, p010le, nv12, gbrp12le, gray or rgb48be."""
        stem = re.sub(r"(msb)?(le|be)$", "", name)
        if match := _GREY.match(stem):
            digits = match.group(1) or "8"
            return cls(False, "400", _depth("8" if stem == "ya8" else digits))
        if _RGB.match(stem):
            match = _RGB_DEPTH.search(stem)
            return cls(True, "444", _depth(match.group(1) if match else "8"))
        if match := _PLANAR.match(stem):
            scheme = match.group(1)
            return cls(False, _FINER.get(scheme, scheme), _depth(match.group(2)))
        if match := _SEMIPLANAR.match(stem):
            return cls(False, _BY_SEMIPLANAR[match.group(1)], _depth(match.group(2)))
        if match := _PACKED.match(stem):
            return cls(False, "422" if match.group(1) == "y2" else "444", _depth(match.group(2)))
        return cls(False, _NAMED.get(stem, "444"), {"nv20": 10, "ayuv64": 16}.get(stem, 8))
