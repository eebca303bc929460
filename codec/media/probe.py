"""Ask ffmpeg what a clip is, before its frames are read.

Size and rate come from the header of one y4m frame that ffmpeg makes: exact, and after
rotation. Everything else is in the lines ffmpeg logs about its input, such as

    Stream #0:0[0x1](und): Video: h264 (High), yuv420p10le(tv, bt2020nc/bt2020/smpte2084), ...
"""

from __future__ import annotations

import io
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from codec.media.ffmpeg import run
from codec.media.pixel_format import PixelFormat
from codec.media.values import VideoInfo, broadcast_rate, check_size, untagged_colour
from codec.media.y4m import read_header
from formats.colour import SRGB, Colour
from formats.errors import MediaError

__all__ = ["file_argument", "parse_colour", "probe"]

# The code points of H.273, by the names ffmpeg prints.
_MATRICES = {"gbr": 0, "bt709": 1, "unknown": 2, "fcc": 4, "bt470bg": 5, "smpte170m": 6}
_MATRICES |= {"smpte240m": 7, "ycgco": 8, "bt2020nc": 9, "bt2020c": 10, "smpte2085": 11}
_MATRICES |= {"chroma-derived-nc": 12, "chroma-derived-c": 13, "ictcp": 14, "ipt-c2": 15}
_MATRICES |= {"ycgco-re": 16, "ycgco-ro": 17}
_PRIMARIES = {"bt709": 1, "bt470m": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7}
_PRIMARIES |= {"film": 8, "bt2020": 9, "smpte428": 10, "smpte431": 11, "smpte432": 12}
_PRIMARIES |= {"ebu3213": 22}
_TRANSFERS = {"bt709": 1, "bt470m": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7}
_TRANSFERS |= {"linear": 8, "log100": 9, "log316": 10, "iec61966-2-4": 11, "bt1361e": 12}
_TRANSFERS |= {"iec61966-2-1": 13, "bt2020-10": 14, "bt2020-12": 15, "smpte2084": 16}
_TRANSFERS |= {"smpte428": 17, "arib-std-b67": 18}
_UNSPECIFIED = 2
_BT601 = 6

# A line about a stream; titles and other metadata may hold the same words, elsewhere in a line.
_STREAM = re.compile(r"^ *Stream #0:[^ ]*: (Video|Audio): (.*)$", re.MULTILINE)

_REORDERED = 8  # pictures that may still be held back when the last packet is read
_COUNT_LIMIT = 1 << 28  # bytes; larger files are not read through only to count pictures


def file_argument(path: Path) -> str:
    """Return `path` so that ffmpeg cannot take it for an option or another protocol."""
    return f"file:{path.absolute()}"


def _fields(line: str) -> list[str]:
    """Split at commas that are outside parentheses and brackets."""
    fields, depth = [""], 0
    for character in line:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            fields.append("")
        else:
            fields[-1] += character
    return [field.strip() for field in fields]


def parse_colour(notes: list[str]) -> tuple[Colour, bool | None]:
    """Read the notes behind a pixel format, such as tv, bt709 or bt470bg/unknown/unknown.

    Returns:
        The colour with 2 for each unspecified part, and the range: full, video, or unsaid.
    """
    full = next((note == "pc" for note in notes if note in ("tv", "pc")), None)
    for note in notes:
        parts = note.split("/")
        parts = parts * 3 if len(parts) == 1 else parts
        if len(parts) == 3 and parts[0] in _MATRICES:
            primaries = _PRIMARIES.get(parts[1], _UNSPECIFIED)
            transfer = _TRANSFERS.get(parts[2], _UNSPECIFIED)
            return Colour(primaries, transfer, _MATRICES[parts[0]], bool(full)), full
    return Colour(_UNSPECIFIED, _UNSPECIFIED, _UNSPECIFIED, bool(full)), full


def _resolved(colour: Colour, pixels: PixelFormat, height: int, full: bool | None) -> Colour:
    """Fill in what the file leaves out, the way the frames will really be converted."""
    guess = SRGB if pixels.rgb else untagged_colour(height)
    matrix = colour.matrix
    if pixels.rgb:
        matrix = 0
    elif matrix == _UNSPECIFIED:
        # 8-bit frames are converted by ffmpeg, which takes untagged clips of any size for
        # BT.601. The published frames of "bunny" (NeRV) were made so, and so are ours.
        eight_bit_colour = pixels.bit_depth == 8 and pixels.subsampling != "400"
        matrix = _BT601 if eight_bit_colour else guess.matrix
    primaries = colour.primaries if colour.primaries != _UNSPECIFIED else guess.primaries
    transfer = colour.transfer if colour.transfer != _UNSPECIFIED else guess.transfer
    unsaid = pixels.rgb or pixels.subsampling == "400"  # both are full range unless tagged
    return Colour(primaries, transfer, matrix, unsaid if full is None else full)


def _count(path: Path, task: str) -> tuple[int | None, Fraction]:
    """Count coded pictures without decoding them, and the seconds they span."""
    if path.stat().st_size > _COUNT_LIMIT:
        return None, Fraction(0)
    arguments = ["-i", file_argument(path), "-map", "0:V:0", "-c", "copy", "-f", "null", "-"]
    _, log = run(arguments, task=task, error=MediaError)
    counts = re.findall(r"frame= *(\d+) .*?time=(\d+):(\d+):(\d+\.\d+)", log)
    if not counts:
        return None, Fraction(0)
    count, hours, minutes, seconds = counts[-1]
    return int(count) or None, int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)


def _exact_rate(rate: Fraction, count: int | None, seconds: Fraction) -> Fraction:
    """Return the rate of a clip, from the one ffmpeg states and the time its pictures span.

    Matroska stores the length of a frame in nanoseconds, so that 60000/1001 comes back as
    19001/317: what is within 1e-5 of a broadcast rate is that rate. A clip of varying rate
    states its finest tick, at which it would play too fast. Where the pictures span another
    time than that rate says (by more than a tenth, and by more than the few pictures that
    reordering hides), their average keeps the length, and the sound in step.
    """
    if count and seconds and abs(seconds * rate - count) > max(_REORDERED, count / 10):
        return (count / seconds).limit_denominator(1001)
    nearest = broadcast_rate(rate)
    if rate.denominator != 1 and abs(nearest - rate) < rate / 100_000:
        return nearest
    return rate


def probe(path: Path, name: str) -> tuple[VideoInfo, PixelFormat]:
    """Describe the first video stream of a file (cover pictures do not count).

    Args:
        path: a clip that ffmpeg reads.
        name: what an error calls it.

    Raises:
        MediaError: it is no such file, has no video, or its first frame does not decode.
        MissingLibraryError: ffmpeg is needed and not installed.
    """
    task = f"cannot read {name} as a video"
    take = ["-i", file_argument(path), "-map", "0:V:0", "-frames:v", "1", "-pix_fmt", "gray"]
    try:
        output, log = run([*take, "-f", "yuv4mpegpipe", "-"], task=task, error=MediaError)
    except MediaError as error:
        if "matches no streams" in str(error):
            raise MediaError(f"{task}: it has no video stream") from error
        raise
    streams = _STREAM.findall(log.partition("Stream mapping:")[0])
    videos = [line for kind, line in streams if kind == "Video" and "(attached pic)" not in line]
    if not output or not videos:
        raise MediaError(f"{task}: it has no frames")
    header, _ = read_header(io.BytesIO(output), name)
    check_size(header.width, header.height, name)
    fields = _fields(videos[0])
    pixel_name, _, notes = (fields[1] if len(fields) > 1 else "").partition("(")
    pixels = PixelFormat.parse(pixel_name)
    colour, full = parse_colour([note.strip() for note in notes.rstrip(")").split(",")])
    count, seconds = _count(path, task)
    return replace(
        header,
        channels=1 if pixels.subsampling == "400" else 3,
        bit_depth=pixels.bit_depth,
        rate=_exact_rate(header.rate, count, seconds),
        colour=_resolved(colour, pixels, header.height, full),
        subsampling=pixels.subsampling,
        frames=count,
        has_audio=any(kind == "Audio" for kind, _ in streams),
    ), pixels
