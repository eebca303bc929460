"""The orientation leaves an Exif block, and nothing else does."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from codec.media.exif import PREFIX, orient, split_orientation


def block(order: str, orientation: int = 6) -> bytes:
    """Three entries, the middle one the orientation, the last one pointing at a string."""
    text = b"a camera maker\0"
    entries = [
        struct.pack(order + "HHIHH", 0x0100, 3, 1, 77, 0),
        struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0),
        struct.pack(order + "HHII", 0x010F + 0x100, 2, len(text), 8 + 2 + 3 * 12 + 4),
    ]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 3)
    return head + b"".join(entries) + struct.pack(order + "I", 0) + text


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", PREFIX])
def test_only_the_orientation_is_removed(order, prefix):
    original = block(order)
    orientation, kept = split_orientation(prefix + original)
    assert orientation == 6
    assert len(kept) == len(original)
    assert struct.unpack_from(order + "H", kept, 8) == (2,)
    exif = Image.Exif()
    exif.load(kept)
    assert dict(exif) == {0x0100: 77, 0x020F: "a camera maker"}
    assert split_orientation(kept) == (1, kept)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_out_of_range_counts_as_upright(orientation):
    assert split_orientation(block("<", orientation))[0] == 1


def test_a_damaged_block_is_kept_and_counts_as_upright():
    whole = block("<")
    for length in range(len(whole) - 20):
        cut = whole[:length]
        orientation, kept = split_orientation(cut)
        assert (orientation, kept) == (1, cut)


def test_orientation_6_shows_the_left_column_on_top():
    # Stored with the scene's top at the right side: row 0 is the scene's left column reversed.
    samples = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    assert orient(samples, 6)[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]
    assert orient(samples, 8)[..., 0].tolist() == [[2, 5], [1, 4], [0, 3]]
    assert orient(samples, 3)[..., 0].tolist() == [[5, 4, 3], [2, 1, 0]]
