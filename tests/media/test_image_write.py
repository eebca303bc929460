"""Pictures are written in the format of their suffix, or refused with one that could hold them."""

from __future__ import annotations

import numpy as np
import pytest

from codec.media import ImageMedia, image_bytes, read_image, write_image
from formats.errors import MediaError, OutputError
from tests.media.conftest import noise, smooth

LOSSLESS = [
    *((s, c, 8) for s in (".png", ".tif", ".tiff") for c in (1, 3, 4)),
    *((".png", c, 16) for c in (1, 3, 4)),
    *((".bmp", 1, 8), (".bmp", 3, 8), (".webp", 3, 8), (".webp", 4, 8), (".tif", 1, 16)),
    *((".ppm", 3, 8), (".ppm", 3, 16), (".pgm", 1, 8), (".pgm", 1, 16), (".pnm", 1, 8)),
    (".PNG", 3, 8),
]


@pytest.mark.parametrize(("suffix", "channels", "bits"), LOSSLESS)
def test_lossless_formats_round_trip(tmp_path, rng, suffix, channels, bits):
    media = ImageMedia(noise(rng, (7, 9, channels), bits), bits)
    path = tmp_path / f"picture{suffix}"
    write_image(path, media)
    again = read_image(path)
    assert again.bit_depth == bits
    np.testing.assert_array_equal(again.samples, media.samples)


@pytest.mark.parametrize("format", ["ppm", "webp"])
def test_formats_without_grey_hold_it_as_three_equal_channels(rng, format):
    media = ImageMedia(noise(rng, (5, 4, 1)))
    again = read_image(image_bytes(media, format))
    np.testing.assert_array_equal(again.samples, np.repeat(media.samples, 3, axis=2))


def test_jpeg_is_close_at_full_chroma_resolution():
    media = ImageMedia(smooth(64, 64))
    again = read_image(image_bytes(media, "jpg"))
    assert np.abs(again.samples.astype(int) - media.samples).max() <= 6


@pytest.mark.parametrize(
    ("format", "channels", "bits", "words"),
    [
        ("jpg", 4, 8, "alpha to .jpg: it holds none; .png does"),
        ("bmp", 4, 8, "alpha to .bmp"),
        ("ppm", 4, 16, "alpha to .ppm"),
        ("pgm", 3, 8, "colour to .pgm: .*; .ppm holds colour"),
        ("webp", 3, 16, "16-bit samples to .webp: it holds 8; .png holds 16"),
        ("jpeg", 1, 16, "16-bit samples to .jpg"),
        ("bmp", 1, 16, "16-bit samples to .bmp"),
        ("tif", 3, 16, "16-bit colour to .tif here; .png holds it"),
        ("gif", 3, 8, "as 'gif': expected .png, .jpg"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_naming_one_that_can(format, channels, bits, words):
    kind = np.uint8 if bits == 8 else np.uint16
    with pytest.raises(MediaError, match=words):
        image_bytes(ImageMedia(np.zeros((2, 2, channels), kind), bits), format)


def test_a_size_over_the_formats_own_limit_is_a_media_error():
    with pytest.raises(MediaError, match=r"cannot write 16384x1 samples to \.webp"):
        image_bytes(ImageMedia(np.zeros((1, 16384, 3), np.uint8)), "webp")


def test_overwriting_can_be_forbidden_and_the_old_file_stays(tmp_path):
    path = tmp_path / "picture.png"
    write_image(path, ImageMedia(np.zeros((2, 2, 1), np.uint8)))
    before = path.read_bytes()
    with pytest.raises(OutputError, match="it exists"):
        write_image(path, ImageMedia(np.ones((2, 2, 1), np.uint8)), overwrite=False)
    assert path.read_bytes() == before
    write_image(path, ImageMedia(np.ones((2, 2, 1), np.uint8)))
    assert path.read_bytes() != before


def test_a_refused_picture_leaves_no_file(tmp_path):
    with pytest.raises(MediaError):
        write_image(tmp_path / "picture.jpg", ImageMedia(np.zeros((2, 2, 4), np.uint8)))
    with pytest.raises(MediaError, match="expected a suffix"):
        write_image(tmp_path / "picture", ImageMedia(np.zeros((2, 2, 1), np.uint8)))
    with pytest.raises(OutputError, match="does not exist"):
        write_image(tmp_path / "no" / "p.png", ImageMedia(np.zeros((2, 2, 1), np.uint8)))
    assert list(tmp_path.iterdir()) == []
