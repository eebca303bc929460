import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.context import ContextNetwork
from formats.core import CoreConfig
from formats.errors import CorruptError, InputError
from formats.latents import (
    MAX_LATENT,
    decode_by_passes,
    encode_segment,
    grid_bits,
    lossy_grids,
)
from formats.residuals import LatentDecoder
from formats.tables import latent_support
from formats.weights import CodedTensor
from tests.conformance import reference_core as reference
from tests.formats.decoders import decode_segment_alike as decode_segment
from tests.formats.factory import (
    core_tensors,
    numbered,
    same_grids,
    shapes_of,
    with_colour,
)


def network_of(config: CoreConfig, seed: int = 0, spread: float = 10) -> ContextNetwork:
    return ContextNetwork(config, named(config, seed, spread))


def named(config: CoreConfig, seed: int, spread: float) -> dict[str, CodedTensor]:
    names = [spec.name for spec in config.tensors({}, 1)]
    return dict(zip(names, core_tensors(config, 1, seed, spread), strict=True))


def constant(config: CoreConfig, mean32: int, scale: int) -> ContextNetwork:
    """A network that predicts the same everywhere."""
    return ContextNetwork(config, constant_tensors(config, mean32, scale))


def constant_tensors(config: CoreConfig, mean32: int, scale: int) -> dict[str, CodedTensor]:
    tensors = named(config, 0, 10)
    for tensor in tensors.values():
        tensor.symbols[:] = 0
    level = np.array([[mean32], [4 * (scale - 44)]]).repeat(config.grids, 1)
    tensors["context.level"] = CodedTensor(level.astype(np.int32), -5)
    return tensors


SIZES = st.one_of(
    st.sampled_from([(1, 1), (7, 7), (1, 50), (50, 1), (2, 3), (64, 64)]),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=SIZES,
    levels=st.integers(1, 8),
    colour=st.sampled_from([0, 0, 1, 2, 5]),
    colour_level=st.integers(0, 7),
    width=st.one_of(st.integers(1, 24), st.sampled_from([32, 33, 64])),
    block=st.sampled_from([0, 3, 4, 5, 6]),
    spread=st.sampled_from([0.0, 0.3, 3.0, 150.0, 4000.0, 1e8]),
    weights=st.sampled_from([0.5, 10.0, 20.0]),
)
def test_any_grids_round_trip(
    seed: int,
    size: tuple[int, int],
    levels: int,
    colour: int,
    colour_level: int,
    width: int,
    block: int,
    spread: float,
    weights: float,
) -> None:
    config = CoreConfig(levels=levels, width=width, block=block)
    config = with_colour(config, colour, colour_level)
    network = network_of(config, seed, weights)
    grids = numbered(config, *size, spread, seed)
    before = {number: grid.copy() for number, grid in grids.items()}
    data, seen = encode_segment(network, grids)
    assert same_grids(grids, before)
    shapes = shapes_of(config, *size)
    found = decode_segment(network, shapes, data, "test")
    assert same_grids(found, seen)
    assert {number: grid.shape for number, grid in found.items()} == shapes
    for grid in found.values():
        assert grid.dtype == np.int32
        assert int(np.abs(grid).max()) <= MAX_LATENT
    # What the decoder sees can be coded again without a further change.
    again, same = encode_segment(network, seen)
    assert again == data
    assert same_grids(same, seen)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    levels=st.integers(1, 8),
    colour=st.sampled_from([0, 1, 2, 5]),
    colour_level=st.integers(0, 7),
    block=st.sampled_from([0, 3, 4, 5, 6]),
    spread=st.sampled_from([0.3, 3.0, 150.0, 4000.0]),
)
def test_the_second_implementation_decodes_the_same(
    seed: int,
    size: tuple[int, int],
    levels: int,
    colour: int,
    colour_level: int,
    block: int,
    spread: float,
) -> None:
    config = with_colour(CoreConfig(levels=levels, width=5, block=block), colour, colour_level)
    tensors = named(config, seed, 10)
    data, seen = encode_segment(
        ContextNetwork(config, tensors), numbered(config, *size, spread, seed)
    )
    plain = reference.Config(
        *(size[1], size[0], 1, levels, 1, 0, 5, block, config.tile),
        colour=config.colour,
        colour_level=config.colour_level,
    )
    other = reference.Network(
        plain,
        {
            name: reference.Tensor(t.symbols.shape, t.step, t.symbols.reshape(-1).tolist())
            for name, t in tensors.items()
        },
    )
    found = reference.decode_segment(other, *size, data)
    assert found == {number: grid.tolist() for number, grid in seen.items()}


@pytest.mark.parametrize("scale", [1, 9, 10, 15, 16, 40, 63])
@pytest.mark.parametrize("mean32", [0, 13, 15, -16, 32736, -32736])
def test_latents_at_the_reach_are_kept_and_beyond_it_clamped(scale: int, mean32: int) -> None:
    config = CoreConfig(levels=1, block=3, width=1)
    network = constant(config, mean32, scale)
    nearest, reach = (mean32 + 16) >> 5, latent_support(scale)
    values = nearest + np.arange(-reach - 2, reach + 3, dtype=np.int64)
    grid = np.random.default_rng(0).permutation(values).reshape(1, -1)
    data, seen = encode_segment(network, {0: grid})
    assert same_grids(seen, {0: np.clip(grid, nearest - reach, nearest + reach)})
    found = decode_segment(network, {0: (1, grid.size)}, data, "test")
    assert same_grids(found, seen)
    assert int(np.abs(found[0]).max()) <= MAX_LATENT


def test_certain_latents_take_no_bytes() -> None:
    config = CoreConfig(levels=3)
    network = constant(config, 50, 0)
    data, seen = encode_segment(network, numbered(config, 20, 30))
    assert data == b""
    assert all(np.all(grid == 2) for grid in seen.values())
    found = decode_segment(network, shapes_of(config, 20, 30), b"", "test")
    assert same_grids(found, seen)
    assert sum(grid_bits(network, seen).values()) == 0
    with pytest.raises(CorruptError, match="has 4 bytes, its symbols need 0"):
        decode_segment(network, shapes_of(config, 20, 30), bytes(4), "test")


@pytest.mark.parametrize("colour", [0, 3])
def test_the_estimate_is_the_length_of_the_stream(colour: int) -> None:
    config = with_colour(CoreConfig(levels=5), colour, 1)
    for seed in range(4):
        network = network_of(config, seed)
        grids = numbered(config, 90, 120, 4.0, seed)
        data, seen = encode_segment(network, grids)
        bits = grid_bits(network, grids)
        assert list(bits) == list(range(5 + colour))
        assert bits == grid_bits(network, seen)
        total = sum(bits.values())
        assert total <= 8 * len(data) <= total * 1.0005 + 64


def test_grids_are_counted_separately() -> None:
    config = CoreConfig(levels=3, width=1, colour=2, colour_level=1)
    network = constant(config, 0, 22)
    grids = zeros(config, 16, 16)
    bits = grid_bits(network, grids)
    assert bits[0] == pytest.approx(4 * bits[1])
    assert bits[1] == pytest.approx(4 * bits[2])
    assert (bits[3], bits[4]) == (bits[1], bits[2])
    # Of a part of them, and of one that costs more.
    assert grid_bits(network, {4: grids[4], 2: grids[2]}) == {4: bits[4], 2: bits[2]}
    grids[3][2, 5] = 9
    more = grid_bits(network, grids)
    assert more.pop(3) > bits.pop(3) + 8
    assert more == bits


def zeros(config: CoreConfig, height: int, width: int) -> dict[int, npt.NDArray[np.int32]]:
    shapes = shapes_of(config, height, width)
    return {number: np.zeros(shape, np.int32) for number, shape in shapes.items()}


def test_grids_of_which_latents_would_be_lost_have_their_bits() -> None:
    config = CoreConfig(levels=3, width=1, colour=2, colour_level=1)
    network = constant(config, 0, 0)  # certain that all are zero
    grids = zeros(config, 16, 16)
    mask, seen = lossy_grids(network, grids)
    assert mask == 0
    assert same_grids(seen, grids)
    grids[3][2, 5], grids[1][0, 0] = -1, 2
    mask, seen = lossy_grids(network, grids)
    assert mask == 0b01010
    assert same_grids(seen, grids)
    grids[4][0, 0], grids[1][0, 0] = 1, 0
    assert lossy_grids(network, grids)[0] == 0b11000
    tile = {number: grids[number] for number in (0, 1, 3)}
    assert lossy_grids(network, tile, {2: grids[2], 4: grids[4]})[0] == 0b01000
    # Coded in full, they come back; the other grids stay free.
    whole = ContextNetwork(config, constant_tensors(config, 0, 0), 0b11000)
    data, seen = encode_segment(whole, grids)
    assert same_grids(seen, grids)
    assert same_grids(decode_segment(whole, shapes_of(config, 16, 16), data, "test"), grids)
    bits = grid_bits(whole, grids)
    assert [number for number, value in bits.items() if value] == [3, 4]


@pytest.mark.parametrize("block", [0, 3])
def test_grids_of_one_pyramid_know_nothing_of_the_other(block: int) -> None:
    config = CoreConfig(levels=4, colour=3, colour_level=1, block=block)
    network = network_of(config, 4)
    grids = numbered(config, 40, 50)
    bits = grid_bits(network, grids)
    changed = {n: grid + 5 * (n >= 4) for n, grid in grids.items()}
    other = grid_bits(network, changed)
    assert [n for n in bits if bits[n] != other[n]] == [4, 5, 6]
    # The parent of a colour grid is the next colour grid, not that of the level.
    changed = {n: grid + 5 * (n in (3, 6)) for n, grid in grids.items()}
    other = grid_bits(network, changed)
    assert [n for n in bits if bits[n] != other[n]] == [2, 3, 5, 6]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    levels=st.integers(2, 7),
    colour=st.integers(0, 5),
    colour_level=st.integers(0, 6),
    cut=st.integers(1, 6),
    block=st.sampled_from([0, 3, 5]),
)
def test_fine_grids_of_both_pyramids_are_coded_with_the_coarse_ones(
    seed: int,
    size: tuple[int, int],
    levels: int,
    colour: int,
    colour_level: int,
    cut: int,
    block: int,
) -> None:
    """As tiles are: those below the level `cut`, whose parents are known."""
    config = with_colour(CoreConfig(levels=levels, width=5, block=block), colour, colour_level)
    network = network_of(config, seed)
    shapes = shapes_of(config, *size)
    grids = numbered(config, *size, 4.0, seed)
    known: dict[int, npt.NDArray[np.int32]] = {}
    found: dict[int, npt.NDArray[np.int32]] = {}
    for part in (
        [n for n in shapes if config.level_of(n) >= cut],
        [n for n in shapes if config.level_of(n) < cut],
    ):
        if not part:
            continue
        own = {n: grids[n] for n in part}
        parents = {n: known[n] for n in map(config.parent, part) if n in known}
        data, seen = encode_segment(network, own, parents)
        decoded = decode_segment(network, {n: shapes[n] for n in part}, data, "test", parents)
        assert same_grids(decoded, seen)
        if parents:
            first = next(iter(parents))
            with pytest.raises(InputError, match=f"needs grid {first}, half the size, got None"):
                encode_segment(network, own, {n: g for n, g in parents.items() if n != first})
        known |= seen
        found |= decoded
    # Every latent is predicted from the same as if all were coded together.
    together = encode_segment(network, grids)[1]
    assert same_grids({n: found[n] for n in together}, together)


@pytest.mark.parametrize("colour", [0, 2])
def test_streams_of_another_length_are_refused(colour: int) -> None:
    config = with_colour(CoreConfig(levels=3), colour, 0)
    network = network_of(config, 3)
    shapes = shapes_of(config, 30, 30)
    data, _ = encode_segment(network, numbered(config, 30, 30, 5.0))
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
        decode_segment(network, {0: (1000, 1000)}, bytes(8), "test")
    passes = []
    decode = LatentDecoder.decode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LatentDecoder, "decode", lambda *a: (passes.append(1), decode(*a))[1])
        with pytest.raises(CorruptError):
            decode_by_passes(network, {0: (1000, 1000)}, bytes(8), "test")
    assert len(passes) == 1


def test_garbage_gives_a_typed_error_or_latents_in_range() -> None:
    rng = np.random.default_rng(2)
    config = CoreConfig(levels=2, width=4)
    shapes = shapes_of(config, 9, 9)
    refused = 0
    for seed in range(300):
        data = rng.integers(0, 256, int(rng.integers(0, 400)), dtype=np.uint8).tobytes()
        try:
            grids = decode_segment(network_of(config, seed), shapes, data, "test")
        except CorruptError:
            refused += 1
            continue
        assert all(int(np.abs(grid).max()) <= MAX_LATENT for grid in grids.values())
    assert refused > 250


@pytest.mark.parametrize("colour", [0, 2])
def test_every_changed_byte_is_refused_or_changes_the_latents(colour: int) -> None:
    config = with_colour(CoreConfig(levels=3, width=4), colour, 1)
    network = network_of(config, 1)
    shapes = shapes_of(config, 12, 12)
    data, seen = encode_segment(network, numbered(config, 12, 12, 5.0))
    for position in range(len(data) - 4):
        changed = bytearray(data)
        changed[position] ^= 0x10
        try:
            grids = decode_segment(network, shapes, bytes(changed), "test")
        except CorruptError:
            continue
        assert not same_grids(grids, seen)


def test_grids_that_do_not_fit_are_refused() -> None:
    network = network_of(CoreConfig(levels=2, colour=2))
    good = numbered(network.config, 9, 9)
    one, few, other = good[0], good[1], np.zeros((5, 4), np.int32)
    for bad, words in (
        ({}, r"expected some of 4 grids, got \[\]"),
        (good | {4: few}, r"expected some of 4 grids, got \[0, 1, 2, 3, 4\]"),
        ({-1: one, 0: few}, "expected some of 4 grids"),
        ({0: one}, r"grid 0, \(9, 9\), needs grid 1, half the size, got None"),
        ({0: few, 1: one}, r"grid 0, \(5, 5\), needs grid 1, half the size, got \(9, 9\)"),
        ({0: one, 1: few, 2: one}, r"grid 2, \(9, 9\), needs grid 3, half the size, got None"),
        (good | {3: other}, r"grid 2, \(9, 9\), needs grid 3, half the size, got \(5, 4\)"),
        (good | {0: one.reshape(-1)}, r"expected a grid, got the shape \(81,\)"),
        ({1: np.zeros((0, 3), np.int32)}, r"expected a grid, got the shape \(0, 3\)"),
    ):
        for work in (encode_segment, grid_bits, lossy_grids):
            with pytest.raises(InputError, match=words):
                work(network, bad)
    for known in ({1: one}, {3: few}, {1: few, 4: few}):
        with pytest.raises(InputError, match="needs grid 1|some of 4 grids"):
            encode_segment(network, {0: one}, known)
    assert encode_segment(network, {0: one}, {1: few})[0]
