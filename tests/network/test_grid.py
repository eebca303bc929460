import pytest
import torch

from codec.network import AxisGrid
from codec.network.tiles import tiles
from formats.errors import InputError


def test_full_grids_hold_sample_numbers_in_memory_order() -> None:
    grid = AxisGrid.full({"x": 4, "y": 2, "t": 3})
    assert grid.axes == ("t", "y", "x")
    assert grid.shape == (3, 2, 4)
    assert grid["x"].tolist() == [0, 1, 2, 3]
    assert grid.points()[5].tolist() == [0, 1, 1]


def test_scaling_aligns_areas_not_centres() -> None:
    grid = AxisGrid.full({"y": 2, "x": 4}).scaled(2.0)
    assert grid.shape == (4, 8)
    assert grid["y"].tolist() == [-0.25, 0.25, 0.75, 1.25]
    half = AxisGrid.full({"y": 2, "x": 4}).scaled(0.5)
    assert half["x"].tolist() == [0.5, 2.5]


def test_scaling_a_crop_stays_inside_it() -> None:
    grid = AxisGrid.full({"y": 8, "x": 8}).select("x", slice(3, 5)).scaled(2.0, ("x",))
    assert grid["x"].tolist() == [2.75, 3.25, 3.75, 4.25]


def test_selecting_by_index_keeps_the_order_given() -> None:
    grid = AxisGrid.full({"y": 5, "x": 5}).select("y", [4, 0])
    assert grid["y"].tolist() == [4, 0]


@pytest.mark.parametrize(
    ("axes", "coords"),
    [
        (("x", "y"), (torch.zeros(1), torch.zeros(1))),
        (("x",), ()),
        ((), ()),
        (("x",), (torch.zeros(0),)),
        (("x",), (torch.zeros(2, 2),)),
    ],
)
def test_impossible_grids_are_refused(axes: tuple, coords: tuple) -> None:  # type: ignore[type-arg]
    with pytest.raises(InputError):
        AxisGrid(axes, coords)


def test_other_bad_requests_are_refused() -> None:
    grid = AxisGrid.full({"y": 2, "x": 2})
    with pytest.raises(InputError, match="axes"):
        grid.replace(t=torch.zeros(1))
    with pytest.raises(InputError, match="scale"):
        grid.scaled(0)


@pytest.mark.parametrize("lengths", [{"y": 7, "x": 5}, {"t": 6, "y": 7, "x": 5}, {"x": 9}])
@pytest.mark.parametrize("samples", [1, 5, 12, 80, 10_000])
def test_tiles_cover_every_sample_once(lengths: dict[str, int], samples: int) -> None:
    grid = AxisGrid.full(lengths)
    seen = torch.zeros(grid.shape)
    for tile in tiles(grid, samples):
        assert tile.grid.shape == tuple(r.stop - r.start for r in tile.ranges)
        seen[tile.ranges] += 1
        for axis, part in zip(grid.axes, tile.ranges, strict=True):
            assert torch.equal(tile.grid[axis], grid[axis][part])
    assert torch.equal(seen, torch.ones(grid.shape))
