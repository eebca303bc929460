"""Real clips, where they are at hand: encode, decode, parts equal the whole."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import codec
from codec.media import open_video


@pytest.mark.parametrize(
    ("name", "shape", "rate"),
    [
        ("cars_128x96_60f_yuv420.y4m", (60, 96, 128, 3), Fraction(30)),
        ("netflix_sparks_480x270_5f_yuv420p10.y4m", (5, 270, 480, 3), None),
        ("foreman_cif_352x288_10f_yuv420.y4m", (10, 288, 352, 3), Fraction(30000, 1001)),
    ],
)
def test_clips_encode_and_decode_in_whole_and_in_part(
    shared_data: Path, name: str, shape: tuple[int, ...], rate: Fraction | None
) -> None:
    path = shared_data / "video" / name
    encoded = codec.encode(path, target_bpp=0.2, steps=30, gop=20, device="cpu")
    with open_video(path) as source:
        info = source.info
    with codec.open(encoded.data, device="cpu") as video:
        assert isinstance(video, codec.Video)
        assert video.shape == shape
        assert video.rate == info.rate
        assert rate is None or video.rate == rate
        assert video.bit_depth == info.bit_depth
        assert video.header.subsampling == "420"
        full = video.read()
        assert int(full.max()) < 1 << info.bit_depth
        last = len(video)
        assert np.array_equal(video.read(slice(last - 3, last)), full[-3:])
        part = video.read(slice(1, 4), crop=(10, 6, 40, 30))
        assert np.array_equal(part, full[1:4, 6:36, 10:50])
        assert video.read(slice(0, 1), scale=0.5).shape[1:3] == (shape[1] // 2, shape[2] // 2)
