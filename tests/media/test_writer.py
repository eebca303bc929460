"""Clips are written whole or not at all, in every container, with the colours they had."""

from __future__ import annotations

import gc
import warnings
from fractions import Fraction

import numpy as np
import pytest

from codec.media import open_video, open_video_writer
from formats.colour import BT601, BT709, SRGB, Colour
from formats.errors import InputError, MediaError, OutputError
from tests.media.conftest import SAMPLES, clip_info, noise, smooth

SUFFIXES = [".y4m", ".mp4", ".m4v", ".mov", ".mkv", ".webm"]


def write(path, info, frames, **options):
    with open_video_writer(path, info, **options) as writer:
        for frame in frames:
            writer.write(frame)


def read(path):
    with open_video(path) as source:
        return source.info, list(source)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_container_keeps_size_rate_count_and_look(tmp_path, suffix):
    rate = Fraction(60000, 1001)
    frames = [smooth(48, 64, phase=n / 5) for n in range(4)]
    path = tmp_path / f"clip{suffix}"
    write(path, clip_info(64, 48, rate=rate), frames)
    info, again = read(path)
    assert (info.width, info.height, info.rate, info.frames) == (64, 48, rate, 4)
    assert len(again) == 4
    error = np.abs(np.stack(again).astype(int) - np.stack(frames))
    assert error.mean() < 2.5
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("channels", "bits"), [(1, 8), (1, 10), (1, 16), (3, 8), (3, 10), (3, 12), (3, 16)]
)
def test_mkv_gives_every_sample_back(tmp_path, rng, channels, bits):
    frames = noise(rng, (3, 11, 13, channels), bits)
    path = tmp_path / "clip.mkv"
    colour = Colour(9, 16, 9, False)
    write(path, clip_info(13, 11, channels=channels, bits=bits, colour=colour), frames)
    info, again = read(path)
    np.testing.assert_array_equal(np.stack(again), frames)
    assert (info.channels, info.bit_depth) == (channels, bits)
    if channels == 3:
        assert (info.colour.primaries, info.colour.transfer, info.colour.matrix) == (9, 16, 0)


@pytest.mark.parametrize(
    ("suffix", "size"),
    [
        *((".mp4", size) for size in ((1, 1), (2, 2), (3, 2), (2, 3), (37, 51))),
        *((".webm", size) for size in ((1, 1), (2, 3))),
        *((".y4m", size) for size in ((1, 1), (2, 3))),
    ],
)
def test_no_size_fails(tmp_path, size, suffix):
    path = tmp_path / f"clip{suffix}"
    write(path, clip_info(size[1], size[0]), [smooth(*size)] * 2)
    info, frames = read(path)
    assert (info.height, info.width, len(frames)) == (*size, 2)


@pytest.mark.parametrize(
    ("colour", "height", "expected"),
    [
        (BT601, 24, BT601),
        (BT709, 24, BT709),
        (Colour(1, 1, 1, True), 24, Colour(1, 1, 1, True)),
        (Colour(9, 16, 9, False), 24, Colour(9, 16, 9, False)),
        (SRGB, 24, Colour(1, 13, 6, False)),  # R'G'B' sources: by height
        (SRGB, 720, Colour(1, 13, 1, False)),
    ],
)
def test_colour_tags_say_what_was_written(tmp_path, colour, height, expected):
    frames = [smooth(height, 32, bits=10)] * 2
    path = tmp_path / "clip.mp4"
    info = clip_info(32, height, bits=10, colour=colour, subsampling="444")
    write(path, info, frames, crf=1)
    info, again = read(path)
    assert info.colour == expected
    assert info.bit_depth == 10
    assert np.abs(again[0].astype(int) - frames[0]).mean() < 4  # of 1023: no shift of colour


@pytest.mark.parametrize(
    ("bits", "subsampling", "size", "expected"),
    [
        (8, "420", (24, 32), ("420", 8)),
        (8, "422", (24, 32), ("420", 8)),
        (8, "444", (24, 32), ("444", 8)),
        (8, "420", (25, 32), ("444", 8)),
        (10, "420", (24, 32), ("420", 10)),
        (12, "420", (24, 32), ("420", 10)),
        (16, "444", (24, 32), ("444", 10)),
    ],
)
def test_pixel_format_of_mp4(tmp_path, bits, subsampling, size, expected):
    path = tmp_path / "clip.mp4"
    frame = smooth(*size, bits=bits)
    write(path, clip_info(size[1], size[0], bits=bits, subsampling=subsampling), [frame])
    info, again = read(path)
    assert (info.subsampling, info.bit_depth) == expected
    scaled = again[0] / ((1 << info.bit_depth) - 1) - frame / ((1 << bits) - 1)
    assert np.abs(scaled).mean() * 255 < 3


def test_the_brightest_deep_samples_do_not_wrap_round(tmp_path):
    path = tmp_path / "clip.mp4"
    white = np.full((24, 32, 3), 65535, np.uint16)
    write(path, clip_info(bits=16), [white] * 2)
    assert read(path)[1][0].min() > 1000  # of 1023


def test_grey_becomes_ordinary_video_in_mp4(tmp_path):
    grey = smooth(24, 32)[..., :1]
    path = tmp_path / "clip.mp4"
    write(path, clip_info(channels=1, colour=SRGB, subsampling="400"), [grey] * 2)
    info, again = read(path)
    assert (info.channels, info.subsampling, info.colour.full_range) == (3, "420", False)
    assert np.abs(again[0].astype(int) - grey).max() <= 8


def test_lower_crf_is_closer_and_larger(tmp_path, rng):
    frames = [noise(rng, (48, 64, 3))] * 2
    sizes = {}
    for crf in (5, 40):
        path = tmp_path / f"{crf}.mp4"
        write(path, clip_info(64, 48), frames, crf=crf)
        sizes[crf] = path.stat().st_size
    assert sizes[5] > 2 * sizes[40]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_sound_is_copied_into_the_file(tmp_path, ffmpeg, suffix):
    with open_video(SAMPLES / "bunny.mp4") as source:
        sound = source.audio()
    path = tmp_path / f"clip{suffix}"
    write(path, clip_info(), [smooth(24, 32)] * 48, audio=sound)
    packets = ("-map", "0:a", "-c", "copy", "-f", "streamhash", "-")
    assert ffmpeg("-i", path, *packets) == ffmpeg("-i", SAMPLES / "bunny.mp4", *packets)
    with open_video(path) as source:
        assert source.info.has_audio
        assert source.info.frames == 48


def test_sound_that_webm_does_not_take_is_encoded_anew(tmp_path):
    with open_video(SAMPLES / "bunny.mp4") as source:
        sound = source.audio()
    path = tmp_path / "clip.webm"
    write(path, clip_info(), [smooth(24, 32)] * 2, audio=sound)
    with open_video(path) as source:
        assert source.info.has_audio
        assert b"A_OPUS" in source.audio()


def test_what_is_no_sound_is_refused_and_leaves_no_file(tmp_path):
    with (
        pytest.raises((MediaError, OutputError), match="cannot"),
        open_video_writer(tmp_path / "clip.mp4", clip_info(), audio=b"not sound") as writer,
    ):
        writer.write(smooth(24, 32))
    assert list(tmp_path.iterdir()) == []


def failing():
    yield smooth(24, 32)
    raise FileNotFoundError("the caller's own")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_exception_leaves_no_file_and_no_leak(tmp_path, suffix):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        path = tmp_path / f"clip{suffix}"
        with pytest.raises(FileNotFoundError, match="the caller's own"):
            write(path, clip_info(), failing())
        gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "clip.y4m"
    path.write_bytes(b"old")
    with open_video_writer(path, clip_info()) as writer:
        writer.write(smooth(24, 32))
        assert path.read_bytes() == b"old"
    assert path.read_bytes().startswith(b"YUV4MPEG2")
    with pytest.raises(OutputError, match="it exists"):
        open_video_writer(path, clip_info(), overwrite=False)


@pytest.mark.parametrize("suffix", [".y4m", ".mp4"])
def test_writing_nothing_is_an_error(tmp_path, suffix):
    with (
        pytest.raises(InputError, match="at least one frame"),
        open_video_writer(tmp_path / f"clip{suffix}", clip_info()),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_frame_that_does_not_fit_ends_the_clip(tmp_path):
    frames = [smooth(24, 32), smooth(24, 31)]
    with pytest.raises(InputError, match=r"expected \(24, 32, 3\) uint8, got \(24, 31, 3\)"):
        write(tmp_path / "clip.mp4", clip_info(), frames)
    assert list(tmp_path.iterdir()) == []


def test_a_closed_writer_takes_nothing_more(tmp_path):
    writer = open_video_writer(tmp_path / "clip.y4m", clip_info())
    writer.write(smooth(24, 32))
    writer.close()
    writer.close()
    with pytest.raises(InputError, match="it is closed"):
        writer.write(smooth(24, 32))


def test_what_cannot_be_written_is_refused_at_once(tmp_path):
    with pytest.raises(MediaError, match=r"expected \.y4m, \.mp4.*got '\.avi'"):
        open_video_writer(tmp_path / "clip.avi", clip_info())
    with pytest.raises(MediaError, match=r"\.y4m holds none; \.mkv does"):
        open_video_writer(tmp_path / "clip.y4m", clip_info(), audio=b"sound")
    with pytest.raises(InputError, match=r"crf: expected 0\.\.51, got 52"):
        open_video_writer(tmp_path / "clip.mp4", clip_info(), crf=52)
    with pytest.raises(OutputError, match="does not exist"):
        open_video_writer(tmp_path / "none" / "clip.mp4", clip_info())
    assert list(tmp_path.iterdir()) == []
