"""coordx eval and coordx plot as a user meets them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from codec.cli import main
from codec.evaluate.metrics import Samples
from codec.media import open_video
from tests.evaluate.conftest import cut_bunny

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, astronaut: Samples, photo: Samples) -> Path:
    """A folder of two crops of a photograph."""
    path = tmp_path / "pictures"
    path.mkdir()
    Image.fromarray(photo).save(path / "face.png")
    Image.fromarray(astronaut[300:364, 100:180]).save(path / "suit.png")
    return path


@pytest.fixture
def result(folder: Path, tmp_path: Path, capsys: Capture) -> Path:
    """A result file of JPEG and WebP."""
    out = tmp_path / "out.json"
    codecs = ["--codec", "jpeg:20,40,60,80", "--codec", "webp:10,40,80"]
    assert main(["eval", str(folder), *codecs, "-o", str(out)]) == 0
    capsys.readouterr()
    return out


def test_eval_prints_a_table_and_bd_rates(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.json"
    codecs = ["--codec", "coordx:steps=20,0.01", "--codec", "jpeg:20,50,80", "--codec", "webp"]
    assert main(["eval", str(folder), *codecs, "--device", "cpu", "-o", str(out)]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    # No column of MS-SSIM: the pictures are too small for five scales.
    heading = ["codec", "point", "bpp", "PSNR dB", "enc s", "dec ms"]
    assert re.split("  +", lines[0]) == heading
    assert lines[1].split()[:3] == ["coordx-20steps", "lambda", "0.01"]
    assert sum(line.startswith("jpeg ") for line in lines) == 3
    assert sum(line.startswith("webp ") for line in lines) == 9  # 8 points and the BD-rate
    assert "means over 2 of 2 images" in text
    assert re.search(r"against jpeg +PSNR interval +BD-rate", text)
    assert re.search(r"webp +\d+\.\d\d \.\. \d+\.\d\d dB +[+-]\d+\.\d\d %", text)
    assert "coordx-20steps: no BD-rate: test curve: expected at least 3 points, got 1" in text
    point = json.loads(out.read_text())["codecs"][1]["results"]
    assert f"{point['bpp'][0]:.4f}" in lines[2]
    assert f"{point['psnr-rgb'][0]:.3f}" in lines[2]


def test_eval_names_the_folder_of_coded_files_only_where_it_keeps_them(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out.json"
    arguments = ["eval", str(folder), "--codec", "jpeg:50", "-o", str(out)]
    assert main([*arguments, "--no-files"]) == 0
    assert "coded files" not in capsys.readouterr().out
    assert main(arguments) == 0
    assert f"coded files: {tmp_path / 'out.files'}" in capsys.readouterr().out
    assert len(list((tmp_path / "out.files").iterdir())) == 2


def test_eval_json_is_the_file_and_nothing_else(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out.json"
    arguments = ["eval", str(folder), "--codec", "jpeg:50", "--limit", "1", "-o", str(out)]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())
    report = json.loads(out.read_text())
    assert report["averaged_items"] == ["face.png"]
    assert report["name"] == "jpeg"
    assert shlex.split(report["command"])[:3] == ["coordx", "eval", str(folder)]


def test_eval_goes_on_after_a_corrupt_image_and_exits_with_1(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    (folder / "broken.png").write_bytes((folder / "face.png").read_bytes()[:3000])
    out = tmp_path / "out.json"
    assert main(["eval", str(folder), "--codec", "jpeg:20,50", "-o", str(out)]) == 1
    shown = capsys.readouterr()
    assert shown.err.count("broken.png") >= 1
    assert len(shown.err.splitlines()) == 1  # once, not once a point
    assert "means over 2 of 3 images" in shown.out


def test_eval_lambdas_and_effort_are_the_defaults_of_coordx(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out.json"
    codecs = ["--codec", "coordx:steps=10", "--codec", "coordx:steps=12,0.02"]
    options = ["--lambda", "0.01,0.005", "--seed", "3", "--device", "cpu", "--limit", "1"]
    assert main(["eval", str(folder), *codecs, *options, "-o", str(out)]) == 0
    first, second = json.loads(out.read_text())["codecs"]
    assert first["name"] == "coordx-10steps-seed3"
    assert sorted(first["results"]["lambda"]) == [0.005, 0.01]
    assert second["results"]["lambda"] == [0.02]
    assert "against" not in capsys.readouterr().out  # no anchor: nothing but coordx


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["pictures", "--codec", "jpg"], "avif, jxl, hevc-intra, vvc-intra, got 'jpg'"),
        (["pictures", "--codec", "jpeg", "--anchor", "webp"], "got 'webp'; there are 'jpeg'"),
        (["pictures", "--lambda", "small"], "--lambda: expected numbers"),
        (["pictures", "--codec", "jpeg", "--metrics", "vmaf"], "metrics: expected some of"),
        (["pictures", "--codec", "jpeg", "-o", "out.png"], "ends in .json"),
        (["pictures", "--effort", "10"], "effort: expected 1..9, got 10"),
        (["clip.mp4", "--codec", "jpeg"], "got 'jpeg', which does not code this kind of media"),
        (["clip.mp4", "pictures"], "expected images only or videos only"),
        (["empty"], "expected a folder of images or videos, got 0 files"),
        (["pictures", "-j", "0"], "--jobs: expected at least 1, got 0"),
    ],
)
def test_eval_mistakes_are_one_line_and_exit_1(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("clip.mp4").touch()
    Path("empty").mkdir()
    assert main(["eval", "-o", "out.json", *arguments]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert message in shown.err
    assert not Path("out.json").exists()


def test_eval_without_pytorch_msssim_still_measures_psnr(
    folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_msssim", None)
    out = str(tmp_path / "out.json")
    assert main(["eval", str(folder), "--codec", "jpeg:50", "-o", out]) == 0
    asked = ["eval", str(folder), "--codec", "jpeg:50", "--metrics", "ms-ssim", "-o", out]
    assert main(asked) == 1
    assert "pip install 'coordx-codec[metrics]'" in capsys.readouterr().err


def test_eval_writes_the_item_table_and_its_provenance(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    codecs = ["--codec", "jpeg:20,50,80", "--codec", "jxl:effort=3,50"]
    assert main(["eval", str(folder), *codecs, "-j", "2", "-o", str(out)]) == 0
    report = json.loads(out.read_text())
    rows = [json.loads(line) for line in (tmp_path / "out.items.jsonl").read_text().splitlines()]
    in_report = [row for entry in report["codecs"] for row in entry["items"]]
    assert sorted(rows, key=str) == sorted(in_report, key=str)
    assert [row["item"] for row in rows] == ["face.png"] * 4 + ["suit.png"] * 4
    assert all(row["device"] == "cpu" for row in rows)
    kept = sorted(path.name for path in (tmp_path / "out.files").iterdir())
    assert kept == sorted(row["file"] for row in rows)
    assert report["kind"] == "image"
    assert "--jobs 2" in report["command"]
    assert {"system", "processor", "cores", "python", "ffmpeg start, s"} <= set(report["machine"])
    assert "mean over items" in report["averaging"]
    assert report["codecs"][1]["description"].endswith("libjxl")
    assert "-distance" in report["codecs"][1]["results"]["command"][0]
    assert set(report["sources"]) == {"face.png", "suit.png"}


def test_eval_measures_videos(tmp_path: Path, capsys: Capture) -> None:
    clip = cut_bunny(tmp_path / "bunny.mp4", 6)
    (tmp_path / "broken.mp4").write_bytes(clip.read_bytes()[:4000])
    out = tmp_path / "out.json"
    codecs = ["--codec", "x264:preset=ultrafast,24,30,36", "--codec", "coordx:steps=10,0.01"]
    arguments = ["eval", str(tmp_path), *codecs, "--device", "cpu", "-o", str(out)]
    assert main(arguments) == 1  # one clip is broken
    shown = capsys.readouterr()
    assert len([line for line in shown.err.splitlines() if "broken.mp4" in line]) == 1
    lines = shown.out.splitlines()
    heading = ["codec", "point", "bpp", "PSNR dB", "YUV dB", "VMAF", "enc s", "dec ms"]
    assert re.split("  +", lines[0]) == heading
    assert lines[1].startswith("x264-ultrafast-k32  crf 36")
    assert "means over 1 of 2 videos" in shown.out
    report = json.loads(out.read_text())
    results = report["codecs"][0]["results"]
    assert {"bitrate", "psnr-y", "psnr-u", "psnr-v", "psnr-yuv", "vmaf"} <= set(results)
    row = report["codecs"][0]["items"][0]
    coded = (tmp_path / "out.files" / row["file"]).stat().st_size
    assert row["bytes"] == coded
    assert row["bpp"] == pytest.approx(8 * coded / (256 * 144 * row["frames"]))
    with open_video(clip) as video:
        seconds = row["frames"] / video.info.rate
    assert row["bitrate"] == pytest.approx(8 * coded / 1000 / float(seconds))
    assert main(["plot", str(out), "--metric", "vmaf", "-o", str(tmp_path / "v.png")]) == 0


def test_a_killed_run_goes_on_where_it_was(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.json"
    codecs = ["--codec", "jpeg:20,40,60,80", "--codec", "hevc-intra:preset=slower,40,35,30,25,20"]
    arguments = ["eval", str(folder), *codecs, "-o", str(out)]
    command = [sys.executable, "-m", "codec", *arguments]
    journal = tmp_path / "out.journal.jsonl"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and len(lines_of(journal)) < 5:
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    before = lines_of(journal)
    assert len(before) >= 5
    assert main(arguments) == 0
    after = lines_of(journal)
    assert after[: len(before)] == before
    keys = [json.loads(line)["key"] for line in after]
    assert len(keys) == len(set(keys)) == 18  # every point once: nothing was done again
    assert len((tmp_path / "out.items.jsonl").read_text().splitlines()) == 18
    assert "means over 2 of 2 images" in capsys.readouterr().out


def lines_of(journal: Path) -> list[str]:
    """The whole lines of a journal, of which a kill may have torn the last."""
    text = journal.read_text() if journal.exists() else ""
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_plot_draws_and_prints_bd_rates(result: Path, tmp_path: Path, capsys: Capture) -> None:
    picture = tmp_path / "rd.png"
    assert main(["plot", str(result), "-o", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    default = capsys.readouterr().out
    assert default.splitlines()[0].startswith("against jpeg")
    assert default.splitlines()[1].startswith("webp")
    arguments = ["plot", str(result), "-o", str(picture), "--anchor", "webp", "--json"]
    assert main(arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["anchor"], answer["curves"][0]["name"]) == ("webp", "jpeg")
    assert answer["curves"][0]["bd_rate"] > 0


def test_plot_tells_curves_of_one_name_apart(result: Path, tmp_path: Path, capsys: Capture) -> None:
    other = result.with_name("later.json")
    other.write_bytes(result.read_bytes())
    picture = str(tmp_path / "rd.svg")
    files = [str(result), str(other)]
    assert main(["plot", *files, "--curve", "out: jpeg", "--curve", "later: j", "-o", picture]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("against out: jpeg")
    assert lines[1].startswith("later: jpeg")
    assert "+0.00 %" in lines[1]
    assert len(lines) == 2


def test_plot_tells_files_of_one_name_apart(result: Path, tmp_path: Path, capsys: Capture) -> None:
    other = tmp_path / "later" / result.name
    other.parent.mkdir()
    other.write_bytes(result.read_bytes())
    files = [str(result), str(other)]
    for command, output in (("plot", "rd.svg"), ("report", "page.html")):
        arguments = ["--anchor", "out: jpeg", "-o", str(tmp_path / output)]
        assert main([command, *files, *arguments]) == 0
    assert "out: jpeg #2 " in capsys.readouterr().out


def test_plot_mistakes_are_one_line_and_exit_1(
    result: Path, tmp_path: Path, capsys: Capture
) -> None:
    picture = str(tmp_path / "rd.png")
    for arguments, message in (
        (["plot", str(tmp_path / "no.json"), "-o", picture], "No such file"),
        (["plot", str(result), "-o", picture, "--anchor", "vvc"], "got 'vvc'"),
        (["plot", str(result), "-o", picture, "--metric", "ms-ssim"], "with ms-ssim values"),
        (["plot", str(result), "-o", str(tmp_path / "rd.gif")], "ends in .png, .svg, .pdf"),
    ):
        assert main(arguments) == 1
        shown = capsys.readouterr()
        assert len(shown.err.splitlines()) == 1
        assert message in shown.err
    assert not Path(picture).exists()


@pytest.mark.parametrize("command", ["eval", "import", "plot", "report"])
def test_help_teaches_by_example(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"examples:\n  coordx {command} " in capsys.readouterr().out
