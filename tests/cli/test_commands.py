"""The command line as a user meets it: results, pipes, clear errors, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import codec
from codec.cli import main
from codec.decoder import Image
from codec.media import ImageMedia, open_video, read_image, write_image
from formats.container import write_container
from formats.core import CoreConfig
from formats.unit import pack_core_unit
from tests.conftest import REPOSITORY, SAMPLES, clip, picture
from tests.formats.factory import core_grids, core_tensors, image_header

FAST = ["--steps", "20", "--device", "cpu", "--quiet"]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    write_image(path, ImageMedia(picture()))
    return path


@pytest.fixture
def packed(photo: Path) -> Path:
    path = photo.with_suffix(".crdx")
    assert main(["encode", str(photo), *FAST]) == 0
    return path


@pytest.fixture(scope="session")
def packed_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.crdx"
    rate = ["--target-bpp", "0.03", "--gop", "20", "--steps", "10"]
    source = str(SAMPLES / "bunny.mp4")
    assert main(["encode", source, str(path), *rate, "--device", "cpu", "--quiet"]) == 0
    return path


def run(*arguments: str | Path, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "codec", *map(str, arguments)],
        input=data,
        capture_output=True,
        check=False,
        cwd=REPOSITORY,
    )


def test_encode_info_verify_decode(
    photo: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(packed)]) == 0
    shown = capsys.readouterr().out
    assert "32x24" in shown
    assert "core fusion" in shown
    assert "tail.weight" in shown
    assert "level 0" in shown
    assert main(["verify", str(packed)]) == 0
    assert "ok" in capsys.readouterr().out
    back = photo.with_name("back.png")
    assert main(["decode", str(packed), str(back), "--device", "cpu"]) == 0
    assert np.array_equal(read_image(back).samples, codec.decode(packed, device="cpu"))


def test_info_tells_colour_grids_from_levels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CoreConfig(levels=5, colour=3, colour_level=1, tile=8, width=3, hidden=2)
    header = image_header(network=config, height=300, width=20)
    grids = core_grids(config, 300, 20)
    payload, seen = pack_core_unit(0, config, core_tensors(config, 3), grids, 300, 20)
    path = tmp_path / "colour.crdx"
    path.write_bytes(write_container(header, [payload], [1]))
    assert main(["info", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "5 levels + 3 colour grids" in shown
    names = [line[4:20].split() for line in shown.splitlines() if line.startswith("    level ")]
    assert names == [
        *(["level", str(level)] for level in range(5)),
        *(["level", str(level), "colour"] for level in (1, 2, 3)),
    ]
    assert main(["info", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["latents"]
    assert [entry["level"] for entry in found] == config.grid_levels
    assert [entry["colour"] for entry in found] == [False] * 5 + [True] * 3
    assert [entry["latents"] for entry in found] == [grid.size for grid in seen]
    assert [entry["zeros"] for entry in found] == [int((grid == 0).sum()) for grid in seen]
    assert all(entry["bits"] > 0 for entry in found)


def test_json_answers_are_strict_json(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = photo.with_suffix(".crdx")
    assert main(["encode", str(photo), "--json", "--steps", "20", "--quiet"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert stats["bytes"] == out.stat().st_size
    assert stats["network"]["family"] == "core"
    assert main(["info", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(c["bytes"] for c in found["chunks"]) + 6 == found["bytes"] == stats["bytes"]
    weights = sum(t["weights"] for t in found["tensors"].values())
    assert weights == found["network"]["weights"] == stats["parameters"]
    assert main(["decode", str(out), str(photo.with_name("b.png")), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 1


def test_crop_and_scale(packed: Path, tmp_path: Path) -> None:
    full = codec.decode(packed, device="cpu")
    out = tmp_path / "part.png"
    base = ["decode", str(packed), str(out), "--device", "cpu", "-y"]
    assert main([*base, "--crop", "4,6,10,8"]) == 0
    assert np.array_equal(read_image(out).samples, full[6:14, 4:14])
    assert main([*base, "--scale", "2.5"]) == 0
    assert read_image(out).samples.shape == (60, 80, 3)


def test_pipes(photo: Path) -> None:
    encoded = run("encode", "-", "-", *FAST, data=photo.read_bytes())
    assert encoded.returncode == 0, encoded.stderr
    assert encoded.stdout[:5] == b"\x8aCRDX"
    decoded = run("decode", "-", "-", "--quiet", data=encoded.stdout)
    assert read_image(decoded.stdout).samples.shape == (24, 32, 3)
    raw = run("decode", "-", "-", "--format", "raw", "--quiet", data=encoded.stdout)
    assert len(raw.stdout) == 24 * 32 * 3
    assert raw.stderr == b""


def test_a_clip_decodes_to_every_kind_of_output(packed_clip: Path, tmp_path: Path) -> None:
    full = codec.decode(packed_clip, device="cpu")
    video = ["decode", str(packed_clip), "--device", "cpu", "--quiet"]
    assert main([*video, str(tmp_path / "full.mp4")]) == 0
    with open_video(tmp_path / "full.mp4") as opened:
        assert opened.info.rate == 25
        assert opened.audio() is not None  # the sound of the source
        frames = np.stack(list(opened))
    assert frames.shape == full.shape

    def coarse(samples: np.ndarray) -> np.ndarray:
        """Means of 8x8 blocks: what is left of an unfitted network's noise in 4:2:0."""
        return samples.reshape(48, 18, 8, 32, 8, 3).mean((2, 4))

    assert np.abs(coarse(frames) - coarse(full)).mean() < 4
    assert main([*video, str(tmp_path / "part.mkv"), "--frames", "18:23"]) == 0
    with open_video(tmp_path / "part.mkv") as opened:  # lossless
        assert np.array_equal(np.stack(list(opened)), full[18:23])
    one = [str(tmp_path / "one.png"), "--frames", "30", "--crop", "10,20,64,48"]
    assert main([*video, *one]) == 0
    assert np.array_equal(read_image(tmp_path / "one.png").samples, full[30, 20:68, 10:74])
    piped = run("decode", packed_clip, "-", "--frames", ":2", "--quiet", "--device", "cpu")
    assert piped.stdout.startswith(b"YUV4MPEG2 W256 H144 F25:1")


def test_a_closed_pipe_ends_quietly(packed_clip: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "codec", "decode", str(packed_clip), "-", "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(100)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert b"Traceback" not in errors


def failure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail with one clear line; returns that line."""
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("coordx: error: ")
    return lines[0]


def test_bad_inputs_are_one_clear_line(
    tmp_path: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.png"
    text.write_text("this is no picture")
    empty = tmp_path / "empty.png"
    empty.touch()
    half = tmp_path / "half.png"
    half.write_bytes((tmp_path / "photo.png").read_bytes()[:60])
    data = packed.read_bytes()
    cut, flipped = tmp_path / "cut.crdx", tmp_path / "flipped.crdx"
    cut.write_bytes(data[:-20])
    flipped.write_bytes(data[:60] + bytes([data[60] ^ 4]) + data[61:])
    version = tmp_path / "version.crdx"
    version.write_bytes(data[:5] + b"\x07" + data[6:])
    zero = tmp_path / "zero.crdx"
    zero.touch()
    out = tmp_path / "out"
    cases = [
        (["encode", str(tmp_path / "missing.png")], "no such file"),
        (["encode", str(text), str(out)], "expected an image (PNG, JPEG"),
        (["encode", str(empty), str(out)], "empty"),
        (["encode", str(half), str(out)], "half.png"),
        (["encode", "."], "expected the name of a file"),
        (["encode", ""], "expected the name of a file"),
        (["encode", str(tmp_path / "photo.png"), str(tmp_path / "photo.png"), "-y"], "the input"),
        (["decode", str(packed), str(packed), "-y"], "the input itself"),
        (["encode", str(tmp_path / "photo.png"), str(tmp_path / "o.JPG")], "the name of a .crdx"),
        (["encode", str(tmp_path), str(out)], "folder"),
        (["encode", str(packed), str(out)], "it is a .crdx already"),
        (["decode", str(tmp_path / "missing.crdx"), str(out)], "No such file"),
        (["decode", str(text), str(out)], "expected a .crdx file (first bytes 8a 43 52 44 58)"),
        (["decode", str(cut), str(out)], "cut.crdx: chunk"),
        (["decode", str(flipped), str(out) + ".png"], "CRC-32"),
        (["decode", str(version), str(out)], "version 7 of the .crdx format"),
        (["decode", str(zero), str(out)], "the input is empty"),
        (["info", str(cut)], "are left of the file's"),
        (["decode", str(packed), str(tmp_path / "no" / "x.png")], "does not exist"),
        (["decode", str(packed), str(tmp_path / "x.xyz")], "'.xyz': expected .png"),
        (["decode", str(packed), str(out) + ".png", "--format", "raw"], "for standard output"),
        (["decode", str(packed), str(out)], "expected a suffix such as .png"),
        (["decode", str(packed), str(out) + ".png", "--crop", "0,0,99,9"], "inside 32x24"),
        (["decode", str(packed), str(out) + ".png", "--frames", "0:1"], "only videos have frames"),
        (["decode", str(packed), str(out) + ".png", "--scale", "0"], "scale: expected"),
        (["decode", str(packed), str(out) + ".png", "--device", "abacus"], "device: expected"),
        (["encode", str(tmp_path / "photo.png"), str(out), "-q", "300"], "expected 0..100"),
        (["encode", str(tmp_path / "photo.png"), str(out), "--effort", "0"], "expected 1..9"),
        (["encode", str(tmp_path / "photo.png"), str(out), "--split", "z"], "split: expected"),
        (["encode", str(tmp_path / "photo.png"), str(tmp_path / "no" / "x")], "does not exist"),
    ]
    before = sorted(tmp_path.iterdir())
    for arguments, words in cases:
        line = failure(arguments, capsys)
        assert words in line, (arguments, line)
        assert "Traceback" not in line
    assert sorted(tmp_path.iterdir()) == before  # no partial output, no temporary file


@pytest.mark.parametrize(
    ("stream", "name", "words"),
    [
        ("encoded_rgba_33x33", "out.jpg", "cannot write alpha to .jpg"),
        ("encoded_grey16_19x70", "out.webp", "cannot write 16-bit samples to .webp"),
        ("encoded_rgb_1x1", "out.pgm", "cannot write colour to .pgm"),
    ],
)
def test_what_a_file_cannot_hold_is_said_before_the_decode(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    stream: str,
    name: str,
    words: str,
) -> None:
    monkeypatch.setattr(Image, "read", lambda *_, **__: pytest.fail("it was decoded"))
    packed = REPOSITORY / "tests" / "conformance" / "core" / f"{stream}.crdx"
    assert words in failure(["decode", str(packed), str(tmp_path / name)], capsys)


def test_absurd_dimensions_are_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import zlib

    from tests.formats.factory import image_header

    payload = bytearray(image_header(width=16384, height=16383).pack())
    big = payload.replace(b"\x80\x80\x01", b"\xff\xff\xff\xff\x07")
    framed = b"H" + bytes([len(big)]) + bytes(big)
    bomb = tmp_path / "bomb.crdx"
    bomb.write_bytes(b"\x8aCRDX\x01" + framed + zlib.crc32(framed).to_bytes(4, "little"))
    started = time.perf_counter()
    line = failure(["decode", str(bomb), str(tmp_path / "x.png")], capsys)
    assert "at most 65535 is accepted" in line
    assert time.perf_counter() - started < 5


def test_verify_names_every_damaged_file(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.crdx"
    bad.write_bytes(packed.read_bytes()[:-1])
    assert main(["verify", str(bad), str(packed), str(tmp_path / "none")]) == 1
    captured = capsys.readouterr()
    assert f"{packed}: ok" in captured.out
    assert "bad.crdx" in captured.err
    assert "none" in captured.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["compress"],
        ["encode"],
        ["encode", "a.png", "-q", "high"],
        ["encode", "a.png", "-q", "5", "--lambda", "1"],
        ["decode", "a.crdx", "--crop", "1,2,3"],
        ["decode", "a.crdx", "--frames", "x:y"],
        ["encode", "a.png", "-y", "--no-overwrite"],
    ],
)
def test_wrong_usage_exits_with_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert "usage: coordx" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["encode", "decode", "info", "verify", "eval", "plot"])
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    assert f"usage: coordx {command}" in capsys.readouterr().out


def test_existing_outputs_are_kept_unless_allowed(
    photo: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = packed.read_bytes()
    assert "it exists" in failure(["encode", str(photo), *FAST[:-1], "--seed", "5"], capsys)
    assert packed.read_bytes() == before
    assert "it exists" in failure(["encode", str(photo), "--no-overwrite"], capsys)
    assert main(["encode", str(photo), *FAST, "-y", "--seed", "5"]) == 0
    assert packed.read_bytes() != before


def test_one_frame_goes_into_an_image_and_many_do_not(
    packed_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = failure(["decode", str(packed_clip), str(tmp_path / "x.png")], capsys)
    assert "an image holds one frame, 48 were asked for" in line


def test_an_interrupted_encode_leaves_a_state_and_resumes(tmp_path: Path) -> None:
    source, out = tmp_path / "big.png", tmp_path / "big.crdx"
    write_image(source, ImageMedia(np.tile(clip(1)[0], (8, 8, 1))))
    command = [sys.executable, "-m", "codec", "encode", str(source), str(out)]
    options = ["--steps", "400", "--device", "cpu"]
    process = subprocess.Popen(
        command + options,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    seen = b""
    while b"dB" not in seen:  # the fit is under way
        got = process.stderr.read1(4096)  # type: ignore[attr-defined]
        assert got, seen
        seen += got
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 130
    assert "add --resume to go on" in rest
    assert not out.exists()
    state = tmp_path / "big.crdx.state"
    assert state.exists()
    assert main(["encode", str(source), str(out), *options, "--resume", "--quiet"]) == 0
    assert not state.exists()
    resumed = out.read_bytes()
    assert main(["encode", str(source), str(out), *options, "-y", "--quiet"]) == 0
    # Equal up to the number of threads of the two processes, which may differ here.
    assert abs(len(resumed) - out.stat().st_size) < 0.2 * len(resumed)


def test_a_state_is_not_overwritten_by_accident(
    photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = photo.with_name("photo.crdx.state")
    state.write_text("mine")
    line = failure(["encode", str(photo), "--steps", "20"], capsys)
    assert "--resume goes on" in line
    assert state.read_text() == "mine"
    assert "not a saved encoder state" in failure(["encode", str(photo), "--resume"], capsys)
    assert state.read_text() == "mine"


def test_a_target_that_is_missed_is_said(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encode", str(photo), "--target-psnr", "80", "--steps", "12"]) == 0
    assert "80 dB were not reached" in capsys.readouterr().err


def test_unexpected_errors_show_no_traceback_unless_asked(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("codec.api.encode_media", broken)
    assert "not enough memory" in failure(["encode", str(photo), *FAST], capsys)


@pytest.mark.parametrize(("switch", "said"), [("0", "none"), ("avx1024", "expected 0 or one of")])
def test_the_version_tells_which_machine_code_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], switch: str, said: str
) -> None:
    monkeypatch.setenv("COORDX_NATIVE", switch)
    monkeypatch.setenv("COORDX_KERNELS", "0")
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    printed = capsys.readouterr()
    assert said in printed.out + printed.err
    assert (stopped.value.code == 0) == (switch == "0")
    assert codec.__version__ in printed.out or stopped.value.code
