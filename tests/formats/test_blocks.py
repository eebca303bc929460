import numpy as np
import pytest

from formats.blocks import BOXED, FLAGS, WINDOW, BlockGrid
from tests.conformance import reference_core as reference

SHAPES = [(1, 1), (1, 30), (30, 1), (8, 8), (16, 24), (17, 9), (7, 30), (33, 5), (25, 31), (40, 20)]


def parent_of(shape: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(-300, 300, [(n + 1) // 2 for n in shape]).astype(np.int32)


@pytest.mark.parametrize("side", [8, 16])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_position_is_visited_once_in_the_order_of_the_specification(
    shape: tuple[int, int], side: int
) -> None:
    known = BlockGrid(shape, side, None)
    index = known.split(np.arange(shape[0] * shape[1]).reshape(shape))
    mine = []
    for step in known.passes():
        places = step.of(index).reshape(-1)
        mine.append((places if step.inside is None else places[step.inside]).tolist())
        known.put(step, np.zeros(places.size, np.int32))
    wanted = [
        [i * shape[1] + j for i, j in places]
        for places in reference.positions(*shape, side)
        if places
    ]
    assert mine == wanted
    assert sorted(i for places in mine for i in places) == list(range(shape[0] * shape[1]))


@pytest.mark.parametrize("side", [8, 16])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_pass_sees_the_inputs_of_the_specification(shape: tuple[int, int], side: int) -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(-200, 200, shape).astype(np.int32)
    above = parent_of(shape)
    known = BlockGrid(shape, side, above)
    values = known.split(truth)
    rows, columns = (known.split(axis) for axis in np.indices(shape))
    for step in known.passes():
        given = [view.reshape(2 * view.shape[1], -1) for view in step.windows]
        inputs = np.clip(np.concatenate(given)[list(BOXED)], -999, 999)
        assert step.parent is not None
        parents = step.parent.reshape(9, -1)
        flags = step.flags.repeat(step.shape[1], 1)
        assert inputs.shape[0] == len(WINDOW)
        assert flags.shape[0] == FLAGS
        places = zip(step.of(rows).reshape(-1), step.of(columns).reshape(-1), strict=True)
        for n, (i, j) in enumerate(places):
            if step.inside is not None and not step.inside[n]:
                continue
            wanted = reference.inputs(truth.tolist(), above.tolist(), i, j, side)
            assert inputs[:, n].tolist() == np.clip(wanted[0], -127, 127).tolist()
            assert parents[:, n].tolist() == np.clip(wanted[1], -127, 127).tolist()
            assert flags[:, n].tolist() == wanted[2]
        known.put(step, step.of(values).reshape(-1))
    assert np.array_equal(known.grid(), truth)


def test_inside_a_block_a_latent_sees_what_a_serial_decoder_would() -> None:
    truth = np.ones((24, 24), np.int32)
    known = BlockGrid((24, 24), 8, None)
    values = known.split(truth)
    seen = np.zeros((len(WINDOW), *known.planes.shape))
    for step in known.passes():
        boxes = np.concatenate([view.reshape(-1, *step.shape) for view in step.windows])
        for plane, window in zip(seen, boxes[list(BOXED)], strict=True):
            step.of(plane)[...] = window
        known.put(step, step.of(values).reshape(-1))
    inside = {WINDOW[n] for n in np.flatnonzero(seen[:, 3:6, 3:6].all((1, 2, 3)))}
    assert inside == {w for w in WINDOW if w < (0, 0)} - {(-1, 2)}


def test_planes_and_grids_are_inverse() -> None:
    grid = np.arange(17 * 30, dtype=np.int32).reshape(17, 30)
    known = BlockGrid((17, 30), 8, None)
    known.planes = known.split(grid)
    assert known.planes.shape == (8, 8, 12)
    assert known.planes[3, 2].tolist() == [
        grid[y, x] if y < 17 else 0 for y in (3, 11, 19) for x in (2, 10, 18, 26)
    ]
    assert np.array_equal(known.grid(), grid)
