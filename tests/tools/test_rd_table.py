"""The tables and the plot of a run that is not complete; crops and shares of the Kodak tools."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from codec.evaluate import Curve
from tests.conftest import picture

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def table() -> ModuleType:
    return importlib.import_module("rd_table")


@pytest.fixture(scope="module")
def kodak() -> ModuleType:
    return importlib.import_module("kodak")


def encode(folder: Path, item: str, lam: float, bpp: float, psnr: float, steps: int = 2000) -> None:
    row = {"item": item, "lambda": lam, "bpp": bpp, "psnr": psnr, "seconds": 1.0, "steps": steps}
    (folder / f"kodim{item}_{lam:g}.json").write_text(json.dumps(row))


def anchors(folder: Path, item: str, names: Any) -> None:
    points = [{"bpp": bpp, "psnr": psnr} for bpp, psnr in ((0.1, 25.0), (0.3, 30.0), (0.9, 35.0))]
    row = {"item": item} | {name: {"version": "", "points": points} for name in names}
    (folder / f"kodim{item}_anchors.json").write_text(json.dumps(row))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Curve]:
    """The curves of plots, which are not made."""
    found: list[Curve] = []
    module = importlib.import_module("rd_report")
    monkeypatch.setattr(module, "plot_curves", lambda curves, *_, **__: found.extend(curves))
    return found


def test_images_are_in_order_and_shorter_fits_are_marked(
    tmp_path: Path, table: ModuleType, capsys: Capture
) -> None:
    for item in ("10", "2", "1@384x256"):
        encode(tmp_path, item, 0.01, 0.25, 30.0, steps=3000)
        encode(tmp_path, item, 0.001, 0.5, 35.0, steps=3000 if item == "2" else 10_000)
    report = ["report", "-o", str(tmp_path), "--lambdas", "0.01,0.001"]
    table.main(report)
    shown = capsys.readouterr().out
    star, plain = "0.250 bpp 30.00 dB\\*", "0.500 bpp 35.00 dB"
    rows = [f"| {i} | {star} | {plain} | 1 |" for i in ("2", "10", "1@384x256")]
    rows[0] = f"| 2 | {star} | {plain}\\* | 1 |"
    assert "\n".join(rows) + "\n\n\\* 3,000 steps, others 10,000\n" in shown
    assert "vs JPEG" not in shown  # there are no anchors
    for lam, psnr in ((0.005, 9), (0.003, 10), (0.002, 11)):  # nothing has as few dB
        encode(tmp_path, "3", lam, psnr / 100, psnr)
    anchors(tmp_path, "3", table.ANCHORS)
    table.main([*report[:-1], "0.005,0.003,0.002"])
    assert "| 3 |  |  |  |\n" in capsys.readouterr().out
    for path in tmp_path.glob("kodim3_*"):
        path.unlink()
    for path in tmp_path.glob("*_0.001.json"):
        path.unlink()
    table.main(report)
    assert "\\*" not in capsys.readouterr().out  # all of the same steps


def test_the_plot_is_of_what_all_images_have(
    tmp_path: Path, table: ModuleType, capsys: Capture, drawn: list[Curve]
) -> None:
    for lam, bpp, psnr in ((0.01, 0.2, 27), (0.004, 0.4, 30), (0.001, 0.8, 34)):
        encode(tmp_path, "5", lam, bpp, psnr)
    for lam, bpp, psnr in ((0.01, 0.4, 29), (0.001, 1.0, 36)):  # one encode is to come
        encode(tmp_path, "15", lam, bpp, psnr)
    encode(tmp_path, "20", 0.01, 0.1, 20)
    anchors(tmp_path, "5", table.ANCHORS)
    anchors(tmp_path, "15", table.ANCHORS)
    report = ["report", "-o", str(tmp_path), "--plot", str(tmp_path / "rd.png")]
    table.main(report)
    shown = capsys.readouterr()
    assert "20: not in the plot, it has no anchors yet" in shown.err
    assert [curve.name for curve in drawn] == ["coordx", *table.ANCHORS]
    assert drawn[0].bpp == pytest.approx((0.3, 0.9))
    assert drawn[0].psnr == pytest.approx((28, 35))
    drawn.clear()
    for path in tmp_path.glob("*_anchors.json"):
        path.unlink()
    table.main(report)
    assert "no plot" in capsys.readouterr().err
    assert drawn == []


def test_all_images_are_plotted_beside_published_means(
    tmp_path: Path, table: ModuleType, capsys: Capture, drawn: list[Curve]
) -> None:
    for item in range(1, 25):
        for lam, bpp, psnr in ((0.01, 0.2, 27), (0.004, 0.4, 30), (0.001, 0.8, 34)):
            encode(tmp_path, str(item), lam, bpp, psnr + item % 2)
    rates = [1.6, 0.1, 0.4, 0.8, 3.2, 6.4]
    quality = [38, 25, 30, 34, 42, 46]
    path = tmp_path / "published.json"
    path.write_text(json.dumps({"VVC": {"bpp": rates, "psnr": quality}}))
    report = ["report", "-o", str(tmp_path), "--published", str(path), "--against", "VVC"]
    report += ["--plot", str(tmp_path / "rd.png")]
    table.main(report)
    assert "| mean curve of 24 |" in capsys.readouterr().out
    ours, other = drawn
    assert ours.psnr == pytest.approx((27.5, 30.5, 34.5))
    assert not ours.published
    assert other.published
    assert other.bpp == (0.1, 0.4, 0.8, 1.6, 3.2)  # none far beyond
    drawn.clear()
    for item in range(1, 25):
        anchors(tmp_path, str(item), table.ANCHORS)
    table.main(report)
    assert [curve.name for curve in drawn] == ["coordx", *table.ANCHORS, "VVC"]
    drawn.clear()
    (tmp_path / "kodim24_0.01.json").unlink()
    (tmp_path / "kodim24_0.004.json").unlink()
    (tmp_path / "kodim24_0.001.json").unlink()
    table.main(report)  # a mean of 23 is not comparable
    assert [curve.name for curve in drawn] == ["coordx", *table.ANCHORS]


def test_published_curves_are_compared_by_image_or_by_the_mean(
    tmp_path: Path, table: ModuleType, capsys: Capture
) -> None:
    for item, more in (("5", 1.0), ("15", 2.0)):
        for lam, bpp, psnr in ((0.01, 0.2, 27), (0.004, 0.4, 30), (0.001, 0.8, 34)):
            encode(tmp_path, item, lam, bpp * more, psnr)
    same = {"bpp": [0.2, 0.4, 0.8], "psnr": [27, 30, 34]}
    mean = {"bpp": [0.6, 1.2, 2.4], "psnr": [27, 30, 34]}  # twice the mean curve
    known = {"images": {"kodim05": same, "kodim15": same}, "mean": mean}
    path = tmp_path / "published.json"
    path.write_text(json.dumps(known))
    report = ["report", "-o", str(tmp_path), "--published", str(path), "--against"]
    table.main([*report, "images"])
    shown = capsys.readouterr().out
    assert "| image | vs images, published % | at 0.01 | at 0.004 | at 0.001 |" in shown
    assert "| 5 | +0.0 | +0.0 | +0.0 | +0.0 |" in shown
    assert "| 15 | +100.0 | +100.0 | +100.0 | +100.0 |" in shown
    assert "| **mean (of)** | **+50.0** (2) |" + 3 * " **+50.0** (2) |" in shown
    table.main([*report, "mean"])
    shown = capsys.readouterr().out
    row = "| mean curve of 2; not comparable, it is a mean of 24 |"
    assert row + 4 * " -50.0 |" in shown
    for lam in (0.01, 0.004):  # a picture of one lambda, and that beyond the curve
        (tmp_path / f"kodim15_{lam:g}.json").unlink()
    encode(tmp_path, "15", 0.001, 0.8, 35)
    table.main([*report, "images"])
    shown = capsys.readouterr().out
    assert "| 15 |  |  |  |  |" in shown
    assert "| **mean (of)** | **+0.0** (1) |" + 3 * " **+0.0** (1) |" in shown
    encode(tmp_path, "15", 0.001, 0.8, 34)
    table.main([*report, "mean"])
    shown = capsys.readouterr().out
    assert f"{row}  |  |  | -66.7 |" in shown
    (tmp_path / "kodim5_0.001.json").unlink()
    (tmp_path / "kodim5_0.004.json").unlink()
    (tmp_path / "kodim15_0.001.json").unlink()
    table.main([*report, "images"])
    assert "| **mean (of)** |  | **+0.0** (1) |" in capsys.readouterr().out
    path.write_text(json.dumps({"images": {"kodim20": same}}))
    table.main([*report, "images"])
    assert "images has none of these images" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="no curve 'VVC'"):
        table.main([*report, "VVC"])


def test_several_processes_and_fits_measure_everything_once(
    tmp_path: Path, table: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        Image.fromarray(picture(12, 16)).save(tmp_path / f"kodim0{number}.png")
    out = tmp_path / "rd"
    run = ["run", str(tmp_path), "-o", str(out), "--items", "1,2", "--lambdas", "0.01,0.004"]
    run += ["--steps", "10", "--jobs", "2", "--fits", "2", "--no-anchors"]
    table.main(run)
    assert len(list(out.glob("*.json"))) == len(list(out.glob("*.crdx"))) == 4
    assert capfd.readouterr().err.count(" dB") == 4
    (out / "kodim2_0.01.json").unlink()
    table.main(run)
    assert capfd.readouterr().err.count(" dB") == 1
    (out / "kodim2_0.01.json").unlink()
    (tmp_path / "kodim02.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit, match="some were not measured"):
        table.main(run)
    for other in (["--steps", "11"], ["--network", "16/32"]):
        with pytest.raises(SystemExit, match=f"{other[0][2:]} .*; choose another -o"):
            table.main([*run, *other])
    for wrong in (["--jobs", "0"], ["--fits", "two"], ["--network", "16"]):
        with pytest.raises(SystemExit):
            table.main(["run", str(tmp_path), *wrong])
        assert f"argument {wrong[0]}: expected" in capfd.readouterr().err


def test_fits_are_finished_by_other_processes(
    tmp_path: Path, table: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(picture(12, 16)).save(tmp_path / "kodim01.png")
    files = {}
    run = ["run", str(tmp_path), "--items", "1", "--steps", "12"]
    run += ["--lambdas", "0.01,0.004", "--no-anchors"]
    others = [*run, "-o", str(tmp_path / "others"), "--finish", "2", "--fits", "2"]
    for name, command in (("alone", [*run, "-o", str(tmp_path / "alone")]), ("others", others)):
        table.main(command)
        files[name] = {p.name: p.read_bytes() for p in (tmp_path / name).glob("*.crdx")}
        assert not list((tmp_path / name).glob("*.state"))
        assert not list((tmp_path / name).glob("*.fitted"))
    assert len(files["alone"]) == 2
    assert files["alone"] == files["others"]
    capfd.readouterr()

    result = tmp_path / "others" / "kodim1_0.01.json"
    row = json.loads(result.read_text())
    assert row["device"] == row["finished_on"] == "cpu"
    assert row["seconds"] > 0
    result.unlink()
    result.with_suffix(".fitted").write_bytes(b"no state")
    with pytest.raises(SystemExit, match="some were not measured"):
        table.main(others)
    assert "kodim1_0.01.fitted" in capfd.readouterr().err


def test_a_finished_fit_that_is_left_is_not_made_again(tmp_path: Path, table: ModuleType) -> None:
    Image.fromarray(picture(12, 16)).save(tmp_path / "kodim01.png")
    run = ["run", str(tmp_path), "--items", "1", "--steps", "12", "--lambdas", "0.01"]
    run += ["--no-anchors", "-o", str(tmp_path)]
    args = argparse.Namespace(network=None, steps=12, device="cpu")
    samples = np.asarray(Image.open(tmp_path / "kodim01.png"))
    for more in ([], ["--finish", "1"]):
        table.fit(samples, tmp_path / "kodim1_0.01.fitted", 0.01, args)
        (tmp_path / "kodim1_0.01.state").write_bytes(b"a fit would fail on this")
        table.main([*run, *more])
        assert {p.suffix for p in tmp_path.iterdir()} == {".png", ".json", ".crdx"}
        (tmp_path / "kodim1_0.01.json").unlink()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_run_whose_workers_die_fails(tmp_path: Path, table: ModuleType) -> None:
    Image.fromarray(picture(12, 16)).save(tmp_path / "kodim01.png")
    run = ["run", str(tmp_path), "--items", "1", "--steps", "12", "--lambdas", "0.01"]
    run += ["--no-anchors", "-o", str(tmp_path), "--device", "cuda", "--finish", "1"]
    with pytest.raises(SystemExit, match="some were not measured"):
        table.main(run)


def test_items_are_whole_images_and_centre_crops(tmp_path: Path, kodak: ModuleType) -> None:
    whole = picture(24, 32)
    Image.fromarray(whole).save(tmp_path / "kodim05.png")
    assert np.array_equal(kodak.samples_of(tmp_path, "5"), whole)
    assert np.array_equal(kodak.samples_of(tmp_path, "5@16x8"), whole[8:16, 8:24])


def test_shares_are_every_job_once(kodak: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kodak.torch, "set_num_threads", lambda count: None)
    parts = [kodak.own_jobs(range(7), kodak.share(f"{n}/3")) for n in range(3)]
    assert parts == [[0, 3, 6], [1, 4], [2, 5]]
    for text in ("3/3", "1", "a/b", "0/0", "-1/2"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected I/N"):
            kodak.share(text)
