import numpy as np
import pytest

from formats.lattice import LIMIT, passes, plane
from tests.conformance import reference_core as reference

SHAPES = [(1, 1), (1, 9), (9, 1), (2, 2), (3, 2), (7, 7), (16, 16), (17, 33), (20, 5)]


def parent_of(grid: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(-300, 300, [(n + 1) // 2 for n in grid.shape]).astype(np.int32)


@pytest.mark.parametrize("octaves", range(5))
@pytest.mark.parametrize("shape", SHAPES)
def test_every_position_is_visited_once_in_the_order_of_the_specification(
    shape: tuple[int, int], octaves: int
) -> None:
    grid = np.zeros(shape, np.int32)
    index = np.arange(grid.size).reshape(shape)
    mine = [
        (step.octave, step.kind, index[step.rows, step.cols].reshape(-1).tolist())
        for step in passes(grid, octaves, None)
    ]
    wanted = [
        (octave, kind, [i * shape[1] + j for i, j in places])
        for octave, kind, places in reference.positions(*shape, octaves)
        if places
    ]
    assert mine == wanted
    assert sorted(i for _, _, places in mine for i in places) == list(range(grid.size))


@pytest.mark.parametrize("octaves", range(5))
@pytest.mark.parametrize("shape", SHAPES)
def test_windows_hold_the_inputs_of_the_specification(shape: tuple[int, int], octaves: int) -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(-200, 200, shape).astype(np.int32)
    grid = np.full(shape, 99, np.int32)  # not decoded yet
    above = parent_of(grid)

    def at(values: np.ndarray, i: int, j: int) -> int:
        inside = 0 <= i < values.shape[0] and 0 <= j < values.shape[1]
        return int(np.clip(values[i, j], -LIMIT, LIMIT)) if inside else 0

    for step in passes(grid, octaves, plane(above)):
        inputs = [view.reshape(-1, *step.shape) for view in step.windows]
        s = 1 << step.octave
        for a, i in enumerate(range(shape[0])[step.rows]):
            for b, j in enumerate(range(shape[1])[step.cols]):
                seen = [v for view in inputs for v in view[:, a, b].tolist()]
                if step.kind == 3:
                    assert seen == []
                else:
                    assert seen == [
                        at(
                            truth,
                            s * (2 * (i // s // 2 + di) + y),
                            s * (2 * (j // s // 2 + dj) + x),
                        )
                        for y, x, di, dj in reference.INPUTS[step.kind]
                    ]
                assert step.parent is not None
                assert step.parent[:, :, a, b].reshape(-1).tolist() == [
                    at(above, i // 2 + di, j // 2 + dj) for di in (-1, 0, 1) for dj in (-1, 0, 1)
                ]
        grid[step.rows, step.cols] = truth[step.rows, step.cols]
    assert np.array_equal(grid, truth)


def test_planes_are_clipped_and_bordered() -> None:
    found = plane(np.array([[300, -300], [5, -6]], np.int32), 3, 4)
    assert found.dtype == np.float32
    assert found.shape == (6, 7)
    assert found[1:3, 1:3].tolist() == [[127, -127], [5, -6]]
    found[1:3, 1:3] = 0
    assert not found.any()
