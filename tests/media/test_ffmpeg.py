"""The child process: its complaint becomes our message, and it never outlives its use."""

from __future__ import annotations

import gc
import warnings

import pytest

from codec.media import ffmpeg as wrapper
from codec.media.ffmpeg import Process, complaint, run
from formats.errors import MediaError, OutputError

ENDLESS = ["-f", "lavfi", "-i", "testsrc=s=64x48", "-f", "rawvideo", "-"]


def test_output_is_read_in_pieces_and_the_process_killed_when_left_early():
    with Process(ENDLESS, task="reading", error=MediaError, feed=False) as process:
        assert len(process.read(1000)) == 1000
        child = process._process
        assert child.poll() is None
    assert child.poll() is not None
    process.close()  # a second time


def test_leaving_early_warns_of_no_leaked_resource():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with Process(ENDLESS, task="reading", error=MediaError, feed=False) as process:
            process.read(10)
        del process
        gc.collect()


def test_failure_is_raised_with_the_reason_in_one_line(tmp_path):
    arguments = ["-i", f"file:{tmp_path / 'none.mp4'}", "-f", "null", "-"]
    with (
        Process(arguments, task="cannot read it", error=MediaError, feed=False) as process,
        pytest.raises(MediaError, match=r"^cannot read it: .*No such file or directory$"),
    ):
        process.finish()
    with pytest.raises(OutputError, match="No such file or directory") as caught:
        run(arguments, task="cannot read it", error=OutputError)
    assert "\n" not in str(caught.value)


def test_a_process_that_stops_taking_input_is_a_failure_not_a_broken_pipe():
    arguments = ["-f", "rawvideo", "-s", "2x2", "-i", "-", "-f", "nonsense", "-"]
    with (
        Process(arguments, task="cannot write it", error=OutputError, feed=True) as process,
        pytest.raises(OutputError, match=r"cannot write it: .*nonsense"),
    ):
        process.write(bytes(1 << 24))


def test_an_executable_that_does_not_start_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(wrapper, "executable", lambda: str(tmp_path / "missing"))
    with pytest.raises(MediaError, match="ffmpeg does not start"):
        Process(ENDLESS, task="reading", error=MediaError, feed=False)
    with pytest.raises(MediaError, match="ffmpeg does not start"):
        run(ENDLESS, task="reading", error=MediaError)


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("[h264 @ 0x1] [dec @ 0x2] bad data\nConversion failed!\n\n", "bad data"),
        ("Error opening input: Invalid data\nError opening input files: x", "x"),
        ("moov atom not found\nError opening input: Invalid data", "moov atom not found"),
        ("frame=   1 fps=0\n", "frame=   1 fps=0"),
        ("", "it gave no reason"),
    ],
)
def test_the_telling_line_is_chosen(log, line):
    assert complaint(log).endswith(line)
