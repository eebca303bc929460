"""The published JPEG curve: programs are really run, curves are found or refused."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from codec.evaluate import Jpeg
from formats.errors import InputError
from tests.conftest import picture

# Stand-ins for the two programs: Pillow, which answers what the codec under evaluation answers.
PROGRAMS = {
    "cjpeg": "image.save(sys.stdout.buffer, 'JPEG', quality=int(sys.argv[2]), subsampling='4:2:0')",
    "djpeg": "image.save(sys.stdout.buffer, 'PPM')",
}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return importlib.import_module("published_jpeg")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name, line in PROGRAMS.items():
        program = tmp_path / name
        program.write_text(
            f"#!{sys.executable}\nimport io, sys\nfrom PIL import Image\n"
            f"image = Image.open(io.BytesIO(sys.stdin.buffer.read()))\n{line}\n"
        )
        program.chmod(0o755)
    return tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are scripts with a #! line")
def test_programs_and_pillow_are_measured_alike(tool: ModuleType, programs: Path) -> None:
    images = [picture(24, 32), picture(40, 16)]
    by_pillow = tool.mean_point(images, Jpeg(scan="baseline"), 30)
    assert tool.mean_point(images, tool.Programs(programs), 30) == by_pillow
    assert tool.mean_point(images, tool.Programs(programs), 90) > by_pillow


def test_programs_that_fail_or_are_missing(tool: ModuleType, programs: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)djpeg: .*UnidentifiedImageError"):
        tool.Programs(programs).decode(b"no JPEG")
    (programs / "cjpeg").unlink()
    with pytest.raises(InputError, match="expected the program cjpeg"):
        tool.Programs(programs).encode(picture(8, 8), 50)


def test_the_published_curve_is_found_among_others(tool: ModuleType, tmp_path: Path) -> None:
    rates = [float(n) for n in range(1, 20)]
    curve = {"bpp": rates, "psnr": [20 + rate for rate in rates]}
    collection = {"JPEG2000": curve, "WebP": curve, "JPEG (Pillow)": curve}
    path = tmp_path / "curves.json"
    path.write_text(json.dumps(collection))
    assert np.allclose(tool.published_curve(path), [(rate, 20 + rate) for rate in rates])
    path.write_text(json.dumps({"WebP": curve, "JPEG": {"bpp": rates[:4], "psnr": rates[:4]}}))
    with pytest.raises(InputError, match="expected a JPEG curve of 19 points"):
        tool.published_curve(path)
