"""Each video codec makes a stream that comes back frame by frame; metrics see what was lost."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from codec.evaluate import ffmpeg
from codec.evaluate.clip_metrics import compare_clips, vmaf
from codec.evaluate.clips import Clip, at_depth, from_frames, reference_clip
from codec.evaluate.videos import VIDEO_ENCODERS, FFmpegVideo
from formats.errors import InputError, MediaError
from tests.evaluate.conftest import cut_bunny

FAST = {"x264": "ultrafast", "x265": "ultrafast", "svt-av1": "12", "vp9": "5", "vvenc": "faster"}


@pytest.fixture(scope="module")
def bunny(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """Ten frames of the bundled clip, 256x144."""
    folder = tmp_path_factory.mktemp("bunny")
    return reference_clip(cut_bunny(folder / "bunny.mp4", 10), folder)


@pytest.mark.parametrize("name", VIDEO_ENCODERS)
def test_points_buy_psnr_with_bytes(name: str, bunny: Clip, tmp_path: Path) -> None:
    codec = FFmpegVideo(name, preset=FAST[name])
    sizes, values = [], []
    for q in (codec.qualities[-1], codec.qualities[0]):
        folder = tmp_path / f"{q:g}"
        folder.mkdir()
        data = codec.encode_clip(bunny, q)
        decoded = codec.decode_clip(data, folder)
        assert (decoded.width, decoded.height, decoded.frames) == (256, 144, bunny.frames)
        figures = compare_clips(bunny, decoded, folder, ("psnr",))
        assert figures["psnr"] is not None
        sizes.append(len(data))
        values.append(figures["psnr"])
    assert sizes[0] < sizes[1]
    assert 20 < values[0] < values[1]
    assert codec.version().endswith(VIDEO_ENCODERS[name].library)
    assert "-threads 1" in codec.command(30)


def test_the_key_frame_interval_is_kept(bunny: Clip, tmp_path: Path) -> None:
    for keyint, expected in ((32, 1), (4, 3)):
        data = FFmpegVideo("x264", preset="ultrafast", keyint=keyint).encode_clip(bunny, 30)
        stream = tmp_path / f"{keyint}.h264"
        stream.write_bytes(data)
        read = ["-skip_frame", "nokey", "-i", str(stream), "-fps_mode", "passthrough"]
        shown = ffmpeg.run([*read, "-f", "framecrc", "-"], task="count").stdout.decode()
        assert sum(not line.startswith("#") for line in shown.splitlines()) == expected


def test_encoding_twice_gives_the_same_bytes(bunny: Clip) -> None:
    codec = FFmpegVideo("x265", preset="ultrafast")
    assert codec.encode_clip(bunny, 30) == codec.encode_clip(bunny, 30)


@pytest.mark.parametrize("name", VIDEO_ENCODERS)
def test_the_command_makes_the_same_bytes(name: str, bunny: Clip, tmp_path: Path) -> None:
    codec = FFmpegVideo(name, preset=FAST[name])
    clip = at_depth(bunny, 10, tmp_path) if name == "vvenc" else bunny
    (tmp_path / "CLIP.y4m").write_bytes(clip.path.read_bytes())
    command = codec.command(40).replace("setparams=COLOURS", bunny.tags)
    for part in command.split(" && "):
        program, *arguments = part.split()
        assert program == "ffmpeg"
        ffmpeg.run(arguments, task="the command", folder=tmp_path)
    made = tmp_path / f"FILE{codec.suffix}"
    assert made.read_bytes() == codec.encode_clip(bunny, 40)


def test_damaged_streams_are_a_media_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot decode 8 bytes as x264"):
        FFmpegVideo("x264").decode_clip(b"nonsense", tmp_path)
    with pytest.raises(InputError, match="expected one of x264"):
        FFmpegVideo("h264")


def test_psnr_is_the_mean_over_frames_of_each_frame(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "a", tmp_path / "b"
    ours.mkdir()
    theirs.mkdir()
    frames = np.full((2, 32, 32, 3), 100, np.uint8)
    worse = frames.copy()
    worse[0] += 1  # MSE 1 in one frame, 100 in the other
    worse[1] += 10
    made = [from_frames(f, 8, Fraction(25), d) for f, d in ((frames, ours), (worse, theirs))]
    figures = compare_clips(*made, tmp_path, ("psnr",))
    peak = 10 * np.log10(255**2)
    assert figures["mse"] == pytest.approx(50.5)
    assert figures["psnr"] == pytest.approx(((peak - 0) + (peak - 20)) / 2)
    assert figures["vmaf"] is None
    assert figures["ms_ssim"] is None


def test_yuv_figures_are_of_the_planes(bunny: Clip, tmp_path: Path) -> None:
    codec = FFmpegVideo("x264", preset="ultrafast")
    decoded = codec.decode_clip(codec.encode_clip(bunny, 35), tmp_path)
    figures = compare_clips(bunny, decoded, tmp_path, ("psnr", "vmaf", "ms-ssim"))
    errors = [
        np.mean((a[0].astype(float) - b[0]) ** 2)
        for a, b in zip(bunny.planes(), decoded.planes(), strict=True)
    ]
    y = float(np.mean(10 * np.log10(255**2 / np.array(errors))))
    assert figures["psnr_y"] == pytest.approx(y)
    y, u, v = (figures[key] or 0 for key in ("psnr_y", "psnr_u", "psnr_v"))
    assert figures["psnr_yuv"] == pytest.approx((4 * y + u + v) / 6)
    assert figures["ms_ssim"] is None  # 144 rows are too few for five scales
    assert 0 < (figures["vmaf"] or 0) < 100


def test_vmaf_knows_an_equal_clip(bunny: Clip, tmp_path: Path) -> None:
    assert vmaf(bunny, bunny, tmp_path) > 95
    figures = compare_clips(bunny, bunny, tmp_path, ("psnr",))
    assert figures["psnr"] is None
    assert figures["mse"] == 0


def test_clips_of_other_lengths_are_refused(bunny: Clip, tmp_path: Path) -> None:
    short = from_frames(np.zeros((3, 144, 256, 3), np.uint8), 8, Fraction(25), tmp_path)
    with pytest.raises(MediaError, match="256x144 and 10 frames, got 256x144 and 3"):
        compare_clips(bunny, short, tmp_path, ())
