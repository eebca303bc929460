"""Parts equal the whole: crops, frames and scales of a decode."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

import codec
from codec.network import AxisGrid, CoordX
from codec.reconstruct import Reconstructor
from formats.errors import InputError
from formats.network import NetworkConfig

PARTITIONS = ["x+y", "xy", "x+y+t", "xy+t", "x+yt", "xt+y", "xyt"]


def decoder(partition: str, bit_depth: int = 8, tile: int = 100) -> Reconstructor:
    config = NetworkConfig(partition=partition, width=6, features=4, rank=2)
    lengths = {a: n for a, n in (("t", 5), ("y", 23), ("x", 31)) if a in config.axes}
    net = CoordX(config, lengths, 3, seed=4).requires_grad_(False)
    made = Reconstructor(net, bit_depth)
    made.tile_samples = tile
    return made


def frames_of(made: Reconstructor) -> range:
    return range(made.net.lengths.get("t", 1))


@pytest.mark.parametrize("partition", PARTITIONS)
def test_crops_and_frames_equal_the_full_decode_bit_for_bit(partition: str) -> None:
    made = decoder(partition)
    full = made.region(frames_of(made), None)
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = int(rng.integers(31)), int(rng.integers(23))
        w, h = int(rng.integers(1, 32 - x)), int(rng.integers(1, 24 - y))
        if full.ndim == 4:
            a = int(rng.integers(5))
            b = int(rng.integers(a + 1, 6))
            part = made.region(range(a, b), (x, y, w, h))
            expected = full[a:b, y : y + h, x : x + w]
        else:
            part = made.region(range(1), (x, y, w, h))
            expected = full[y : y + h, x : x + w]
        assert np.array_equal(part, expected)


@pytest.mark.parametrize("partition", PARTITIONS)
def test_tiles_do_not_show(partition: str) -> None:
    whole, tiled = decoder(partition, tile=10**6), decoder(partition, tile=40)
    a = whole.region(frames_of(whole), None).astype(int)
    b = tiled.region(frames_of(tiled), None).astype(int)
    assert np.abs(a - b).max() <= 1


@pytest.mark.parametrize("partition", ["x+y", "x+y+t"])
def test_larger_scales_evaluate_the_network_between_samples(partition: str) -> None:
    made = decoder(partition)
    part = made.region(range(1, 3) if "t" in partition else range(1), (4, 2, 9, 7), 2.5)
    grid = made.full.select("y", slice(2, 9)).select("x", slice(4, 13))
    if "t" in partition:
        grid = grid.select("t", slice(1, 3))
    direct = made.net(grid.scaled(2.5)).movedim(0, -1).mul(255).round().clamp(0, 255)
    assert part.shape == direct.shape
    assert np.abs(part.astype(int) - direct.numpy()).max() <= 1


def test_smaller_scales_average_areas() -> None:
    made = decoder("x+y", bit_depth=16)
    half = made.region(range(1), (0, 0, 30, 22), 0.5).astype(float)
    full = made.region(range(1), (0, 0, 30, 22)).astype(float)
    boxes = full.reshape(11, 2, 15, 2, 3).mean((1, 3))
    # Equal but for the clamp: the mean of clamped samples against the clamped mean.
    assert half.shape == (11, 15, 3)
    assert np.abs(half - boxes).mean() < 0.02 * 65535


def test_scale_one_is_the_native_decode_and_tiny_scales_work() -> None:
    made = decoder("x+y")
    full = made.region(range(1), None)
    assert np.array_equal(made.region(range(1), None, 1.0), full)
    assert made.region(range(1), None, 0.01).shape == (1, 1, 3)


def test_high_bit_depths_use_all_their_codes() -> None:
    made = decoder("x+y", bit_depth=12)
    full = made.region(range(1), None)
    assert full.dtype == np.uint16
    assert 255 < int(full.max()) <= 4095
    eight = decoder("x+y").region(range(1), None)
    assert np.abs(full / 4095 - eight / 255).max() < 1 / 255


@pytest.mark.parametrize("crop", [(-1, 0, 2, 2), (0, 0, 0, 2), (30, 0, 2, 2), (0, 22, 1, 2)])
def test_crops_outside_the_picture_are_refused(crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="crop: expected a rectangle"):
        decoder("x+y").region(range(1), crop)


@pytest.mark.parametrize("scale", [0.0, -1.0, 65.0, float("nan")])
def test_absurd_scales_are_refused(scale: float) -> None:
    with pytest.raises(InputError, match="scale"):
        decoder("x+y").region(range(1), None, scale)


@pytest.fixture(scope="module")
def video_bytes() -> bytes:
    from tests.conftest import clip

    encoded = codec.encode(
        clip(7), steps=12, gop=3, target_bpp=6.0, device="cpu", rate=Fraction(30000, 1001)
    )
    return encoded.data


def test_videos_index_like_sequences(video_bytes: bytes) -> None:
    with codec.open(video_bytes, device="cpu") as video:
        assert isinstance(video, codec.Video)
        assert len(video) == 7
        assert video.shape == (7, 16, 20, 3)
        assert video.rate == Fraction(30000, 1001)
        assert video.duration == 7 / Fraction(30000, 1001)
        full = video.read()
        assert full.shape == (7, 16, 20, 3)
        for index in (0, 2, 3, 6, -1, -7):
            assert np.array_equal(video[index], full[index])
        for part in (slice(1, 5), slice(None, None, 2), slice(5, None), slice(6, 2, -1)):
            assert np.array_equal(video[part], full[part])
        assert np.array_equal(np.stack(list(video)), full)
        assert np.array_equal(video.read(slice(2, 6), crop=(3, 4, 5, 6)), full[2:6, 4:10, 3:8])
        assert video.audio() is None
        assert video[2:2].shape == (0, 16, 20, 3)
        assert np.array_equal(video.crop(1, 2, 3, 4), full[:, 2:6, 1:4])
        assert video.scale(2).shape == (7, 32, 40, 3)
        with pytest.raises(InputError, match="expected a slice"):
            video.read(3)  # type: ignore[arg-type]
        with pytest.raises(IndexError, match="7 frames"):
            video[7]
        with pytest.raises(InputError, match="names no frame"):
            video.read(slice(9, 12))
        with pytest.raises(InputError, match="without a step"):
            video.read(slice(0, 4, 2))
        assert "7 frames" in repr(video)


def test_a_gop_alone_equals_its_part_of_a_full_decode(video_bytes: bytes) -> None:
    full = codec.decode(video_bytes, device="cpu")
    assert np.array_equal(codec.decode(video_bytes, frames=slice(3, 6), device="cpu"), full[3:6])


def test_threads_agree(video_bytes: bytes) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(codec.decode, video_bytes, device="cpu") for _ in range(16)]
        results = [job.result() for job in jobs]
    assert all(np.array_equal(r, results[0]) for r in results)


def test_evaluation_grids_may_lie_anywhere() -> None:
    net = CoordX(NetworkConfig(width=4, features=3, rank=2), {"y": 4, "x": 4}, 1)
    grid = AxisGrid(("y", "x"), (torch.tensor([-3.0, 9.5]), torch.tensor([100.0])))
    assert torch.isfinite(net(grid)).all()
