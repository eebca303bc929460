"""Netpbm files: six formats, any maximum, comments, and what is not one."""

from __future__ import annotations

import numpy as np
import pytest

from codec.media import read_image
from codec.media.pnm import decode_pnm, encode_pnm
from formats.errors import MediaError
from tests.media.conftest import noise


@pytest.mark.parametrize(
    ("data", "depth", "expected"),
    [
        (b"P1\n# c\n3 2\n101\n0 1 0\n", 8, [[0, 255, 0], [255, 0, 255]]),
        (b"P4 3 2\n\xa0\x40", 8, [[0, 255, 0], [255, 0, 255]]),
        (b"P2 2 1 # w h\n255\n7 9\n", 8, [[7, 9]]),
        (b"P2 2 1 3\n1 # one\n3", 8, [[85, 255]]),
        (b"P5 2 1 255\n\x07\x09", 8, [[7, 9]]),
        (b"P5 2 1 15\n\x00\x0f", 8, [[0, 255]]),
        (b"P5 2 1 65535\n\x01\x02\xff\xfe", 16, [[258, 65534]]),
        (b"P5 2 1 1023\n\x02\x00\x03\xff", 16, [[32800, 65535]]),
    ],
)
def test_grey_formats_are_read_and_spread_over_the_full_range(data, depth, expected):
    samples, bits = decode_pnm(data, "it")
    assert bits == depth
    assert samples.dtype == (np.uint8 if depth == 8 else np.uint16)
    assert samples[..., 0].tolist() == expected


@pytest.mark.parametrize("data", [b"P3 1 1 255 1 2 3", b"P6 1 1 255\n\x01\x02\x03"])
def test_colour_formats_are_read(data):
    assert decode_pnm(data, "it")[0].tolist() == [[[1, 2, 3]]]


def test_the_white_space_after_the_maximum_is_one_byte_even_if_samples_look_like_it():
    assert decode_pnm(b"P5 2 1 255\n\n ", "it")[0][0, :, 0].tolist() == [10, 32]


@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (3, 8), (1, 16), (3, 16)])
def test_round_trip(rng, channels, bits):
    samples = noise(rng, (3, 5, channels), bits)
    again, depth = decode_pnm(encode_pnm(samples), "it")
    assert depth == bits
    np.testing.assert_array_equal(again, samples)


def test_ffmpeg_reads_16_bit_files_alike(rng, tmp_path, ffmpeg):
    samples = noise(rng, (3, 5, 3), 16)
    path = tmp_path / "p.ppm"
    path.write_bytes(encode_pnm(samples))
    out = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "rgb48le", "-")
    np.testing.assert_array_equal(np.frombuffer(out, "<u2").reshape(3, 5, 3), samples)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"P5 2", "expected 3 numbers in the PNM header"),
        (b"P5 2 2 255", "expected 4 bytes of samples, got 0"),
        (b"P5 2 2 255\n\0\0\0", "expected 4 bytes of samples, got 3"),
        (b"P5 0 2 255\n", "expected a size of at least 1x1"),
        (b"P5 2 2 65536\n", "maximum of 1..65535, got 65536"),
        (b"P2 2 1 255\n1 x", "expected decimal samples"),
        (b"P2 2 1 255\n1", "expected 2 samples, got 1"),
        (b"P2 2 1 7\n1 8", "a sample of 8 is over the maximum 7"),
        (b"P6 99999 99999 255\n", "the limit is"),
    ],
)
def test_what_breaks_the_format_is_named(data, words):
    with pytest.raises(MediaError, match=words):
        read_image(data)
