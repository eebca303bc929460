"""Y'CbCr planes to R'G'B' frames and back, by the equations of ITU-T H.273.

Between the two lies one float32 computation and one rounding, to the nearest, halves up.
With bit depth d and s = 2^(d - 8) (H.273 equations 20-28 for the ranges, 38-48 for the
matrix):

    video range:  Y = 16 s + 219 s E'Y,   C = 128 s + 224 s E'C
    full range:   Y = (2^d - 1) E'Y,      C = 2^(d-1) + (2^d - 1) E'C
    E'Y = kr E'R + kg E'G + kb E'B,  E'Cb = (E'B - E'Y) / 2(1 - kb),  E'Cr likewise with kr

R'G'B' is always full range. Subsampled chroma is interpolated linearly on the way in, and
averaged on the way out. Vertically a 4:2:0 sample lies between its two rows; horizontally it
lies on the even column ("left", what H.264 assumes and y4m calls mpeg2) or between the two
columns ("centre", y4m's jpeg). The kernels, per axis:

    centre:  up 1/4 3/4 | 3/4 1/4     down 1/2 1/2
    left:    up 1 | 1/2 1/2           down 1/4 1/2 1/4

Edges repeat their last sample; odd sizes have ceil(size / 2) chroma samples. Flat areas stay
exactly flat, since every kernel sums to one in powers of two.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from codec.media.values import Samples
from formats.errors import InputError

__all__ = ["MATRICES", "Planes", "Siting", "grey_to_luma", "luma_to_grey", "to_rgb", "to_ycbcr"]

Siting = Literal["left", "centre"]
Planes: TypeAlias = tuple[Samples, Samples, Samples]
Plane: TypeAlias = npt.NDArray[np.float32]

# (kr, kb) by H.273 MatrixCoefficients. 0 is R'G'B' itself, stored in the order G, B, R.
# Left out on purpose: 8 (YCgCo) and the constant-luminance ones, which are other equations.
MATRICES = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
_IDENTITY = 0


def _coefficients(matrix: int) -> tuple[float, float, float]:
    if matrix not in MATRICES:
        known = ", ".join(map(str, (_IDENTITY, *MATRICES)))
        raise InputError(f"colour matrix: expected one of {known}, got {matrix}")
    kr, kb = MATRICES[matrix]
    return kr, 1.0 - kr - kb, kb


def _ranges(bit_depth: int, full_range: bool) -> tuple[float, float, float, float]:
    """Return luma offset and span, chroma offset and span, in code values."""
    peak, step = float((1 << bit_depth) - 1), float(1 << (bit_depth - 8))
    if full_range:
        return 0.0, peak, 128 * step, peak
    return 16 * step, 219 * step, 128 * step, 224 * step


def _quantise(values: Plane, bit_depth: int) -> Samples:
    """Round halves up, clip to the depth, and store; `values` is overwritten."""
    values += np.float32(0.5)
    np.floor(values, out=values)
    np.clip(values, 0, (1 << bit_depth) - 1, out=values)
    return values.astype(np.uint8 if bit_depth == 8 else np.uint16)


def _up(plane: Plane, axis: int, size: int, siting: Siting) -> Plane:
    """Double `plane` along `axis` by linear interpolation, cropped to `size`."""
    source = np.moveaxis(plane, axis, 0)
    following = np.concatenate([source[1:], source[-1:]])
    out = np.empty((2 * len(source), *source.shape[1:]), np.float32)
    if siting == "left":
        out[0::2] = source
        out[1::2] = 0.5 * (source + following)
    else:
        previous = np.concatenate([source[:1], source[:-1]])
        out[0::2] = 0.75 * source + 0.25 * previous
        out[1::2] = 0.75 * source + 0.25 * following
    return np.moveaxis(out[:size], 0, axis)


def _down(plane: Plane, axis: int, siting: Siting) -> Plane:
    """Halve `plane` along `axis` (rounding the size up) by a short average."""
    source = np.moveaxis(plane, axis, 0)
    if len(source) % 2:
        source = np.concatenate([source, source[-1:]])
    even, odd = source[0::2], source[1::2]
    if siting == "centre":
        out = 0.5 * (even + odd)
    else:
        before = np.concatenate([even[:1], odd[:-1]])
        out = 0.5 * even + 0.25 * (before + odd)
    return np.moveaxis(out, 0, axis)


def luma_to_grey(luma: Samples, bit_depth: int, full_range: bool) -> Samples:
    """Turn (H, W) luma into (H, W, 1) full-range grey; the samples themselves if full range."""
    if full_range:
        return luma[..., None]
    offset, span, _, _ = _ranges(bit_depth, full_range)
    scale = ((1 << bit_depth) - 1) / span
    grey = (luma.astype(np.float32) - np.float32(offset)) * np.float32(scale)
    return _quantise(grey, bit_depth)[..., None]


def grey_to_luma(grey: Samples, bit_depth: int, full_range: bool) -> Samples:
    """Turn (H, W, 1) full-range grey into (H, W) luma; the samples themselves if full range."""
    if full_range:
        return grey[..., 0]
    offset, span, _, _ = _ranges(bit_depth, full_range)
    scale = span / ((1 << bit_depth) - 1)
    luma = grey[..., 0].astype(np.float32) * np.float32(scale) + np.float32(offset)
    return _quantise(luma, bit_depth)


def to_rgb(
    planes: Planes,
    bit_depth: int,
    matrix: int,
    *,
    full_range: bool,
    subsampling: str = "444",
    siting: Siting = "left",
) -> Samples:
    """Convert one frame to R'G'B'.

    Args:
        planes: Y' (H, W), Cb and Cr (H, W), (H, ceil(W/2)) or (ceil(H/2), ceil(W/2)); for
            matrix 0 they are G', B', R'. Unsigned integers of `bit_depth` bits.
        bit_depth: 8..16.
        matrix: H.273 MatrixCoefficients, 0 or a key of `MATRICES`.
        full_range: whether the planes use all code values.
        subsampling: "444", "422" or "420".
        siting: where chroma samples lie horizontally.

    Returns:
        (H, W, 3), uint8 at 8 bits, else uint16 in 0..2^bit_depth - 1.

    Raises:
        InputError: the matrix is not one of those.
    """
    height, width = planes[0].shape
    if matrix == _IDENTITY:
        green, blue, red = (luma_to_grey(plane, bit_depth, full_range) for plane in planes)
        return np.concatenate([red, green, blue], axis=-1)
    kr, kg, kb = _coefficients(matrix)
    luma_offset, luma_span, chroma_offset, chroma_span = _ranges(bit_depth, full_range)
    peak = float((1 << bit_depth) - 1)
    luma = (planes[0].astype(np.float32) - np.float32(luma_offset)) * np.float32(peak / luma_span)
    chroma = []
    for plane in planes[1:]:
        values = plane.astype(np.float32) - np.float32(chroma_offset)
        values *= np.float32(peak / chroma_span)
        if subsampling == "420":
            values = _up(values, 0, height, "centre")
        if subsampling in ("420", "422"):
            values = _up(values, 1, width, siting)
        chroma.append(values)
    cb, cr = chroma
    to_red, to_blue = 2 * (1 - kr), 2 * (1 - kb)
    frame = np.empty((height, width, 3), np.uint8 if bit_depth == 8 else np.uint16)
    frame[..., 0] = _quantise(luma + np.float32(to_red) * cr, bit_depth)
    frame[..., 2] = _quantise(luma + np.float32(to_blue) * cb, bit_depth)
    luma -= np.float32(to_blue * kb / kg) * cb
    luma -= np.float32(to_red * kr / kg) * cr
    frame[..., 1] = _quantise(luma, bit_depth)
    return frame


def to_ycbcr(
    frame: Samples,
    bit_depth: int,
    matrix: int,
    *,
    full_range: bool,
    subsampling: str = "444",
    siting: Siting = "left",
) -> Planes:
    """Convert one (H, W, 3) R'G'B' frame to planes: the inverse of `to_rgb`, same arguments.

    Raises:
        InputError: the matrix is not 0 or a key of `MATRICES`.
    """
    if matrix == _IDENTITY:
        red, green, blue = (
            grey_to_luma(frame[..., c : c + 1], bit_depth, full_range) for c in range(3)
        )
        return green, blue, red
    kr, kg, kb = _coefficients(matrix)
    luma_offset, luma_span, chroma_offset, chroma_span = _ranges(bit_depth, full_range)
    peak = float((1 << bit_depth) - 1)
    red, green, blue = (frame[..., c].astype(np.float32) for c in range(3))
    luma = np.float32(kr) * red + np.float32(kg) * green + np.float32(kb) * blue
    chroma = []
    for primary, weight in ((blue, kb), (red, kr)):
        values = (primary - luma) * np.float32(chroma_span / peak / (2 * (1 - weight)))
        if subsampling in ("420", "422"):
            values = _down(values, 1, siting)
        if subsampling == "420":
            values = _down(values, 0, "centre")
        chroma.append(_quantise(values + np.float32(chroma_offset), bit_depth))
    luma *= np.float32(luma_span / peak)
    luma += np.float32(luma_offset)
    return _quantise(luma, bit_depth), chroma[0], chroma[1]
