"""Names of pixel formats, judged by ffmpeg's own table of them."""

from __future__ import annotations

import re

import pytest

from codec.media.pixel_format import PixelFormat


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("yuv420p", (False, "420", 8)),
        ("yuvj422p", (False, "422", 8)),
        ("yuva444p10le", (False, "444", 10)),
        ("yuv420p9be", (False, "420", 10)),
        ("yuv422p14le", (False, "422", 16)),
        ("nv12", (False, "420", 8)),
        ("p010le", (False, "420", 10)),
        ("p216le", (False, "422", 16)),
        ("y210le", (False, "422", 10)),
        ("uyvy422", (False, "422", 8)),
        ("gray", (False, "400", 8)),
        ("gray12le", (False, "400", 12)),
        ("ya8", (False, "400", 8)),
        ("monob", (False, "400", 8)),
        ("bgr0", (True, "444", 8)),
        ("gbrp10le", (True, "444", 10)),
        ("rgb48be", (True, "444", 16)),
        ("x2rgb10le", (True, "444", 10)),
        ("rgb565le", (True, "444", 8)),
        ("pal8", (True, "444", 8)),
    ],
)
def test_common_names(name, expected):
    pixels = PixelFormat.parse(name)
    assert (pixels.rgb, pixels.subsampling, pixels.bit_depth) == expected


def test_every_name_that_ffmpeg_knows_agrees_with_its_table(ffmpeg):
    table = ffmpeg("-pix_fmts").decode()
    rows = re.findall(r"^[I.][O.][H.][P.][B.] (\S+) +(\d) +(\d+) +([\d-]+)$", table, re.M)
    checked = 0
    for name, components, pixel_bits, depths in rows:
        if re.match(r"bayer|.*41[01]|.*440|.*p9[bl]e", name) or components == "0":
            continue  # mosaics and schemes that are rounded to the next finer one
        pixels, bits = PixelFormat.parse(name), max(map(int, depths.split("-")))
        assert pixels.bit_depth == next((d for d in (8, 10, 12, 16) if bits <= d), 16), name
        assert (pixels.subsampling == "400") == (int(components) <= 2 and name != "pal8"), name
        if int(components) >= 3 and not pixels.rgb:
            samples = int(pixel_bits) / bits - (components == "4")  # of colour, a pixel
            assert {"420": 1.5, "422": 2, "444": 3}[pixels.subsampling] == samples, name
        checked += 1
    assert checked > 200
