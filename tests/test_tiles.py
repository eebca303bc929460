"""Files with tiles: a crop decodes the tiles that it touches, and is the part of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import codec
from codec.bitstream import core_reconstructor
from codec.core_reconstruct import CoreReconstructor, TiledLatents
from formats.container import Container, write_container
from formats.core import CoreConfig
from formats.errors import CorruptError
from formats.header import Header, MediaKind
from formats.unit import pack_core_unit
from formats.weights import CodedTensor
from tests.formats.factory import core_grids, with_colour

HEIGHT, WIDTH = 700, 1100
CPU = torch.device("cpu")


def tensors(config: CoreConfig) -> list[CodedTensor]:
    """Small weights: samples stay around the middle of their range."""
    rng = np.random.default_rng(2)
    found = []
    for spec in config.tensors({}, 3):
        step = -6 if spec.name.startswith("context") else -8
        symbols = np.rint(rng.laplace(0, 6, spec.shape)).astype(np.int32)
        found.append(CodedTensor(symbols, step))
    return found


def file_of(levels: int, colour: int = 0, colour_level: int = 0) -> bytes:
    config = CoreConfig(levels=levels, tile=8, width=4, hidden=4)
    config = with_colour(config, colour, colour_level)
    grids = core_grids(config, HEIGHT, WIDTH, 1.0)
    payload, _ = pack_core_unit(0, config, tensors(config), grids, HEIGHT, WIDTH)
    header = Header(MediaKind.IMAGE, WIDTH, HEIGHT, 3, 8, config)
    return write_container(header, [payload], [1])


def decoder_of(data: bytes) -> CoreReconstructor:
    with Container.open(data) as box:
        unit = box.core_unit(0)
        lengths = box.header.lengths(1)
    config = unit.network.config
    return core_reconstructor(config, lengths, 3, unit.tensors, unit, 8, CPU)


@pytest.mark.parametrize(
    ("levels", "colour", "colour_level"),
    [(3, 0, 0), (7, 0, 0), (3, 2, 1), (7, 3, 2), (7, 4, 1), (7, 3, 0), (6, 3, 3)],
)
def test_a_crop_decodes_what_it_touches_and_equals_the_whole(
    levels: int, colour: int, colour_level: int
) -> None:
    data = file_of(levels, colour, colour_level)
    whole = codec.decode(data, device="cpu")
    half = codec.decode(data, device="cpu", scale=0.5)
    assert whole.std() > 3
    for x, y, w, h in ((300, 300, 100, 100), (0, 0, 1, 1), (1099, 699, 1, 1), (200, 500, 80, 200)):
        decoder = decoder_of(data)
        assert isinstance(decoder.tiles, TiledLatents)
        count = len(decoder.tiles._left)
        found = decoder.region(range(1), (x, y, w, h))
        np.testing.assert_array_equal(found, whole[y : y + h, x : x + w])
        assert 1 <= count - len(decoder.tiles._left) <= 4
    decoder = decoder_of(data)
    part = decoder.region(range(1), (300, 300, 100, 100), 0.5)
    np.testing.assert_allclose(part, half[150:200, 150:200].astype(int), atol=1)
    np.testing.assert_array_equal(decoder.region(range(1), None), whole)
    assert isinstance(decoder.tiles, TiledLatents)
    assert not decoder.tiles._left


def test_damage_in_one_tile_leaves_the_others() -> None:
    decoder = decoder_of(file_of(7, 4, 1))
    assert isinstance(decoder.tiles, TiledLatents)
    unit = decoder.tiles.unit
    last = len(unit.segments) - 1
    unit.streams[last] = b"broken!!"
    assert decoder.region(range(1), (0, 0, 400, 400)).shape == (400, 400, 3)
    with pytest.raises(CorruptError, match=f"segment {last}"):
        decoder.region(range(1), (1000, 600, 50, 50))
