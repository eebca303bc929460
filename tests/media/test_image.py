"""Pictures are read at full depth, upright, and every unreadable one is one clear error."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from codec.media import image_bytes, read_image
from codec.media.png import _chunk
from codec.media.values import ImageMedia
from formats.errors import MediaError
from tests.media.conftest import SAMPLES, noise


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]
) -> bytes:
    """A PNG whose unfiltered, packed rows are given."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    stride = len(rows) // height
    lines = b"".join(b"\0" + rows[i : i + stride] for i in range(0, len(rows), stride))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


@pytest.mark.parametrize(
    ("kind", "channels"),
    [
        *((kind, channels) for kind in ("PNG", "TIFF") for channels in (1, 3, 4)),
        *(("BMP", 1), ("BMP", 3), ("PPM", 1), ("PPM", 3), ("WEBP", 3), ("WEBP", 4)),
    ],
)
def test_lossless_formats_give_the_samples_that_were_saved(rng, kind, channels):
    samples = noise(rng, (13, 17, channels))
    image = Image.fromarray(samples[..., 0] if channels == 1 else samples)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    media = read_image(saved(image, kind, **options))
    assert media.bit_depth == 8
    assert media.samples.flags.writeable
    np.testing.assert_array_equal(media.samples, samples)


def test_jpeg_is_read_as_pillow_decodes_it(rng):
    data = saved(Image.fromarray(noise(rng, (16, 24, 3))), "JPEG")
    np.testing.assert_array_equal(
        read_image(data).samples, np.asarray(Image.open(io.BytesIO(data)))
    )


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits_keeps_every_bit(rng, colour, channels):
    stored = noise(rng, (9, 11, channels), 16)
    media = read_image(png(11, 9, 16, colour, stored.astype(">u2").tobytes()))
    if channels == 2:
        stored = np.concatenate([np.repeat(stored[..., :1], 3, axis=2), stored[..., 1:]], axis=2)
    assert media.bit_depth == 16
    np.testing.assert_array_equal(media.samples, stored)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_png_below_8_bits_is_spread_over_8(depth):
    peak = (1 << depth) - 1
    values = np.arange(8, dtype=np.uint8) % (peak + 1)
    bits = np.unpackbits(values[:, None], axis=1)[:, 8 - depth :].reshape(-1)
    media = read_image(png(8, 1, depth, 0, np.packbits(bits).tobytes()))
    assert media.samples[0, :, 0].tolist() == [v * 255 // peak for v in values.tolist()]


def test_palette_becomes_colour_and_its_transparency_alpha():
    palette = bytes([10, 20, 30, 40, 50, 60])
    plain = read_image(png(2, 1, 8, 3, b"\0\1", (b"PLTE", palette)))
    assert plain.samples.tolist() == [[[10, 20, 30], [40, 50, 60]]]
    clear = read_image(png(2, 1, 8, 3, b"\0\1", (b"PLTE", palette), (b"tRNS", b"\x80")))
    assert clear.samples.tolist() == [[[10, 20, 30, 128], [40, 50, 60, 255]]]


@pytest.mark.parametrize(
    ("depth", "colour", "rows", "key", "expected"),
    [
        (8, 0, b"\5\6", b"\0\5", [[5, 5, 5, 0], [6, 6, 6, 255]]),
        (2, 0, b"\x10", b"\0\1", [[0, 0, 0, 255], [85, 85, 85, 0]]),
        (1, 0, b"\x40", b"\0\1", [[0, 0, 0, 255], [255, 255, 255, 0]]),
        (8, 2, b"\1\2\3\1\2\4", b"\0\1\0\2\0\3", [[1, 2, 3, 0], [1, 2, 4, 255]]),
        (16, 0, b"\1\2\1\3", b"\1\2", [[258, 258, 258, 0], [259, 259, 259, 65535]]),
        (
            16,
            2,
            b"\1\0\0\0\0\0\1\1\0\0\0\0",  # differ in the low byte only
            b"\1\0\0\0\0\0",
            [[256, 0, 0, 0], [257, 0, 0, 65535]],
        ),
    ],
)
def test_png_transparent_colour_becomes_alpha(depth, colour, rows, key, expected):
    media = read_image(png(2, 1, depth, colour, rows, (b"tRNS", key)))
    assert media.samples[0].tolist() == expected


def test_grey_with_alpha_becomes_colour_with_alpha():
    media = read_image(saved(Image.fromarray(np.array([[[7, 9]]], np.uint8), "LA"), "PNG"))
    assert media.samples.tolist() == [[[7, 7, 7, 9]]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_16_bit_grey_keeps_every_bit(rng, order):
    samples = noise(rng, (6, 7), 16)
    image = Image.frombytes(
        "I;16" if order == "<" else "I;16B", (7, 6), samples.astype(order + "u2").tobytes()
    )
    for compression in (None, "tiff_adobe_deflate"):
        media = read_image(saved(image, "TIFF", compression=compression))
        assert media.bit_depth == 16
        np.testing.assert_array_equal(media.samples[..., 0], samples)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
def test_tiff_of_16_bit_colour_keeps_every_bit(rng, order, deflate):
    samples = noise(rng, (4, 5, 3), 16)
    strip = samples.astype(order + "u2").tobytes()
    strip = zlib.compress(strip) if deflate else strip
    tags = [
        *((256, 4, 1, 5), (257, 4, 1, 4), (258, 3, 3, 8 + 2 + 12 * 9 + 4)),
        *((259, 3, 1, 8 if deflate else 1), (262, 3, 1, 2), (273, 4, 1, 128), (277, 3, 1, 3)),
        *((278, 4, 1, 4), (279, 4, 1, len(strip))),
    ]
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    for tag, kind, count, value in tags:
        short = kind == 3 and count == 1
        body = struct.pack(order + ("HH" if short else "I"), *((value, 0) if short else (value,)))
        data += struct.pack(order + "HHI", tag, kind, count) + body
    data += struct.pack(order + "IHHH", 0, 16, 16, 16)
    media = read_image(data + strip if len(data) == 128 else data.ljust(128, b"\0") + strip)
    assert media.bit_depth == 16
    np.testing.assert_array_equal(media.samples, samples)


def test_cmyk_becomes_rgb_without_its_profile():
    data = saved(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF", icc_profile=b"a CMYK one")
    media = read_image(data)
    assert media.samples.tolist() == [[[255, 0, 0]] * 2] * 2
    assert media.icc is None


@pytest.mark.parametrize(
    ("mode", "space", "kept"),
    [
        ("L", b"GRAY", True),
        ("LA", b"GRAY", False),  # becomes R'G'B' with alpha
        ("RGB", b"RGB ", True),
        ("RGB", b"GRAY", False),
        ("L", b"RGB ", False),
    ],
)
def test_profiles_of_another_colour_space_are_left_out(mode, space, kept):
    profile = bytes(16) + space + bytes(108)
    media = read_image(saved(Image.new(mode, (2, 2)), "PNG", icc_profile=profile))
    assert media.icc == (profile if kept else None)


def test_of_an_animation_the_first_frame_is_read():
    frames = [Image.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
    media = read_image(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert media.samples.shape == (2, 3, 3)
    assert media.samples[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_and_removed(rng, orientation, kind):
    image = Image.fromarray(np.kron(noise(rng, (2, 3, 3)), np.ones((16, 16, 1), np.uint8)))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "a camera"
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(image, kind, exif=exif, **options)
    media = read_image(data)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(media.samples, np.asarray(upright.convert("RGB")))
    if kind != "TIFF":
        kept = Image.Exif()
        kept.load(media.exif)
        assert dict(kept) == {0x010F: "a camera"}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_profile_exif_and_xmp_are_kept(kind):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    media = ImageMedia(
        np.zeros((4, 4, 3), np.uint8), icc=b"profile" * 9, exif=exif.tobytes()[6:], xmp=b"<x/>"
    )
    again = read_image(image_bytes(media, {"JPEG": "jpg"}.get(kind, kind)))
    assert (again.icc, again.exif, again.xmp) == (media.icc, media.exif, media.xmp)


def test_paths_and_bytes_give_the_same():
    path = SAMPLES / "astronaut.png"
    first, second = read_image(str(path)), read_image(path.read_bytes())
    np.testing.assert_array_equal(first.samples, second.samples)
    assert first.samples.shape == (512, 512, 3)
    assert first.samples.flags.c_contiguous


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.png", None, "missing.png: no such file"),
        ("empty.png", b"", "empty.png: the file is empty"),
        ("text.png", b"not a picture", "text.png as an image: expected PNG, JPEG.*none of these"),
        ("clip.png", b"YUV4MPEG2 W2 H2 F1:1\n", "expected PNG"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0", "got HEIC"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\0\0", "damaged PNG"),
        ("cut.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0", "damaged JPEG"),
        ("cut.webp", b"RIFF\x10\0\0\0WEBPVP8 \0\0\0\0", "damaged WEBP"),
        ("cut.tif", b"II*\0\x08\0\0\0\x01\0", "damaged TIFF"),
        ("cut.gif", b"GIF89a\x01", "damaged GIF"),
        ("cut.avif", b"\0\0\0\x1cftypavif\0\0\0\0", "damaged AVIF"),
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_unreadable_file_is_one_clear_line(tmp_path, name, content, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=words) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_folder_is_named_as_one(tmp_path):
    with pytest.raises(MediaError, match="it is a folder"):
        read_image(tmp_path)


@pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"])
def test_a_cut_picture_never_raises_anything_but_media_error(rng, kind):
    data = saved(Image.fromarray(noise(rng, (20, 20, 3))), kind)
    for length in range(1, len(data) - 1, max(1, len(data) // 40)):
        try:
            read_image(data[:length])
        except MediaError:
            continue
        # What still decodes has lost nothing but a trailer.
        assert length > len(data) * 0.9


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"])
def test_a_damaged_picture_never_raises_anything_but_media_error(rng, kind):
    data = saved(Image.fromarray(noise(rng, (12, 12, 3))), kind)
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata
        for _ in range(60):
            broken = bytearray(data)
            for at in rng.integers(8, min(len(data), 200), 3):
                broken[at] = rng.integers(0, 256)
            try:
                assert read_image(bytes(broken)).samples.size > 0
            except MediaError:
                refused += 1
    assert refused or kind in ("JPEG", "GIF", "BMP")  # these have little that can be wrong


@pytest.mark.parametrize("kind", ["PNG", "PNM"])
def test_a_huge_announced_size_is_refused_before_anything_is_allocated(kind):
    big = png(1, 1, 8, 0, b"\0").replace(
        struct.pack(">II", 1, 1), struct.pack(">II", 1 << 15, 1 << 15)
    )
    header = big[12:29]
    big = big[:29] + struct.pack(">I", zlib.crc32(header)) + big[33:]
    data = big if kind == "PNG" else b"P5 32768 32768 255\n"
    tracemalloc.start()
    with pytest.raises(MediaError, match="32768x32768 is 1073741824 pixels, the limit is"):
        read_image(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_picture_over_pillows_limit_but_within_ours_raises_no_warning():
    height, width = 9000, 10_000  # 90 million pixels: Pillow warns from 89.5 million on
    rows = zlib.compress(bytes((width // 8 + 1) * height))
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(data).samples.shape == (height, width, 1)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_samples_of_32_bits_are_refused(mode):
    with pytest.raises(MediaError, match="expected unsigned samples of 8 or 16 bits"):
        read_image(saved(Image.new(mode, (2, 2)), "TIFF"))


def test_every_shared_picture_equals_what_ffmpeg_reads(shared, ffmpeg):
    names = sorted((shared / "images").glob("[pgr][ngr][gab]*"))  # pngsuite, gray, rgb16
    assert names
    for path in names:
        media = read_image(path)
        channels = media.samples.shape[2]
        deep = media.bit_depth == 16
        name = {1: "gray", 3: "rgb48" if deep else "rgb24", 4: "rgba64" if deep else "rgba"}
        pixel = name[channels] + ("16" if deep and channels == 1 else "") + ("le" if deep else "")
        out = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", pixel, "-")
        theirs = np.frombuffer(out, "<u2" if deep else "u1").reshape(media.samples.shape)
        np.testing.assert_array_equal(media.samples, theirs, err_msg=path.name)
