from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.core import CoreConfig
from formats.errors import CoordXError, CorruptError, InputError, LimitError, VersionError
from formats.header import Header, NetworkFamily
from tests.formats.factory import image_header, video_header

configs = st.builds(
    CoreConfig,
    levels=st.integers(1, 10),
    hidden=st.integers(1, 64),
    residuals=st.integers(0, 4),
    width=st.integers(1, 64),
    block=st.sampled_from([0, 3, 4, 5]),
    tile=st.sampled_from([0, *range(8, 16)]),
)


@settings(deadline=None)
@given(configs, st.integers(1, 2000), st.integers(1, 2000))
def test_every_configuration_round_trips(config: CoreConfig, height: int, width: int) -> None:
    header = image_header(network=config, height=height, width=width)
    assert header.family == NetworkFamily.CORE
    assert Header.unpack(header.pack()) == header


@settings(deadline=None)
@given(configs, st.integers(1, 9000), st.integers(1, 9000))
def test_tiles_cover_every_grid_once(config: CoreConfig, height: int, width: int) -> None:
    segments = config.segments(height, width)
    assert len(segments) == config.segment_count(height, width)
    shapes = config.grid_shapes(height, width)
    assert config.latents(height, width) == sum(h * w for h, w in shapes)
    assert segments[0].levels.stop == config.levels  # the coarsest come first
    for level, (rows, cols) in enumerate(shapes):
        holders = [box for box in segments if level in box.levels]
        crops = [box.crop(level) for box in holders]
        for box, crop in zip(holders, crops, strict=True):
            shape = box.shapes()[level - box.levels.start]
            assert shape == tuple(c.stop - c.start for c in crop)
        # Side by side without a gap, along both axes.
        for axis, length in enumerate((rows, cols)):
            spans = sorted({(c[axis].start, c[axis].stop) for c in crops})
            assert spans[0][0] == 0
            assert spans[-1][1] == length
            assert all(a[1] == b[0] for a, b in pairwise(spans))
        assert len(holders) in (1, len(segments), len(segments) - 1)


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


def test_work_grows_with_the_image_and_the_network() -> None:
    small, large = CoreConfig(width=8), CoreConfig(width=16)
    lengths = {"y": 64, "x": 64}
    assert small.macs(lengths, 3) < large.macs(lengths, 3)
    assert large.macs(lengths, 3) < large.macs({"y": 128, "x": 64}, 3)
    assert 500 < large.macs({"y": 512, "x": 768}, 3) / (512 * 768) < 2500


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
    ],
)
def test_impossible_networks_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"core network {next(iter(changes))}"):
        CoreConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("position", "value", "error", "words"),
    [
        (9, 1, VersionError, "table set 1 .* before the first release"),
        (9, 2, VersionError, "table set 2 .* before the first release"),
        (9, 3, VersionError, "table set 3 .* before the first release"),
        (9, 5, VersionError, "table set 5 .* a later version"),
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
    ],
)
def test_forbidden_fields_name_themselves(
    position: int, value: int, error: type[Exception], words: str
) -> None:
    payload = bytearray(image_header(network=CoreConfig()).pack())
    assert len(payload) == 19
    payload[position] = value
    with pytest.raises(error, match=words):
        Header.unpack(bytes(payload))


@given(st.binary(max_size=8))
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
