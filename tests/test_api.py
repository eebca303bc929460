"""encode, decode and open, on arrays and on files."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

import codec
from codec.fit.core_config import CoreFitConfig
from codec.fit.core_loop import CoreFitter
from codec.media import ImageMedia, read_image, write_image
from codec.options import EncodeOptions, lambda_of_quality
from codec.work import Work
from formats.container import Container
from formats.core import CoreConfig
from formats.errors import InputError, MediaError, OutputError, ResumeError
from tests.conftest import SAMPLES, clip, picture

FAST: dict[str, Any] = {"steps": 40, "device": "cpu"}


def error(a: np.ndarray, b: np.ndarray, top: float) -> float:
    return float(10 * np.log10(top**2 / np.square(a.astype(float) - b.astype(float)).mean()))


@pytest.mark.parametrize(
    ("shape", "bits"),
    [
        ((24, 32, 3), 8),
        ((24, 32, 1), 8),
        ((24, 32, 4), 8),
        ((24, 32, 3), 16),
        ((24, 32, 1), 16),
        ((1, 1, 3), 8),
        ((1, 1, 1), 8),
        ((7, 7, 3), 8),
        ((33, 1, 3), 8),
        ((1, 50, 4), 8),
    ],
)
def test_images_of_every_kind_round_trip(shape: tuple[int, int, int], bits: int) -> None:
    samples = picture(*shape, bits=bits)
    encoded = codec.encode(samples, steps=150, device="cpu", lam=1e-5)
    decoded = codec.decode(encoded.data, device="cpu")
    assert decoded.shape == samples.shape
    assert decoded.dtype == samples.dtype
    assert error(decoded, samples, (1 << bits) - 1) == pytest.approx(encoded.stats.psnr, abs=1e-6)
    assert encoded.stats.psnr > 20
    assert encoded.stats.bytes == len(encoded.data)
    assert encoded.stats.bpp == pytest.approx(8 * len(encoded.data) / (shape[0] * shape[1]))


def test_grey_pictures_may_have_two_axes() -> None:
    samples = picture(channels=1)[:, :, 0]
    assert codec.decode(codec.encode(samples, **FAST).data, device="cpu").shape == (24, 32, 1)


def test_tensors_are_arrays_too() -> None:
    samples = picture()
    a = codec.encode(torch.from_numpy(samples), **FAST)
    assert a.data == codec.encode(samples, **FAST).data


def test_matrices_are_pictures_of_one_channel() -> None:
    a = picture()[:, :, :1]
    matrix = np.asmatrix(a[:, :, 0])  # numpy fails hard on a matrix with three axes
    assert codec.encode(matrix, **FAST).data == codec.encode(a, **FAST).data


def test_a_search_lets_go_of_each_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codec.fit.core_search.MAX_ROUNDS", 3)
    alive: list[weakref.ref[CoreFitter]] = []
    real = CoreFitter.__init__

    def watched(self: CoreFitter, *args: Any) -> None:
        real(self, *args)
        alive.append(weakref.ref(self))

    monkeypatch.setattr(CoreFitter, "__init__", watched)
    gc.disable()
    try:
        codec.encode(picture(), steps=10, target_psnr=24.0, device="cpu")
    finally:
        gc.enable()
    assert len(alive) > 1
    assert not any(fitter() for fitter in alive)


def test_one_file_serves_several_threads() -> None:
    data = codec.encode(picture(), **FAST).data
    with codec.open(data, device="cpu") as image, ThreadPoolExecutor(4) as pool:
        full = codec.decode(data, device="cpu")
        for part in pool.map(lambda n: image.crop(n, n, 8, 8), range(12)):
            assert part.shape == (8, 8, 3)
        assert np.array_equal(image.read(), full)


def test_the_same_call_gives_the_same_bytes() -> None:
    first = codec.encode(picture(), seed=3, **FAST)
    assert codec.encode(picture(), seed=3, **FAST).data == first.data
    assert codec.encode(picture(), seed=4, **FAST).data != first.data


def test_lower_lambda_gives_larger_and_better_files() -> None:
    small = codec.encode(picture(64, 64), lam=1e-2, steps=150, device="cpu").stats
    large = codec.encode(picture(64, 64), lam=1e-4, steps=150, device="cpu").stats
    assert large.bytes > small.bytes
    assert large.psnr > small.psnr


def test_quality_is_a_scale_of_lambda() -> None:
    assert lambda_of_quality(0) == pytest.approx(2e-2)
    assert lambda_of_quality(100) == pytest.approx(2e-4)
    assert EncodeOptions(quality=50).fixed_lambda == EncodeOptions().fixed_lambda


@pytest.mark.parametrize("size", [500, 1000, 1900])
def test_target_sizes_are_met_and_not_exceeded(size: int) -> None:
    encoded = codec.encode(picture(64, 64), target_size=size, steps=120, device="cpu")
    assert 0.85 * size <= len(encoded.data) <= size


@pytest.mark.parametrize(
    ("source", "options"),
    [(picture(40, 40), {}), (picture(40, 40), {"fusion": "rank"}), (clip(), {"gop": 3})],
    ids=["core", "rank", "clip"],
)
def test_targets_leave_the_container_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, source: np.ndarray, options: dict[str, Any]
) -> None:
    reserved, finish = [], Work._finish

    def note(work: Work, started: float) -> Any:
        payloads = sum(len(unit["payload"]) for unit in work.checkpoint.units)
        reserved.append(work._container_bytes + payloads)
        return finish(work, started)

    monkeypatch.setattr(Work, "_finish", note)
    data = codec.encode(source, target_size=2500, steps=20, device="cpu", **options).data
    assert 0 <= reserved[0] - len(data) <= 24


def test_target_bpp_counts_every_byte() -> None:
    encoded = codec.encode(picture(64, 64), target_bpp=2.0, steps=120, device="cpu")
    assert 1.6 <= encoded.stats.bpp <= 2.0


def test_target_psnr_is_reached() -> None:
    encoded = codec.encode(picture(64, 96), target_psnr=30.0, steps=300, device="cpu")
    assert 30.0 <= encoded.stats.psnr <= 32.5


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="the smallest takes about"):
        codec.encode(picture(64, 64), target_size=64, steps=20, device="cpu")


def test_files_keep_their_metadata_and_depth(tmp_path: Path) -> None:
    samples = picture(bits=16)
    profile = b"\0" * 36 + b"acsp" + b"\0" * 100
    write_image(tmp_path / "in.png", ImageMedia(samples, 16, icc=profile))
    encoded = codec.encode(tmp_path / "in.png", **FAST)
    with codec.open(encoded.data) as image:
        assert isinstance(image, codec.Image)
        assert image.bit_depth == 16
        assert image.shape == (24, 32, 3)
        assert image.metadata["icc"] == profile
        assert np.array_equal(np.asarray(image), image.read())
        assert np.array_equal(image.crop(3, 4, 5, 6), image.read()[4:10, 3:8])
        assert image.scale(2).shape == (48, 64, 3)
        assert "32x24x3" in repr(image)


def test_bytes_of_a_file_are_a_source(tmp_path: Path) -> None:
    write_image(tmp_path / "in.png", ImageMedia(picture()))
    data = (tmp_path / "in.png").read_bytes()
    assert codec.encode(data, **FAST).data == codec.encode(tmp_path / "in.png", **FAST).data


def test_results_are_saved_and_opened_by_path(tmp_path: Path) -> None:
    encoded = codec.encode(picture(), **FAST)
    encoded.save(tmp_path / "a.crdx")
    assert np.array_equal(
        codec.decode(tmp_path / "a.crdx", device="cpu"), codec.decode(encoded.data, device="cpu")
    )


@pytest.mark.parametrize("split", ["x+y+t", "xy+t", "x+yt", "xt+y", "xyt"])
def test_videos_round_trip_with_every_split(split: str) -> None:
    samples = clip(4)
    encoded = codec.encode(samples, split=split, steps=60, target_bpp=2.0, gop=3, device="cpu")
    decoded = codec.decode(encoded.data, device="cpu")
    assert decoded.shape == samples.shape
    assert error(decoded, samples, 255) == pytest.approx(encoded.stats.psnr, abs=1e-6)
    assert Container.open(encoded.data).unit_frames == [2, 2]  # as equal as can be
    assert len(encoded.stats.units) == 2


def test_the_bundled_clip_keeps_its_rate_and_sound(tmp_path: Path) -> None:
    encoded = codec.encode(SAMPLES / "bunny.mp4", steps=10, gop=48, target_bpp=0.05, device="cpu")
    with codec.open(encoded.data, device="cpu") as video:
        assert isinstance(video, codec.Video)
        assert (len(video), video.rate) == (48, Fraction(25))
        sound = video.audio()
        assert sound is not None
        assert sound.startswith(b"\x1a\x45\xdf\xa3")  # Matroska
        assert video[5].shape == (144, 256, 3)
    assert len(encoded.data) > len(sound)


def test_progress_is_told_of_every_step() -> None:
    told: list[codec.EncodeProgress] = []
    codec.encode(clip(4), steps=10, gop=2, lam=1e-3, device="cpu", progress=told.append)
    assert [(p.unit, p.fit.step) for p in told] == [(u, s) for u in (0, 1) for s in range(1, 11)]
    assert all(p.units == 2 and p.fit.steps == 10 for p in told)


def test_what_the_format_cannot_hold_is_refused_before_the_fit() -> None:
    def never(_: codec.EncodeProgress) -> None:
        raise AssertionError("the fit has begun")

    with pytest.raises(InputError, match="the format cannot hold this: header width"):
        codec.encode(np.zeros((1, 70_000), np.uint8), progress=never, **FAST)
    with pytest.raises(InputError, match="1 or 3 channels"):
        codec.encode(np.zeros((2, 4, 4, 4), np.uint8), progress=never, **FAST)


@pytest.mark.parametrize(
    ("rate", "exact"),
    [
        (29.97, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (12.5, Fraction(25, 2)),
        (0.004, Fraction(1, 250)),
        (24, Fraction(24)),
        ("30000/1001", Fraction(30000, 1001)),
    ],
)
def test_frame_rates_are_exact(rate: Any, exact: Fraction) -> None:
    with codec.open(codec.encode(clip(2), rate=rate, **FAST).data) as video:
        assert isinstance(video, codec.Video)
        assert video.rate == exact


@pytest.mark.parametrize(("wide_from", "width"), [(10, 32), (10**9, 16)])
def test_pictures_of_many_bits_get_a_wide_context(
    wide_from: float, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codec.network.presets.WIDE_FROM", wide_from)
    monkeypatch.setattr("codec.network.presets.WIDE_DENSITY", 0)
    data = codec.encode(picture(), lam=1e-3, steps=10).data
    with Container.open(data) as box:
        config = box.header.network
    assert isinstance(config, CoreConfig)
    assert config.width == width


def test_images_index_like_arrays() -> None:
    with codec.open(codec.encode(picture(), **FAST).data, device="cpu") as image:
        assert isinstance(image, codec.Image)
        full = image.read()
        assert len(image) == 24
        for index in (
            np.s_[3],
            np.s_[-1, 5],
            np.s_[2:9, 4:20],
            np.s_[::-3, 1:30:7, 1],
            np.s_[5:5, :],
            np.s_[:, 31],
        ):
            assert np.array_equal(image[index], full[index])
        for number in (np.int64(3), np.uint8(3)):
            assert np.array_equal(image[number], full[3])
            assert np.array_equal(image[2, number], full[2, 3])
        assert np.array_equal(image[...], full)
        assert np.array_equal(image[3, ..., 1], full[3, ..., 1])
        for wrong in (24, np.s_[0, 0, 0, 0], None, 1.5, [1, 2], np.s_[..., ...]):
            with pytest.raises(IndexError):
                image[wrong]
    with pytest.raises(InputError, match="closed"):
        image.read()


def test_a_network_that_costs_more_than_the_samples_is_never_chosen() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    encoded = codec.encode(noise, target_psnr=80.0, steps=20, device="cpu")
    assert len(encoded.data) < 6 * noise.size  # at most as many weights as samples, rounded finely
    assert not encoded.stats.target_met


class Interrupt(Exception):
    """Stands for a killed process."""


@pytest.mark.parametrize("stop", [5, 17, 25, 39])
def test_an_interrupted_encode_resumes_to_the_same_bytes(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codec.checkpoint.SAVE_SECONDS", 0.0)
    state = tmp_path / "state"
    options: dict[str, Any] = {"steps": 20, "gop": 2, "target_bpp": 3.0, "device": "cpu"}
    expected = codec.encode(clip(4), **options)
    count = 0

    def kill(_: codec.EncodeProgress) -> None:
        nonlocal count
        count += 1
        if count == stop:
            raise Interrupt

    with pytest.raises(Interrupt):
        codec.encode(clip(4), progress=kill, state_path=state, **options)
    resumed = codec.encode(clip(4), state_path=state, resume=True, **options)
    assert resumed.data == expected.data
    assert resumed.stats.steps < expected.stats.steps


def test_a_state_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fit.state"
    options: dict[str, Any] = {**FAST, "state_path": path, "resume": True}

    def kill(report: codec.EncodeProgress) -> None:
        if report.fit.step == 5:
            raise Interrupt

    monkeypatch.setattr("codec.checkpoint.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("codec.checkpoint.LAYOUT", 3)
    with pytest.raises(Interrupt):
        codec.encode(picture(), progress=kill, **options)
    assert path.exists()
    monkeypatch.undo()
    with pytest.raises(codec.CoordXError, match="another version of the codec wrote it"):
        codec.encode(picture(), **options)


def test_an_interrupted_search_of_core_fusion_resumes_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codec.checkpoint.SAVE_SECONDS", 0.0)
    state = tmp_path / "state"
    monkeypatch.setattr("codec.fit.core_search.MAX_ROUNDS", 2)
    options: dict[str, Any] = {"steps": 20, "target_psnr": 22.0, "device": "cpu"}
    expected = codec.encode(picture(), **options)

    def kill(report: codec.EncodeProgress) -> None:
        if report.round == 1 and report.fit.step == 5:
            raise Interrupt

    with pytest.raises(Interrupt):
        codec.encode(picture(), progress=kill, state_path=state, **options)
    resumed = codec.encode(picture(), state_path=state, resume=True, **options)
    assert resumed.data == expected.data
    assert resumed.stats.steps < expected.stats.steps


def test_a_state_of_another_encode_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codec.checkpoint.SAVE_SECONDS", 0.0)
    state = tmp_path / "state"
    codec.encode(picture(), state_path=state, **FAST)
    assert state.exists()
    for other in ({"seed": 9}, {"lam": 0.01}):
        with pytest.raises(ResumeError, match="other media or other settings"):
            codec.encode(picture(), state_path=state, resume=True, **FAST, **other)
    with pytest.raises(ResumeError, match="other media"):
        codec.encode(picture(25), state_path=state, resume=True, **FAST)
    state.write_bytes(b"junk")
    with pytest.raises(ResumeError, match="not a saved encoder state"):
        codec.encode(picture(), state_path=state, resume=True, **FAST)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.full((4, 4, 3), np.nan, np.float32), r"float32 \(48 of its values are NaN"),
        (np.zeros((4, 4, 3), np.float64), "scale it to 0..255"),
        (np.zeros((4, 4, 3), np.int64), "expected dtype uint8 or uint16, got int64"),
        (np.zeros((4, 4, 2), np.uint8), "expected shape"),
        (np.zeros((4,), np.uint8), "expected shape"),
        (np.zeros((0, 4, 3), np.uint8), "at least one sample"),
        ([[1, 2], [3, 4]], "expected a numpy array, got list"),
        (None, "expected a numpy array, got NoneType"),
        (torch.zeros(4, 4, 3, dtype=torch.bfloat16), "no numpy array can be made"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8).to_sparse(), "no numpy array can be made"),
        (np.ma.masked_equal(np.zeros((4, 4), np.uint8), 0), "masked"),
    ],
)
def test_wrong_arrays_are_named(source: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        codec.encode(source, **FAST)


@pytest.mark.parametrize(("steps", "prior"), [(11, True), (12, False)])
def test_long_fits_start_from_no_prior(
    monkeypatch: pytest.MonkeyPatch, steps: int, prior: bool
) -> None:
    shapes = ((0, 0, 16, 32),)
    for name, value in {"STEPS": 12, "PIXELS": 0, "SHAPES": shapes}.items():
        monkeypatch.setattr(f"codec.network.presets.FREE_{name}", value)
    settings, made = CoreFitConfig.of, []

    def of(lam: float, steps: int, seed: int, prior: bool) -> CoreFitConfig:
        made.append(prior)
        return settings(lam, steps, seed, prior)

    monkeypatch.setattr(CoreFitConfig, "of", of)
    data = codec.encode(picture(16, 24), lam=1e-3, steps=steps, device="cpu").data
    with Container.open(data) as box:
        network = box.header.network
    assert isinstance(network, CoreConfig)
    assert (network.prior > 0) == prior
    assert made == [prior]


def test_numbers_of_numpy_are_numbers() -> None:
    options = EncodeOptions(
        lam=cast(Any, np.float32(0.25)), steps=cast(Any, np.int64(20)), seed=cast(Any, np.uint8(3))
    )
    assert repr(options) == repr(EncodeOptions(lam=0.25, steps=20, seed=3))
    with pytest.raises(InputError, match="effort: expected an integer"):
        EncodeOptions(effort=cast(Any, np.float64(2.0)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quality": 101}, "quality: expected 0..100, got 101"),
        ({"quality": 10**400}, "quality: expected 0..100, got 10000"),
        ({"split": ["x+y"]}, "split: expected one of xy"),
        ({"network": "core"}, "network: expected a NetworkConfig or a CoreConfig, got 'core'"),
        ({"state_path": "/nowhere/at/all"}, "cannot write"),
        ({"quality": 50, "lam": 0.1}, "one target, got quality and lambda"),
        ({"lam": float("nan")}, "lambda"),
        ({"target_bpp": -1}, "target bpp"),
        ({"target_psnr": 200}, "target PSNR"),
        ({"target_size": "big"}, "expected a number"),
        ({"effort": 0}, "effort: expected 1..9, got 0"),
        ({"effort": 2.5}, "expected an integer"),
        ({"seed": -1}, "seed"),
        ({"split": "x*y"}, "split: expected one of xy"),
        ({"split": "x+y+t"}, "an image takes one of xy, x\\+y"),
        ({"split": "x+y", "fusion": "core"}, "split: core fusion has none"),
        ({"split": "x+y", "network": CoreConfig()}, "split: core fusion has none"),
        ({"fusion": "rank", "network": CoreConfig()}, "the network is for core"),
        ({"device": "tpu"}, "device"),
        ({"device": "meta"}, "device"),
        ({"bit_depth": 9}, "bit_depth"),
        ({"bit_depth": "8"}, "bit_depth: expected an integer"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises((InputError, OutputError), match=words):
        codec.encode(picture(), **{**FAST, **options})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_an_absent_gpu_is_named() -> None:
    with pytest.raises(InputError, match="no CUDA device"):
        codec.encode(picture(), steps=10, device="cuda")


def test_wrong_videos_are_named() -> None:
    for rate in (0, -1.5, float("nan"), float("inf"), "fast", None):
        with pytest.raises(InputError, match="rate"):
            codec.encode(clip(2), rate=rate, **FAST)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a video takes one of"):
        codec.encode(clip(2), split="x+y", **FAST)
    with pytest.raises(InputError, match="expected values below 1024"):
        codec.encode(np.full((2, 4, 4, 3), 1024, np.uint16), bit_depth=10, **FAST)


def test_an_image_has_no_frames_and_a_crdx_is_no_source(tmp_path: Path) -> None:
    data = codec.encode(picture(), **FAST).data
    with pytest.raises(InputError, match="only videos have frames"):
        codec.decode(data, frames=slice(0, 1))
    with pytest.raises(MediaError, match="it is a .crdx already"):
        codec.encode(data, **FAST)


@pytest.mark.parametrize(
    "request_",
    [
        {"crop": (0, 0, 4)},
        {"crop": (0.5, 0, 4, 4)},
        {"crop": "0,0,4,4"},
        {"scale": "2"},
        {"scale": None},
        {"device": 3},
    ],
)
def test_wrong_requests_of_a_decode_are_named(request_: dict[str, Any]) -> None:
    data = codec.encode(picture(), **FAST).data
    with pytest.raises(InputError, match="expected"):
        codec.decode(data, **{"device": "cpu", **request_})


def test_real_images_of_odd_kinds_encode_and_decode(shared_data: Path) -> None:
    names = [
        "pngsuite_s01n3p01.png",
        "pngsuite_s07n3p02.png",
        "pngsuite_s33n3p04.png",
        "pngsuite_basn0g01.png",
        "pngsuite_basn0g16.png",
        "pngsuite_basn6a08.png",
        "lineart_vgl6548_128x95.bmp",
        "photo_testorig_227x149.ppm",
    ]
    for name in names:
        path = shared_data / "images" / name
        samples = read_image(path).samples
        decoded = codec.decode(codec.encode(path, **FAST).data, device="cpu")
        assert decoded.shape == samples.shape, name
        assert decoded.dtype == samples.dtype, name
