"""Run ffmpeg as a child process: binary pipes, no shell, its complaint as our error message.

The executable comes from imageio-ffmpeg, imported here and nowhere else, and only when a
compressed clip is read or written: PNG and y4m need neither.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import IO

from formats.errors import CoordXError, MissingLibraryError

__all__ = ["Process", "executable", "run"]

QUIET = ("-hide_banner", "-nostdin", "-loglevel", "error")

# "[mov,mp4 @ 0x55d0] message": the part in brackets names an object inside ffmpeg.
_OBJECT = re.compile(r"^(\[[^\]]*\] )+")
# Lines that only say that something failed before them, or that statistics follow.
_NOISE = re.compile(
    r"Conversion failed|Error opening (input|output) files?\b|Error opening (input|output): "
    r"|Task finished|Terminating thread|Nothing was written|Last message repeated|frame= *\d"
    r"|Error (sending|submitting|closing|writing trailer)|At least one output file|Press \[q\]"
    r"|video:\d+|Failed to set value '.*' for option|Exiting normally|Error splitting the arg"
    r"|Error parsing options|To ignore this|Error initializing the muxer"
)
# ffmpeg ends with success after these; a codec must not take half a clip for a whole one.
_CUT_SHORT = ("File ended prematurely", "partial file")


def executable() -> str:
    """Return the path of ffmpeg.

    Raises:
        MissingLibraryError: imageio-ffmpeg is not installed, or has no executable here.
    """
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise MissingLibraryError(
            "compressed video needs imageio-ffmpeg (pip install imageio-ffmpeg); "
            ".y4m clips and pictures work without it"
        ) from error
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise MissingLibraryError(f"imageio-ffmpeg found no ffmpeg: {error}") from error


def complaint(log: str) -> str:
    """Return the last line of ffmpeg's log that says what went wrong."""
    lines = [_OBJECT.sub("", line).strip() for line in log.splitlines()]
    telling = [line for line in lines if line and not _NOISE.match(line)]
    if telling:
        return telling[-1]
    return next((line for line in reversed(lines) if line), "it gave no reason")


class Process:
    """One running ffmpeg, fed through `write` or drained through `read`, never both.

    Leaving the context kills it if it still runs; it is always waited for. Its log goes to a
    file rather than a pipe: a pipe nobody reads would block it.
    """

    def __init__(
        self, arguments: Sequence[str], *, task: str, error: type[CoordXError], feed: bool
    ) -> None:
        """Start ffmpeg.

        Args:
            arguments: those after the general options.
            task: "cannot read clip.mp4" or the like: how an error message begins.
            error: the class raised when ffmpeg fails.
            feed: True opens a pipe to its standard input, False one from its output.

        Raises:
            MissingLibraryError: there is no ffmpeg.
        """
        self._task, self._error = task, error
        command = [executable(), *QUIET, *arguments]
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if feed else subprocess.PIPE,
                stderr=self._log,
            )
        except OSError as failure:
            self._log.close()
            raise error(f"{task}: ffmpeg does not start: {failure}") from failure

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes of output, fewer only at its end."""
        assert self._process.stdout is not None
        return self._process.stdout.read(count)

    def write(self, data: bytes | memoryview) -> None:
        """Feed bytes; raises the error class if ffmpeg has stopped taking them."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
        except OSError as failure:
            self._fail(failure)

    def finish(self) -> None:
        """Say that no more input follows, wait, and raise the error class if ffmpeg failed."""
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError as failure:
                self._fail(failure)
        if self._process.wait() != 0 or any(sign in self._text() for sign in _CUT_SHORT):
            self._fail(None)

    def close(self) -> None:
        """Kill it if it still runs, and free the pipes and the log; safe to call twice."""
        if self._process.poll() is None:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # flushing to a process that is gone
                    pipe.close()
        self._process.wait()
        self._log.close()

    def _text(self) -> str:
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    def _fail(self, cause: OSError | None) -> None:
        self._process.wait()  # its output is closed or at its end, so that it is ending
        raise self._error(f"{self._task}: {complaint(self._text())}") from cause

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def run(arguments: Sequence[str], *, task: str, error: type[CoordXError]) -> tuple[bytes, str]:
    """Run ffmpeg to its end, with its full log.

    Args:
        arguments: those after `-hide_banner -nostdin`.
        task: how an error message begins.
        error: the class raised when ffmpeg fails.

    Returns:
        What it wrote to standard output, and its log.

    Raises:
        MissingLibraryError: there is no ffmpeg.
    """
    command = [executable(), "-hide_banner", "-nostdin", *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as failure:
        raise error(f"{task}: ffmpeg does not start: {failure}") from failure
    log = done.stderr.decode("utf-8", "replace")
    if done.returncode != 0:
        raise error(f"{task}: {complaint(log)}")
    return done.stdout, log
