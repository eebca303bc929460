"""Plots: the right kind of file, the right legend, no state left in matplotlib."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec.evaluate.curves import Curve
from codec.evaluate.plot import plot_curves
from formats.errors import InputError, MissingLibraryError, OutputError
from tests.conftest import REPOSITORY

pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")

RATES = (0.1, 0.2, 0.4, 0.8)
BASE = Curve("base", RATES, (28.0, 31.0, 34.0, 37.0), (0.9, 0.95, 0.98, 0.99))
HALF = Curve("half", tuple(r / 2 for r in RATES), BASE.psnr)
FAR = Curve("far away", RATES, (48.0, 51.0, 54.0, 57.0))
FEW = Curve("few", (0.3,), (33.0,))


def words(path: Path) -> str:
    """The text of an SVG, which matplotlib keeps in comments beside the glyphs."""
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_suffix_chooses_the_kind_of_file(tmp_path: Path, suffix: str, magic: bytes) -> None:
    path = tmp_path / f"rd.{suffix}"
    plot_curves([BASE, HALF], path)
    assert path.read_bytes().startswith(magic)
    assert list(tmp_path.iterdir()) == [path]


def test_the_picture_shows_curves_on_white(tmp_path: Path) -> None:
    plot_curves([BASE, HALF, FAR], tmp_path / "rd.png")
    with Image.open(tmp_path / "rd.png") as image:
        samples = np.array(image.convert("RGB"))
    assert min(samples.shape[:2]) >= 600
    assert (samples == 255).all(axis=-1).mean() > 0.8
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):  # the second and the third curve
        assert (samples == colour).all(axis=-1).sum() > 200


def test_the_legend_holds_bd_rates_against_the_anchor(tmp_path: Path) -> None:
    path = tmp_path / "rd.svg"
    plot_curves([HALF, BASE, FAR, FEW], path, anchor="base", title="Two & more")
    text = words(path)
    for expected in (
        "BD-rate against base",
        "base (anchor)",
        "half  -50.0 %",
        "far away  (no overlap)",
        "few  (no BD-rate)",
        "bits per pixel",
        "Two &amp; more",
    ):
        assert f"<!-- {expected} -->" in text
    plot_curves([HALF, BASE], path)
    assert "<!-- base  +100.0 % -->" in words(path)  # the first is the anchor by default


def test_the_same_curves_give_the_same_bytes(tmp_path: Path) -> None:
    for suffix in ("png", "pdf"):
        paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
        for path in paths:
            plot_curves([BASE, HALF], path)
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_files_hold_no_date(tmp_path: Path) -> None:
    for suffix, mark in (("pdf", b"/CreationDate"), ("svg", b"dc:date")):
        path = tmp_path / f"rd.{suffix}"
        plot_curves([BASE], path)
        assert mark not in path.read_bytes()


def test_ms_ssim_is_drawn_for_those_that_have_it(tmp_path: Path) -> None:
    path = tmp_path / "rd.svg"
    plot_curves([HALF, BASE], path, "ms-ssim")
    assert "MS-SSIM" in words(path)
    assert "half" not in words(path)
    with pytest.raises(InputError, match="at least one curve with ms-ssim"):
        plot_curves([HALF], path, "ms-ssim")


def test_what_cannot_be_drawn_or_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"ends in \.png, \.svg, \.pdf"):
        plot_curves([BASE], tmp_path / "rd.jpg")
    with pytest.raises(OutputError, match="does not exist"):
        plot_curves([BASE], tmp_path / "nowhere" / "rd.png")
    with pytest.raises(InputError, match="'nobody'"):
        plot_curves([BASE], tmp_path / "rd.png", anchor="nobody")
    with pytest.raises(InputError, match="psnr-yuv, vmaf, lpips, got 'ssim'"):
        plot_curves([BASE], tmp_path / "rd.png", "ssim")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least one curve"):
        plot_curves([], tmp_path / "rd.png")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'coordx-codec\[plots\]'"):
        plot_curves([BASE], tmp_path / "rd.png")


def test_pyplot_and_its_global_state_are_not_loaded(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom codec.evaluate import Curve, plot_curves\n"
        f"plot_curves([Curve('a', (1.0, 2.0), (3.0, 4.0))], {str(tmp_path / 'rd.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
