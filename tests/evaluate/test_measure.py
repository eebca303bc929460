"""One measurement: what is timed, what is not, and what a failure becomes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from codec.evaluate.measure import Bench, Job, attempt, coded_name
from codec.evaluate.results import Failure, Measurement
from formats.errors import MissingLibraryError
from tests.conftest import picture
from tests.evaluate.conftest import StepCodec


class Loading(StepCodec):
    """Takes note of the order of what is asked of it."""

    def version(self) -> str:
        self.encodes.append(-1)
        return super().version()


def job(codec: StepCodec, path: Path, q: float = 8) -> Job:
    return Job(path, path.name, "0" * 64, False, codec, q, ("psnr",))


def test_libraries_are_loaded_once_and_before_the_clock_runs(photos: list[Path]) -> None:
    codec = Loading()
    with Bench() as bench:
        for path in photos:
            assert isinstance(attempt(job(codec, path), bench), Measurement)
    assert codec.encodes == [-1, 8, 8]


def test_an_item_is_read_once_for_all_codecs(photos: list[Path]) -> None:
    reads: list[Path] = []

    def reader(path: Path) -> SimpleNamespace:
        reads.append(path)
        return SimpleNamespace(samples=picture(), bit_depth=8)

    with Bench(reader) as bench:
        for path in (*photos[:1] * 3, photos[1], photos[0]):
            attempt(job(StepCodec(), path), bench)
    assert reads == [photos[0], photos[1], photos[0]]


def test_failures_are_values_and_missing_libraries_are_not(photos: list[Path]) -> None:
    class Lacking(StepCodec):
        def encode(self, samples: np.ndarray, q: float) -> bytes:
            raise MissingLibraryError("no such library")

    with Bench() as bench:
        unreadable = attempt(job(StepCodec(), photos[0].with_name("no.png")), bench)
        assert isinstance(unreadable, Failure)
        assert unreadable.codec is None
        poisoned = attempt(job(StepCodec(poison=int(picture()[0, 0, 0])), photos[0]), bench)
        assert poisoned == Failure("a.png", "RuntimeError: the picture is poisoned", "step", 8)
        with pytest.raises(MissingLibraryError):
            attempt(job(Lacking(), photos[0]), bench)


def test_names_of_coded_files_differ_with_content_codec_and_point(photos: list[Path]) -> None:
    base = job(StepCodec(), photos[0])
    others = [
        job(StepCodec("other"), photos[0]),
        job(StepCodec(), photos[0], q=32),
        Job(photos[0], "a.png", "1" * 64, False, StepCodec(), 8, ("psnr",)),
    ]
    names = {coded_name(entry) for entry in (base, *others)}
    assert len(names) == 4
    assert coded_name(base).startswith("a.step.step8.")
    assert coded_name(base).endswith(".step")
    assert "/" not in coded_name(Job(photos[0], "b/../a.png", "0", False, StepCodec(), 8, ()))


def test_the_folder_of_a_bench_goes_with_it() -> None:
    with Bench() as bench:
        folder = bench.folder
        assert folder.is_dir()
    assert not folder.exists()
