"""JPEG XL, HEVC intra and VVC intra make real streams that come back as pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codec.evaluate import ffmpeg, stills
from codec.evaluate.interface import ImageCodec, with_shape
from codec.evaluate.metrics import psnr
from codec.evaluate.stills import HevcIntra, JpegXl, VvcIntra
from codec.media.planes import PlanarFormat
from formats.errors import InputError, MediaError, MissingLibraryError
from tests.conftest import picture

CODECS = [JpegXl(effort=3), HevcIntra(preset="ultrafast"), VvcIntra(preset="faster")]
ALL = pytest.mark.parametrize("codec", CODECS, ids=["jxl", "hevc", "vvc"])
# Worst to best, for each kind of point.
POINTS = {"quality": (30, 60, 90), "qp": (42, 32, 22)}


@ALL
def test_points_buy_psnr_with_bytes(codec: ImageCodec, photo: np.ndarray) -> None:
    files = [codec.encode(photo, q) for q in POINTS[codec.point]]
    decoded = [codec.decode(data) for data in files]
    assert [d.shape for d in decoded] == [photo.shape] * 3
    sizes, values = [len(data) for data in files], [psnr(photo, d) for d in decoded]
    assert sizes == sorted(sizes)
    assert values == sorted(values)
    assert values[0] > 24
    assert values[2] > 35


@ALL
def test_encoding_twice_gives_the_same_bytes(codec: ImageCodec, photo: np.ndarray) -> None:
    q = POINTS[codec.point][1]
    assert codec.encode(photo, q) == codec.encode(photo, q)


@pytest.mark.parametrize("preset", ["faster", "medium"])
def test_what_an_encoder_prints_is_not_in_the_stream(preset: str, photo: np.ndarray) -> None:
    data = VvcIntra(preset=preset).encode(photo, 32)
    assert b"onfiguration" not in data


@ALL
def test_odd_sizes_and_greyscale_come_back(codec: ImageCodec, photo: np.ndarray) -> None:
    q = POINTS[codec.point][2]
    for source in (photo[:45, :67], photo[:45, :67, 1:2], photo[:64, :33]):
        back = with_shape(codec.decode(codec.encode(source, q)), source.shape)
        assert psnr(source, back) > 30


def test_hevc_in_420_has_fewer_bytes_and_takes_odd_sizes(photo: np.ndarray) -> None:
    full, half = HevcIntra(), HevcIntra(chroma="4:2:0")
    assert (full.name, half.name) == ("hevc-intra", "hevc-intra-420")
    assert len(half.encode(photo, 27)) < len(full.encode(photo, 27))
    source = photo[:45, :67]
    assert with_shape(half.decode(half.encode(source, 27)), source.shape).shape == source.shape
    assert psnr(photo, full.decode(full.encode(photo, 17))) > psnr(
        photo, half.decode(half.encode(photo, 17))
    )


def test_jxl_keeps_alpha() -> None:
    rgba = picture(40, 50, channels=4)
    rgba[..., 3] = np.where(np.arange(50) < 25, 90, 200)
    codec = JpegXl(effort=3)
    assert psnr(rgba, codec.decode(codec.encode(rgba, 95))) > 33


def test_jxl_refuses_colours_that_it_would_not_keep() -> None:
    rgba = picture(40, 50, channels=4)
    rgba[..., 3] = 255
    rgba[7, 9, 3] = 0
    with pytest.raises(InputError, match="the colours under transparent samples"):
        JpegXl(effort=3).encode(rgba, 95)


@pytest.mark.parametrize("codec", CODECS[1:], ids=["hevc", "vvc"])
def test_the_command_of_planes_makes_the_same_bytes(
    codec: HevcIntra | VvcIntra, photo: np.ndarray, tmp_path: Path
) -> None:
    q = POINTS[codec.point][1]
    height, width = photo.shape[:2]
    chroma = "444" if isinstance(codec, HevcIntra) else "420"
    layout = PlanarFormat(width, height, 10, chroma, 6, full_range=True, siting="left")
    (tmp_path / "SOURCE.yuv").write_bytes(layout.encode(stills._to_depth(photo)))
    program, *arguments = codec.command(q).replace("WIDTHxHEIGHT", f"{width}x{height}").split()
    assert program == "ffmpeg"
    ffmpeg.run(arguments, task="the command", folder=tmp_path)
    made = (tmp_path / arguments[-1]).read_bytes()
    assert made == codec.encode(photo, q)


@ALL
def test_what_the_codec_has_no_kind_for_is_refused(codec: ImageCodec) -> None:
    q = POINTS[codec.point][1]
    with pytest.raises(InputError, match="uint16"):
        codec.encode(picture(bits=16), q)
    with pytest.raises(InputError, match=r"\(24, 32, 2\)"):
        codec.encode(picture(channels=2), q)
    with pytest.raises(InputError, match="expected an integer"):
        codec.encode(picture(), 20.5)


@ALL
@pytest.mark.parametrize("bad", [b"", b"nonsense"])
def test_damaged_bytes_are_a_media_error(codec: ImageCodec, bad: bytes) -> None:
    with pytest.raises(MediaError, match=f"cannot decode {len(bad)} bytes"):
        codec.decode(bad)


@ALL
def test_commands_and_versions_name_the_library(codec: ImageCodec) -> None:
    library = codec.version().split(", ")[1]
    assert f"-c:v {library}" in codec.command(POINTS[codec.point][0])
    assert "-threads 1" in codec.command(POINTS[codec.point][0])


def test_an_ffmpeg_without_the_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "_listing", lambda what: frozenset())
    with pytest.raises(MissingLibraryError, match="without the encoder libvvenc"):
        VvcIntra().version()


def test_the_quality_scale_is_that_of_cjxl() -> None:
    # lib/jxl: quality 90 is distance 1, 100 is 0.1, 30 is 6.4.
    assert stills._distance(90) == pytest.approx(1.0)
    assert stills._distance(30) == pytest.approx(6.4)
    assert stills._distance(11) < 15


def test_ten_bits_lose_nothing_of_eight() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    wide = stills._to_depth(ramp)
    assert (wide.min(), wide.max()) == (0, 1023)
    assert np.array_equal((wide.astype(np.uint32) * 255 + 511) // 1023, ramp)
