"""Metrics against values worked out by hand, and what they refuse."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from codec.evaluate.metrics import bits_per_pixel, ms_ssim, mse, psnr
from formats.errors import InputError, MissingLibraryError
from tests.conftest import picture


def test_psnr_of_a_known_error() -> None:
    a = np.full((4, 5, 3), 100, np.uint8)
    b = a + np.uint8(10)
    assert mse(a, b) == 100
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / 100), abs=1e-12)


def test_one_wrong_sample_is_averaged_over_all_channels() -> None:
    a = np.zeros((2, 2, 3), np.uint8)
    b = a.copy()
    b[0, 0, 0] = 12
    assert mse(a, b) == 144 / 12


def test_differences_do_not_wrap_around() -> None:
    low, high = np.zeros((3, 3, 1), np.uint16), np.full((3, 3, 1), 65535, np.uint16)
    assert mse(low, high) == mse(high, low) == 65535**2
    assert psnr(low, high, 16) == 0


def test_equal_pictures_have_infinite_psnr() -> None:
    assert psnr(picture(), picture()) == math.inf


def test_the_peak_follows_the_bit_depth() -> None:
    a = np.full((2, 2, 1), 500, np.uint16)
    b = a + np.uint16(1)
    assert psnr(a, b, 10) == pytest.approx(20 * math.log10(1023))
    assert psnr(a, b, 16) == pytest.approx(20 * math.log10(65535))


def test_a_clip_has_one_mse_over_all_its_frames() -> None:
    a = np.zeros((2, 3, 3, 1), np.uint8)
    b = a.copy()
    b[1] = 4  # frames of MSE 0 and 16
    assert mse(a, b) == 8


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2, 3), np.uint8), r"\(2, 3, 3\).*\(3, 2, 3\)"),
        (np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3, 3), np.uint16), "uint8 and .* uint16"),
        (np.zeros((2, 3, 3)), np.zeros((2, 3, 3)), "float64"),
        (np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint8), r"\(H, W, C\)"),
        (np.zeros((0, 3, 1), np.uint8), np.zeros((0, 3, 1), np.uint8), "non-empty"),
    ],
)
def test_what_is_not_a_pair_of_pictures_is_refused(a: object, b: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        psnr(a, b)  # type: ignore[arg-type]


def test_a_sample_beyond_the_bit_depth_is_refused() -> None:
    wide = np.full((2, 2, 1), 1000, np.uint16)
    with pytest.raises(InputError, match="up to 255, got a sample of 1000"):
        psnr(wide, wide, 8)
    with pytest.raises(InputError, match=r"1\.\.8 for uint8, got 10"):
        psnr(picture(), picture(), 10)


def test_ms_ssim_falls_with_the_error_and_is_one_for_equal_pictures() -> None:
    a = picture(161, 170)
    noise = np.random.default_rng(1).integers(0, 60, a.shape)
    mild = np.clip(a + noise // 4, 0, 255).astype(np.uint8)
    strong = np.clip(a + noise, 0, 255).astype(np.uint8)
    values = [ms_ssim(a, b) for b in (a, mild, strong)]
    assert values[0] == pytest.approx(1, abs=1e-12)
    assert values == sorted(values, reverse=True)
    assert values[2] < 0.96 < values[1]


def test_ms_ssim_is_what_the_library_says_of_the_whole_picture() -> None:
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("pytorch_msssim")
    a = picture(170, 161)
    b = a // 16 * 16
    planes = [torch.from_numpy(x.astype(np.float64)).permute(2, 0, 1)[None] for x in (a, b)]
    expected = float(library.ms_ssim(*planes, data_range=255))
    assert ms_ssim(a, b) == pytest.approx(expected, abs=1e-12)
    wide = [x.astype(np.uint16) * 257 for x in (a, b)]
    assert ms_ssim(*wide, bit_depth=16) == pytest.approx(expected, abs=1e-9)
    clip = [np.stack([x, a]) for x in (b, a)]  # the second frame is equal
    assert ms_ssim(*clip) == pytest.approx((expected + 1) / 2, abs=1e-12)


def test_ms_ssim_is_not_defined_for_small_pictures() -> None:
    assert ms_ssim(picture(160, 400), picture(160, 400)) is None


def test_ms_ssim_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_msssim", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'coordx-codec\[metrics\]'"):
        ms_ssim(picture(161, 161), picture(161, 161))


def test_bits_per_pixel_counts_positions() -> None:
    assert bits_per_pixel(100, 10, 20) == 4
    assert bits_per_pixel(100, 10, 20, frames=4) == 1
    with pytest.raises(InputError, match="height, width, frames >= 1"):
        bits_per_pixel(1, 0, 5)
    with pytest.raises(InputError, match="nbytes >= 0"):
        bits_per_pixel(-1, 1, 5)
