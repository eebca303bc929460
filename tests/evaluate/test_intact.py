"""A damaged result file is refused in one line, by name, whatever part of it is damaged."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codec.cli import main
from codec.evaluate.runner import evaluate
from tests.evaluate.conftest import StepCodec

Capture = pytest.CaptureFixture[str]
WRONG: tuple[Any, ...] = (None, "text", -1, [1], {"a": 1}, 10**400)


@pytest.fixture
def report(photos: list[Path], tmp_path: Path) -> dict[str, Any]:
    """A result with a failure."""
    codecs = [StepCodec(qualities=(2, 8, 32)), StepCodec("other", (4, 16, 64), poison=0)]
    return evaluate(photos[:1], codecs[:1], out=tmp_path / "out.json") | {
        "errors": [{"item": "b.png", "codec": "other", "quality": 4, "error": "lost"}]
    }


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every part of a JSON value; of a list, of its first two parts."""
    inner = value.items() if isinstance(value, dict) else ()
    inner = list(enumerate(value))[:2] if isinstance(value, list) else inner
    for key, part in inner:
        yield (*way, key)
        yield from places(part, (*way, key))


def damaged(report: dict[str, Any], way: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made = copy.deepcopy(report)
    part: Any = made
    for key in way[:-1]:
        part = part[key]
    if value is ...:
        del part[way[-1]]
    else:
        part[way[-1]] = value
    return made


def test_no_damage_of_a_result_file_is_a_traceback(
    report: dict[str, Any], tmp_path: Path, capsys: Capture
) -> None:
    path, page = tmp_path / "out.json", tmp_path / "page.html"
    refused = 0
    for way in places(report):
        for wrong in (..., *WRONG):
            path.write_text(json.dumps(damaged(report, way, wrong)))
            code = main(["report", str(path), "--crops", "1", "-o", str(page)])
            shown = capsys.readouterr().err
            assert code in (0, 1), (way, wrong)
            if code == 1:
                refused += 1
                assert str(path) in shown or "at least one curve" in shown, (way, wrong, shown)
                assert len(shown.splitlines()) == 1, (way, wrong, shown)
    assert refused > 300


@pytest.mark.parametrize(
    ("way", "wrong", "message"),
    [
        (("machine",), [], "damaged result file has [] as 'machine'"),
        (("averaged_items",), ..., "has no 'averaged_items'"),
        (("errors", 0, "error"), 3, "a failure has 3 as 'error'"),
        (("codecs", 0, "items", 0, "device"), 0, "codec 'step': an item has 0 as 'device'"),
        (("codecs", 0, "items", 0, "sha256"), ..., "codec 'step': an item has no 'sha256'"),
    ],
)
def test_what_is_damaged_is_said(
    report: dict[str, Any],
    tmp_path: Path,
    capsys: Capture,
    way: tuple[Any, ...],
    wrong: Any,
    message: str,
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(damaged(report, way, wrong)))
    assert main(["report", str(path), "-o", str(tmp_path / "page.html")]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"coordx: error: {path}: ")
    assert message in shown
    assert not (tmp_path / "page.html").exists()
