"""Pictures and clips check themselves once, when they are made."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from codec.media import ImageMedia
from codec.media.values import check_frame, check_size
from formats.errors import InputError, MediaError
from tests.media.conftest import clip_info, smooth


@pytest.mark.parametrize(
    ("samples", "depth", "words"),
    [
        (np.zeros((2, 2), np.uint8), 8, r"expected \(H, W"),
        (np.zeros((2, 2, 2), np.uint8), 8, r"got \(2, 2, 2\)"),
        (np.zeros((0, 2, 3), np.uint8), 8, r"got \(0, 2, 3\)"),
        (np.zeros((2, 2, 3), np.float32), 8, "got float32"),
        (np.zeros((2, 2, 3), np.uint8), 16, "expected uint16"),
        (np.zeros((2, 2, 3), np.uint16), 10, "expected 8 or 16, got 10"),
        ([[1]], 8, "expected an array, got list"),
    ],
)
def test_image_refuses_samples_that_do_not_fit(samples, depth, words):
    with pytest.raises(InputError, match=words):
        ImageMedia(samples, depth)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("width", 0, "got 0x24"),
        ("channels", 4, "expected 1 or 3"),
        ("bit_depth", 9, "got 9"),
        ("rate", Fraction(0), "positive"),
        ("rate", 25.0, "Fraction, got 25.0"),
        ("subsampling", "411", "got '411'"),
    ],
)
def test_video_info_refuses_a_field_out_of_range(field, value, words):
    with pytest.raises(InputError, match=words):
        replace(clip_info(), **{field: value})


def test_frame_must_have_the_announced_shape_type_and_depth():
    info = clip_info(bits=10)
    check_frame(smooth(24, 32, bits=10), info)
    with pytest.raises(InputError, match=r"expected \(24, 32, 3\) uint16, got \(24, 31, 3\)"):
        check_frame(smooth(24, 31, bits=10), info)
    with pytest.raises(InputError, match=r"got .* uint8"):
        check_frame(smooth(24, 32), info)
    with pytest.raises(InputError, match="samples of 10 bits, got one of 1024"):
        check_frame(np.full((24, 32, 3), 1024, np.uint16), info)
    with pytest.raises(InputError, match="expected an array, got list"):
        check_frame([1], info)


def test_size_limit_is_two_to_the_28():
    check_size(1 << 14, 1 << 14, "it")
    with pytest.raises(MediaError, match="the limit is 268435456"):
        check_size((1 << 14) + 1, 1 << 14, "it")


def test_repr_shows_sizes_not_samples():
    text = repr(ImageMedia(np.zeros((2, 3, 1), np.uint8), icc=b"x" * 500))
    assert text == "ImageMedia(3x2, 1 channels, 8 bits, icc)"
