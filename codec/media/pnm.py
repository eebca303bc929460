"""PBM, PGM and PPM: the six formats of Netpbm, read and written whole.

Pillow reads 16-bit PPM at 8 bits and rescales PGM; this module keeps every bit. Written by
the format's own description (https://netpbm.sourceforge.net/doc/pnm.html).
"""

from __future__ import annotations

import re

import numpy as np

from codec.media.values import Samples, check_size
from formats.errors import MediaError

__all__ = ["decode_pnm", "encode_pnm"]

# White space, or a comment up to the end of its line, separates the numbers of the header.
_GAP = rb"(?:[ \t\r\n\f\v]|#[^\r\n]*[\r\n])"
_NUMBER = re.compile(_GAP + rb"+([0-9]{1,10})")


def _header(data: bytes, name: str) -> tuple[int, int, int, int]:
    """Return width, height, maximum value and the offset of the first sample."""
    wanted = 2 if data[1:2] in b"14" else 3
    numbers, at = [], 2
    for _ in range(wanted):
        match = _NUMBER.match(data, at)
        if match is None:
            raise MediaError(f"{name}: expected {wanted} numbers in the PNM header at byte {at}")
        numbers.append(int(match.group(1)))
        at = match.end()
    width, height, peak = (*numbers, 1)[:3]
    check_size(width, height, name)
    if not 1 <= peak <= 65535:
        raise MediaError(f"{name}: expected a PNM maximum of 1..65535, got {peak}")
    return width, height, peak, at + 1  # exactly one white space ends the header


def _plain(data: bytes, at: int, count: int, bitmap: bool, name: str) -> Samples:
    """Return `count` samples of the formats that spell numbers in ASCII."""
    text = re.sub(rb"#[^\r\n]*", b" ", data[at - 1 :])
    if bitmap:  # the digits of a PBM need no space between them
        values = [int(digit) for digit in re.findall(rb"[01]", text)[:count]]
    else:
        words = text.split()[:count]
        if not all(word.isdigit() and len(word) <= 5 for word in words):
            raise MediaError(f"{name}: expected decimal samples after the PNM header")
        values = [int(word) for word in words]
    if len(values) < count:
        raise MediaError(f"{name}: expected {count} samples, got {len(values)}")
    return np.array(values, dtype=np.int64)


def _raw(data: bytes, at: int, shape: tuple[int, int, int], peak: int, name: str) -> Samples:
    """Return the samples of the formats that store numbers as bytes, most significant first."""
    kind = ">u2" if peak > 255 else "u1"
    expected = int(np.prod(shape)) * (2 if peak > 255 else 1)
    if len(data) - at < expected:
        raise MediaError(
            f"{name}: expected {expected} bytes of samples, got {max(0, len(data) - at)}"
        )
    return np.frombuffer(data, kind, int(np.prod(shape)), at)


def decode_pnm(data: bytes, name: str) -> tuple[Samples, int]:
    """Decode P1 to P6.

    Args:
        data: the whole file.
        name: what an error calls it.

    Returns:
        (H, W, 1 or 3) samples and their bit depth: uint8 and 8, or uint16 and 16 where the
        file's maximum is over 255. Other maxima are scaled to the full range.

    Raises:
        MediaError: the header or the samples break the format, or the file is cut.
    """
    width, height, peak, at = _header(data, name)
    magic = data[1:2]
    shape = (height, width, 3 if magic in b"36" else 1)
    values: Samples
    if magic == b"4":
        row = (width + 7) // 8
        packed = _raw(data, at, (height, row, 1), 1, name).reshape(height, row)
        values = np.unpackbits(packed, axis=1)[:, :width]
    elif magic in b"123":
        values = _plain(data, at, int(np.prod(shape)), magic == b"1", name)
    else:
        values = _raw(data, at, shape, peak, name)
    if magic in b"14":
        values = 1 - values.astype(np.int64)  # in a PBM 1 is black
    if values.size and int(values.max()) > peak:
        raise MediaError(f"{name}: a sample of {int(values.max())} is over the maximum {peak}")
    depth = 16 if peak > 255 else 8
    full = (1 << depth) - 1
    if peak != full:
        values = (values.astype(np.int64) * (2 * full) + peak) // (2 * peak)
    dtype = np.uint16 if depth == 16 else np.uint8
    return np.ascontiguousarray(values.reshape(shape).astype(dtype)), depth


def encode_pnm(samples: Samples) -> bytes:
    """Encode (H, W, 1) as PGM (P5) and (H, W, 3) as PPM (P6), at 8 or 16 bits."""
    height, width, channels = samples.shape
    peak = 255 if samples.dtype == np.uint8 else 65535
    header = f"P{5 if channels == 1 else 6}\n{width} {height}\n{peak}\n".encode("ascii")
    return header + samples.astype("u1" if peak == 255 else ">u2").tobytes()
