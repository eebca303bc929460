"""Jobs over processes: the same results as in one, and a dead process costs one job."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from codec.evaluate import workers
from codec.evaluate.anchors import Jpeg, WebP
from codec.evaluate.measure import Job
from codec.evaluate.metrics import Samples
from codec.evaluate.runner import evaluate, journal_path
from formats.errors import MissingLibraryError
from tests.conftest import REPOSITORY

TIMES = ("encoding_time", "decoding_time", "peak_memory")


@dataclass(frozen=True)
class Deadly:
    """Codes raw samples; point 2 kills the process, 3 lacks a library, 4 takes minutes."""

    qualities: tuple[float, ...] = (1, 2)

    options: ClassVar[Mapping[str, Callable[[str], object]]] = {}
    point: ClassVar[str] = "step"
    suffix: ClassVar[str] = ".raw"
    name: ClassVar[str] = "deadly"

    def version(self) -> str:
        return "1"

    def command(self, q: float) -> str:
        return f"{q:g}"

    def encode(self, samples: Samples, q: float) -> bytes:
        if q == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if q == 3:
            raise MissingLibraryError("no such library")
        if q == 4:
            print(os.getpid(), flush=True)
            time.sleep(600)
        return bytes(samples.shape) + samples.tobytes()

    def decode(self, data: bytes) -> Samples:
        shape = tuple(data[:3])
        return np.frombuffer(data[3:], np.uint8).reshape(shape) ^ 1


def rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Every item row without what differs from run to run."""
    return [
        {key: value for key, value in row.items() if key not in TIMES}
        for entry in report["codecs"]
        for row in entry["items"]
    ]


def test_workers_share_the_cores_that_this_process_may_use(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def worker(reader: object, threads: int) -> None:
        asked.append(threads)
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "_Worker", worker)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    job = Job(photos[0], "a.png", "0" * 64, False, Deadly(), 1, ("psnr",))
    with pytest.raises(KeyboardInterrupt):
        list(workers.run_jobs([job], workers=2))
    assert asked == [3]


def test_workers_measure_what_one_process_measures(photos: list[Path], tmp_path: Path) -> None:
    codecs = [Jpeg(qualities=(20, 80)), WebP(qualities=(20, 80))]
    alone = evaluate(photos, codecs, out=tmp_path / "alone.json")
    crew = evaluate(photos, codecs, out=tmp_path / "crew.json", workers=2)
    assert rows(alone) == rows(crew)  # in the same order too
    assert crew["errors"] == []
    assert all(row["peak_memory"] > 10**6 for e in crew["codecs"] for row in e["items"])


def test_a_worker_that_dies_costs_its_job_and_no_other(photos: list[Path], tmp_path: Path) -> None:
    report = evaluate(
        photos, [Deadly(), Jpeg(qualities=(50,))], out=tmp_path / "out.json", workers=1
    )
    failed = [(e["item"], e["codec"], e["quality"]) for e in report["errors"]]
    assert failed == [("a.png", "deadly", 2), ("b.png", "deadly", 2)]
    assert "ended by SIGKILL, perhaps for want of memory" in report["errors"][0]["error"]
    assert len(rows(report)) == 4
    assert report["codecs"][1]["results"]["bpp"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_a_worker_ends_when_its_parent_is_killed(photos: list[Path]) -> None:
    script = (
        "import sys; from pathlib import Path; from codec.evaluate.measure import Job;"
        "from codec.evaluate.workers import run_jobs; from tests.evaluate.test_workers import *;"
        "job = Job(Path(sys.argv[1]), 'a', '0' * 64, False, Deadly(), 4, ('psnr',));"
        "list(run_jobs([job], workers=1))"
    )
    command = [sys.executable, "-c", script, str(photos[0])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())  # it is at work
        os.kill(worker, 0)
        parent.kill()
        assert parent.stdout.read() == ""  # the pipe closes when the worker has ended too


def test_a_library_that_a_worker_lacks_stops_the_run(photos: list[Path], tmp_path: Path) -> None:
    with pytest.raises(MissingLibraryError, match="no such library"):
        evaluate(photos, [Deadly(qualities=(1, 3))], out=tmp_path / "out.json", workers=1)
    # What was measured before is kept.
    assert len(journal_path(tmp_path / "out.json").read_text().splitlines()) == 1


def test_an_unreadable_file_fails_once_in_workers_too(photos: list[Path], tmp_path: Path) -> None:
    photos[0].write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    codecs = [Jpeg(qualities=(20, 80)), WebP(qualities=(20,))]
    report = evaluate(photos, codecs, out=tmp_path / "out.json", workers=2)
    assert [(e["item"], e["codec"]) for e in report["errors"]] == [("a.png", None)]
    assert report["averaged_items"] == ["b.png"]


def test_coded_files_are_kept_and_are_what_was_measured(photos: list[Path], tmp_path: Path) -> None:
    codec = Jpeg(qualities=(20, 80))
    out = tmp_path / "out.json"
    report = evaluate(photos, [codec], out=out, workers=1, keep_files=True)
    kept = {row["file"]: row for row in report["codecs"][0]["items"]}
    assert len(kept) == 4
    for name, row in kept.items():
        data = (tmp_path / "out.files" / name).read_bytes()
        assert name.endswith(".jpg")
        assert len(data) == row["bytes"]
        assert codec.decode(data).shape == (row["height"], row["width"], 3)
    again = evaluate(photos, [dataclasses.replace(codec)], out=out, workers=1, keep_files=True)
    assert again["codecs"] == report["codecs"]
