"""The project's own codec through the interface of all codecs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from codec.evaluate import coordx
from codec.evaluate.coordx import CoordXCodec
from codec.evaluate.metrics import psnr
from formats.errors import InputError
from tests.conftest import REPOSITORY, picture


@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (3, 8), (4, 8), (3, 16)])
def test_bytes_decode_to_the_kind_of_picture_they_came_from(channels: int, bits: int) -> None:
    source = picture(16, 20, channels, bits)
    codec = CoordXCodec(steps=150, device="cpu")
    data = codec.encode(source, 1e-4)
    back = codec.decode(data)
    assert back.shape == source.shape
    assert back.dtype == source.dtype
    assert psnr(source, back, bits) > 15


def test_settings_reach_the_bytes() -> None:
    source = picture(16, 20)
    base = CoordXCodec(steps=20, device="cpu")
    data = base.encode(source, 1e-3)
    assert base.encode(source, 1e-3) == data
    assert CoordXCodec(steps=20, device="cpu", seed=1).encode(source, 1e-3) != data
    assert CoordXCodec(steps=40, device="cpu").encode(source, 1e-3) != data
    assert CoordXCodec(steps=20, device="cpu", split="xy").encode(source, 1e-3) != data


def test_the_command_names_every_setting() -> None:
    command = CoordXCodec(effort=3, seed=7, split="xy", device="cpu").command(0.004)
    for part in ("lam=0.004", "effort=3", "seed=7", "split='xy'", "device='cpu'"):
        assert part in command


def test_names_carry_effort_and_what_is_not_the_default() -> None:
    assert CoordXCodec().name == "coordx-e4"
    assert CoordXCodec(effort=2, seed=3).name == "coordx-e2-seed3"
    assert CoordXCodec(steps=50, split="xy").name == "coordx-50steps-xy"


def test_the_version_changes_with_the_source_of_the_codec_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("codec/fit/loop.py", "codec/evaluate/coordx.py", "codec/cli/eval.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one")
    monkeypatch.setattr(coordx, "__file__", str(tmp_path / "codec/evaluate/coordx.py"))
    before = CoordXCodec().version()
    (tmp_path / "codec/cli/eval.py").write_text("two")
    assert CoordXCodec().version() == before
    (tmp_path / "codec/fit/loop.py").write_text("two")
    assert CoordXCodec().version() != before


@pytest.mark.parametrize("lambdas", [(), (0.01, 0.01), (0.0,), (float("nan"),)])
def test_sweeps_that_make_no_sense_are_refused(lambdas: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="lambda"):
        CoordXCodec(qualities=lambdas)


def test_naming_the_codec_does_not_load_torch() -> None:
    code = (
        "import sys, codec.evaluate as e; c = e.parse_codecs(['coordx,jpeg'])\n"
        "c[0].command(0.01)\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
