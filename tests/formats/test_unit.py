import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from formats import limits
from formats.container import SIGNATURE, Container, write_container
from formats.core import CoreConfig
from formats.cursor import Writer
from formats.errors import (
    CoordXError,
    CorruptError,
    FormatError,
    InputError,
    LimitError,
    TruncatedError,
)
from formats.header import Header
from formats.latents import MAX_LATENT
from formats.unit import CoreUnit, pack_core_unit, unpack_core_unit
from formats.weights import CodedTensor
from tests.formats.factory import (
    core_grids,
    core_tensors,
    image_file,
    image_header,
    same_grids,
    with_colour,
)
from tests.formats.test_container import END, START, chunk

SMALL = CoreConfig(levels=3, hidden=3, residuals=1, width=4, block=3)
COLOURED = CoreConfig(levels=3, hidden=3, residuals=1, width=4, block=3, colour=2, colour_level=1)


def header_of(config: CoreConfig, height: int, width: int, channels: int = 3) -> Header:
    return image_header(network=config, height=height, width=width, channels=channels)


def payload_of(config: CoreConfig, height: int, width: int, spread: float = 3.0) -> bytes:
    grids = core_grids(config, height, width, spread)
    return pack_core_unit(0, config, core_tensors(config, 3), grids, height, width)[0]


def small_file(config: CoreConfig = SMALL) -> bytes:
    return write_container(header_of(config, 9, 14), [payload_of(config, 9, 14)], [1])


def silent(config: CoreConfig, channels: int = 3) -> bytes:
    """The shortest weights: every tensor is zero; no grid is coded in full."""
    return b"\x00" + b"\xff" * len(config.tensors({}, channels)) + b"\x00\x00"


@pytest.mark.parametrize(
    ("height", "width", "channels", "config"),
    [
        (37, 53, 3, CoreConfig()),
        (1, 1, 1, CoreConfig(levels=1, block=3)),
        (7, 7, 3, CoreConfig(levels=3, block=8)),
        (1, 300, 3, CoreConfig(tile=8, width=3)),
        (300, 600, 3, CoreConfig(tile=8, width=8)),
        (300, 600, 3, CoreConfig(tile=8, levels=3, width=8)),
        (20, 30, 4, CoreConfig(block=3, levels=8, width=3)),
        (37, 53, 3, CoreConfig(colour=3, colour_level=2)),
        (5, 9, 3, CoreConfig(levels=1, colour=1, width=3)),
        (300, 600, 3, CoreConfig(tile=8, width=8, colour=4, colour_level=1)),
        (300, 600, 3, CoreConfig(tile=8, levels=3, width=8, colour=3)),
        (300, 270, 3, CoreConfig(tile=8, width=3, block=5, colour=2, colour_level=3)),
    ],
)
def test_files_of_core_fusion_round_trip(
    height: int, width: int, channels: int, config: CoreConfig
) -> None:
    header = header_of(config, height, width, channels)
    tensors = core_tensors(config, channels)
    grids = core_grids(config, height, width)
    payload, seen = pack_core_unit(0, config, tensors, grids, height, width)
    with Container.open(write_container(header, [payload], [1])) as box:
        assert [span.kind for span in box.verify()] == ["H", "U", "E"]
        assert box.header == header
        unit = box.core_unit(0)
        weights = box.unit(0)
    for tensor, a, b in zip(tensors, unit.tensors, weights, strict=True):
        assert np.array_equal(tensor.symbols, a.symbols)
        assert np.array_equal(tensor.symbols, b.symbols)
        assert tensor.step == a.step == b.step
    for a, b in zip(seen, unit.grids(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("colour", [0, 2, 3])
@pytest.mark.parametrize("levels", [3, 6])
def test_a_tile_is_decoded_without_the_others(levels: int, colour: int) -> None:
    config = with_colour(CoreConfig(tile=8, width=4, levels=levels), colour, 1)
    header = header_of(config, 300, 520)
    payload, seen = pack_core_unit(
        0, config, core_tensors(config, 3), core_grids(config, 300, 520), 300, 520
    )
    unit = unpack_core_unit(payload, 0, header)
    shared = int(levels > 3)
    assert len(unit.segments) == len(unit.streams) == 6 + shared
    for index in range(shared, shared + 6):
        box = unit.segments[index]
        alone = CoreUnit(
            unit.number,
            unit.tensors,
            unit.network,
            unit.height,
            unit.width,
            unit.segments,
            [s if i == index or i < shared else b"broken" for i, s in enumerate(unit.streams)],
        )
        found = alone.grids(lambda tile, wanted=box: tile == wanted)  # type: ignore[misc]
        for number, grid in enumerate(found):
            part = box.crop(number) if number in box.grids else ...
            assert np.array_equal(grid[part], seen[number][part])
            if number in box.grids:
                assert np.count_nonzero(grid) == np.count_nonzero(grid[part])
    with pytest.raises(CorruptError, match=f"unit 0, segment {shared}"):
        alone.grids()
    for index in (-1, 6 + shared):
        with pytest.raises(InputError, match=rf"segment: expected 0\.\.{5 + shared}"):
            unit.segment(index)
    if shared:
        parents = [3, 8] if colour == 3 else [3]
        with pytest.raises(InputError, match=rf"a tile needs the grids \{parents}"):
            unit.segment(1)
        for number in parents:
            others = {n: grid for n, grid in enumerate(seen) if n != number}
            with pytest.raises(InputError, match=rf"a tile needs the grids \[{number}\] of"):
                unit.segment(1, others)
        assert unit.segment(1, {n: seen[n] for n in parents}).keys() == set(unit.segments[1].grids)


def test_decoding_by_segments_tells_what_each_was_coded_with() -> None:
    config = CoreConfig(levels=7, tile=8, width=4, colour=4, colour_level=1)
    tensors, grids = core_tensors(config, 3), core_grids(config, 300, 520)
    payload, seen = pack_core_unit(0, config, tensors, grids, 300, 520)
    unit = unpack_core_unit(payload, 0, header_of(config, 300, 520))
    found = list(unit.decode())
    assert [box for box, _, _ in found] == unit.segments
    for box, own, known in found:
        assert list(known) == ([3, 9] if box.tile else [])
        assert same_grids(own, {n: seen[n][box.crop(n)] for n in box.grids})
        assert same_grids(known, {n: seen[n][box.crop(n)] for n in known})
    few = list(unit.decode(lambda box: box.left == 256))
    assert [box.left for box, _, _ in few] == [0, 256, 256]  # the coarse grids come with any
    assert same_grids(few[1][1], found[2][1])


@pytest.mark.parametrize("config", [SMALL, COLOURED], ids=["levels", "colour"])
def test_latents_out_of_range_are_clamped_as_the_decoder_sees_them(config: CoreConfig) -> None:
    grids = [
        np.full(shape, 10**9 * (-1) ** number, np.int64)
        for number, shape in enumerate(config.grid_shapes(9, 14))
    ]
    payload, seen = pack_core_unit(0, config, core_tensors(config, 3), grids, 9, 14)
    found = unpack_core_unit(payload, 0, header_of(config, 9, 14)).grids()
    for a, b in zip(found, seen, strict=True):
        assert np.array_equal(a, b)
        assert 0 < int(np.abs(a).max()) <= MAX_LATENT


# -- what an encoder may not hand over ---------------------------------------------------------


def test_what_does_not_fit_the_configuration_is_refused() -> None:
    tensors, grids = core_tensors(SMALL, 3), core_grids(SMALL, 9, 9)
    with pytest.raises(InputError, match="expected grids"):
        pack_core_unit(0, SMALL, tensors, grids, 9, 8)
    with pytest.raises(InputError, match="expected grids"):
        pack_core_unit(0, COLOURED, core_tensors(COLOURED, 3), grids, 9, 9)
    with pytest.raises(InputError, match="expected 16 tensors, got 15"):
        pack_core_unit(0, SMALL, tensors[:-1], grids, 9, 9)
    wrong = [*tensors[:-1], CodedTensor(np.zeros(2, np.int32), 0)]
    with pytest.raises(InputError, match="residual0.bias"):
        pack_core_unit(0, SMALL, wrong, grids, 9, 9)
    large = [CodedTensor(np.full_like(tensors[0].symbols, 60_000), 0), *tensors[1:]]
    with pytest.raises(CorruptError, match="2\\^24"):
        pack_core_unit(0, SMALL, large, grids, 9, 9)


# -- damage ------------------------------------------------------------------------------------


def test_every_prefix_of_a_file_is_truncated() -> None:
    data = small_file()
    for length in range(len(data)):
        with pytest.raises(TruncatedError):
            Container.open(data[:length]).verify()


@pytest.mark.parametrize("config", [SMALL, COLOURED], ids=["levels", "colour"])
def test_every_flipped_bit_is_a_typed_error(config: CoreConfig) -> None:
    data = small_file(config)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            Container.open(bytes(changed)).verify()


@pytest.mark.parametrize("config", [SMALL, COLOURED], ids=["levels", "colour"])
def test_every_prefix_of_a_payload_is_a_typed_error(config: CoreConfig) -> None:
    header, payload = header_of(config, 9, 14), payload_of(config, 9, 14)
    for length in range(len(payload)):
        with pytest.raises(FormatError, match="unit 0"):
            unpack_core_unit(payload[:length], 0, header).verify()
    with pytest.raises(CorruptError, match="left over"):
        unpack_core_unit(payload + b"\x00", 0, header)


@pytest.mark.parametrize("config", [SMALL, COLOURED], ids=["levels", "colour"])
def test_mutations_with_repaired_checksums_give_typed_errors_or_latents_in_range(
    config: CoreConfig,
) -> None:
    """The checksum would hide every parser bug: repair it after each mutation."""
    rng = np.random.default_rng(5)
    head, unit = header_of(config, 9, 14).pack(), payload_of(config, 9, 14)
    survived = 0
    for _ in range(1500):
        parts = [bytearray(head), bytearray(unit)]
        part = parts[int(rng.random() < 0.7)]
        for _ in range(int(rng.integers(1, 4))):
            # The fields of the payload are its first bytes: look there more often.
            place = int(len(part) * rng.random() ** 3)
            part[place] = int(rng.integers(256))
        data = START + chunk(b"H", bytes(parts[0])) + chunk(b"U", bytes(parts[1])) + END
        try:
            box = Container.open(data)
            if box.header.width * box.header.height > 20_000:
                continue
            grids = box.core_unit(0).grids()
        except CoordXError:
            continue
        survived += 1
        assert all(int(np.abs(grid).max()) <= MAX_LATENT for grid in grids)
    assert survived > 0


@pytest.mark.parametrize("tile", [0, 8])
def test_certain_latents_are_skipped_only_where_none_is_lost(tile: int) -> None:
    config = CoreConfig(
        levels=4, hidden=1, residuals=0, width=2, block=3, tile=tile, colour=2, colour_level=2
    )
    tensors = []
    for spec in config.tensors({}, 3):
        symbols = np.zeros(spec.shape, np.int32)
        if spec.name == "context.level":
            symbols[1] = -100  # far below the least scale index
        tensors.append(CodedTensor(symbols, 0))
    grids = [np.zeros(shape, np.int32) for shape in config.grid_shapes(300, 270)]
    size = len(pack_core_unit(0, config, tensors, grids, 300, 270)[0])
    grids[2][50, 30], grids[0][290, 20], grids[0][290, 21] = 3, -1, 300
    grids[4][60, 9] = -2  # in a tile; the other colour grid has none
    payload, seen = pack_core_unit(0, config, tensors, grids, 300, 270)
    unit = unpack_core_unit(payload, 0, header_of(config, 300, 270))
    assert unit.network.full == 0b010101
    grids[0][290, 21] = 255  # the reach of the table
    for found, expected in zip((*unit.grids(), *seen), (*grids, *grids), strict=True):
        assert np.array_equal(found, expected)
    # A few words for four latents, and nothing for the 1e5 around them.
    assert size < len(payload) < size + 80


def test_a_network_that_is_not_exact_is_refused_when_read() -> None:
    payload = bytearray(payload_of(SMALL, 9, 14))
    assert payload[2] == 18  # the step of context.first: 2^-6
    payload[2] = 32
    with pytest.raises(CorruptError, match=r"context\.first.*expected below 2\^24"):
        unpack_core_unit(bytes(payload), 0, header_of(SMALL, 9, 14))
    payload[2] = 16
    with pytest.raises(CorruptError, match=r"context\.first: expected a step"):
        unpack_core_unit(bytes(payload), 0, header_of(SMALL, 9, 14))


def test_lengths_that_do_not_add_up_are_refused() -> None:
    header = header_of(SMALL, 9, 14)
    front = silent(SMALL)
    # A silent network still codes (scale 44), so a real stream is needed for a valid unit.
    tensors = [CodedTensor(np.zeros(s.shape, np.int32), 0) for s in SMALL.tensors({}, 3)]
    payload, _ = pack_core_unit(0, SMALL, tensors, core_grids(SMALL, 9, 14), 9, 14)
    assert payload.startswith(front)
    stream = payload[len(front) + 1 :]
    assert payload[len(front)] == len(stream) < 128
    cases: list[tuple[bytes, type[FormatError], str]] = [
        (front, TruncatedError, "length of segment 0"),
        (front + Writer().varint(2**40).done() + stream, TruncatedError, "segment 0"),
        (front + Writer().varint(len(stream) - 4).done() + stream, CorruptError, "left over"),
        (front[:-1] + b"\x04" + bytes(8), CorruptError, "longer than its symbols"),
        (front[:-1] + Writer().varint(2**50).done(), TruncatedError, "weights"),
        (b"\x01" + front[1:], CorruptError, "expected its number, got 1"),
        (b"\x00\xfe" + front, CorruptError, "unknown table 254"),
        (b"\x00\x05\x21" + front, CorruptError, "at most 2"),
        (front[:-2] + b"\x08" + front[-1:], CorruptError, "expected a mask of 3 bits, got 0x8"),
    ]
    for data, error, words in cases:
        with pytest.raises(error, match=words):
            unpack_core_unit(data, 0, header)
    front = silent(COLOURED)
    for mask, error, words in (
        (0x20, CorruptError, "grids coded in full: expected a mask of 5 bits, got 0x20"),
        (0x1F, TruncatedError, "length of segment 0"),
    ):
        with pytest.raises(error, match=words):
            unpack_core_unit(front[:-2] + bytes([mask, 0]), 0, header_of(COLOURED, 9, 14))


def peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_bombs_are_refused_before_allocation() -> None:
    config = CoreConfig(levels=7)
    header = header_of(config, 12_000, 16_000)
    data = START + chunk(b"H", header.pack()) + chunk(b"U", silent(config) + b"\x00") + END

    def attack() -> None:
        with pytest.raises(LimitError, match="latents of unit 0 .* declares 255"):
            Container.open(data).verify()

    assert peak_of(attack) < 2**20
    # Tiles: the count follows from the header, each needs a byte.
    tiled = CoreConfig(levels=7, tile=8)
    head = header_of(tiled, 12_000, 16_000)
    lengths = bytes(400)
    short = START + chunk(b"H", head.pack()) + chunk(b"U", silent(tiled) + lengths) + END

    def again() -> None:
        with pytest.raises(TruncatedError, match="length of segment 400"):
            Container.open(short).verify()

    assert peak_of(again) < 2**20
    coloured = replace(config, colour=5, colour_level=0)
    more = header_of(coloured, 9_000, 16_000)
    bomb = START + chunk(b"H", more.pack()) + chunk(b"U", silent(coloured) + b"\x00") + END

    def colours() -> None:
        with pytest.raises(LimitError, match=f"declares {coloured.latents(9_000, 16_000)}"):
            Container.open(bomb).verify()

    assert peak_of(colours) < 2**20


@pytest.mark.parametrize(
    ("block", "height", "width", "bytes_per_latent"),
    [
        (3, 1000, 1000, 32),
        (5, 1000, 1000, 24),
        (8, 1000, 1000, 24),
        (8, 1025, 1025, 30),
        (3, 9, 30_001, 46),  # one more than whole blocks: the last ones are mostly empty
        (8, 257, 4000, 40),
    ],
)
def test_memory_is_a_small_multiple_of_the_latents(
    block: int, height: int, width: int, bytes_per_latent: int
) -> None:
    config = CoreConfig(levels=1, hidden=1, residuals=0, width=1, block=block)
    unit = unpack_core_unit(payload_of(config, 8, 8), 0, header_of(config, 8, 8))
    segments = config.segments(height, width)
    wide = CoreUnit(0, unit.tensors, unit.network, height, width, segments, [b""])

    def decode() -> None:
        with pytest.raises(CorruptError):
            wide.grids()

    assert peak_of(decode) < bytes_per_latent * config.latents(height, width)


def test_an_encoder_is_told_when_a_payload_is_too_short_for_its_latents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_LATENTS_PER_BYTE", 1)
    with pytest.raises(LimitError, match="latents of unit 0"):
        payload_of(SMALL, 90, 90, 0.0)


def test_rank_files_have_no_latents() -> None:
    data = image_file()
    assert data.startswith(SIGNATURE)
    with pytest.raises(InputError, match="rank fusion"):
        Container.open(data).core_unit(0)


def test_messages_name_the_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "broken.crdx"
    data = write_container(header_of(SMALL, 9, 14), [payload_of(SMALL, 9, 14)], [1])
    path.write_bytes(data)
    with Container.open(path) as box:
        unit = box.core_unit(0)
        unit.streams[0] = unit.streams[0] + bytes(4)
        with pytest.raises(CorruptError, match=r"broken\.crdx: unit 0, segment 0"):
            unit.segment(0)
