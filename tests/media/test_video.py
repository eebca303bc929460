"""Clips are read at their exact size, rate and depth, as ffmpeg shows them, frame by frame."""

from __future__ import annotations

import gc
import hashlib
import tempfile
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from codec.media import open_video
from codec.media.probe import parse_colour
from formats.colour import BT709, Colour
from formats.errors import InputError, MediaError
from tests.media.conftest import SAMPLES, noise

BUNNY = SAMPLES / "bunny.mp4"


@pytest.fixture
def make(tmp_path, ffmpeg):
    """Encode a test pattern with ffmpeg: a clip that our writer had no part in."""

    def clip(
        name: str, *options: object, size: str = "64x48", rate: str = "25", frames: int = 3
    ) -> Path:
        path = tmp_path / name
        pattern = f"testsrc2=s={size}:r={rate}"
        ffmpeg("-f", "lavfi", "-i", pattern, "-frames:v", frames, *options, path)
        return path

    return clip


def test_frames_equal_ffmpegs_default_rgb24_exactly(ffmpeg):
    raw = ffmpeg("-i", BUNNY, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    with open_video(BUNNY) as source:
        info = source.info
        assert b"".join(frame.tobytes() for frame in source) == raw
    assert (info.width, info.height, info.frames) == (256, 144, 48)
    assert (info.rate, info.has_audio, info.subsampling) == (Fraction(25), True, "420")


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        *(("clip.mkv", rate) for rate in ("30000/1001", "24000/1001", "60000/1001", "50")),
        *(("clip.mp4", rate) for rate in ("30000/1001", "12")),
    ],
)
def test_rate_is_exact(make, name, rate):
    with open_video(make(name, rate=rate)) as source:
        assert source.info.rate == Fraction(rate)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_a_varying_rate_is_its_average_and_no_frame_is_repeated_or_dropped(make, name):
    # Times 0, 1, 2, 10, 11, 12, ... of 1/25 s: 30 frames in 93 ticks.
    times = ("-vf", "setpts=(floor(N/3)*10+mod(N\\,3))/25/TB", "-fps_mode", "passthrough")
    with open_video(make(name, *times, frames=30)) as source:
        assert source.info.frames == 30
        assert len(list(source)) == 30
        assert Fraction(75, 10) < source.info.rate < Fraction(85, 10)


def test_rotation_is_applied_before_the_size_is_reported(make, tmp_path, ffmpeg):
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", 90, "-i", make("clip.mp4"), "-c", "copy", turned)
    with open_video(turned) as source:
        assert (source.info.width, source.info.height) == (48, 64)
        assert next(iter(source)).shape == (64, 48, 3)


@pytest.mark.parametrize(
    ("pixel", "channels", "bits", "subsampling"),
    [
        ("gray", 1, 8, "400"),
        ("gray10le", 1, 10, "400"),
        ("gray16le", 1, 16, "400"),
        ("gbrp", 3, 8, "444"),
        ("gbrp10le", 3, 10, "444"),
        ("gbrp12le", 3, 12, "444"),
        ("gbrp16le", 3, 16, "444"),
        ("bgr0", 3, 8, "444"),
    ],
)
def test_lossless_rgb_and_grey_give_the_stored_samples(
    tmp_path, ffmpeg, rng, pixel, channels, bits, subsampling
):
    frames = noise(rng, (3, 10, 14, channels), bits)
    planar = frames.transpose(0, 3, 1, 2)[:, [1, 2, 0]] if channels == 3 else frames
    if pixel == "bgr0":
        planar = np.concatenate([frames[..., ::-1], np.zeros_like(frames[..., :1])], axis=-1)
    raw, path = tmp_path / "raw", tmp_path / "clip.mkv"
    raw.write_bytes(np.ascontiguousarray(planar).astype("<u2" if bits > 8 else "u1").tobytes())
    source_format = ("-f", "rawvideo", "-s", "14x10", "-pix_fmt", pixel)
    ffmpeg(*source_format, "-i", raw, "-c:v", "ffv1", path)
    with open_video(path) as source:
        info = source.info
        np.testing.assert_array_equal(np.stack(list(source)), frames)
    assert (info.channels, info.bit_depth, info.subsampling) == (channels, bits, subsampling)
    assert info.colour.full_range
    assert (info.colour.matrix == 0) == (channels == 3)


@pytest.mark.parametrize("pixel", ["yuv420p10le", "yuv422p12le", "yuv444p10le", "yuv420p16le"])
def test_deep_clips_equal_their_y4m_copies(make, tmp_path, ffmpeg, pixel):
    compressed = make("clip.mkv", "-pix_fmt", pixel, "-c:v", "ffv1")
    plain = tmp_path / "clip.y4m"
    ffmpeg("-i", compressed, "-strict", "-1", plain)
    with open_video(compressed) as ours, open_video(plain) as native:
        assert ours.info.bit_depth == native.info.bit_depth == int(pixel[-4:-2])
        for a, b in zip(ours, native, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("pixel", ["yuv420p10le", "yuv444p12le"])
def test_deep_clips_agree_with_zimg(make, ffmpeg, pixel):
    # ffmpeg's own scaler is several steps off at these depths; its zscale filter (zimg) is not.
    path = make("clip.mkv", "-pix_fmt", pixel, "-c:v", "ffv1")
    bits = int(pixel[-4:-2])
    convert = ("-vf", "zscale=matrixin=170m:rangein=limited:filter=bilinear")
    out = ffmpeg("-i", path, *convert, "-f", "rawvideo", "-pix_fmt", f"gbrp{bits}le", "-")
    with open_video(path) as source:
        ours = np.stack(list(source)).astype(int)
    theirs = np.frombuffer(out, "<u2").reshape(3, 3, 48, 64).transpose(0, 2, 3, 1)[..., [2, 0, 1]]
    assert np.abs(ours - theirs).max() <= 1


def test_colour_tags_are_read(make):
    tags = "setparams=range=pc:colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084"
    with open_video(make("clip.mkv", "-vf", tags, "-c:v", "libx264")) as source:
        assert source.info.colour == Colour(9, 16, 9, True)


@pytest.mark.parametrize(
    ("notes", "colour", "full"),
    [
        (["tv", "bt709", "progressive"], BT709, False),
        (["pc", "bt470bg/unknown/unknown"], Colour(2, 2, 5, True), True),
        (["tv", "bt2020nc/bt2020/smpte2084"], Colour(9, 16, 9, False), False),
        (["gbr/bt709/iec61966-2-1"], Colour(1, 13, 0, False), None),
        (["progressive"], Colour(2, 2, 2, False), None),
        ([""], Colour(2, 2, 2, False), None),
    ],
)
def test_colour_notes_of_the_log_are_understood(notes, colour, full):
    assert parse_colour(notes) == (colour, full)


def test_untagged_8_bit_clips_report_the_matrix_that_ffmpeg_uses(make, ffmpeg):
    path = make("clip.mkv", "-pix_fmt", "yuv444p", "-c:v", "ffv1", size="16x720", frames=1)
    accurate = "scale=sws_flags=accurate_rnd+full_chroma_int:in_color_matrix="
    with open_video(path) as source:
        assert source.info.colour == Colour(1, 1, 6, False)
        frame = next(iter(source)).astype(int)
    distance = {}
    for name in ("bt601", "bt709"):
        out = ffmpeg(
            "-i", path, "-vf", accurate + name, *("-pix_fmt", "rgb24", "-f"), "rawvideo", "-"
        )
        theirs = np.frombuffer(out, np.uint8).reshape(frame.shape)
        distance[name] = np.abs(frame - theirs).mean()
    assert distance["bt601"] < 1 < distance["bt709"]


def test_sound_is_copied_without_loss(tmp_path, ffmpeg):
    with open_video(BUNNY) as source:
        sound = source.audio()
        assert source.audio() == sound  # the same bytes each time
    path = tmp_path / "sound.mka"
    path.write_bytes(sound)
    packets = ("-map", "0:a", "-c", "copy", "-f", "streamhash", "-")
    assert ffmpeg("-i", path, *packets) == ffmpeg("-i", BUNNY, *packets)


def test_a_silent_clip_has_no_sound(make):
    with open_video(make("clip.mp4")) as source:
        assert source.info.has_audio is False
        assert source.audio() is None


def test_bytes_are_read_like_files_and_their_copy_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data = BUNNY.read_bytes()
    with open_video(data) as source, open_video(BUNNY) as original:
        assert source.info == original.info
        np.testing.assert_array_equal(next(iter(source)), next(iter(original)))
        assert len(list(tmp_path.iterdir())) >= 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MediaError):
        open_video(data[:1000])
    forgotten = open_video(data)
    del forgotten
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_titles_that_look_like_streams_do_not_confuse(make):
    title = "Video: h264, gray, 1x1 Stream #0:1: Audio: aac"
    with open_video(make("clip.mkv", "-metadata", f"title={title}")) as source:
        info = source.info
    assert (info.width, info.channels, info.has_audio) == (64, 3, False)


@pytest.mark.parametrize("pixel", ["gray", "gray10le", "yuv420p", "yuv420p10le", "gbrp10le"])
def test_frames_are_the_callers_to_change(make, pixel):
    with open_video(make("clip.mkv", "-pix_fmt", pixel, "-c:v", "ffv1")) as source:
        for frame in source:
            assert frame.flags.writeable
            assert frame.flags.c_contiguous


def test_a_moving_gif_is_a_clip_too(make):
    path = make("clip.gif", frames=4)
    with open_video(path) as source:
        assert source.info.colour.matrix == 0
        assert len(list(source)) == 4


def test_memory_does_not_grow_with_the_length(make):
    import tracemalloc

    path = make("clip.mp4", size="320x240", frames=60)
    with open_video(path) as source:
        tracemalloc.start()
        count = sum(1 for _ in source)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 60
    assert peak < 5 * 320 * 240 * 3


def test_iterations_are_independent_and_stopping_early_leaks_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        source = open_video(BUNNY)
        first = [next(iter(source)), next(iter(source))]
        np.testing.assert_array_equal(*first)
        for frame in source:
            assert frame.shape == (144, 256, 3)
            break
        source.close()
        source.close()
        gc.collect()


@pytest.mark.parametrize("clip", ["mp4", "y4m"])
def test_a_closed_source_says_so(clip, tmp_path):
    path = tmp_path / "c.y4m"
    path.write_bytes(b"YUV4MPEG2 W1 H1 F25:1 C444\n" + b"FRAME\n\1\2\3" * 3)
    source = open_video(BUNNY if clip == "mp4" else path)
    frames = iter(source)
    next(frames)
    source.close()
    with pytest.raises(InputError, match="it is closed"):
        next(frames)
    with pytest.raises(InputError, match="it is closed"):
        list(source)
    with pytest.raises(InputError, match="it is closed"):
        source.audio()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.mp4", None, "missing.mp4: no such file"),
        ("empty.mp4", b"", "the file is empty"),
        ("text.mp4", b"some text\n" * 20, "expected y4m, MP4.*got none of these"),
        ("still.mp4", b"\x89PNG\r\n\x1a\n", "got a picture"),
        ("coded.mp4", b"\x8aCRDX\r\n\x1a\n", "got a .crdx"),
        ("junk.mp4", b"\0\0\0\x18ftypmp42" + bytes(200), "junk.mp4 as a video: "),
        ("junk.mkv", b"\x1aE\xdf\xa3" + bytes(200), "junk.mkv as a video: "),
    ],
)
def test_unreadable_file_is_one_clear_line(tmp_path, name, content, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=words) as caught:
        open_video(path)
    assert "\n" not in str(caught.value)


def test_a_cover_picture_is_not_the_clip(make, tmp_path, ffmpeg):
    path, cover = tmp_path / "covered.mp4", SAMPLES / "astronaut.png"
    order = ("-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic")
    ffmpeg("-i", cover, "-i", make("clip.mp4"), *order, path)
    with open_video(path) as source:
        assert (source.info.width, source.info.frames, source.info.subsampling) == (64, 3, "420")
        assert [frame.shape for frame in source] == [(48, 64, 3)] * 3
    song = tmp_path / "song.mp4"
    ffmpeg("-i", cover, "-i", BUNNY, "-map", "0", "-map", "1:a", *order[4:], song)
    with pytest.raises(MediaError, match="it has no video stream"):
        open_video(song)


def test_sound_alone_is_not_a_clip(tmp_path, ffmpeg):
    path = tmp_path / "sound.mp4"
    ffmpeg("-i", BUNNY, "-vn", "-c:a", "copy", path)
    with pytest.raises(MediaError, match="it has no video stream"):
        open_video(path)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4"])
def test_a_cut_clip_is_an_error_and_never_a_shorter_clip(make, name):
    path = make(name, "-movflags", "+faststart", size="160x120", frames=20)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(MediaError, match="cannot read"), open_video(path) as source:
        list(source)


def test_damage_in_the_middle_is_an_error(tmp_path):
    data = bytearray(BUNNY.read_bytes())
    for at in range(100_000, 100_200):
        data[at] ^= 0x5A
    with open_video(bytes(data)) as source, pytest.raises(MediaError, match="cannot read"):
        list(source)


def test_names_that_look_like_options_or_addresses_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("-i.mp4", "http:clip.mp4", "a b%d'c.mp4"):
        Path(name).write_bytes(BUNNY.read_bytes())
        with open_video(name) as source:
            assert source.info.frames == 48


def test_the_shared_bunny_clip_is_the_published_one(shared, ffmpeg):
    path = shared / "video" / "bigbuckbunny_1280x720_25fps_132f.mp4"
    raw = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-frames:v", 30, "-")
    digest, count = hashlib.sha256(), 0
    with open_video(path) as source:
        for frame in source:
            if count < 30:
                digest.update(frame)
            count += 1
        assert count == source.info.frames == 132
    assert digest.digest() == hashlib.sha256(raw).digest()
