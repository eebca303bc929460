"""The PNG writer: what it writes is PNG to others, and no larger than theirs."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from codec.media import ImageMedia, read_image
from codec.media.png import _BAND_BYTES, SIGNATURE, _chunk, _filter_band, encode_png
from tests.media.conftest import SAMPLES, noise


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (33, 31)])
def test_pillow_reads_the_same_samples(rng, channels, size):
    samples = noise(rng, (*size, channels))
    image = Image.open(io.BytesIO(encode_png(ImageMedia(samples))))
    image.load()
    np.testing.assert_array_equal(np.atleast_3d(np.asarray(image)).reshape(samples.shape), samples)


def test_ffmpeg_reads_the_same_16_bit_samples(rng, ffmpeg, tmp_path):
    samples = noise(rng, (12, 10, 3), 16)
    path = tmp_path / "deep.png"
    path.write_bytes(encode_png(ImageMedia(samples, 16)))
    out = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "rgb48le", "-")
    np.testing.assert_array_equal(np.frombuffer(out, "<u2").reshape(samples.shape), samples)


@pytest.mark.parametrize("kind", range(5))
def test_the_filter_that_predicts_a_row_is_chosen(rng, kind):
    # A file whose second row was stored with filter `kind` and residuals of -1, 0 and 1: what
    # Pillow decodes from it is predicted best by that filter.
    first, residual = noise(rng, (600,)), rng.choice(np.array([255, 0, 1], np.uint8), 600)
    lines = b"\0" + first.tobytes() + bytes([kind]) + residual.tobytes()
    header = struct.pack(">IIBBBBB", 200, 2, 8, 2, 0, 0, 0)
    parts = [_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(lines)), _chunk(b"IEND", b"")]
    samples = read_image(SIGNATURE + b"".join(parts)).samples
    filtered = _filter_band(samples.reshape(2, 600), np.zeros(600, np.uint8), 3)
    assert filtered[1, 0] == kind
    np.testing.assert_array_equal(filtered[1, 1:], residual)
    np.testing.assert_array_equal(read_image(encode_png(ImageMedia(samples))).samples, samples)


def test_a_picture_of_many_bands_is_whole(rng):
    height = 3 * _BAND_BYTES // 4096 + 5
    samples = np.tile(noise(rng, (1, 4096, 1)), (height, 1, 1))
    samples[:, 0, 0] = np.arange(height) % 251
    data = encode_png(ImageMedia(samples))
    np.testing.assert_array_equal(read_image(data).samples, samples)


def test_a_photograph_is_about_as_small_as_pillow_writes_it():
    media = read_image(SAMPLES / "astronaut.png")
    buffer = io.BytesIO()
    Image.fromarray(media.samples).save(buffer, "PNG")
    assert len(encode_png(ImageMedia(media.samples))) < 1.05 * len(buffer.getvalue())
