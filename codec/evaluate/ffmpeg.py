"""ffmpeg as a measured step: files in, files out, seconds and peak memory of the process.

`codec.media.ffmpeg` reads and writes media for the codec; this module times what a classical
codec does with the same executable. Input and output are files (or spooled to files), so that
no pipe makes ffmpeg wait for us.
"""

from __future__ import annotations

import contextlib
import functools
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from codec.media.ffmpeg import QUIET, complaint, executable
from formats.errors import MediaError, MissingLibraryError

__all__ = ["Finished", "child_peak", "require", "run", "start_seconds"]

_PEAK = re.compile(rb"VmHWM:\s*(\d+) kB")

# The largest resident size of a child since `child_peak` was last asked; one thread evaluates.
_children: list[int] = []


@dataclass(frozen=True)
class Finished:
    """A process that ended well.

    Attributes:
        stdout: what it wrote to standard output.
        seconds: by the wall clock, from its start to its end.
    """

    stdout: bytes
    seconds: float


def run(
    arguments: Sequence[str],
    *,
    task: str,
    stdin: bytes | None = None,
    folder: Path | None = None,
    limit: float | None = None,
    counted: bool = True,
) -> Finished:
    """Run ffmpeg to its end.

    Args:
        arguments: those after the general options.
        task: "cannot encode with libx264" or the like: how an error message begins.
        stdin: bytes for its standard input.
        folder: its working folder; relative names in `arguments` lie there.
        limit: seconds after which it is ended: some damaged files keep a decoder busy for ever.
        counted: whether its memory is part of what `child_peak` tells.

    Raises:
        MediaError: it failed, or took longer than `limit`; the message ends with its own complaint.
        MissingLibraryError: there is no ffmpeg.
    """
    with (
        tempfile.TemporaryFile() as source,
        tempfile.TemporaryFile() as sink,
        tempfile.TemporaryFile() as log,
    ):
        if stdin is not None:
            source.write(stdin)
            source.seek(0)
        start = time.perf_counter()
        try:
            process = subprocess.Popen(
                [executable(), *QUIET, "-y", *arguments],
                stdin=subprocess.DEVNULL if stdin is None else source,
                stdout=sink,
                stderr=log,
                cwd=folder,
            )
        except OSError as error:
            raise MediaError(f"{task}: ffmpeg does not start: {error}") from error
        with _Watch(process.pid) if counted else contextlib.nullcontext():
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired as error:
                process.kill()
                process.wait()
                raise MediaError(f"{task}: ffmpeg did not end within {limit:g} s") from error
            except BaseException:  # an interrupt must not leave an encode of minutes behind
                process.kill()
                process.wait()
                raise
        seconds = time.perf_counter() - start
        if code != 0:
            log.seek(0)
            text = log.read().decode("utf-8", "replace")
            raise MediaError(f"{task}: {complaint(text)}")
        sink.seek(0)
        return Finished(sink.read(), seconds)


def child_peak() -> int | None:
    """Largest resident size in bytes of the processes counted since the last call, and forget it.

    None when none was run, or where there is no /proc. getrusage would not do: Linux counts
    the memory of the parent at the fork into the child's maximum.
    """
    peak = max(_children, default=None)
    _children.clear()
    return peak


class _Watch:
    """Reads a process' high-water mark until it ends; the mark only grows, so late is exact."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/status")
        self._done = threading.Event()
        self._peak = 0
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def _poll(self) -> None:
        while True:
            try:
                found = _PEAK.search(self._path.read_bytes())
            except OSError:
                return
            if found:
                self._peak = 1024 * int(found[1])
            if self._done.wait(0.01):
                return

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self._peak:
            _children.append(self._peak)


@functools.cache
def _listing(what: str) -> frozenset[str]:
    text = run([f"-{what}"], task=f"cannot list the {what} of ffmpeg").stdout.decode()
    rows = [line.split() for line in text.splitlines()]
    return frozenset(row[1] for row in rows if len(row) > 2)


@functools.cache
def version() -> str:
    """`ffmpeg n9.0.2-17-...`, as it calls itself."""
    line = run(["-version"], task="cannot ask ffmpeg for its version").stdout.decode()
    return " ".join(line.split()[::2][:2]) if line.startswith("ffmpeg version") else "ffmpeg"


def require(kind: Literal["encoder", "filter"], name: str) -> str:
    """`ffmpeg VERSION, NAME`, for an encoder or a filter that this ffmpeg has.

    Raises:
        MissingLibraryError: it was built without, or there is no ffmpeg.
    """
    if name not in _listing(f"{kind}s"):
        raise MissingLibraryError(
            f"this {version()} was built without the {kind} {name}: "
            "pip install --upgrade imageio-ffmpeg"
        )
    return f"{version()}, {name}"


@functools.cache
def start_seconds() -> float:
    """Seconds that starting and ending ffmpeg takes here: part of every figure through it."""
    return min(run(["-version"], task="cannot start ffmpeg").seconds for _ in range(3))
