"""The conversion between R'G'B' and Y'CbCr: exact where it can be, and like everyone else's."""

from __future__ import annotations

import numpy as np
import pytest

from codec.media.ycbcr import MATRICES, grey_to_luma, luma_to_grey, to_rgb, to_ycbcr
from formats.errors import InputError
from tests.media.conftest import noise, smooth

ALL = [(m, full, bits) for m in (1, 6, 9) for full in (False, True) for bits in (8, 10, 16)]


def test_known_colours_have_the_published_code_values():
    # 75 % and 100 % bars in 8-bit video range, as in ITU-R BT.801 and SMPTE RP 219.
    colours = np.array([[[191, 0, 0], [255, 255, 255], [0, 0, 0], [0, 0, 255]]], np.uint8)
    y, cb, cr = to_ycbcr(colours, 8, 6, full_range=False)
    assert y.tolist() == [[65, 235, 16, 41]]
    assert cb.tolist() == [[100, 128, 128, 240]]
    assert cr.tolist() == [[212, 128, 128, 110]]
    y, cb, cr = to_ycbcr(colours, 8, 1, full_range=False)
    assert y.tolist() == [[51, 235, 16, 32]]
    assert cb.tolist() == [[109, 128, 128, 240]]
    assert cr.tolist() == [[212, 128, 128, 118]]


@pytest.mark.parametrize(("matrix", "full", "bits"), ALL)
def test_444_round_trip_is_within_the_rounding_of_the_planes(rng, matrix, full, bits):
    frame = noise(rng, (61, 67, 3), bits)
    planes = to_ycbcr(frame, bits, matrix, full_range=full)
    back = to_rgb(planes, bits, matrix, full_range=full)
    error = np.abs(back.astype(int) - frame.astype(int))
    # Half a code value each of Y and C, through the largest gain, and half for the result.
    gain = (1.0 if full else 255 / 219) * 0.5 + 1.9 * (1.0 if full else 255 / 224) * 0.5 + 0.5
    assert error.max() <= np.ceil(gain)
    assert error.mean() < 0.6


@pytest.mark.parametrize(("matrix", "full", "bits"), ALL)
@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
def test_flat_colours_of_the_planes_survive_exactly(matrix, full, bits, subsampling, rng):
    step = 1 << (bits - 8)
    for _ in range(8):
        y = int(rng.integers(90 * step, 150 * step))
        cb, cr = (int(c) for c in rng.integers(110 * step, 146 * step, 2))
        kind = np.uint8 if bits == 8 else np.uint16
        rows, columns = (4 if subsampling == "420" else 7), (5 if subsampling != "444" else 9)
        planes = (
            np.full((7, 9), y, kind),
            np.full((rows, columns), cb, kind),
            np.full((rows, columns), cr, kind),
        )
        how = {"full_range": full, "subsampling": subsampling}
        back = to_ycbcr(to_rgb(planes, bits, matrix, **how), bits, matrix, **how)
        for plane, original in zip(back, planes, strict=True):
            assert plane.shape == original.shape
            # R'G'B' is as fine as full-range Y'CbCr, hence one rounding may show there.
            assert np.abs(plane.astype(int) - original.astype(int)).max() <= (1 if full else 0)


@pytest.mark.parametrize("matrix", sorted(MATRICES))
def test_every_grey_stays_grey_and_full_range_grey_is_exact(matrix):
    ramp = np.arange(256, dtype=np.uint8)
    grey = np.repeat(ramp[None, :, None], 3, axis=2)
    for full in (False, True):
        planes = to_ycbcr(grey, 8, matrix, full_range=full)
        assert (planes[1] == 128).all()
        assert (planes[2] == 128).all()
        back = to_rgb(planes, 8, matrix, full_range=full)
        assert (back == back[..., :1]).all()
        assert np.abs(back.astype(int) - grey).max() <= (0 if full else 1)


def test_video_range_luma_survives_the_way_through_rgb():
    luma = np.arange(16, 236, dtype=np.uint8)[None]
    neutral = np.full_like(luma, 128)
    back = to_ycbcr(
        to_rgb((luma, neutral, neutral), 8, 1, full_range=False), 8, 1, full_range=False
    )
    assert (back[0] == luma).all()
    assert (grey_to_luma(luma_to_grey(luma, 8, False), 8, False) == luma).all()


def test_identity_matrix_only_reorders_the_planes(rng):
    frame = noise(rng, (5, 6, 3), 12)
    planes = to_ycbcr(frame, 12, 0, full_range=True)
    assert (planes[0] == frame[..., 1]).all()  # G, B, R
    assert (planes[1] == frame[..., 2]).all()
    assert (to_rgb(planes, 12, 0, full_range=True) == frame).all()


@pytest.mark.parametrize("siting", ["left", "centre"])
@pytest.mark.parametrize("subsampling", ["420", "422"])
@pytest.mark.parametrize("size", [(1, 1), (1, 8), (7, 5), (8, 1), (6, 9)])
def test_subsampling_takes_odd_sizes_and_loses_little_of_a_smooth_frame(siting, subsampling, size):
    frame = smooth(*size)
    how = {"full_range": True, "subsampling": subsampling, "siting": siting}
    planes = to_ycbcr(frame, 8, 1, **how)
    rows = (size[0] + 1) // 2 if subsampling == "420" else size[0]
    assert planes[1].shape == (rows, (size[1] + 1) // 2)
    back = to_rgb(planes, 8, 1, **how)
    assert back.shape == frame.shape
    assert np.abs(back.astype(int) - frame).max() <= 5


def test_a_ramp_tells_the_two_sitings_apart():
    # Chroma rises by 4 a column. Left siting samples column 0, 2, 4: 4 apart from the centre
    # siting's 0.5, 2.5, 4.5 by half a column, away from the edges.
    frame = np.full((2, 16, 3), 128, np.uint8)
    frame[..., 2] = 64 + 8 * np.arange(16)
    left = to_ycbcr(frame, 8, 1, full_range=True, subsampling="422", siting="left")[1]
    centre = to_ycbcr(frame, 8, 1, full_range=True, subsampling="422", siting="centre")[1]
    every = to_ycbcr(frame, 8, 1, full_range=True)[1]
    assert (np.abs(left[:, 1:-1].astype(int) - every[:, 2:-2:2]) <= 1).all()
    between = (every[:, 0::2].astype(float) + every[:, 1::2]) / 2
    assert (np.abs(centre - between) <= 1).all()
    assert (centre[:, 1:-1] > left[:, 1:-1]).all()


@pytest.mark.parametrize(("matrix", "name"), [(1, "bt709"), (6, "bt601"), (9, "bt2020")])
@pytest.mark.parametrize("full", [False, True])
def test_conversion_agrees_with_ffmpeg(tmp_path, ffmpeg, rng, matrix, name, full):
    frame = noise(rng, (32, 48, 3))
    raw = tmp_path / "rgb.raw"
    raw.write_bytes(frame.tobytes())
    size = ("-f", "rawvideo", "-s", "48x32")
    scale = f"scale=out_color_matrix={name}:out_range={'full' if full else 'tv'}"
    exact = ":sws_flags=accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
    out = ffmpeg(
        *(*size, "-pix_fmt", "rgb24", "-i", raw, "-vf", scale + exact),
        *("-pix_fmt", "yuv444p", "-f", "rawvideo", "-"),
    )
    theirs = np.frombuffer(out, np.uint8).reshape(3, 32, 48).astype(int)
    ours = np.stack(to_ycbcr(frame, 8, matrix, full_range=full)).astype(int)
    assert np.abs(ours - theirs).max() <= 1


def test_smooth_420_agrees_with_ffmpeg(tmp_path, ffmpeg):
    planes = to_ycbcr(smooth(48, 64), 8, 6, full_range=False, subsampling="420")
    raw = tmp_path / "yuv.raw"
    raw.write_bytes(b"".join(plane.tobytes() for plane in planes))
    out = ffmpeg(
        *("-f", "rawvideo", "-s", "64x48", "-pix_fmt", "yuv420p", "-i", raw),
        *("-vf", "scale=sws_flags=bilinear+accurate_rnd+full_chroma_int"),
        *("-pix_fmt", "rgb24", "-f", "rawvideo", "-"),
    )
    theirs = np.frombuffer(out, np.uint8).reshape(48, 64, 3).astype(int)
    ours = to_rgb(planes, 8, 6, full_range=False, subsampling="420").astype(int)
    difference = np.abs(ours - theirs)
    assert difference.max() <= 4
    assert difference.mean() < 0.8


def test_unknown_matrix_is_named():
    planes = (np.zeros((2, 2), np.uint8),) * 3
    with pytest.raises(InputError, match=r"expected one of 0, 1, .*got 8"):
        to_rgb(planes, 8, 8, full_range=True)
