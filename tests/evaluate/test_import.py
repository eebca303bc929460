"""Published curves are taken over with their sources, and stay labelled."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from codec.cli import main
from codec.evaluate.curves import load_curves
from codec.evaluate.published import published_report, read_published
from formats.errors import InputError

Capture = pytest.CaptureFixture[str]
COMPRESSAI = {
    "name": "bmshj2018",
    "description": "Inference (ans)",
    "results": {
        "psnr-rgb": [26.9, 28.2, 30.1],
        "ms-ssim-rgb": [0.9, 0.95, 0.99],
        "bpp": [0.1, 0.2, 0.3],
        "encoding_time": [1, 1, 1],
        "decoding_time": [1, 1, 1],
    },
}
NESTED = {
    "_readme": {"convention": "bpp counts luma"},
    "uvg": {
        "source": "a paper",
        "rd": {
            "A": {"bpp": [0.1, 0.2, 0.3], "psnr": [30, 31, 32], "source": "table 2", "note": 1},
            "B": {"bpp": [0.1, 0.2], "psnr_yuv420": [33, 34]},
        },
        "point": {"bpp": 0.1, "psnr": 30},
    },
}


def saved(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data))
    return path


def test_a_file_of_compressai_keeps_all_it_says(tmp_path: Path) -> None:
    (curve,), skipped = read_published(saved(tmp_path / "x.json", COMPRESSAI))
    assert (curve.name, curve.description, curve.source) == (
        "bmshj2018",
        "Inference (ans)",
        "x.json",
    )
    assert curve.results == COMPRESSAI["results"]
    assert skipped == []


def test_collections_are_searched_to_any_depth(tmp_path: Path) -> None:
    curves, skipped = read_published(saved(tmp_path / "x.json", NESTED))
    assert [(c.name, c.source) for c in curves] == [
        ("uvg/rd/A", "table 2"),
        ("uvg/rd/B", "a paper"),  # inherited
    ]
    assert curves[1].results == {"bpp": [0.1, 0.2], "psnr-yuv": [33, 34]}
    assert skipped == ["uvg/point"]


def test_the_result_is_read_as_published(tmp_path: Path) -> None:
    curves, _ = read_published(saved(tmp_path / "x.json", NESTED))
    loaded = load_curves(saved(tmp_path / "y.json", published_report(curves)))
    assert [(c.label, c.source) for c in loaded] == [
        ("uvg/rd/A (published)", "table 2"),
        ("uvg/rd/B (published)", "a paper"),
    ]
    assert loaded[1].points("psnr-yuv") == ([0.1, 0.2], [33, 34])
    with pytest.raises(InputError, match="got twice: uvg/rd/A"):
        published_report([curves[0], curves[0]])


def test_what_holds_no_curve_is_refused(tmp_path: Path) -> None:
    for data in ({}, [1], {"bpp": [0.1], "psnr": ["30"]}, {"bpp": [0], "psnr": [30]}):
        with pytest.raises(InputError, match="found none"):
            read_published(saved(tmp_path / "x.json", data))
    with pytest.raises(InputError, match="No such file"):
        read_published(tmp_path / "nowhere.json")
    (tmp_path / "x.json").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match="expected a JSON file"):
        read_published(tmp_path / "x.json")


def test_the_command_writes_lists_and_picks(tmp_path: Path, capsys: Capture) -> None:
    first = saved(tmp_path / "a.json", COMPRESSAI)
    second = saved(tmp_path / "b.json", NESTED)
    out = tmp_path / "published.json"
    assert main(["import", str(first), str(second), "--curve", "bmsh", "-o", str(out)]) == 0
    shown = capsys.readouterr()
    assert "1 published curves" in shown.out
    assert "1 tables without lists of rates" in shown.err
    assert [c.name for c in load_curves(out)] == ["bmshj2018"]
    files = [str(first), str(second)]
    command = ["coordx", "import", *files, "--curve", "bmsh", "-o", str(out)]
    assert shlex.split(json.loads(out.read_text())["command"]) == command
    assert main(["import", str(second), "--list"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "uvg/rd/A\t3 points\ttable 2"
    assert main(["import", str(first), str(first), "-o", str(out)]) == 0
    assert [c.name for c in load_curves(out)] == ["bmshj2018", "bmshj2018 #2"]
    capsys.readouterr()
    assert main(["import", str(first)]) == 1
    assert "expected -o OUT.json" in capsys.readouterr().err
    picture = tmp_path / "photo.png"
    picture.write_bytes(b"a picture")
    assert main(["import", str(first), "-o", str(picture)]) == 1
    assert "ends in .json" in capsys.readouterr().err
    assert picture.read_bytes() == b"a picture"
    assert main(["import", str(first), "--curve", "vtm", "-o", str(out)]) == 1
    assert "there are 'bmshj2018'" in capsys.readouterr().err


def test_published_and_measured_curves_share_a_plot(tmp_path: Path, capsys: Capture) -> None:
    measured = {"name": "jpeg", "results": {"bpp": [0.1, 0.2, 0.3], "psnr": [26, 28, 30]}}
    ours = saved(tmp_path / "ours.json", {"schema": 2, **measured})
    out = tmp_path / "published.json"
    main(["import", str(saved(tmp_path / "a.json", COMPRESSAI)), "-o", str(out)])
    capsys.readouterr()
    picture = tmp_path / "rd.svg"
    assert main(["plot", str(ours), str(out), "-o", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "bmshj2018 (published)" in text
    assert "only where the items are the same" in text
    # A file of theirs counts as published without having been imported.
    main(["plot", str(ours), str(tmp_path / "a.json"), "-o", str(picture)])
    assert capsys.readouterr().out == text
    assert "published" in picture.read_text()


def test_our_anchors_file_is_read(shared_data: Path) -> None:
    anchors = shared_data.parent / "anchors" / "kodak.json"
    if not anchors.is_file():
        pytest.skip("../shared/anchors is absent")
    curves, skipped = read_published(anchors)
    assert len(curves) == len(json.loads(anchors.read_text()))
    assert skipped == []
    assert all(curve.source and curve.averaging for curve in curves)
