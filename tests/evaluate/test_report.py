"""The report: what it holds, and that it works in a real headless browser without a network."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec.cli import main
from codec.evaluate.curves import Curve
from codec.evaluate.metrics import Samples
from codec.evaluate.report import page_data, write_page
from codec.evaluate.results import write_report
from codec.evaluate.runner import evaluate
from tests.evaluate.browser import Page, find_browser, open_browser
from tests.evaluate.conftest import StepCodec

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, astronaut: Samples) -> Path:
    """Three crops of a photograph through JPEG and WebP, two published curves, the page."""
    path = tmp_path_factory.mktemp("report")
    (path / "media").mkdir()
    for name, box in {"face": (40, 160), "suit": (300, 100), "flag": (20, 0)}.items():
        part = astronaut[box[0] : box[0] + 112, box[1] : box[1] + 128]
        Image.fromarray(part).save(path / "media" / f"{name}.png")
    codecs = ["--codec", "jpeg:10,30,60,85", "--codec", "webp:5,30,60,85"]
    out = path / "out.json"
    assert main(["eval", str(path / "media"), *codecs, "-o", str(out)]) == 0
    published = {
        "a <script>alert(1)</script> codec": {
            "bpp": [0.3, 0.6, 1.2],
            "psnr": [27, 30, 34],
            "source": "a </script> paper",
        }
    }
    (path / "others.json").write_text(json.dumps(published))
    assert main(["import", str(path / "others.json"), "-o", str(path / "published.json")]) == 0
    page = ["report", str(out), str(path / "published.json"), "--anchor", "jpeg"]
    assert main([*page, "--bpp", "1", "-o", str(path / "page.html")]) == 0
    return path


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL
    )
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_the_page_holds_the_figures_of_the_result(folder: Path) -> None:
    data = data_of(folder / "page.html")
    report = json.loads((folder / "out.json").read_text())
    assert [c["name"] for c in data["curves"][:2]] == ["jpeg", "webp"]
    points = data["curves"][0]["points"]["psnr"]
    assert [p[0] for p in points] == report["codecs"][0]["results"]["bpp"]
    assert [p[1] for p in points] == report["codecs"][0]["results"]["psnr-rgb"]
    assert len(data["rows"]) == 3 * 8
    assert data["bd"]["psnr"][0][1]["rate"] < 0  # WebP needs less than JPEG
    assert data["bd"]["psnr"][1][0]["rate"] > 0
    webp = data["items"]["psnr"][0]
    assert set(webp["perItem"]) == {"face.png", "suit.png", "flag.png"}
    assert webp["low"] <= webp["rate"] <= webp["high"]
    assert data["curves"][2]["published"]
    assert data["provenance"][0]["command"] == report["command"]


def test_crops_are_at_equal_bytes(folder: Path) -> None:
    crops = data_of(folder / "page.html")["crops"]
    assert {crop["item"] for crop in crops} == {"face.png", "suit.png", "flag.png"}
    for crop in crops:
        original, jpeg, webp = crop["views"]
        assert (original["codec"], original["psnr"]) == ("original", None)
        assert (original["width"], original["height"]) == (128, 112)
        for view in (jpeg, webp):
            assert 0.8 * crop["budget"] < view["bytes"] <= crop["budget"]
        assert webp["psnr"] > jpeg["psnr"]
        assert original["src"].startswith("data:image/png;base64,")


def test_text_of_files_cannot_leave_the_data_block(folder: Path) -> None:
    text = (folder / "page.html").read_text()
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert data_of(folder / "page.html")["curves"][2]["source"] == "a </script> paper"
    assert text.count("</script>") == 2


def test_the_page_names_no_other_resource(folder: Path) -> None:
    text = (folder / "page.html").read_text()
    head = text[: text.index('id="data"')]
    assert not re.search(r"https?://|<link|src=|@import|url\(", head)
    assert "default-src 'none'" in head


def test_what_cannot_be_shown_is_said_and_the_rest_is(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    report = json.loads((folder / "out.json").read_text())
    report["sources"] = {item: f"gone/{item}" for item in report["sources"]}
    (tmp_path / "out.json").write_text(json.dumps(report))
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "out.json"), "-o", str(page)]) == 0
    shown = capsys.readouterr()
    assert "the source is not at gone" in shown.err
    assert "say where with --media" in shown.err
    assert data_of(page)["crops"] == []
    again = ["report", str(tmp_path / "out.json"), "--media", str(folder / "media")]
    assert main([*again, "--crops", "1", "--crop", "8,16,40,24", "-o", str(page)]) == 0
    (crop,) = data_of(page)["crops"]
    assert crop["title"] == "40 x 24 pixels at (8, 16)"
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "face.png").write_bytes((folder / "media" / "suit.png").read_bytes())
    capsys.readouterr()
    assert main([*again[:2], "--media", str(tmp_path / "media"), "-o", str(page)]) == 0
    assert "face.png has changed since it was evaluated" in capsys.readouterr().err


def test_mistakes_are_one_line_and_exit_1(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    out = str(folder / "out.json")
    for arguments, message in (
        ([str(tmp_path / "no.json"), "-o", str(tmp_path / "p.html")], "No such file"),
        ([out, "-o", str(tmp_path / "p.png")], "ends in .html"),
        ([out, "-o", str(tmp_path / "none" / "p.html")], "does not exist"),
        ([out, "--anchor", "vvc", "-o", str(tmp_path / "p.html")], "got 'vvc'"),
        ([out, "--crops", "-1", "-o", str(tmp_path / "p.html")], "--crops: expected at least 0"),
        ([out, "--bpp", "nan", "-o", str(tmp_path / "p.html")], "--bpp: expected a number above 0"),
    ):
        assert main(["report", *arguments]) == 1
        shown = capsys.readouterr()
        assert len(shown.err.splitlines()) == 1
        assert message in shown.err
    assert list(tmp_path.iterdir()) == []


def test_a_page_without_measurements_or_times_is_made(tmp_path: Path) -> None:
    curve = Curve("only", (0.1, 0.2, 0.3), (28.0, 30.0, 31.0), published=True)
    size = write_page(tmp_path / "p.html", page_data([curve], curve, [], title="A & B {{data}}"))
    assert size == (tmp_path / "p.html").stat().st_size
    assert "<title>A &amp; B {{data}}</title>" in (tmp_path / "p.html").read_text()


def test_a_result_without_any_quality_is_refused_with_the_reason(
    photos: list[Path], tmp_path: Path, capsys: Capture
) -> None:
    evaluate(photos, [StepCodec(qualities=(1,))], out=tmp_path / "out.json")
    page = tmp_path / "p.html"
    assert main(["report", str(tmp_path / "out.json"), "-o", str(page)]) == 1
    assert "got none: no error at all, so no PSNR, in a.png, b.png" in capsys.readouterr().err
    assert not page.exists()


# -- in a browser -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[Page]:
    """The report, open at desktop width."""
    if find_browser() is None:
        pytest.skip("no Chromium here: apt install chromium-headless-shell, or set CHROMIUM")
    with open_browser() as browser:
        browser.size(1280, 900)
        browser.open(folder / "page.html")
        yield browser


def column(page: Page, number: int) -> list[str]:
    cells: list[str] = page.run(
        f"[...document.querySelectorAll('#rows tbody tr')].map(r => r.cells[{number}].textContent)"
    )
    return cells


def centre(page: Page, selector: str) -> tuple[float, float]:
    """Scroll an element into view; its centre in the window."""
    box = page.run(
        f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
        "e.scrollIntoView({block: 'center', behavior: 'instant'});"
        "const b = e.getBoundingClientRect();"
        "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    return box[0], box[1]


def click(page: Page, selector: str) -> None:
    x, y = centre(page, selector)
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        page.mouse(kind, x, y)


def test_it_opens_without_a_network_and_without_a_complaint(page: Page) -> None:
    assert page.problems == []
    assert {url.split(":")[0] for url in page.requests} == {"file", "data"}
    assert sum(url.startswith("file:") for url in page.requests) == 1
    assert page.run("document.querySelectorAll('#rd polyline').length") == 3
    assert page.run("document.querySelectorAll('#decode polyline').length") == 2
    assert page.run("document.querySelectorAll('#rows tbody tr').length") == 24


def test_a_mark_tells_its_figures_under_the_pointer(page: Page) -> None:
    assert page.run("document.getElementById('tip').hidden")
    page.mouse("mouseMoved", *centre(page, "#rd circle.target"))
    text = page.run("document.getElementById('tip').textContent")
    assert re.fullmatch(r"jpeg\n\d\.\d{4} bpp\n\d\d\.\d{3} dB", text)
    assert not page.run("document.getElementById('tip').hidden")
    page.mouse("mouseMoved", 1, 1)
    assert page.run("document.getElementById('tip').hidden")


def test_a_name_hides_its_curve_and_shows_it_again(page: Page) -> None:
    for shown, pressed in ((2, "false"), (3, "true")):
        click(page, "#legend button[data-curve=webp]")
        assert page.run("document.querySelectorAll('#rd polyline').length") == shown
        state = "document.querySelector('#legend [data-curve=webp]').ariaPressed"
        assert page.run(state) == pressed


def test_the_table_sorts_by_numbers_and_by_names(page: Page) -> None:
    heads = page.run("[...document.querySelectorAll('#rows th')].map(h => h.textContent)")
    number = heads.index("bytes")
    button = f"#rows th:nth-child({number + 1}) button"
    click(page, button)
    values = [int(text) for text in column(page, number)]
    assert values == sorted(values)
    assert len(set(values)) > 20
    sort = f"document.querySelectorAll('#rows th')[{number}].ariaSort"
    assert page.run(sort) == "ascending"
    click(page, button)
    assert [int(text) for text in column(page, number)] == values[::-1]
    assert page.run(sort) == "descending"
    click(page, "#rows th:nth-child(1) button")
    assert column(page, 0) == ["face.png"] * 8 + ["flag.png"] * 8 + ["suit.png"] * 8


def test_the_filter_keeps_the_rows_that_match(page: Page) -> None:
    click(page, "#filter")
    page.call("Input.insertText", text="flag.png WEBP")
    assert column(page, 1) == ["webp"] * 4
    page.run("document.getElementById('filter').value = ''")
    page.run("document.getElementById('filter').dispatchEvent(new Event('input'))")
    assert len(column(page, 1)) == 24


def edge(page: Page) -> float:
    """Where the edge between the two pictures is, in percent of their width."""
    x = "const s = document.querySelector('.split').getBoundingClientRect();"
    x += "const e = document.querySelector('.edge').getBoundingClientRect();"
    value: float = page.run(f"(() => {{ {x} return 100 * (e.x + 1 - s.x) / s.width; }})()")
    return value


def test_the_slider_moves_the_edge_by_key_and_by_pointer(page: Page) -> None:
    assert edge(page) == pytest.approx(50, abs=0.2)
    click(page, ".slide")
    page.press("End", 35)
    assert edge(page) == pytest.approx(100, abs=0.2)
    page.press("Home", 36)
    assert edge(page) == pytest.approx(0, abs=0.2)
    x, y = centre(page, ".split")
    page.mouse("mouseMoved", x, y)
    page.mouse("mousePressed", x, y)
    width = page.run("document.querySelector('.split').clientWidth")
    page.mouse("mouseMoved", x + width / 4, y)
    assert edge(page) == pytest.approx(75, abs=1)
    page.mouse("mouseReleased", x + width / 4, y)
    page.mouse("mouseMoved", x - width / 4, y)
    assert edge(page) == pytest.approx(75, abs=1)  # let go: it stays


def test_the_edge_parts_two_different_pictures(page: Page) -> None:
    page.run(
        "(() => { const s = document.querySelectorAll('.pick select');"
        "s[1].value = 0; s[2].value = 1;"
        "s[1].dispatchEvent(new Event('change')); })()"
    )
    centre(page, ".split")
    shots = []
    for key, code in (("Home", 36), ("End", 35)):
        page.run("document.querySelector('.slide').focus()")
        page.press(key, code)
        frame = page.run(
            "(() => { const b = document.querySelector('.split').getBoundingClientRect();"
            "return [b.x, b.y, b.width, b.height]; })()"
        )
        x, y, w, h = (round(v) for v in frame)
        shot = np.array(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
        shots.append(shot[y + 9 : y + h - 9, x + 9 : x + w - 9])
    jpeg, original = shots
    assert jpeg.shape == original.shape
    difference = np.abs(jpeg - original).mean()
    assert 0.5 < difference < 30  # the same picture, coded and not
    caption = page.run("document.querySelector('.captions').textContent")
    assert caption.startswith("originaljpeg: ")
    assert re.search(r"[\d,]+ bytes, \d\d\.\d\d dB \(quality \d+\)", caption)


@pytest.mark.parametrize(("width", "phone"), [(1280, False), (390, True)])
def test_the_layout_fits_desktop_and_phone(
    page: Page, folder: Path, width: int, phone: bool
) -> None:
    page.size(width, 844, phone=phone)
    page.open(folder / "page.html")
    assert page.run("document.documentElement.scrollWidth") <= width
    # Nothing sticks out sideways, save what lies in a box that scrolls.
    outside = page.run(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, pre'))"
        f".filter(e => e.getBoundingClientRect().right > {width} + 1).map(e => e.tagName)"
    )
    assert outside == []
    charts = page.run(
        "[...document.querySelectorAll('.chart svg')].map(s => s.getBoundingClientRect().width)"
    )
    assert len(charts) == 2
    assert all(0.75 * min(width, 1088) < w <= width for w in charts)
    sizes = page.run(
        "[...document.querySelectorAll('.chart text')].map(t => t.getBoundingClientRect().height)"
    )
    assert min(sizes) > 8  # the figures on the axes can be read
    height = page.run("document.documentElement.scrollHeight")
    page.size(width, height, phone=phone)
    shot = np.array(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    page.size(width, 844, phone=phone)
    assert shot.shape[:2] == (height, width)
    # Every section shows more than its background.
    boxes = page.run(
        "[...document.querySelectorAll('section')].map(s => { const b = s.getBoundingClientRect();"
        "return [b.top + scrollY, b.bottom + scrollY]; })"
    )
    assert len(boxes) == 6
    for top, bottom in boxes:
        part = shot[round(top) : round(bottom)]
        inked = (np.abs(part - part[-1, 0]).sum(axis=-1) > 60).mean()
        assert 0.003 < inked < 0.9
    assert page.problems == []


def test_curves_that_are_all_hidden_leave_a_word(page: Page, folder: Path) -> None:
    page.open(folder / "page.html")
    page.run("[...document.querySelectorAll('#legend button')].forEach(b => b.click())")
    assert page.run("document.getElementById('rd').textContent") == "Every curve is hidden."
    assert page.problems == []


def test_names_are_text_and_never_markup(page: Page, folder: Path) -> None:
    page.open(folder / "page.html")
    names = page.run("[...document.querySelectorAll('#legend button')].map(b => b.textContent)")
    assert names[2] == "a <script>alert(1)</script> codec (published)"
    assert page.run("document.querySelectorAll('script').length") == 2


def test_a_broken_result_is_not_drawn(tmp_path: Path, capsys: Capture) -> None:
    broken = {
        "schema": 2,
        "kind": "image",
        "averaged_items": ["a"],
        "codecs": [
            {
                "name": "x",
                "description": "",
                "results": {"bpp": [1], "psnr-rgb": [30]},
                "items": [{"item": "a"}],
            }
        ],
    }
    write_report(tmp_path / "x.json", broken)
    assert main(["report", str(tmp_path / "x.json"), "-o", str(tmp_path / "p.html")]) == 1
    assert "the table of items is damaged" in capsys.readouterr().err
    assert main(["plot", str(tmp_path / "x.json"), "-o", str(tmp_path / "p.png")]) == 1
