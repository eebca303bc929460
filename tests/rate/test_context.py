"""The loss on latents: its gradients, and its identity with the integer network of formats."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.rate import ContextRate, jobs
from codec.rate import plan as planning
from codec.rate.predictor import TorchContextNetwork
from formats.blocks import BlockGrid
from formats.context import CONTEXT_BITS, ContextNetwork
from formats.core import CoreConfig
from formats.errors import CorruptError, InputError
from formats.latents import decode_by_passes, decode_segment, encode_segment, grid_bits
from formats.weights import CodedTensor
from tests.formats.factory import same_grids, with_colour

CPU = torch.device("cpu")


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def random_latents(config: CoreConfig, height: int, width: int, spread: float) -> torch.Tensor:
    return torch.randn(config.latents(height, width)) * spread


def random_weights(config: CoreConfig, spread: float = 0.3) -> dict[str, torch.Tensor]:
    return {
        spec.name: torch.randn(spec.shape) * spread
        for spec in config.tensors({}, 3)
        if spec.name.startswith("context.")
    }


@pytest.mark.parametrize("chunk", [40, 4096], ids=["bands", "gathered"])
@pytest.mark.parametrize(("levels", "colour"), [(1, 0), (3, 0), (3, 2), (2, 2)])
@pytest.mark.parametrize("size", [(16, 24), (9, 13), (1, 1), (7, 1)])
def test_gradients_are_those_of_finite_differences(
    double: None,
    monkeypatch: pytest.MonkeyPatch,
    chunk: int,
    levels: int,
    colour: int,
    size: tuple[int, int],
) -> None:
    monkeypatch.setattr(planning, "CHUNK", chunk)
    torch.manual_seed(1)
    config = with_colour(CoreConfig(levels=levels, width=5, block=3), colour, levels - colour)
    rate = ContextRate(config, *size, CPU)
    weights = random_weights(config)
    weights["context.out"][1] *= 0.1  # within the range of scales
    latents = random_latents(config, *size, 1.5)
    found = rate(weights, latents, 3.0)

    def bits() -> float:
        return 3.0 * float(rate(weights, latents, gradient=False).bits)

    def slope(values: torch.Tensor, index: int) -> float:
        flat, kept = values.view(-1), float(values.view(-1)[index])
        flat[index] = kept + 1e-6
        above = bits()
        flat[index] = kept - 1e-6
        below = bits()
        flat[index] = kept
        return (above - below) / 2e-6

    for index in range(0, latents.numel(), max(1, latents.numel() // 12)):
        assert float(found.latents[index]) == pytest.approx(slope(latents, index), 1e-4, 1e-4)
    for name, values in weights.items():
        for index in range(0, values.numel(), max(1, values.numel() // 5)):
            gradient = float(found.weights[name].reshape(-1)[index])
            assert gradient == pytest.approx(slope(values, index), 1e-4, 1e-3), name


def test_a_network_that_is_certain_and_wrong_learns_it() -> None:
    config = CoreConfig(levels=1, width=2)
    weights = {name: torch.zeros_like(w) for name, w in random_weights(config).items()}
    rate = ContextRate(config, 8, 8, CPU)
    for level, value, sign in (
        (-20.0, 1.0, -1),
        (-20.0, 0.0, 0),
        (20.0, 0.0, 1),
        (20.0, 2000.0, 0),
    ):
        weights["context.level"] = torch.tensor([[0.0], [level]])
        slope = rate(weights, torch.full((64,), value)).weights["context.level"][1]
        assert int(slope.sign()) == sign, (level, value)


@pytest.mark.parametrize(
    ("size", "tile", "colour"), [((48, 64), 0, 0), ((48, 64), 0, 3), ((260, 384), 8, 4)]
)
def test_bands_and_indices_give_the_same(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], tile: int, colour: int
) -> None:
    config = with_colour(CoreConfig(levels=4, width=6, tile=tile), colour, 4 - colour)
    latents, weights = random_latents(config, *size, 2.0), random_weights(config)
    monkeypatch.setattr(planning, "CHUNK", 2**20)
    whole = ContextRate(config, *size, CPU)(weights, latents)
    monkeypatch.setattr(planning, "CHUNK", 50)
    banded = ContextRate(config, *size, CPU)
    assert any(isinstance(job, jobs.BandJob) for job in banded.jobs)
    if colour:
        assert any(isinstance(job.grids, int) and job.grids >= 4 for job in banded.jobs)
    parts = banded(weights, latents)
    torch.testing.assert_close(parts.bits, whole.bits)
    torch.testing.assert_close(parts.latents, whole.latents, rtol=1e-4, atol=1e-4)
    for name, value in whole.weights.items():
        torch.testing.assert_close(parts.weights[name], value, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_portions_add_up(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr(planning, "CHUNK", 50)
    config = CoreConfig(levels=4, width=6)
    latents, weights = random_latents(config, 48, 64, 2.0), random_weights(config)
    rate = ContextRate(config, 48, 64, CPU)
    whole = rate(weights, latents, 3.0)
    first, second = rate.divided(share)
    assert len(first.jobs) + len(second.jobs) == len(rate.jobs)
    assert sum(job.size for job in first.jobs) == pytest.approx(share * 1.2 * 48 * 64, rel=0.2)
    both = first(weights, latents, 3.0) + second(weights, latents, 3.0)
    torch.testing.assert_close(both.bits, whole.bits)
    torch.testing.assert_close(both.latents, whole.latents, rtol=1e-4, atol=1e-3)
    for name, value in whole.weights.items():
        torch.testing.assert_close(both.weights[name], value, rtol=1e-3, atol=1e-1)


def coded_network(
    config: CoreConfig, rng: np.random.Generator, spread: float
) -> tuple[dict[str, CodedTensor], dict[str, torch.Tensor]]:
    """Random integer weights, as files hold them and as torch sees them."""
    coded = {}
    for spec in config.tensors({}, 3):
        if spec.name in CONTEXT_BITS:
            symbols = np.rint(rng.laplace(0, spread, spec.shape)).astype(np.int32)
            step = -CONTEXT_BITS[spec.name]
            coded[spec.name] = CodedTensor(symbols << (6 if step == -12 else 0), step)
    return coded, {name: torch.from_numpy(t.values) for name, t in coded.items()}


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([0.5, 6.0, 40.0]),
    reach=st.sampled_from([0, 1, 5, 127, 128, 4000]),
    height=st.integers(1, 21),
    width=st.integers(1, 21),
    levels=st.integers(1, 5),
    colour=st.sampled_from([0, 1, 3, 5]),
    colour_level=st.integers(0, 4),
    block=st.sampled_from([0, 3, 4, 5, 6, 7]),
    units=st.integers(1, 9),
    chunk=st.sampled_from([20, 12288]),
)
def test_torch_computes_the_integers_of_the_definition(
    seed: int,
    spread: float,
    reach: int,
    height: int,
    width: int,
    levels: int,
    colour: int,
    colour_level: int,
    block: int,
    units: int,
    chunk: int,
) -> None:
    rng = np.random.default_rng(seed)
    config = CoreConfig(levels=levels, block=block, width=units)
    config = with_colour(config, colour, colour_level)
    coded, weights = coded_network(config, rng, spread)
    try:
        network = ContextNetwork(config, coded)
    except CorruptError:
        return  # weights that no file may hold
    shapes = config.grid_shapes(height, width)
    grids = [rng.integers(-reach, reach + 1, shape).astype(np.int32) for shape in shapes]
    flat = torch.from_numpy(np.concatenate([g.ravel() for g in grids])).float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "CHUNK", chunk)
        mean, scale = ContextRate(config, height, width, CPU).predict(weights, flat)
    torch_network = TorchContextNetwork(network, CPU)
    start = flat.numel()
    for place in reversed(range(config.grids)):
        parent = config.parent(place)
        start -= grids[place].size
        means = mean[start : start + grids[place].size].view(shapes[place]).numpy()
        scales = scale[start : start + grids[place].size].view(shapes[place]).numpy()
        above = None if parent is None else grids[parent]
        known = BlockGrid(shapes[place], config.side(place), above)
        values, planes = known.split(grids[place]), [known.split(means), known.split(scales)]
        for step in known.passes():
            expected = network.predict(step, place)
            inside = slice(None) if step.inside is None else step.inside
            for number, got in enumerate(torch_network.predict(step, place)):
                np.testing.assert_array_equal(got, expected[number])
                of_loss = step.of(planes[number]).reshape(-1)
                np.testing.assert_array_equal(of_loss[inside], expected[number][inside])
            known.put(step, step.of(values).reshape(-1))


@pytest.mark.parametrize("colour", [0, 2, 4])
@pytest.mark.parametrize(
    ("levels", "block", "tile"), [(2, 5, 8), (5, 5, 8), (5, 6, 9), (4, 7, 0), (3, 0, 8)]
)
def test_segments_see_blocks_of_their_grids_and_nothing_else(
    levels: int, block: int, tile: int, colour: int
) -> None:
    rng = np.random.default_rng(4)
    config = with_colour(CoreConfig(levels=levels, width=4, block=block, tile=tile), colour, 1)
    coded, weights = coded_network(config, rng, 6.0)
    network = ContextNetwork(config, coded)
    size = 300, 520  # tiles of all sizes: whole, cut on one side, cut on both
    grids = [rng.integers(-4, 5, shape).astype(np.int32) for shape in config.grid_shapes(*size)]
    flat = torch.from_numpy(np.concatenate([g.ravel() for g in grids])).float()
    found = ContextRate(config, *size, CPU).predict(weights, flat)
    sizes = [grid.size for grid in grids]
    means, scales = (
        [
            part.view(grid.shape).numpy()
            for part, grid in zip(torch.split(values, sizes), grids, strict=True)
        ]
        for values in found
    )
    for segment in config.segments(*size):
        for grid in segment.grids:
            part, parent = segment.crop(grid), config.parent(grid)
            own = np.ascontiguousarray(grids[grid][part])
            above = None if parent is None else grids[parent][segment.crop(parent)]
            known = BlockGrid(own.shape, config.side(grid), above)
            values = known.split(own)
            for step in known.passes():
                inside = slice(None) if step.inside is None else step.inside
                expected = network.predict(step, grid)
                for got, wanted in zip((means, scales), expected, strict=True):
                    found = step.of(known.split(got[grid][part])).reshape(-1)
                    np.testing.assert_array_equal(found[inside], wanted[inside])
                known.put(step, step.of(values).reshape(-1))


@pytest.mark.parametrize("threads", [1, 2])
def test_streams_decode_alike_with_numpy_and_torch(threads: int) -> None:
    rng = np.random.default_rng(3)
    config = CoreConfig(levels=4, width=8, colour=3, colour_level=1)
    coded, _ = coded_network(config, rng, 6.0)
    network = ContextNetwork(config, coded)
    shapes = dict(enumerate(config.grid_shapes(40, 56)))
    grids = {n: np.rint(rng.laplace(0, 2, s)).astype(np.int32) for n, s in shapes.items()}
    data, seen = encode_segment(network, grids)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        decoded = decode_by_passes(TorchContextNetwork(network, CPU), shapes, data, "test")
    finally:
        torch.set_num_threads(before)
    assert same_grids(decoded, seen)
    assert same_grids(decode_segment(network, shapes, data, "test"), seen)


def test_reduced_precision_is_refused() -> None:
    config = CoreConfig(levels=1, width=2)
    coded, _ = coded_network(config, np.random.default_rng(0), 3.0)
    network = ContextNetwork(config, coded)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(InputError, match="highest"):
            TorchContextNetwork(network, CPU)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("colour", [0, 3])
def test_estimated_bits_are_those_of_the_tables(colour: int) -> None:
    rng = np.random.default_rng(5)
    config = with_colour(CoreConfig(levels=5, width=8), colour, 1)
    coded, weights = coded_network(config, rng, 5.0)
    weights["context.level"][1] = -2.4  # scales around 1
    level = coded["context.level"].symbols.copy()
    level[1] = round(-2.4 * 4096)
    coded["context.level"] = CodedTensor(level, -12)
    weights["context.level"] = torch.from_numpy(coded["context.level"].values)
    shapes = config.grid_shapes(64, 96)
    network = ContextNetwork(config, coded)
    drawn = [np.rint(rng.laplace(0, 1, s)).astype(np.int32) for s in shapes]
    _, grids = encode_segment(network, dict(enumerate(drawn)))
    flat = torch.from_numpy(np.concatenate([g.ravel() for g in grids.values()])).float()
    estimate = float(ContextRate(config, 64, 96, CPU)(weights, flat, exact=True).bits)
    assert estimate == pytest.approx(sum(grid_bits(network, grids).values()), rel=0.005)
