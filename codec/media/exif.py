"""Orientation in an Exif block: find it, apply it to samples, take it out of the block.

Exif is a TIFF file in small: an 8-byte header, then a directory of 12-byte entries. Entries
point to their values by offsets from the header, so that one entry can be removed in place
without touching any other: the rest of the block (maker notes included) stays as it was.
"""

from __future__ import annotations

import struct

import numpy as np

from codec.media.values import Samples

__all__ = ["PREFIX", "orient", "split_orientation"]

PREFIX = b"Exif\0\0"  # how JPEG announces the block in its APP1 segment
_ORIENTATION = 0x0112
_SHORT = 3
_ENTRY_BYTES = 12


def split_orientation(exif: bytes) -> tuple[int, bytes]:
    """Take the orientation out of an Exif block.

    Args:
        exif: the block, with or without the `Exif\\0\\0` prefix.

    Returns:
        The orientation, 1..8 (1 when the block has none, or is damaged), and the block
        without the prefix and without that entry, of the same length.
    """
    block = exif.removeprefix(PREFIX)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1, block
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for index in range(count):
            at = start + 2 + index * _ENTRY_BYTES
            tag, kind, _, value = struct.unpack_from(order + "HHIH", block, at)
            if tag == _ORIENTATION:
                end = start + 2 + count * _ENTRY_BYTES + 4  # past the link to the next directory
                if end > len(block):
                    return 1, block
                smaller = struct.pack(order + "H", count - 1)
                kept = block[start + 2 : at] + block[at + _ENTRY_BYTES : end]
                block = block[:start] + smaller + kept + bytes(_ENTRY_BYTES) + block[end:]
                return (value if kind == _SHORT and 1 <= value <= 8 else 1), block
    except struct.error:
        pass
    return 1, block


def orient(samples: Samples, orientation: int) -> Samples:
    """Turn (H, W, C) samples upright, as Exif orientation 1..8 asks; contiguous again."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)
