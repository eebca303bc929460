"""Result files of three kinds become curves; curves are compared or refused with a reason."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from codec.evaluate.bootstrap import item_deltas
from codec.evaluate.comparison import compare
from codec.evaluate.curves import Curve, find_curve, load_curves
from codec.evaluate.results import to_json, write_report
from codec.evaluate.runner import evaluate
from codec.evaluate.table import bd_table, columns
from formats.errors import InputError, OutputError
from tests.evaluate.conftest import StepCodec

BASE = Curve("base", (0.1, 0.2, 0.4, 0.8), (28.0, 31.0, 34.0, 37.0))
HALF = Curve("half", (0.05, 0.1, 0.2, 0.4), (28.0, 31.0, 34.0, 37.0))
FAR = Curve("far", (0.1, 0.2, 0.4), (48.0, 51.0, 54.0))
SHORT = Curve("short", (0.1, 0.2), (28.0, 31.0))


def saved(path: Path, data: Any) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_our_files_are_read_back(photos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    report = evaluate(photos, [StepCodec(), StepCodec("other", qualities=(4, 16))], out=out)
    curves = load_curves(out)
    assert [curve.name for curve in curves] == ["step", "other"]
    for curve, codec in zip(curves, report["codecs"], strict=True):
        assert list(curve.bpp) == codec["results"]["bpp"]
        assert list(curve.psnr) == codec["results"]["psnr-rgb"]
    assert not any(curve.published for curve in curves)
    assert curves[0].psnr[-1] is None
    assert len(curves[0].points()[0]) == 2


def test_files_of_compressai_are_read(tmp_path: Path) -> None:
    data = {
        "name": "bmshj2018",
        "description": "Inference (ans)",
        "results": {"psnr-rgb": [26.9, 28.2], "ms-ssim-rgb": [0.9, 0.99], "bpp": [0.12, 0.19]},
    }
    assert load_curves(saved(tmp_path / "x.json", data)) == [
        Curve(
            "bmshj2018",
            (0.12, 0.19),
            (26.9, 28.2),
            (0.9, 0.99),
            source="Inference (ans)",
            published=True,
        )
    ]
    del data["name"]
    data["results"] = {"psnr": [26.9], "bpp": [0.12]}  # the key of its older files
    assert load_curves(saved(tmp_path / "x.json", data)) == [
        Curve("x", (0.12,), (26.9,), source="Inference (ans)", published=True)
    ]


def test_collections_of_published_curves_are_read(tmp_path: Path) -> None:
    data = {"A": {"bpp": [1], "psnr": [30]}, "note": "text", "B": {"bpp": [2], "psnr": [40]}}
    assert load_curves(saved(tmp_path / "x.json", data)) == [
        Curve("A", (1.0,), (30.0,), published=True),
        Curve("B", (2.0,), (40.0,), published=True),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("not json", "expected a JSON file"),
        ('{"bpp": [NaN], "psnr": [30]}', "NaN is not JSON"),
        ([1, 2], "no such table"),
        ({}, "no such table"),
        ({"bpp": [1, 2], "psnr": [30]}, "2 rates .* 1 PSNR"),
        ({"bpp": [0, 2], "psnr": [30, 31]}, r"2 rates \(1 above 0\)"),
        ({"bpp": [None, 2], "psnr": [30, 31]}, "above 0"),
        ({"bpp": "12", "psnr": [30, 31]}, "list of numbers as 'bpp'"),
        ({"bpp": [1], "psnr": ["30"]}, "list of numbers as 'psnr'"),
        ({"bpp": [1], "psnr": [True]}, "list of numbers"),
        ({"bpp": [1], "psnr": [10**400]}, "list of numbers"),
        ({"results": "lost", "bpp": [1], "psnr": 30}, "list of numbers as 'psnr'"),
        ({"codecs": [{"name": "a", "bpp": [1], "psnr": [30]}, "b"]}, "codec 2 of 2 has no results"),
        ({"codecs": [{"name": "a", "results": None}]}, "codec 1 of 1 has no results"),
        ("[" * 10**5, "expected a JSON file"),
    ],
)
def test_what_is_not_a_result_file_is_refused(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_curves(saved(tmp_path / "x.json", data))
    assert "x.json" in str(caught.value)


def test_a_missing_file_and_a_binary_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json: No such file"):
        load_curves(tmp_path / "nowhere.json")
    (tmp_path / "x.json").write_bytes(b"\x89PNG\xff")
    with pytest.raises(InputError, match="expected a JSON file"):
        load_curves(tmp_path / "x.json")


def test_points_come_by_rising_rate_and_ms_ssim_in_decibels() -> None:
    curve = Curve("c", (0.4, 0.1, 0.2, 0.3), (34.0, 28.0, None, 32.0), (0.999, 0.9, 1.0, None))
    assert curve.points() == ([0.1, 0.3, 0.4], [28.0, 32.0, 34.0])
    rates, values = curve.points("ms-ssim")
    assert rates == [0.1, 0.4]
    assert values == pytest.approx([10, 30])
    assert BASE.points("ms-ssim") == ([], [])


def test_comparison_says_how_much_or_why_not() -> None:
    half, far, short = compare([HALF, BASE, FAR, SHORT], BASE)
    assert half.bd_rate == pytest.approx(-50)
    assert half.bd_gain == pytest.approx(3)
    assert (half.low, half.high) == (28, 37)
    assert far.bd_rate is None
    assert far.refused is not None
    assert "28.00 to 37.00 dB, the test 48.00 to 54.00 dB" in far.refused
    assert short.refused is not None
    assert "at least 3 points, got 2" in short.refused


def items(curve: Curve, **digests: str) -> Curve:
    """The curve as the mean of items that are all like it."""
    found = {item: dataclasses.replace(curve, source=digest) for item, digest in digests.items()}
    return dataclasses.replace(curve, items=found)


def test_means_over_different_items_are_not_compared() -> None:
    anchor = items(BASE, a="1", b="2")
    for other, shared in ((items(HALF, a="1"), 1), (items(HALF, a="1", b="2", c="3"), 2)):
        (verdict,) = compare([other], anchor)
        assert verdict.bd_rate is None
        assert verdict.refused is not None
        assert f"different items: {len(other.items)} and 2, of which {shared}" in verdict.refused
        assert set(item_deltas(anchor, other).per_item) <= {"a", "b"}
    (verdict,) = compare([items(HALF, b="2", a="1")], anchor)
    assert verdict.bd_rate == pytest.approx(-50)
    (verdict,) = compare([HALF], anchor)  # published: it is not known of which items
    assert verdict.bd_rate == pytest.approx(-50)


def test_an_item_of_one_name_and_another_content_is_another_item(
    photos: list[Path], tmp_path: Path
) -> None:
    evaluate(photos, [StepCodec()], out=tmp_path / "first.json")
    photos[1].write_bytes(photos[0].read_bytes())
    evaluate(photos, [StepCodec()], out=tmp_path / "second.json")
    (first,), (second,) = (
        load_curves(tmp_path / "first.json"),
        load_curves(tmp_path / "second.json"),
    )
    (verdict,) = compare([second], first)
    assert "2 and 2, of which 1 are the same" in str(verdict.refused)
    assert {*item_deltas(first, second).refused} == {"a.png"}  # two points are too few


def test_an_overlap_in_quality_without_one_in_rate_has_a_bd_rate_only() -> None:
    cheap = Curve("cheap", (0.001, 0.002, 0.004), (28.0, 31.0, 34.0))
    (only,) = compare([cheap], BASE)
    assert only.bd_rate == pytest.approx(-99)
    assert only.bd_gain is None
    assert "28.00 .. 34.00 dB" in bd_table(BASE, [only], "psnr")


def test_tables_line_up_and_say_why_a_figure_is_missing() -> None:
    text = bd_table(BASE, compare([HALF, FAR], BASE), "psnr")
    assert "-50.00 %" in text
    assert "far: no BD-rate: the curves do not overlap" in text
    lines = columns([("a", "b", "1.0"), ("long", "b", "10.25")]).splitlines()
    assert lines == ["a     b    1.0", "long  b  10.25"]


def test_a_curve_is_found_by_name_or_by_its_beginning() -> None:
    curves = [Curve("avif-s4", ()), Curve("avif-s40", ()), Curve("jpeg", ())]
    assert find_curve(curves, "avif-s4") is curves[0]
    assert find_curve(curves, "jp") is curves[2]
    with pytest.raises(InputError, match="got 'avif'; 2 begin with it"):
        find_curve(curves, "avif")
    with pytest.raises(InputError, match="got 'webp'; there are 'avif-s4', 'avif-s40', 'jpeg'"):
        find_curve(curves, "webp")


def test_result_files_are_strict_json_and_written_whole(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"psnr": float("inf")})
    out = tmp_path / "out.json"
    write_report(out, {"schema": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(out, {"psnr": float("nan")})
    assert json.loads(out.read_text()) == {"schema": 1}
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(OutputError):
        write_report(tmp_path / "nowhere" / "out.json", {})
