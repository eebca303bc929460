"""ffmpeg as a measured step: its errors are ours, its memory is its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from codec.evaluate import ffmpeg
from formats.errors import MediaError, MissingLibraryError

NOISE = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=5"]


def test_output_seconds_and_memory_of_the_process() -> None:
    ffmpeg.child_peak()
    done = ffmpeg.run([*NOISE, "-frames:v", "2", "-f", "rawvideo", "-"], task="noise")
    assert len(done.stdout) == 2 * 64 * 48 * 3 // 2
    assert done.seconds > 0
    peak = ffmpeg.child_peak()
    assert peak is None or 10**6 < peak < 10**9
    assert ffmpeg.child_peak() is None  # forgotten once told


def test_standard_input_and_the_working_folder(tmp_path: Path) -> None:
    raw = bytes(range(12))
    read = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", "4x3", "-i", "-"]
    ffmpeg.run([*read, "-f", "rawvideo", "copy"], task="copy", stdin=raw, folder=tmp_path)
    assert (tmp_path / "copy").read_bytes() == raw


def test_a_failure_says_what_was_tried_and_why() -> None:
    with pytest.raises(MediaError, match=r"cannot read it: .*No such file or directory"):
        ffmpeg.run(["-i", "nowhere.mp4", "-f", "null", "-"], task="cannot read it")


def test_what_does_not_end_is_ended() -> None:
    endless = ["-re", *NOISE, "-f", "null", "-"]
    with pytest.raises(MediaError, match=r"endless: ffmpeg did not end within 0\.2 s"):
        ffmpeg.run(endless, task="endless", limit=0.2)


def test_what_this_ffmpeg_lacks_is_said() -> None:
    assert ffmpeg.require("encoder", "libx264").startswith("ffmpeg ")
    with pytest.raises(MissingLibraryError, match="without the encoder libnothing"):
        ffmpeg.require("encoder", "libnothing")
    with pytest.raises(MissingLibraryError, match="without the filter nofilter"):
        ffmpeg.require("filter", "nofilter")
