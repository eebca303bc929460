"""YUV4MPEG2 (y4m): uncompressed Y'CbCr clips, read and written without ffmpeg.

A line of text, then for each frame the line FRAME and the planes. The header names size,
rate, chroma layout and (by ffmpeg's extension XCOLORRANGE) the range, but never the matrix:
unless our own XMATRIX tag says otherwise it is BT.709 from 720 rows on and BT.601 below.
C420jpeg and C420 have chroma between the columns, all others on the even columns. Cmono is
full range unless tagged otherwise, as ffmpeg reads it. Frames of interlaced clips are read as
if they were progressive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from codec.media.planes import PlanarFormat
from codec.media.values import Samples, VideoInfo, check_frame, check_size, untagged_colour
from codec.media.ycbcr import MATRICES, Siting
from formats.colour import Colour
from formats.errors import InputError, MediaError

__all__ = ["Y4mEncoder", "output_colour", "read_frames", "read_header", "write_raw", "write_y4m"]

MAGIC = b"YUV4MPEG2"
_LINE_BYTES = 4096  # no header line is near that; a file without a line end must not fill memory
_LAYOUT = re.compile(r"(420jpeg|420mpeg2|420paldv|420|422|444|mono)(?:p?(10|12|16))?")


def _line(stream: BinaryIO, name: str, what: str) -> bytes:
    line = stream.readline(_LINE_BYTES)
    if line and not line.endswith(b"\n"):
        raise MediaError(f"{name}: expected a line end after {what}, got {line[:40]!r}")
    return line[:-1]


def _integer(text: str, name: str, tag: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise MediaError(f"{name}: expected a number in y4m tag {tag}, got {text[:40]!r}")
    return int(text)


def _layout(text: str, name: str) -> tuple[str, int, Siting]:
    match = _LAYOUT.fullmatch(text)
    if match is None:
        raise MediaError(
            f"{name}: expected y4m layout 420, 422, 444 or mono of 8, 10, 12 or 16 bits, "
            f"got C{text[:40]}"
        )
    kind, depth = match.groups()
    centre = kind == "420jpeg" or (kind == "420" and depth is None)
    subsampling = "400" if kind == "mono" else kind[:3]
    return subsampling, int(depth or 8), "centre" if centre else "left"


def _rate(text: str, name: str) -> Fraction:
    numerator, _, denominator = text.partition(":")
    top, bottom = _integer(numerator, name, "F"), _integer(denominator, name, "F")
    if not top or not bottom:
        raise MediaError(f"{name}: expected a positive frame rate in y4m tag F, got {text}")
    return Fraction(top, bottom)


def read_header(stream: BinaryIO, name: str) -> tuple[VideoInfo, PlanarFormat]:
    """Read the first line.

    Args:
        stream: at its start; left at the first frame.
        name: what an error calls it.

    Returns:
        The clip (with `frames` None) and the layout of its frames.

    Raises:
        MediaError: the line is not a y4m header, or names a layout that is not supported.
    """
    magic, *words = _line(stream, name, "the y4m header").decode("ascii", "replace").split(" ")
    if magic != MAGIC.decode():
        raise MediaError(f"{name}: expected a header starting with {MAGIC.decode()}, got {magic!r}")
    tags = {word[0]: word[1:] for word in words if word and word[0] != "X"}
    extra = dict(word[1:].partition("=")[::2] for word in words if word.startswith("X"))
    for tag, what in (("W", "width"), ("H", "height"), ("F", "frame rate")):
        if tag not in tags:
            raise MediaError(f"{name}: expected tag {tag} ({what}) in the y4m header")
    width, height = _integer(tags["W"], name, "W"), _integer(tags["H"], name, "H")
    check_size(width, height, name)
    subsampling, depth, siting = _layout(tags.get("C", "420jpeg"), name)
    colour = untagged_colour(height)
    full = {"FULL": True, "LIMITED": False}.get(extra.get("COLORRANGE", ""), subsampling == "400")
    matrix = extra.get("MATRIX", "")
    if matrix.isdigit() and int(matrix) in MATRICES:
        colour = replace(colour, matrix=int(matrix))
    colour = replace(colour, full_range=full)
    info = VideoInfo(
        width=width,
        height=height,
        channels=1 if subsampling == "400" else 3,
        bit_depth=depth,
        rate=_rate(tags["F"], name),
        colour=colour,
        subsampling=subsampling,
    )
    return info, PlanarFormat(width, height, depth, subsampling, colour.matrix, full, siting)


def read_frames(stream: BinaryIO, layout: PlanarFormat, name: str) -> Iterator[Samples]:
    """Yield the frames after the header, each (H, W, C).

    Raises:
        MediaError: a frame does not start with FRAME, or is cut.
    """
    index = 0
    while line := _line(stream, name, f"FRAME {index}"):
        if line.split(b" ")[0] != b"FRAME":
            raise MediaError(f"{name}: expected FRAME before frame {index}, got {line[:40]!r}")
        data = stream.read(layout.frame_bytes)
        if len(data) < layout.frame_bytes:
            raise MediaError(
                f"{name}: frame {index} is cut: expected {layout.frame_bytes} bytes, "
                f"got {len(data)}"
            )
        yield layout.decode(data, f"{name}: frame {index}")
        index += 1


def output_colour(info: VideoInfo) -> Colour:
    """Return the Y'CbCr to write: the source's, or one by height for R'G'B' sources."""
    if info.colour.matrix in MATRICES:
        return info.colour
    return replace(info.colour, matrix=untagged_colour(info.height).matrix, full_range=False)


class Y4mEncoder:
    """Turns frames into the bytes of a y4m file: `header` once, then `frame` for each."""

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        colour = output_colour(info)
        grey = info.channels == 1
        subsampling = "400" if grey else info.subsampling
        if subsampling == "400" and not grey:
            subsampling = "420"
        # Readers take mono for full range whatever the tag says, so nothing else is written.
        self._layout = PlanarFormat(
            info.width,
            info.height,
            info.bit_depth,
            subsampling,
            colour.matrix,
            full_range=grey or colour.full_range,
        )

    def header(self) -> bytes:
        """Return the first line."""
        layout, rate = self._layout, self._info.rate
        deep = "" if layout.bit_depth == 8 else str(layout.bit_depth)
        if layout.subsampling == "400":
            kind = f"mono{deep}"
        elif deep:
            kind = f"{layout.subsampling}p{deep}"
        else:
            kind = "420mpeg2" if layout.subsampling == "420" else layout.subsampling
        words = [
            MAGIC.decode(),
            f"W{layout.width} H{layout.height} F{rate.numerator}:{rate.denominator} Ip A0:0",
            f"C{kind} XCOLORRANGE={'FULL' if layout.full_range else 'LIMITED'}",
        ]
        if layout.matrix != untagged_colour(layout.height).matrix and layout.subsampling != "400":
            words.append(f"XMATRIX={layout.matrix}")
        return " ".join(words).encode("ascii") + b"\n"

    def frame(self, frame: Samples) -> bytes:
        """Return one frame; raises InputError if it does not fit the clip."""
        check_frame(frame, self._info)
        return b"FRAME\n" + self._layout.encode(frame)


def write_y4m(stream: BinaryIO, info: VideoInfo, frames: Iterable[Samples]) -> None:
    """Write a clip as y4m to a stream that need not be seekable, such as standard output.

    Args:
        stream: takes bytes.
        info: the clip; `subsampling` and `colour` say which Y'CbCr is written. R'G'B' sources
            become video range BT.709 or BT.601 by height.
        frames: (H, W, C), as `info` announces.

    Raises:
        InputError: a frame does not fit `info`.
        OSError: the stream does not take the bytes.
    """
    encoder = Y4mEncoder(info)
    stream.write(encoder.header())
    for frame in frames:
        stream.write(encoder.frame(frame))


def write_raw(stream: BinaryIO, frames: Iterable[Samples]) -> None:
    """Write bare samples: rows of interleaved channels, uint16 least significant byte first.

    These are ffmpeg's rgb24 and gray for uint8. Over 8 bits the values are not stretched: a
    10-bit clip has samples in 0..1023.

    Raises:
        InputError: a frame is not (H, W, C) of uint8 or uint16.
        OSError: the stream does not take the bytes.
    """
    for frame in frames:
        if frame.ndim != 3 or frame.dtype not in (np.uint8, np.uint16):
            raise InputError(
                f"frame: expected (H, W, C) uint8 or uint16, got {frame.shape} {frame.dtype}"
            )
        stream.write(frame.astype(frame.dtype.newbyteorder("<"), copy=False).tobytes())
