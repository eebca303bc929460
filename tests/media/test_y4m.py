"""y4m: what the header says is what the frames become, and every fault is located."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest

from codec.media import open_video, write_raw, write_y4m
from codec.media.ycbcr import to_rgb, to_ycbcr
from formats.colour import BT601, BT709, SRGB, Colour
from formats.errors import InputError, MediaError
from tests.media.conftest import clip_info, noise, smooth


def y4m(header: str, *frames: bytes) -> bytes:
    return f"YUV4MPEG2 {header}\n".encode() + b"".join(b"FRAME\n" + frame for frame in frames)


def written(info, frames) -> bytes:
    stream = io.BytesIO()
    write_y4m(stream, info, frames)
    return stream.getvalue()


def test_header_fields_reach_the_info():
    data = y4m("W4 H2 F30000:1001 Ip A1:1 C422", bytes(16), bytes(16))
    with open_video(data) as source:
        info = source.info
    assert (info.width, info.height, info.channels, info.bit_depth) == (4, 2, 3, 8)
    assert info.rate == Fraction(30000, 1001)
    assert (info.subsampling, info.frames, info.has_audio) == ("422", 2, False)
    assert info.colour == BT601


@pytest.mark.parametrize(
    ("layout", "subsampling", "bits", "bytes_a_frame"),
    [
        ("", "420", 8, 15 + 12),
        ("C420", "420", 8, 27),
        ("C420jpeg", "420", 8, 27),
        ("C420mpeg2", "420", 8, 27),
        ("C420paldv", "420", 8, 27),
        ("C422", "422", 8, 15 + 18),
        ("C444", "444", 8, 45),
        ("Cmono", "400", 8, 15),
        ("C420p10", "420", 10, 54),
        ("C422p12", "422", 12, 66),
        ("C444p16", "444", 16, 90),
        ("Cmono10", "400", 10, 30),
    ],
)
def test_every_layout_is_read_at_odd_sizes(layout, subsampling, bits, bytes_a_frame):
    with open_video(y4m(f"W5 H3 F25:1 {layout}", bytes(bytes_a_frame))) as source:
        frames = list(source)
        info = source.info
    assert (info.subsampling, info.bit_depth, info.frames) == (subsampling, bits, 1)
    assert frames[0].shape == (3, 5, 1 if subsampling == "400" else 3)
    assert frames[0].dtype == (np.uint8 if bits == 8 else np.uint16)


def test_range_tag_is_honoured():
    planes = bytes([100]) + bytes([128, 128])
    for tag, full in (("", False), ("XCOLORRANGE=LIMITED", False), ("XCOLORRANGE=FULL", True)):
        with open_video(y4m(f"W1 H1 F25:1 C444 {tag}", planes)) as source:
            assert source.info.colour.full_range is full
            (frame,) = source
        assert frame.tolist() == [[[100 if full else 98] * 3]]  # (100 - 16) * 255 / 219 = 97.8
    with open_video(y4m("W1 H1 F25:1 Cmono", b"\x64")) as source:
        assert next(iter(source)).tolist() == [[[100]]]
    with open_video(y4m("W1 H1 F25:1 Cmono XCOLORRANGE=LIMITED", b"\x64")) as source:
        assert next(iter(source)).tolist() == [[[98]]]


def test_matrix_follows_from_the_height_unless_tagged():
    red = bytes([80, 100, 200])
    for header, matrix in (("H719", 6), ("H720", 1), ("H720 XMATRIX=6", 6), ("H719 XMATRIX=1", 1)):
        rows = int(header[1:4])
        frame = b"".join(bytes([value]) * rows for value in red)
        with open_video(y4m(f"W1 {header} F25:1 C444", frame)) as source:
            (decoded,) = source
            assert source.info.colour.matrix == matrix
        expected = to_rgb(
            tuple(np.array([[v]], np.uint8) for v in red), 8, matrix, full_range=False
        )
        assert decoded[0, 0].tolist() == expected[0, 0].tolist()


def test_siting_tag_moves_the_chroma():
    luma, chroma = bytes([128] * 16), bytes([100, 110, 120, 130] * 1)
    frame = luma + chroma + bytes([128] * 4)
    blues = {}
    for tag in ("420jpeg", "420mpeg2"):
        with open_video(y4m(f"W8 H2 F25:1 C{tag}", frame)) as source:
            blues[tag] = next(iter(source))[0, :, 2].astype(int)
    assert (blues["420jpeg"][2:-1:2] < blues["420mpeg2"][2:-1:2]).all()


@pytest.mark.parametrize("subsampling", ["420", "422", "444"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("colour", [BT601, BT709, Colour(9, 16, 9, False), Colour(1, 1, 1, True)])
def test_written_planes_are_read_back(subsampling, bits, colour):
    frames = [smooth(21, 35, bits, phase) for phase in (0.0, 0.4)]
    info = clip_info(35, 21, bits=bits, colour=colour, subsampling=subsampling)
    with open_video(written(info, frames)) as source:
        again = list(source)
        assert source.info.colour.matrix == colour.matrix
        assert source.info.colour.full_range == colour.full_range
        assert (source.info.frames, source.info.subsampling) == (2, subsampling)
        assert source.info.bit_depth == bits
    limit = (2 if subsampling == "444" else 7) * (1 << (bits - 8))
    for before, after in zip(frames, again, strict=True):
        assert np.abs(before.astype(int) - after).max() <= limit


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("colour", [BT709, SRGB])
def test_grey_clips_survive_exactly(rng, bits, colour):
    frames = [noise(rng, (5, 7, 1), bits) for _ in range(2)]
    info = clip_info(7, 5, channels=1, bits=bits, colour=colour)
    with open_video(written(info, frames)) as source:
        for before, after in zip(frames, source, strict=True):
            np.testing.assert_array_equal(before, after)


def test_rgb_clips_are_written_as_video_range_by_height():
    info = clip_info(4, 2, colour=SRGB, subsampling="444")
    frame = smooth(2, 4)
    data = written(info, [frame])
    assert data.startswith(b"YUV4MPEG2 W4 H2 F25:1 Ip A0:0 C444 XCOLORRANGE=LIMITED\nFRAME\n")
    planes = np.frombuffer(data[-24:], np.uint8).reshape(3, 2, 4)
    np.testing.assert_array_equal(planes, np.stack(to_ycbcr(frame, 8, 6, full_range=False)))


@pytest.mark.parametrize("bits", [8, 10])
def test_ffmpeg_reads_the_same_planes(tmp_path, ffmpeg, bits):
    path = tmp_path / "clip.y4m"
    frame = smooth(10, 12, bits)
    path.write_bytes(written(clip_info(12, 10, bits=bits, colour=BT601), [frame] * 2))
    out = ffmpeg("-i", path, "-f", "rawvideo", "-")
    planes = to_ycbcr(frame, bits, 6, full_range=False, subsampling="420")
    expected = b"".join(p.astype("<u2" if bits > 8 else "u1").tobytes() for p in planes)
    assert out == 2 * expected


def test_a_clip_is_read_as_often_as_asked_and_frame_tags_are_skipped(rng):
    data = y4m("W1 H1 F25:1 C444") + b"FRAME Ip\n\x10\x80\x80FRAME\n\xeb\x80\x80"
    with open_video(data) as source:
        assert source.info.frames is None  # the tag hides the count
        first, second = list(source), list(source)
    assert [frame[0, 0, 0] for frame in first] == [0, 255]
    assert len(second) == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"YUV4MPEG2 W4 H2 F25:1", "expected a line end after the y4m header"),
        (y4m("H2 F25:1"), r"expected tag W \(width\)"),
        (y4m("W4 F25:1"), r"expected tag H \(height\)"),
        (y4m("W4 H2"), r"expected tag F \(frame rate\)"),
        (y4m("W4 Hx F25:1"), "expected a number in y4m tag H, got 'x'"),
        (y4m("W-4 H2 F25:1"), "got '-4'"),
        (y4m("W0 H2 F25:1"), "at least 1x1, got 0x2"),
        (y4m("W99999 H99999 F25:1"), "the limit is"),
        (y4m("W4 H2 F0:0"), "expected a positive frame rate"),
        (y4m("W4 H2 F25"), "expected a number in y4m tag F"),
        (y4m("W4 H2 F25:1 C411"), "expected y4m layout 420, 422.*got C411"),
        (y4m("W4 H2 F25:1 C444alpha"), "got C444alpha"),
        (y4m("W4 H2 F25:1 C420p9"), "got C420p9"),
    ],
)
def test_a_faulty_header_is_refused_when_the_clip_is_opened(data, words):
    with pytest.raises(MediaError, match=words):
        open_video(data)


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (b"FRAME\n\1\2", "frame 1 is cut: expected 3 bytes, got 2"),
        (b"FRAMES\n\1\2\3", "expected FRAME before frame 1, got b'FRAMES'"),
        (b"FRA", "expected a line end after FRAME 1"),
        (b"x" * 5000, "expected a line end"),
    ],
)
def test_a_fault_between_frames_is_located_after_the_good_ones(tail, words):
    with open_video(y4m("W1 H1 F25:1 C444", b"\1\2\3") + tail) as source:
        frames = iter(source)
        assert next(frames).shape == (1, 1, 3)
        with pytest.raises(MediaError, match=words):
            next(frames)


def test_samples_over_the_announced_depth_are_refused():
    data = y4m("W1 H1 F25:1 C444p10", b"\0\4\0\0\0\0")
    with open_video(data) as source, pytest.raises(MediaError, match="10 bits, got one of 1024"):
        list(source)


def test_a_clip_that_goes_away_is_a_media_error(tmp_path):
    path = tmp_path / "clip.y4m"
    path.write_bytes(y4m("W1 H1 F25:1 C444", b"\1\2\3"))
    with open_video(path) as source:
        path.unlink()
        with pytest.raises(MediaError, match="No such file"):
            list(source)


def test_raw_output_is_interleaved_and_little_endian():
    stream = io.BytesIO()
    write_raw(stream, [np.array([[[1, 2, 3]]], np.uint8), np.array([[[258]]], np.uint16)])
    assert stream.getvalue() == b"\1\2\3\2\1"
    with pytest.raises(InputError, match=r"expected \(H, W, C\).*float64"):
        write_raw(stream, [np.zeros((1, 1, 3))])


def test_shared_clips_agree_with_zimg(shared, ffmpeg):
    for path in sorted((shared / "video").glob("*.y4m")):
        with open_video(path) as source:
            info, first = source.info, next(iter(source))
            assert len(list(source)) == info.frames
        deep = info.bit_depth > 8
        convert = "zscale=matrixin=170m:rangein=limited:filter=bilinear"
        pixel = f"gbrp{info.bit_depth}le" if deep else "gbrp"
        raw = ("-pix_fmt", pixel, "-f", "rawvideo", "-")
        out = ffmpeg("-i", path, "-frames:v", 1, "-vf", convert, *raw)
        planes = np.frombuffer(out, "<u2" if deep else "u1").reshape(3, *first.shape[:2])
        theirs = planes.transpose(1, 2, 0)[..., [2, 0, 1]].astype(int)
        assert np.abs(first.astype(int) - theirs).max() <= 1, path.name
