from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.core import CoreConfig, Segment
from formats.errors import CoordXError, CorruptError, InputError, LimitError, VersionError
from formats.header import Header, NetworkFamily
from tests.formats.factory import image_header, video_header, with_colour

plain = st.builds(
    CoreConfig,
    levels=st.integers(1, 10),
    hidden=st.integers(1, 64),
    residuals=st.integers(0, 4),
    width=st.integers(1, 64),
    block=st.sampled_from([0, 3, 4, 5]),
    tile=st.sampled_from([0, *range(8, 16)]),
)
configs = st.builds(with_colour, plain, st.integers(0, 5), st.integers(0, 9))


@settings(deadline=None)
@given(configs, st.integers(1, 2000), st.integers(1, 2000))
def test_every_configuration_round_trips(config: CoreConfig, height: int, width: int) -> None:
    header = image_header(network=config, height=height, width=width)
    assert header.family == NetworkFamily.CORE
    assert Header.unpack(header.pack()) == header


def test_colour_grids_are_the_last_byte_of_the_header() -> None:
    assert image_header(network=CoreConfig()).pack()[-1] == 0
    for colour, level in ((3, 2), (5, 0), (1, 6), (2, 5)):
        header = image_header(network=CoreConfig(colour=colour, colour_level=level))
        assert header.pack()[-1] == 16 * level + colour
        assert Header.unpack(header.pack()) == header


@settings(deadline=None)
@given(configs, st.integers(1, 9000), st.integers(1, 9000))
def test_tiles_cover_every_grid_once(config: CoreConfig, height: int, width: int) -> None:
    segments = config.segments(height, width)
    assert len(segments) == config.segment_count(height, width)
    shapes = config.grid_shapes(height, width)
    assert config.latents(height, width) == sum(h * w for h, w in shapes)
    assert config.levels - 1 in segments[0].grids  # the coarsest come first
    for grid, (rows, cols) in enumerate(shapes):
        holders = [box for box in segments if grid in box.grids]
        crops = [box.crop(grid) for box in holders]
        for box, crop in zip(holders, crops, strict=True):
            assert list(box.shapes()) == list(box.grids) == sorted(box.grids)
            assert box.shapes()[grid] == size_of(crop)
        # Side by side without a gap, along both axes.
        for axis, length in enumerate((rows, cols)):
            spans = sorted({(c[axis].start, c[axis].stop) for c in crops})
            assert spans[0][0] == 0
            assert spans[-1][1] == length
            assert all(a[1] == b[0] for a, b in pairwise(spans))
        assert len(holders) in (1, len(segments), len(segments) - 1)


def size_of(crop: tuple[slice, slice]) -> tuple[int, ...]:
    return tuple(c.stop - c.start for c in crop)


@settings(deadline=None)
@given(configs, st.integers(1, 3000), st.integers(1, 3000))
def test_parents_are_half_the_size_and_in_the_segment_or_in_the_first_one(
    config: CoreConfig, height: int, width: int
) -> None:
    segments = config.segments(height, width)
    for number, box in enumerate(segments):
        assert box.tile == (config.tile > 0 and 0 in box.grids)
        elsewhere = []
        for grid in box.grids:
            parent = config.parent(grid)
            if parent is None:
                continue
            assert config.level_of(parent) == config.level_of(grid) + 1
            own, over = box.crop(grid), box.crop(parent)
            assert size_of(over) == tuple(-(-side // 2) for side in size_of(own))
            assert [part.start for part in over] == [part.start // 2 for part in own]
            if parent not in box.grids:
                assert number > 0
                assert parent in segments[0].grids
                elsewhere.append(parent)
        assert box.parents() == elsewhere


def test_both_pyramids_have_numbers_levels_and_parents() -> None:
    config = CoreConfig(levels=5, colour=3, colour_level=1)
    assert config.grids == 8
    assert config.grid_levels == [0, 1, 2, 3, 4, 1, 2, 3]
    assert [config.level_of(grid) for grid in range(8)] == config.grid_levels
    assert [config.parent(grid) for grid in range(8)] == [1, 2, 3, 4, None, 6, 7, None]
    assert config.grid_shapes(33, 7) == [
        *((33, 7), (17, 4), (9, 2), (5, 1), (3, 1)),
        *((17, 4), (9, 2), (5, 1)),
    ]
    assert config.latents(33, 7) == sum(h * w for h, w in config.grid_shapes(33, 7))
    single = CoreConfig(levels=1, colour=1)
    assert [single.parent(0), single.parent(1)] == [None, None]
    assert [CoreConfig().parent(grid) for grid in range(7)] == [1, 2, 3, 4, 5, 6, None]


def test_tiles_have_the_fine_grids_of_both_pyramids() -> None:
    config = CoreConfig(levels=7, colour=4, colour_level=1, tile=8)
    segments = config.segments(300, 520)
    assert segments[0] == Segment(0, 0, 300, 520, (3, 4, 5, 6, 9, 10), config)
    assert segments[0].shapes() == {
        3: (38, 65),
        4: (19, 33),
        5: (10, 17),
        6: (5, 9),
        9: (38, 65),
        10: (19, 33),
    }
    assert segments[0].parents() == []
    corner = Segment(256, 512, 44, 8, (0, 1, 2, 7, 8), config, True)
    assert segments[6] == corner
    assert len(segments) == 7
    assert corner.shapes() == {0: (44, 8), 1: (22, 4), 2: (11, 2), 7: (22, 4), 8: (11, 2)}
    assert corner.parents() == [3, 9]
    assert corner.crop(7) == corner.crop(1) == (slice(128, 150), slice(256, 260))
    assert corner.crop(9) == corner.crop(3) == (slice(32, 38), slice(64, 65))


@pytest.mark.parametrize(
    ("levels", "colour", "level", "cut", "parents"),
    [
        (6, 3, 0, (0, 1, 2, 6, 7, 8), [3]),  # the coarsest colour grid is the last in tiles
        (6, 4, 0, (0, 1, 2, 6, 7, 8), [3, 9]),
        (6, 1, 2, (0, 1, 2, 6), [3]),
        (6, 2, 2, (0, 1, 2, 6), [3, 7]),
        (6, 3, 3, (0, 1, 2), [3]),  # no colour grid in tiles
        (3, 2, 1, (0, 1, 2, 3, 4), []),  # nothing but tiles
    ],
)
def test_pyramids_end_on_either_side_of_the_border(
    levels: int, colour: int, level: int, cut: tuple[int, ...], parents: list[int]
) -> None:
    config = CoreConfig(levels=levels, colour=colour, colour_level=level, tile=8)
    segments = config.segments(256, 257)
    tiles = [box for box in segments if box.tile]
    assert [(box.left, box.width) for box in tiles] == [(0, 256), (256, 1)]
    assert all(box.grids == cut for box in tiles)
    assert all(box.parents() == parents for box in tiles)
    others = tuple(grid for grid in range(config.grids) if grid not in cut)
    assert [box.grids for box in segments if not box.tile] == ([others] if others else [])


@pytest.mark.parametrize(
    ("block", "sides"),
    [
        (3, [8] * 10),
        (4, [16] * 10),
        (5, [32] * 10),
        (6, [64, 64, *[32] * 8]),
        (7, [128, 128, 64, 64, *[32] * 6]),
        (8, [256, 256, 128, 128, 64, 64, *[32] * 4]),
    ],
)
def test_blocks_are_halved_every_second_level_down_to_32(block: int, sides: list[int]) -> None:
    assert [CoreConfig(levels=10, block=block).side(level) for level in range(10)] == sides
    config = CoreConfig(levels=10, block=block, colour=5, colour_level=2)
    assert [config.side(grid) for grid in range(15)] == [*sides, *sides[2:7]]


def test_tensors_are_those_of_the_specification() -> None:
    config = CoreConfig(levels=3, hidden=8, residuals=1, width=4)
    specs = {spec.name: spec.shape for spec in config.tensors({"y": 9, "x": 9}, 3)}
    assert list(specs.items()) == [
        ("context.first", (4, 11)),
        ("context.parent", (4, 9)),
        ("context.bias", (4, 1)),
        ("context.hidden", (4, 4)),
        ("context.hidden_bias", (4,)),
        ("context.out", (2, 4)),
        ("context.level", (2, 3)),
        ("kernel", (2, 4)),
        ("filter", (3, 4)),
        ("tail.weight", (8, 3)),
        ("tail.bias", (8,)),
        ("output.weight", (3, 8)),
        ("output.bias", (3,)),
        ("skip", (3, 3)),
        ("residual0.weight", (3, 3, 3, 3)),
        ("residual0.bias", (3,)),
    ]
    sizes = [int(np.prod(shape)) for shape in specs.values()]
    assert config.parameters({}, 3) == sum(sizes)
    blocks = {spec.name: spec.shape for spec in CoreConfig(width=4, block=5).tensors({}, 3)}
    assert blocks["context.first"] == (4, 16)
    assert blocks["context.bias"] == (4, 5)
    single = {spec.name for spec in CoreConfig(levels=1).tensors({}, 1)}
    assert not single & {"context.parent", "kernel"}


def test_colour_grids_are_more_columns() -> None:
    fields = {"levels": 3, "hidden": 8, "residuals": 1, "width": 4}
    without = {spec.name: spec.shape for spec in CoreConfig(**fields).tensors({}, 3)}
    config = CoreConfig(colour=2, colour_level=1, **fields)
    specs = {spec.name: spec.shape for spec in config.tensors({}, 3)}
    assert list(specs) == list(without)
    assert {name: shape for name, shape in specs.items() if shape != without[name]} == {
        "context.level": (2, 5),
        "filter": (5, 4),
        "tail.weight": (8, 5),
        "skip": (3, 5),
    }
    assert config.parameters({}, 3) == CoreConfig(**fields).parameters({}, 3) + 2 * (2 + 4 + 8 + 3)


def test_work_grows_with_the_image_and_the_network() -> None:
    small, large = CoreConfig(width=8), CoreConfig(width=16)
    lengths = {"y": 64, "x": 64}
    assert small.macs(lengths, 3) < large.macs(lengths, 3)
    assert large.macs(lengths, 3) < large.macs({"y": 128, "x": 64}, 3)
    assert 500 < large.macs({"y": 512, "x": 768}, 3) / (512 * 768) < 2500


def test_work_is_that_of_every_grid() -> None:
    config = CoreConfig(levels=3, hidden=8, residuals=1, width=4, colour=2, colour_level=1)
    fine, half, quarter = 64 * 48, 32 * 24, 16 * 12
    latents = fine + 2 * half + 2 * quarter
    # Both grids of half the size pass one stage, those of a quarter one more before it.
    upsampled = 2 * fine + 2 * (half + fine)
    pixel = 8 * (5 + 3) + 3 * 5 + 9 * 3 * 3
    wanted = latents * (config.context_macs + 14) + 8 * upsampled + fine * pixel
    assert config.macs({"y": 64, "x": 48}, 3) == wanted


@pytest.mark.parametrize(
    "changes",
    [
        {"levels": 0},
        {"levels": 11},
        {"hidden": 65},
        {"residuals": 5},
        {"width": 0},
        {"block": 9},
        {"block": 2},
        {"block": 5, "prior": 1, "width": 16, "hidden": 32},
        {"block": 6, "tile": 8},
        {"prior": 200},
        {"tile": 7},
        {"tile": 16},
        {"levels": 2.0},
        {"colour": -1},
        {"colour": 6, "levels": 10},
        {"colour": 1.0},
        {"colour": 3, "levels": 2},
        {"colour": 1, "colour_level": 7},
        {"colour": 3, "colour_level": 5},
        {"colour": 5, "colour_level": 6, "levels": 10},
        {"colour": 0, "colour_level": 2},
        {"colour_level": -1, "colour": 1},
        {"colour_level": 10, "colour": 1, "levels": 10},
    ],
)
def test_impossible_networks_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"core network {next(iter(changes))}: "):
        CoreConfig(**changes)  # type: ignore[arg-type]


def test_colour_grids_reach_up_to_the_coarsest_level() -> None:
    for levels, colour, level in ((1, 1, 0), (5, 5, 0), (7, 3, 4), (9, 5, 4), (8, 1, 7)):
        config = CoreConfig(levels=levels, colour=colour, colour_level=level)
        assert config.grid_levels[-1] == levels - 1
        with pytest.raises(InputError, match=f"core network colour: .* {levels} levels, got"):
            CoreConfig(levels=levels, colour=colour, colour_level=level + 1)


@pytest.mark.parametrize(
    ("position", "value", "error", "words"),
    [
        (9, 1, VersionError, "table set 1 .* before the first release"),
        (9, 2, VersionError, "table set 2 .* before the first release"),
        (9, 3, VersionError, "table set 3 .* before the first release"),
        (9, 4, VersionError, "table set 4 .* before the first release"),
        (9, 6, VersionError, "table set 6 .* a later version"),
        (10, 2, VersionError, "network family 2"),
        (11, 0, CorruptError, "levels"),
        (11, 11, CorruptError, "levels"),
        (12, 0, CorruptError, "hidden"),
        (13, 5, CorruptError, "residuals"),
        (14, 65, CorruptError, "width"),
        (15, 9, CorruptError, "block"),
        (15, 2, CorruptError, "block"),
        (16, 200, VersionError, "prior 200"),
        (17, 7, CorruptError, "tile"),
        (17, 255, CorruptError, "tile"),
        (18, 128, CorruptError, "gain"),
        (19, 0x06, CorruptError, "colour: expected an integer in 0..5, got 6"),
        (19, 0x08, CorruptError, "colour: expected an integer in 0..5, got 8"),
        (19, 0x10, CorruptError, "colour: .* 7 levels, got 0 from level 1 on"),
        (19, 0x53, CorruptError, "colour: .* 7 levels, got 3 from level 5 on"),
        (19, 0x71, CorruptError, "colour: .* 7 levels, got 1 from level 7 on"),
        (19, 0xA1, CorruptError, "colour_level: expected an integer in 0..9, got 10"),
        (19, 0xFF, CorruptError, "colour"),
    ],
)
def test_forbidden_fields_name_themselves(
    position: int, value: int, error: type[Exception], words: str
) -> None:
    payload = bytearray(image_header(network=CoreConfig()).pack())
    assert len(payload) == 20
    payload[position] = value
    with pytest.raises(error, match=words):
        Header.unpack(bytes(payload))


@given(st.binary(max_size=9))
def test_random_fields_never_escape_the_error_tree(fields: bytes) -> None:
    payload = image_header(network=CoreConfig()).pack()[:11] + fields
    try:
        header = Header.unpack(payload)
    except CoordXError:
        return
    assert header.pack() == payload


def test_videos_are_refused() -> None:
    with pytest.raises(InputError, match="a video cannot use core fusion"):
        video_header(network=CoreConfig())


def test_too_many_latents_are_limit_errors() -> None:
    header = image_header(network=CoreConfig(), width=16384, height=16384)
    with pytest.raises(LimitError, match="latents"):
        header.tensors(1)
