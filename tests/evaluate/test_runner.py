"""An evaluation measures real bytes, survives a kill and goes on after a bad file."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from codec.evaluate.anchors import Jpeg
from codec.evaluate.metrics import mse, psnr
from codec.evaluate.runner import Progress, evaluate, files_folder, journal_path
from formats.errors import InputError, MissingLibraryError, OutputError
from tests.conftest import picture
from tests.evaluate.conftest import StepCodec


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.json"


def test_figures_are_those_of_the_decoded_bytes(photos: list[Path], out: Path) -> None:
    codec = StepCodec()
    report = evaluate(photos, [codec], out=out, command="the command")
    assert report == json.loads(out.read_text())
    assert report["errors"] == []
    assert report["command"] == "the command"
    row = next(
        i for i in report["codecs"][0]["items"] if i["item"] == "b.png" and i["quality"] == 8
    )
    source = 255 - picture(20, 28)
    data = codec.encode(source, 8)
    decoded = codec.decode(data)
    assert (row["height"], row["width"], row["channels"], row["bit_depth"]) == (20, 28, 3, 8)
    assert row["bytes"] == len(data)
    assert row["bpp"] == 8 * len(data) / (20 * 28)
    assert row["mse"] == mse(source, decoded) > 0
    assert row["psnr"] == psnr(source, decoded)
    assert row["encoding_time"] > 0
    assert row["decoding_time"] > 0
    assert row["peak_memory"] is None or row["peak_memory"] > 10**6


def test_means_are_over_items_of_per_item_values(photos: list[Path], out: Path) -> None:
    report = evaluate(photos, [StepCodec()], out=out)
    codec = report["codecs"][0]
    results = codec["results"]
    assert results["step"] == [32, 8, 1]  # by rising rate
    assert report["averaged_items"] == ["a.png", "b.png"]
    for n, step in enumerate(results["step"][:2]):
        rows = [i for i in codec["items"] if i["quality"] == step]
        assert results["psnr-rgb"][n] == pytest.approx(sum(r["psnr"] for r in rows) / 2)
        assert results["bpp"][n] == pytest.approx(sum(r["bpp"] for r in rows) / 2)
    assert results["psnr-rgb"][2] is None  # a step of 1 loses nothing: infinite, so null


def test_one_codec_makes_a_file_of_compressai(photos: list[Path], out: Path) -> None:
    report = evaluate(photos, [StepCodec()], out=out)
    assert report["name"] == "step"
    assert report["description"] == "step codec 1"
    keys = {"bpp", "psnr-rgb", "encoding_time", "decoding_time"}
    assert keys <= set(report["results"])
    assert {len(values) for values in report["results"].values()} == {3}
    both = evaluate(photos, [StepCodec(), StepCodec("other")], out=out)
    assert "results" not in both
    assert [codec["name"] for codec in both["codecs"]] == ["step", "other"]


def test_ms_ssim_is_measured_when_asked_for(tmp_path: Path, out: Path) -> None:
    Image.fromarray(picture(161, 161)).save(tmp_path / "large.png")
    report = evaluate([tmp_path / "large.png"], [StepCodec()], out=out, metrics=["psnr", "ms-ssim"])
    values = report["results"]["ms-ssim-rgb"]
    assert values == sorted(values)
    assert 0.5 < values[0] < values[-1] == 1


def test_what_was_measured_is_not_measured_again(photos: list[Path], out: Path) -> None:
    first = StepCodec()
    report = evaluate(photos, [first], out=out)
    assert len(first.encodes) == 6
    again = StepCodec()
    events: list[Progress] = []
    assert evaluate(photos, [again], out=out, progress=events.append) == report
    assert again.encodes == []
    assert {event.status for event in events} == {"remembered"}
    assert [(e.done, e.total) for e in events] == [(n, 6) for n in range(1, 7)]


def test_a_missing_coded_file_is_made_when_files_are_wanted(photos: list[Path], out: Path) -> None:
    evaluate(photos, [StepCodec()], out=out)
    wanting = StepCodec()
    report = evaluate(photos, [wanting], out=out, keep_files=True)
    assert len(wanting.encodes) == 6
    names = [row["file"] for row in report["codecs"][0]["items"]]
    assert sorted(path.name for path in files_folder(out).iterdir()) == sorted(names)
    kept = files_folder(out) / names[0]
    whole = kept.read_bytes()
    for damage in (kept.unlink, lambda: kept.write_bytes(whole[:-1])):
        damage()
        again = StepCodec()
        evaluate(photos, [again], out=out, keep_files=True)
        assert len(again.encodes) == 1
        assert kept.read_bytes() == whole
    assert evaluate(photos, [again], out=out, keep_files=False)["errors"] == []
    assert len(again.encodes) == 1


def test_each_measurement_is_on_disk_before_the_next_begins(photos: list[Path], out: Path) -> None:
    lines: list[int] = []

    def count(progress: Progress) -> None:
        lines.append(journal_path(out).read_bytes().count(b"\n"))

    evaluate(photos, [StepCodec()], out=out, progress=count)
    assert lines == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("line", ["5", "null", "[]", '"text"', "{}", '{"key": "abc"}', "\0", "x"])
def test_a_line_of_the_journal_that_is_no_measurement_counts_as_absent(
    photos: list[Path], out: Path, line: str
) -> None:
    evaluate(photos, [StepCodec()], out=out)
    _, *others = journal_path(out).read_text().splitlines()
    journal_path(out).write_text("\n".join([line, *others]))
    codec = StepCodec()
    assert evaluate(photos, [codec], out=out)["errors"] == []
    assert len(codec.encodes) == 1


def test_a_killed_evaluation_goes_on_where_it_was(photos: list[Path], out: Path) -> None:
    def kill(count: int) -> None:
        if count == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(photos, [StepCodec(before_encode=kill)], out=out)
    assert not out.exists()
    journal = journal_path(out)
    assert len(journal.read_text().splitlines()) == 4
    with journal.open("a") as file:  # the kill came in the middle of a line
        file.write('{"key": "abc", "item": "a.p')
    rest = StepCodec()
    report = evaluate(photos, [rest], out=out)
    assert rest.encodes == [8, 32]
    assert len(report["codecs"][0]["items"]) == 6
    third = StepCodec()
    evaluate(photos, [third], out=out)
    assert third.encodes == []  # the lines after the torn one are readable


@pytest.mark.parametrize(
    "changed",
    [
        StepCodec(revision="2"),
        StepCodec(name="renamed"),
        StepCodec(qualities=(2, 9, 33)),
    ],
    ids=["version", "name", "settings"],
)
def test_another_codec_version_or_setting_is_measured_anew(
    photos: list[Path], out: Path, changed: StepCodec
) -> None:
    evaluate(photos, [StepCodec()], out=out)
    fresh = dataclasses.replace(changed, encodes=[])
    evaluate(photos, [fresh], out=out)
    assert len(fresh.encodes) == 6


def test_only_new_content_is_measured(photos: list[Path], out: Path) -> None:
    evaluate(photos, [StepCodec()], out=out)
    photos[0].rename(photos[0].with_name("renamed.png"))  # same bytes: nothing to do
    Image.fromarray(picture(9, 9)).save(photos[1])  # same name: other bytes
    codec = StepCodec(qualities=(8, 32))
    report = evaluate([photos[0].with_name("renamed.png"), photos[1]], [codec], out=out)
    assert codec.encodes == [8, 32]
    items = [(i["item"], i["width"]) for i in report["codecs"][0]["items"]]
    assert items == [("renamed.png", 32)] * 2 + [("b.png", 9)] * 2


def test_another_metric_is_measured_anew(photos: list[Path], out: Path) -> None:
    evaluate(photos, [StepCodec()], out=out)
    codec = StepCodec()
    evaluate(photos, [codec], out=out, metrics=["psnr", "ms-ssim"])
    assert len(codec.encodes) == 6


def test_without_resume_everything_is_measured_again(photos: list[Path], out: Path) -> None:
    evaluate(photos, [StepCodec()], out=out)
    codec = StepCodec()
    evaluate(photos, [codec], out=out, resume=False)
    assert len(codec.encodes) == 6
    assert len(journal_path(out).read_text().splitlines()) == 6


def test_a_corrupt_file_is_recorded_once_and_the_others_go_on(
    photos: list[Path], out: Path
) -> None:
    whole = photos[0].read_bytes()
    photos[0].write_bytes(whole[: len(whole) // 2])
    missing = photos[0].with_name("missing.png")
    events: list[Progress] = []
    report = evaluate([missing, *photos], [StepCodec()], out=out, progress=events.append)
    assert [(e["item"], e["codec"]) for e in report["errors"]] == [
        ("missing.png", None),
        ("a.png", None),
    ]
    assert "No such file" in report["errors"][0]["error"]
    assert report["averaged_items"] == ["b.png"]
    assert [e.status for e in events] == ["failed"] * 6 + ["measured"] * 3
    photos[0].write_bytes(whole)  # what failed is tried again
    assert evaluate(photos, [StepCodec()], out=out)["errors"] == []


def test_a_codec_that_fails_on_an_item_takes_it_out_of_all_means(
    photos: list[Path], out: Path
) -> None:
    first_sample = int(picture()[0, 0, 0])
    codecs = [StepCodec("good"), StepCodec("bad", poison=first_sample)]
    report = evaluate(photos, codecs, out=out)
    assert [(e["item"], e["codec"], e["quality"]) for e in report["errors"]] == [
        ("a.png", "bad", q) for q in (1, 8, 32)
    ]
    assert report["errors"][0]["error"] == "RuntimeError: the picture is poisoned"
    assert report["averaged_items"] == ["b.png"]
    good, bad = report["codecs"]
    assert good["results"]["bpp"] == bad["results"]["bpp"]
    assert len(good["items"]) == 6  # still there, item by item


def test_an_item_that_fails_at_one_point_is_in_no_mean(photos: list[Path], out: Path) -> None:
    class Picky(StepCodec):
        def encode(self, samples: np.ndarray, q: float) -> bytes:
            if q == 8 and samples.shape[0] == 24:
                raise ValueError("not this one")
            return super().encode(samples, q)

    report = evaluate(photos, [Picky(), StepCodec("other")], out=out)
    assert report["averaged_items"] == ["b.png"]
    assert len(report["codecs"][0]["items"]) == 5
    first, second = (codec["results"] for codec in report["codecs"])
    assert first["bpp"] == second["bpp"]


def test_a_codec_that_fails_on_everything_leaves_the_others_alone(
    photos: list[Path], out: Path
) -> None:
    class Broken(StepCodec):
        def decode(self, data: bytes) -> np.ndarray:
            return super().decode(data)[:-1]

    report = evaluate(photos, [StepCodec(), Broken("broken")], out=out)
    assert report["averaged_items"] == ["a.png", "b.png"]
    assert report["codecs"][1]["results"]["bpp"] == []
    assert "(24, 32, 3) uint8 and (23, 32, 3) uint8" in report["errors"][0]["error"]


def test_wide_samples_reach_the_codec_and_anchors_refuse_them(tmp_path: Path, out: Path) -> None:
    class Raw(StepCodec):
        def encode(self, samples: np.ndarray, q: float) -> bytes:
            return samples.tobytes()

        def decode(self, data: bytes) -> np.ndarray:
            return np.frombuffer(data, np.uint16).reshape(24, 32, 3) ^ 1

    path = tmp_path / "wide.bin"
    path.write_bytes(b"anything")
    media = SimpleNamespace(samples=picture(bits=16), bit_depth=16)
    report = evaluate([path], [Raw("raw"), Jpeg()], out=out, reader=lambda _: media)
    raw = report["codecs"][0]["items"][0]
    assert raw["psnr"] == pytest.approx(20 * math.log10(65535))
    assert {e["codec"] for e in report["errors"]} == {"jpeg"}
    assert "uint16" in report["errors"][0]["error"]


def test_files_of_one_name_are_told_apart(photos: list[Path], tmp_path: Path, out: Path) -> None:
    (tmp_path / "more").mkdir()
    twin = tmp_path / "more" / "a.png"
    twin.write_bytes(photos[1].read_bytes())
    report = evaluate([photos[0], twin], [StepCodec()], out=out)
    assert report["averaged_items"] == [photos[0].as_posix(), twin.as_posix()]


def test_a_missing_library_stops_before_any_work(
    photos: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pytorch_msssim", None)
    codec = StepCodec()
    with pytest.raises(MissingLibraryError):
        evaluate(photos, [codec], out=out, metrics=["ms-ssim"])
    assert codec.encodes == []


def test_requests_that_make_no_sense_are_refused(photos: list[Path], out: Path) -> None:
    for arguments, message in (
        (([], [StepCodec()]), "files: expected at least one"),
        (([photos[0]] * 2, [StepCodec()]), "none twice"),
        ((photos, []), "codecs: expected at least one"),
        ((photos, [StepCodec(), StepCodec()]), "names that differ"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(*arguments, out=out)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"metrics: .* got \['vmaf'\]"):
        evaluate(photos, [StepCodec()], out=out, metrics=["vmaf"])


def test_a_result_that_could_not_be_written_stops_before_any_work(
    photos: list[Path], tmp_path: Path
) -> None:
    codec = StepCodec()
    original = photos[0].read_bytes()
    (tmp_path / "folder.json").mkdir()
    for out in (photos[0], tmp_path / "nowhere" / "out.json", tmp_path / "folder.json"):
        with pytest.raises(OutputError):
            evaluate(photos, [codec], out=out)
    (tmp_path / "a.items.jsonl").mkdir()
    (tmp_path / "b.files").touch()
    with pytest.raises(OutputError, match=r"a\.items\.jsonl"):
        evaluate(photos, [codec], out=tmp_path / "a.json")
    with pytest.raises(OutputError, match=r"cannot make the folder .*b\.files: File exists"):
        evaluate(photos, [codec], out=tmp_path / "b.json", keep_files=True)
    assert codec.encodes == []
    assert photos[0].read_bytes() == original
