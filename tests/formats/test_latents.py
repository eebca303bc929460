import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.context import ContextNetwork
from formats.core import CoreConfig
from formats.errors import CorruptError, InputError
from formats.latents import MAX_LATENT, decode_by_passes, encode_segment, grid_bits
from formats.residuals import LatentDecoder
from formats.tables import latent_support
from formats.weights import CodedTensor
from tests.conformance import reference_core as reference
from tests.formats.decoders import decode_segment_alike as decode_segment
from tests.formats.factory import core_grids, core_tensors


def network_of(config: CoreConfig, seed: int = 0, spread: float = 10) -> ContextNetwork:
    return ContextNetwork(config, named(config, seed, spread))


def named(config: CoreConfig, seed: int, spread: float) -> dict[str, CodedTensor]:
    names = [spec.name for spec in config.tensors({}, 1)]
    return dict(zip(names, core_tensors(config, 1, seed, spread), strict=True))


def constant(config: CoreConfig, mean32: int, scale: int) -> ContextNetwork:
    """A network that predicts the same everywhere."""
    tensors = named(config, 0, 10)
    for tensor in tensors.values():
        tensor.symbols[:] = 0
    level = np.array([[mean32], [4 * (scale - 44)]]).repeat(config.levels, 1)
    tensors["context.level"] = CodedTensor(level.astype(np.int32), -5)
    return ContextNetwork(config, tensors)


SIZES = st.one_of(
    st.sampled_from([(1, 1), (7, 7), (1, 50), (50, 1), (2, 3), (64, 64)]),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=SIZES,
    levels=st.integers(1, 8),
    width=st.one_of(st.integers(1, 24), st.sampled_from([32, 33, 64])),
    block=st.sampled_from([0, 3, 4, 5, 6]),
    spread=st.sampled_from([0.0, 0.3, 3.0, 150.0, 4000.0, 1e8]),
    weights=st.sampled_from([0.5, 10.0, 20.0]),
)
def test_any_grids_round_trip(
    seed: int,
    size: tuple[int, int],
    levels: int,
    width: int,
    block: int,
    spread: float,
    weights: float,
) -> None:
    config = CoreConfig(levels=levels, width=width, block=block)
    network = network_of(config, seed, weights)
    grids = core_grids(config, *size, spread, seed)
    before = [grid.copy() for grid in grids]
    data, seen = encode_segment(network, grids)
    assert all(np.array_equal(a, b) for a, b in zip(grids, before, strict=True))
    shapes = config.grid_shapes(*size)
    found = decode_segment(network, shapes, data, "test")
    for a, b, shape in zip(found, seen, shapes, strict=True):
        assert a.shape == shape
        assert a.dtype == np.int32
        assert np.array_equal(a, b)
        assert int(np.abs(a).max()) <= MAX_LATENT
    # What the decoder sees can be coded again without a further change.
    again, same = encode_segment(network, seen)
    assert again == data
    assert all(np.array_equal(a, b) for a, b in zip(same, seen, strict=True))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    levels=st.integers(1, 8),
    block=st.sampled_from([0, 3, 4, 5, 6]),
    spread=st.sampled_from([0.3, 3.0, 150.0, 4000.0]),
)
def test_the_second_implementation_decodes_the_same(
    seed: int, size: tuple[int, int], levels: int, block: int, spread: float
) -> None:
    config = CoreConfig(levels=levels, width=5, block=block)
    tensors = named(config, seed, 10)
    data, seen = encode_segment(
        ContextNetwork(config, tensors), core_grids(config, *size, spread, seed)
    )
    plain = reference.Config(size[1], size[0], 1, levels, 1, 0, 5, block, config.tile)
    other = reference.Network(
        plain,
        {
            name: reference.Tensor(t.symbols.shape, t.step, t.symbols.reshape(-1).tolist())
            for name, t in tensors.items()
        },
    )
    assert reference.decode_segment(other, *size, data) == [grid.tolist() for grid in seen]


@pytest.mark.parametrize("scale", [1, 9, 10, 15, 16, 40, 63])
@pytest.mark.parametrize("mean32", [0, 13, 15, -16, 32736, -32736])
def test_latents_at_the_reach_are_kept_and_beyond_it_clamped(scale: int, mean32: int) -> None:
    config = CoreConfig(levels=1, block=3, width=1)
    network = constant(config, mean32, scale)
    nearest, reach = (mean32 + 16) >> 5, latent_support(scale)
    values = nearest + np.arange(-reach - 2, reach + 3, dtype=np.int64)
    grid = np.random.default_rng(0).permutation(values).reshape(1, -1)
    data, (seen,) = encode_segment(network, [grid])
    assert np.array_equal(seen, np.clip(grid, nearest - reach, nearest + reach))
    (found,) = decode_segment(network, [grid.shape], data, "test")
    assert np.array_equal(found, seen)
    assert int(np.abs(found).max()) <= MAX_LATENT


def test_certain_latents_take_no_bytes() -> None:
    config = CoreConfig(levels=3)
    network = constant(config, 50, 0)
    data, seen = encode_segment(network, core_grids(config, 20, 30))
    assert data == b""
    assert all(np.all(grid == 2) for grid in seen)
    found = decode_segment(network, config.grid_shapes(20, 30), b"", "test")
    assert all(np.array_equal(a, b) for a, b in zip(found, seen, strict=True))
    assert sum(grid_bits(network, seen)) == 0
    with pytest.raises(CorruptError, match="has 4 bytes, its symbols need 0"):
        decode_segment(network, config.grid_shapes(20, 30), bytes(4), "test")


def test_the_estimate_is_the_length_of_the_stream() -> None:
    config = CoreConfig(levels=5)
    for seed in range(4):
        network = network_of(config, seed)
        grids = core_grids(config, 90, 120, 4.0, seed)
        data, seen = encode_segment(network, grids)
        bits = grid_bits(network, grids)
        assert len(bits) == 5
        assert bits == grid_bits(network, seen)
        assert sum(bits) <= 8 * len(data) <= sum(bits) * 1.0005 + 64


def test_levels_are_counted_separately() -> None:
    config = CoreConfig(levels=3, width=1)
    network = constant(config, 0, 22)
    grids = [np.zeros(shape, np.int32) for shape in config.grid_shapes(16, 16)]
    bits = grid_bits(network, grids)
    assert bits[0] == pytest.approx(4 * bits[1])
    assert bits[1] == pytest.approx(4 * bits[2])


def test_streams_of_another_length_are_refused() -> None:
    config = CoreConfig(levels=3)
    network = network_of(config, 3)
    shapes = config.grid_shapes(30, 30)
    data, _ = encode_segment(network, core_grids(config, 30, 30, 5.0))
    for extra in (bytes(4), b"\xff" * 4, bytes(8), b"\x01\x02\x03\x04"):
        with pytest.raises(CorruptError, match=f"tile 7: .* has {len(data) + len(extra)} bytes"):
            decode_segment(network, shapes, data + extra, "tile 7")
    for length in range(len(data)):
        with pytest.raises(CorruptError, match="tile 7"):
            decode_segment(network, shapes, data[:length], "tile 7")


def test_a_stream_that_is_too_short_ends_the_work_at_once() -> None:
    config = CoreConfig(levels=1, block=5)
    network = constant(config, 0, 40)
    with pytest.raises(CorruptError, match="has 8 bytes, its symbols need more"):
        decode_segment(network, [(1000, 1000)], bytes(8), "test")
    passes = []
    decode = LatentDecoder.decode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LatentDecoder, "decode", lambda *a: (passes.append(1), decode(*a))[1])
        with pytest.raises(CorruptError):
            decode_by_passes(network, [(1000, 1000)], bytes(8), "test")
    assert len(passes) == 1


def test_garbage_gives_a_typed_error_or_latents_in_range() -> None:
    rng = np.random.default_rng(2)
    config = CoreConfig(levels=2, width=4)
    shapes = config.grid_shapes(9, 9)
    refused = 0
    for seed in range(300):
        data = rng.integers(0, 256, int(rng.integers(0, 400)), dtype=np.uint8).tobytes()
        try:
            grids = decode_segment(network_of(config, seed), shapes, data, "test")
        except CorruptError:
            refused += 1
            continue
        assert all(int(np.abs(grid).max()) <= MAX_LATENT for grid in grids)
    assert refused > 250


def test_every_changed_byte_is_refused_or_changes_the_latents() -> None:
    config = CoreConfig(levels=3, width=4)
    network = network_of(config, 1)
    shapes = config.grid_shapes(12, 12)
    data, seen = encode_segment(network, core_grids(config, 12, 12, 5.0))
    for position in range(len(data) - 4):
        changed = bytearray(data)
        changed[position] ^= 0x10
        try:
            grids = decode_segment(network, shapes, bytes(changed), "test")
        except CorruptError:
            continue
        assert any(not np.array_equal(a, b) for a, b in zip(grids, seen, strict=True))


def test_grids_that_do_not_fit_are_refused() -> None:
    config = CoreConfig(levels=2)
    network = network_of(config)
    good = core_grids(config, 9, 9)
    empty = [np.zeros((0, 5), np.int32), np.zeros((0, 3), np.int32)]
    for bad in (empty, good[:1], good[::-1], [good[0].reshape(-1), good[1]], [], [*good, good[1]]):
        with pytest.raises(InputError, match="2 grids"):
            encode_segment(network, bad)
