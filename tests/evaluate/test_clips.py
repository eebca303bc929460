"""Clips become y4m once, and R'G'B' by ffmpeg's default conversion."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from codec.evaluate import ffmpeg
from codec.evaluate.clips import at_depth, from_frames, read_clip, reference_clip
from codec.media import open_video
from formats.errors import InputError, MediaError
from tests.conftest import clip
from tests.evaluate.conftest import cut_bunny


@pytest.fixture(scope="module")
def bunny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frames of the bundled clip, as they are coded."""
    return cut_bunny(tmp_path_factory.mktemp("clip") / "bunny.mp4", 6)


def test_rgb_frames_are_those_that_the_codec_reads(bunny: Path, tmp_path: Path) -> None:
    reference = reference_clip(bunny, tmp_path)
    with open_video(bunny) as source:
        expected = list(source)
    assert reference.frames == len(expected) > 1
    assert (reference.height, reference.width, 3) == expected[0].shape
    for ours, theirs in zip(reference.rgb_frames(tmp_path), expected, strict=True):
        assert np.array_equal(ours, theirs)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["reference.y4m"]


def test_the_conversion_is_no_part_of_a_codec_s_memory(bunny: Path, tmp_path: Path) -> None:
    reference = reference_clip(bunny, tmp_path)
    ffmpeg.child_peak()
    assert len(list(reference.rgb_frames(tmp_path))) == reference.frames
    assert ffmpeg.child_peak() is None


def test_planes_have_the_sizes_of_420(bunny: Path, tmp_path: Path) -> None:
    reference = reference_clip(bunny, tmp_path)
    frames = list(reference.planes())
    assert len(frames) == reference.frames
    chroma = (reference.height // 2, reference.width // 2)
    luma = (reference.height, reference.width)
    assert [plane.shape for plane in frames[0]] == [luma, chroma, chroma]


def test_eight_bits_go_to_ten_and_back_unchanged(bunny: Path, tmp_path: Path) -> None:
    reference = reference_clip(bunny, tmp_path)
    wide = at_depth(reference, 10, tmp_path)
    assert (wide.depth, wide.pixels) == (10, "yuv420p10le")
    again = read_clip(wide.path, reference.rate, 6, full_range=False)
    assert (again.frames, again.depth) == (reference.frames, 10)
    back = at_depth(wide, 8, tmp_path)
    for ours, theirs in zip(back.planes(), reference.planes(), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert at_depth(reference, 8, tmp_path) is reference


def test_ten_bit_planes_round_to_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "ten.y4m"
    luma = np.array([[0, 1, 2, 5], [6, 1021, 1022, 1023]], "<u2")
    chroma = np.full((1, 2), 512, "<u2")
    frame = luma.tobytes() + 2 * chroma.tobytes()
    path.write_bytes(b"YUV4MPEG2 W4 H2 F25:1 Ip C420p10\nFRAME\n" + frame)
    ten = read_clip(path, Fraction(25), 6, full_range=False)
    (planes,) = at_depth(ten, 8, tmp_path).planes()
    assert planes[0].tolist() == [[0, 0, 1, 1], [2, 255, 255, 255]]
    assert planes[1].tolist() == [[128, 128]]


@pytest.mark.parametrize("depth", [8, 10])
def test_decoded_frames_keep_their_samples(depth: int, tmp_path: Path) -> None:
    frames = clip(frames=3, height=32, width=48)
    frames = frames if depth == 8 else frames.astype(np.uint16) * 4 + 1
    made = from_frames(frames, depth, Fraction(25), tmp_path)
    for ours, theirs in zip(made.rgb_frames(tmp_path), frames, strict=True):
        assert np.array_equal(ours, theirs)
    luma = next(made.planes())[0]
    assert luma.shape == (32, 48)
    step = 1 << (depth - 8)
    assert 16 * step <= luma.min() < luma.max() <= 235 * step  # BT.601, limited range
    with pytest.raises(InputError, match="8 or 10 bits"):
        from_frames(frames[0], depth, Fraction(25), tmp_path)


def test_what_is_no_clip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_bytes(b"not a clip")
    with pytest.raises(MediaError, match=r"text\.mp4"):
        reference_clip(tmp_path / "text.mp4", tmp_path)
    cut = tmp_path / "cut.y4m"
    cut.write_bytes(b"YUV4MPEG2 W4 H2 F25:1 Ip C420\nFRAME\n" + bytes(11))
    with pytest.raises(MediaError, match="whole frames"):
        read_clip(cut, Fraction(25), 6, full_range=False)
