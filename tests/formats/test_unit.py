import numpy as np
import pytest

from formats.container import Container, write_container
from formats.core import CoreConfig
from formats.errors import CorruptError, InputError
from formats.unit import pack_core_unit
from tests.formats.factory import core_grids, core_tensors, image_header


@pytest.mark.parametrize(
    ("height", "width", "channels", "config"),
    [
        (37, 53, 3, CoreConfig()),
        (1, 1, 1, CoreConfig(levels=1, octaves=0)),
        (7, 7, 3, CoreConfig(levels=3, octaves=4, magnitudes=True)),
        (300, 600, 3, CoreConfig(tile=8, width=8)),
        (20, 30, 4, CoreConfig(octaves=0, levels=8, width=3)),
    ],
)
def test_files_of_core_fusion_round_trip(
    height: int, width: int, channels: int, config: CoreConfig
) -> None:
    header = image_header(network=config, height=height, width=width, channels=channels)
    tensors = core_tensors(config, channels)
    payload, seen = pack_core_unit(
        0, config, tensors, core_grids(config, height, width), height, width
    )
    with Container.open(write_container(header, [payload], [1])) as box:
        box.verify()
        assert box.header == header
        unit = box.core_unit(0)
        weights = box.unit(0)
    for tensor, a, b in zip(tensors, unit.tensors, weights, strict=True):
        assert np.array_equal(tensor.symbols, a.symbols)
        assert np.array_equal(tensor.symbols, b.symbols)
    for a, b in zip(seen, unit.grids(), strict=True):
        assert np.array_equal(a, b)
    assert len(unit.segments) == (6 if config.tile else 1)


def test_a_network_that_is_not_exact_is_refused() -> None:
    config = CoreConfig()
    tensors = core_tensors(config, 3)
    tensors[0].symbols[:] = 60_000
    with pytest.raises(CorruptError, match="2\\^24"):
        pack_core_unit(0, config, tensors, core_grids(config, 9, 9), 9, 9)


def test_grids_of_other_shapes_are_refused() -> None:
    config = CoreConfig()
    with pytest.raises(InputError, match="grids"):
        pack_core_unit(0, config, core_tensors(config, 3), core_grids(config, 9, 9), 9, 8)
