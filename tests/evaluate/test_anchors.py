"""JPEG, WebP and AVIF make real files that others can read, at the settings they announce."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, features

from codec.evaluate.anchors import Avif, Jpeg, Jpeg2000, WebP
from codec.evaluate.interface import ImageCodec, with_shape
from codec.evaluate.metrics import psnr
from formats.errors import InputError, MediaError, MissingLibraryError
from tests.conftest import picture

FAST_AVIF = Avif(speed=10)
ALL = pytest.mark.parametrize("codec", [Jpeg(), WebP(), FAST_AVIF], ids=lambda c: c.name)


@ALL
def test_quality_buys_psnr_with_bytes(codec: ImageCodec, photo: np.ndarray) -> None:
    files = [codec.encode(photo, q) for q in (20, 60, 90)]
    decoded = [codec.decode(data) for data in files]
    assert [d.shape for d in decoded] == [photo.shape] * 3
    sizes, values = [len(data) for data in files], [psnr(photo, d) for d in decoded]
    assert sizes == sorted(sizes)
    assert values == sorted(values)
    assert values[2] > 33


@ALL
def test_the_bytes_are_a_file_any_reader_takes(codec: ImageCodec, photo: np.ndarray) -> None:
    data = codec.encode(photo, 70)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == {"jpeg": "JPEG", "webp": "WEBP"}.get(codec.name, "AVIF")
        assert np.array_equal(np.array(image), codec.decode(data))


@ALL
def test_encoding_twice_gives_the_same_bytes(codec: ImageCodec, photo: np.ndarray) -> None:
    assert codec.encode(photo, 50) == codec.encode(photo, 50)


@ALL
def test_greyscale_comes_back_as_greyscale(codec: ImageCodec) -> None:
    grey = picture(40, 50, channels=1)
    back = with_shape(codec.decode(codec.encode(grey, 90)), grey.shape)
    assert back.shape == grey.shape
    assert psnr(grey, back) > 35


@pytest.mark.parametrize("codec", [WebP(), FAST_AVIF], ids=lambda c: c.name)
@pytest.mark.parametrize("opaque", [False, True])
def test_alpha_is_kept(codec: ImageCodec, opaque: bool) -> None:
    rgba = picture(40, 50, channels=4)
    rgba[..., 3] = 255 if opaque else np.where(np.arange(50) < 25, 0, 200)
    back = with_shape(codec.decode(codec.encode(rgba, 90)), rgba.shape)
    # Also the colours under transparent samples: the metrics count them.
    assert psnr(rgba, back) > 33


def test_jpeg_is_progressive_and_subsampled_as_it_says(photo: np.ndarray) -> None:
    for codec, factors in ((Jpeg(), (2, 2)), (Jpeg(subsampling="4:4:4"), (1, 1))):
        assert repr(codec.subsampling) in codec.command(50)
        with Image.open(io.BytesIO(codec.encode(photo, 50))) as image:
            assert image.info["progressive"]
            assert image.layer[0][1:3] == factors  # type: ignore[attr-defined]


def test_a_baseline_jpeg_is_what_pillow_writes_by_default(photo: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, format="JPEG", quality=60)
    assert Jpeg(scan="baseline").encode(photo, 60) == buffer.getvalue()
    assert np.array_equal(Jpeg().decode(Jpeg().encode(photo, 60)), Jpeg().decode(buffer.getvalue()))


def test_names_carry_what_is_not_the_default() -> None:
    assert [c.name for c in (Jpeg(), WebP(), Avif())] == ["jpeg", "webp", "avif-s4"]
    assert Jpeg(subsampling="4:4:4").name == "jpeg-444"
    assert Jpeg(scan="baseline").name == "jpeg-baseline"
    assert WebP(method=4).name == "webp-m4"
    assert Avif(speed=0, subsampling="4:2:0").name == "avif-s0-420"


@ALL
def test_versions_name_pillow_and_the_library(codec: ImageCodec) -> None:
    assert codec.version().startswith("Pillow ")
    assert "None" not in codec.version()


def test_a_pillow_without_the_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    with pytest.raises(MissingLibraryError, match="without libavif"):
        Avif().version()


@ALL
def test_what_the_codec_has_no_kind_for_is_refused(codec: ImageCodec) -> None:
    with pytest.raises(InputError, match="uint16"):
        codec.encode(picture(bits=16), 50)
    with pytest.raises(InputError, match=r"\(24, 32, 2\)"):
        codec.encode(picture(channels=2), 50)


def test_jpeg_has_no_alpha() -> None:
    with pytest.raises(InputError, match="one of \\(1, 3\\)"):
        Jpeg().encode(picture(channels=4), 50)


@pytest.mark.parametrize("q", [0, 101, 50.5, float("nan"), float("inf")])
def test_a_quality_off_the_scale_is_refused(q: float) -> None:
    with pytest.raises(InputError, match=r"integer 1\.\.100"):
        Jpeg().encode(picture(), q)
    with pytest.raises(InputError, match=r"integer 1\.\.100"):
        Jpeg(qualities=(50, q))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WebP(method=7), "method"),
        (lambda: Jpeg(scan="interlaced"), "jpeg scan: expected progressive or baseline"),
        (lambda: Avif(speed=11), "speed"),
        (lambda: Avif(subsampling="4:1:1"), "subsampling"),
        (lambda: Jpeg(qualities=()), "at least one"),
        (lambda: Jpeg(qualities=(10, 10)), "none twice"),
    ],
)
def test_settings_are_checked_when_they_are_made(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


@ALL
def test_damaged_bytes_are_a_media_error(codec: ImageCodec, photo: np.ndarray) -> None:
    data = codec.encode(photo, 50)
    for bad in (b"", b"nonsense", data[: len(data) // 2]):
        with pytest.raises(MediaError, match=f"cannot decode {len(bad)} bytes"):
            codec.decode(bad)


def test_a_side_beyond_the_format_is_a_media_error() -> None:
    with pytest.raises(MediaError, match="WEBP cannot code this picture of 16384 x 1"):
        WebP().encode(np.zeros((1, 16384, 3), np.uint8), 50)


def test_jpeg2000_aims_at_a_psnr_and_keeps_alpha(photo: np.ndarray) -> None:
    codec = Jpeg2000()
    files = [codec.encode(photo, q) for q in (27, 33, 39)]
    assert [len(data) for data in files] == sorted(len(data) for data in files)
    for q, data in zip((27, 33, 39), files, strict=True):
        assert q - 1.2 < psnr(photo, codec.decode(data)) < q + 0.5
    with Image.open(io.BytesIO(files[0])) as image:
        assert image.format == "JPEG2000"
    rgba = picture(40, 50, channels=4)
    assert codec.decode(codec.encode(rgba, 45)).shape == rgba.shape
    assert codec.version().split(", ")[1].startswith("OpenJPEG ")
    with pytest.raises(InputError, match=r"target: expected 15\.\.60 dB, got 10"):
        codec.encode(photo, 10)
