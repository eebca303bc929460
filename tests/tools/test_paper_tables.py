"""The paper's experiments run end to end at toy size, resume, and report what they found."""

from __future__ import annotations

import importlib
import json
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from codec.media import VideoInfo, write_y4m
from formats.colour import BT601
from tests.conftest import clip, picture


@pytest.fixture(scope="module")
def fits() -> ModuleType:
    return importlib.import_module("paper_fits")


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return importlib.import_module("paper_tables")


@pytest.fixture
def data(tmp_path: Path, tables: ModuleType) -> Path:
    """A folder with small media under the names of the real ones."""
    for name in tables.PICTURES:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(40, 48)).save(path)
    for name in tables.CLIPS:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        info = VideoInfo(24, 16, 3, 8, Fraction(25), BT601, "420")
        with path.open("wb") as file:
            write_y4m(file, info, clip(5, 16, 24))
    return tmp_path


SMALL = ["--images", "2", "--size", "32", "--steps", "3", "--samples", "128", "--width", "12"]
SMALL += ["--frames", "4", "--speed-steps", "1"]


def test_every_experiment_runs_resumes_and_is_reported(
    data: Path, tables: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    out = data / "runs"
    command = ["run", "--data", str(data), *SMALL, "-o", str(out)]
    tables.main(command)
    rows = [json.loads(path.read_text()) for path in out.glob("*.*.json")]
    counts = {name: sum(r["experiment"] == name for r in rows) for name in tables.EXPERIMENTS}
    assert counts == {"images": 14, "ranks": 8, "depth": 6, "videos": 6, "speed": 0}
    assert all(np.isfinite(row["psnr"]) and row["steps"] == 3 for row in rows)
    stamps = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    capsys.readouterr()
    tables.main(command)
    assert capsys.readouterr().err == ""
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == stamps
    page = data / "paper.md"
    tables.main(["report", str(out), "-o", str(page)])
    text = page.read_text()
    for heading in ("Images", "Rank", "Where the split ends", "Videos", "SVD at equal rate"):
        assert f"### {heading}\n" in text
    siren = next(row for row in rows if row["method"] == "SIREN, low start")
    values = [row["psnr"] for row in rows if row["method"] == siren["method"]]
    line = next(line for line in text.splitlines() if line.startswith("| SIREN, low start "))
    assert f"| {siren['weights']:,} | {siren['macs']:,.0f} | {np.mean(values):.2f} |" in line
    assert "Means over 2 of 2 items (kodim01, kodim05), 3 steps of 128 samples" in text
    assert "## Why figures differ" in text


def test_no_samples_a_step_means_all_of_them(data: Path, tables: ModuleType) -> None:
    out = data / "runs"
    small = ["--size", "32", "--width", "12", "--speed-steps", "1", "--samples", "0"]
    tables.main(["run", "--data", str(data), *small, "--only", "speed", "-o", str(out)])
    rows = json.loads((out / "speed.json").read_text())["rows"]
    assert {row["samples"] for row in rows} == {32 * 32}


def test_experiments_that_do_not_exist_are_refused(
    tables: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        tables.main(["run", "--only", "image,speed"])
    assert "expected some of images, ranks, depth" in capsys.readouterr().err


def test_an_item_that_lacks_a_method_is_in_no_mean(data: Path, tables: ModuleType) -> None:
    out = data / "runs"
    tables.main(["run", "--data", str(data), *SMALL, "--only", "images", "-o", str(out)])
    next(out.glob("images.kodim05-PE-MLP.json")).unlink()
    page = data / "paper.md"
    tables.main(["report", str(out), "-o", str(page)])
    assert "Means over 1 of 2 items (kodim01)" in page.read_text()
    with pytest.raises(SystemExit, match="no fits there"):
        tables.main(["report", str(data), "-o", str(page)])


def test_the_papers_networks_have_the_papers_size(fits: ModuleType) -> None:
    lengths = {"y": 512, "x": 512}
    sizes = {
        m.name: (m.config.parameters(lengths, 3), m.config.macs(lengths, 3) / 512**2)
        for m in fits.image_methods()
    }
    assert sizes["SIREN, low start"] == (198_915, 197_888)
    weights, macs = sizes["CoordX-A, our start"]
    assert weights == 199_171
    assert macs == pytest.approx(67_073, rel=1e-3)


@pytest.mark.parametrize("points", [True, False])
def test_training_fits_the_picture(fits: ModuleType, points: bool) -> None:
    target = torch.from_numpy(picture(24, 32)).permute(2, 0, 1).float() / 255
    lengths = {"y": 24, "x": 32}
    method = next(m for m in fits.image_methods(32) if m.points == points and "our" in m.name)
    short = fits.fit(method, target, lengths, fits.Budget(2, 0, 3e-3))
    long = fits.fit(method, target, lengths, fits.Budget(150, 0, 3e-3))
    assert long["psnr"] > short["psnr"] + 6


def test_samples_of_a_step_are_those_of_the_target(fits: ModuleType) -> None:
    # The coordinates as the signal: what is drawn must be what is asked of the network.
    t, y, x = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), torch.arange(7.0), indexing="ij")
    target, lengths = torch.stack([t, y, x]), {"t": 5, "y": 6, "x": 7}
    seen = []

    class Asked:
        def points(self, places: torch.Tensor) -> torch.Tensor:
            seen.append(places)
            return places

        def __call__(self, grid: object) -> torch.Tensor:
            vectors = [grid[a] for a in ("t", "y", "x")]  # type: ignore[index]
            return torch.stack(torch.meshgrid(*vectors, indexing="ij"))

    for method in fits.video_methods(8):
        generator = torch.Generator().manual_seed(1)
        budget = fits.Budget(1, 40, 1e-3)
        asked, wanted = fits._step(method, Asked(), target, lengths, budget, generator)
        assert torch.equal(asked, wanted)
        assert asked.numel() >= 3 * 18
    assert len(seen) == 1  # only SIREN draws points


def test_svd_at_full_rank_is_exact_and_quantising_costs(fits: ModuleType) -> None:
    target = torch.from_numpy(picture(24, 32)).permute(2, 0, 1).float() / 255
    full = fits.svd(target, 3 * 24 * (24 + 32))
    assert full["psnr"] == float("inf")
    assert full["rank"] == 24
    coarse = [fits.svd(target, 3 * 4 * (24 + 32), bits=bits)["psnr"] for bits in (3, 5, 8)]
    assert coarse == sorted(coarse)
    assert fits.svd(target, 3 * 2 * 56)["psnr"] < fits.svd(target, 3 * 6 * 56)["psnr"]
    assert fits.svd(target, 3 * 4 * 56)["numbers"] == 3 * 4 * 56
