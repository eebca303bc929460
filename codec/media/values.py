"""What a picture and a clip are in memory: samples, and the facts that files keep beside them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from formats.colour import BT601, BT709, Colour
from formats.errors import InputError, MediaError

__all__ = [
    "MAX_PIXELS",
    "ImageMedia",
    "Samples",
    "VideoInfo",
    "broadcast_rate",
    "check_frame",
    "check_size",
]

# uint8 or uint16; numpy's type system cannot say "one of the two" without repeating itself.
Samples: TypeAlias = npt.NDArray[Any]

# 2^28 pixels are 16384 x 16384. A few bytes of PNG can announce more memory than a machine
# has, so sizes are compared with this number before anything is allocated.
MAX_PIXELS = 1 << 28

HD_HEIGHT = 720  # from here on untagged Y'CbCr is taken for BT.709, below for BT.601


def broadcast_rate(rate: Fraction | float) -> Fraction:
    """The multiple of 1000/1001 nearest to a rate, such as 30000/1001 for 29.97; may be 0."""
    return Fraction(round(rate * 1001 / 1000) * 1000, 1001)


def check_size(width: int, height: int, name: str) -> None:
    """Refuse a size that is empty or over `MAX_PIXELS`.

    Raises:
        MediaError: the size cannot be a picture, or is too large to decode safely.
    """
    if width < 1 or height < 1:
        raise MediaError(f"{name}: expected a size of at least 1x1, got {width}x{height}")
    if width * height > MAX_PIXELS:
        raise MediaError(
            f"{name}: {width}x{height} is {width * height} pixels, the limit is {MAX_PIXELS}"
        )


def untagged_colour(height: int) -> Colour:
    """Return the Y'CbCr description assumed when a source of `height` rows states none."""
    return BT709 if height >= HD_HEIGHT else BT601


@dataclass(frozen=True)
class ImageMedia:
    """A still picture.

    Attributes:
        samples: (H, W, C), C-contiguous. C is 1 (grey), 3 (R'G'B') or 4 (R'G'B' and straight
            alpha). uint8 in 0..255, or uint16 in 0..65535.
        bit_depth: 8 for uint8, 16 for uint16.
        icc: the ICC profile of the samples, if the file carried one.
        exif: the Exif block from its TIFF header on (no `Exif\\0\\0` prefix). It holds no
            orientation: readers apply that to the samples.
        xmp: the XMP packet.

    Raises:
        InputError: shape, type and bit depth do not fit together.
    """

    samples: Samples
    bit_depth: int = 8
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None

    def __post_init__(self) -> None:
        """Check the samples once, so that every writer can rely on them."""
        if self.bit_depth not in (8, 16):
            raise InputError(f"image bit_depth: expected 8 or 16, got {self.bit_depth}")
        if not isinstance(self.samples, np.ndarray):
            raise InputError(f"image samples: expected an array, got {type(self.samples).__name__}")
        shape = self.samples.shape
        if len(shape) != 3 or shape[2] not in (1, 3, 4) or 0 in shape:
            raise InputError(f"image samples: expected (H, W, 1, 3 or 4), got {shape}")
        expected = np.uint8 if self.bit_depth == 8 else np.uint16
        if self.samples.dtype != expected:
            raise InputError(
                f"image samples: expected {expected.__name__} for {self.bit_depth} bits, "
                f"got {self.samples.dtype}"
            )

    def __repr__(self) -> str:
        height, width, channels = self.samples.shape
        extra = [name for name in ("icc", "exif", "xmp") if getattr(self, name) is not None]
        return (
            f"ImageMedia({width}x{height}, {channels} channels, {self.bit_depth} bits"
            f"{''.join(', ' + name for name in extra)})"
        )


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a clip before its frames are read.

    Attributes:
        width: luma samples in a row, after any rotation the file asks for.
        height: rows, after that rotation.
        channels: 1 (grey) or 3 (R'G'B').
        bit_depth: 8, 10, 12 or 16. Frames are uint8 at 8 bits, else uint16 in
            0..2^bit_depth - 1.
        rate: frames per second, exact (29.97 is 30000/1001).
        colour: the Y'CbCr that the frames were, or will be, converted from or to. Matrix 0
            means the source was R'G'B'.
        subsampling: chroma of the source: "400", "420", "422" or "444".
        frames: how many frames to expect, or None. For a compressed clip it counts the coded
            pictures; damaged ones may be missing when the clip is read.
        has_audio: whether the source carries sound.

    Raises:
        InputError: a field is outside its range.
    """

    width: int
    height: int
    channels: int
    bit_depth: int
    rate: Fraction
    colour: Colour
    subsampling: str
    frames: int | None = None
    has_audio: bool = False

    def __post_init__(self) -> None:
        """Check each field once."""
        if self.width < 1 or self.height < 1:
            raise InputError(f"video size: expected at least 1x1, got {self.width}x{self.height}")
        if self.channels not in (1, 3):
            raise InputError(f"video channels: expected 1 or 3, got {self.channels}")
        if self.bit_depth not in (8, 10, 12, 16):
            raise InputError(f"video bit_depth: expected 8, 10, 12 or 16, got {self.bit_depth}")
        if not isinstance(self.rate, Fraction) or self.rate <= 0:
            raise InputError(f"video rate: expected a positive Fraction, got {self.rate!r}")
        if self.subsampling not in ("400", "420", "422", "444"):
            raise InputError(
                f"video subsampling: expected 400, 420, 422 or 444, got {self.subsampling!r}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one frame, (H, W, C)."""
        return self.height, self.width, self.channels

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Type of one frame's samples."""
        return np.uint8 if self.bit_depth == 8 else np.uint16


def check_frame(frame: Samples, info: VideoInfo) -> None:
    """Refuse a frame that does not have the shape, type and range which `info` announces.

    Raises:
        InputError: it has not.
    """
    if not isinstance(frame, np.ndarray):
        raise InputError(f"frame: expected an array, got {type(frame).__name__}")
    if frame.shape != info.shape or frame.dtype != info.dtype:
        raise InputError(
            f"frame: expected {info.shape} {info.dtype.__name__}, got {frame.shape} {frame.dtype}"
        )
    if info.bit_depth in (10, 12) and int(frame.max()) >= 1 << info.bit_depth:
        raise InputError(
            f"frame: expected samples of {info.bit_depth} bits, got one of {int(frame.max())}"
        )
