import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.blocks import BOXED, WINDOW, BlockGrid, Pass
from formats.context import CONTEXT_BITS, ContextNetwork
from formats.core import CoreConfig
from formats.errors import CorruptError, InputError
from formats.weights import CodedTensor
from tests.formats.factory import core_tensors


def tensors_of(config: CoreConfig, seed: int = 0) -> dict[str, CodedTensor]:
    names = [spec.name for spec in config.tensors({}, 3)]
    return dict(zip(names, core_tensors(config, 3, seed), strict=True))


def parts_of_sum(rng: np.random.Generator, total: int, shape: tuple[int, ...]) -> np.ndarray:
    """Random integers whose magnitudes in each row sum to exactly `total`."""
    cuts = np.sort(rng.integers(0, total, (shape[0], shape[1] - 1), endpoint=True), axis=1)
    ends = np.pad(cuts, ((0, 0), (1, 1)), constant_values=((0, 0), (0, total)))
    return np.diff(ends, axis=1) * rng.choice([-1, 1], shape)


def widest(config: CoreConfig, seed: int) -> dict[str, CodedTensor]:
    """Weights as large as the bounds allow, to the last unit."""
    rng = np.random.default_rng(seed)
    tensors = tensors_of(config, seed)
    top = 2**24 - 1
    w = config.width
    limit = top // 127
    parent = rng.integers(1, limit)  # what it takes, the own grid's window lacks
    tensors["context.parent"] = CodedTensor(parts_of_sum(rng, parent, (w, 9)), -7)
    first = parts_of_sum(rng, limit - parent, (w, len(config.window)))
    tensors["context.first"] = CodedTensor(first, -7)
    bias = parts_of_sum(rng, top - 127 * limit, (w, config.flags))
    tensors["context.bias"] = CodedTensor(bias, -7)
    limit = top // 4095
    hidden = parts_of_sum(rng, limit - 128, (w, w)) if w > 1 else np.full((1, 1), 128 - limit)
    tensors["context.hidden"] = CodedTensor(hidden, -7)
    left = top - 4095 * limit
    tensors["context.hidden_bias"] = CodedTensor(rng.integers(-left, left, w, endpoint=True), -14)
    out = parts_of_sum(rng, limit, (2, w)) if w > 1 else np.array([[limit], [-limit]])
    tensors["context.out"] = CodedTensor(out, -7)
    level = rng.integers(-(left // 4), left // 4, (2, config.levels), endpoint=True)
    tensors["context.level"] = CodedTensor(level, -12)
    return tensors


def fixed(tensors: dict[str, CodedTensor]) -> dict[str, np.ndarray]:
    """Context tensors in units of their fixed point, int64."""
    return {
        name: tensors[name].symbols.astype(np.int64) << (tensors[name].step + bits)
        for name, bits in CONTEXT_BITS.items()
        if name in tensors
    }


def first_sums(tensors: dict[str, CodedTensor], step: Pass) -> np.ndarray:
    """The sums of the first layer (section 9.3), before the clamp, in int64."""
    t = fixed(tensors)
    boxes = [view.reshape(2 * view.shape[1], -1) for view in step.windows]
    x = np.concatenate(boxes)[list(BOXED)]
    if t["context.first"].shape[1] < len(WINDOW):  # a grid of one block
        x = x[[n for n, (row, column) in enumerate(WINDOW) if column + 2 * row < 0]]
    sums = t["context.first"] @ x.astype(np.int64)
    if step.parent is not None:
        sums += t["context.parent"] @ step.parent.reshape(9, -1).astype(np.int64)
    flags = step.flags.repeat(step.shape[1], 1).astype(np.int64)
    return sums + t["context.bias"] @ flags[: t["context.bias"].shape[1]]


def by_definition(
    config: CoreConfig, tensors: dict[str, CodedTensor], step: Pass, level: int
) -> tuple[np.ndarray, np.ndarray]:
    """Section 9.3 in int64."""
    t, acc = fixed(tensors), first_sums(tensors, step)
    assert np.abs(acc).max() < 2**24
    a0 = np.clip(acc, 0, 4095)
    acc = t["context.hidden"] @ a0 + 128 * a0 + t["context.hidden_bias"][:, None]
    assert np.abs(acc).max() < 2**24
    a1 = np.clip((acc + 64) >> 7, 0, 4095)
    acc = t["context.out"] @ a1 + 4 * t["context.level"][:, [level]]
    assert np.abs(acc).max() < 2**24
    mu, s = (acc[0] + 256) >> 9, (acc[1] + 1024) >> 11
    return np.clip(mu, -32736, 32736), np.clip(44 + s, 0, 63)


def check(config: CoreConfig, tensors: dict[str, CodedTensor], grid, above, level: int) -> None:  # type: ignore[no-untyped-def]
    """Every pass of a grid is predicted as section 9.3 says."""
    network = ContextNetwork(config, tensors)
    known = BlockGrid(grid.shape, config.side(level), above)
    values = known.split(grid)
    for step in known.passes():
        mean, scale = network.predict(step, level)
        wanted_mean, wanted_scale = by_definition(config, tensors, step, level)
        assert np.array_equal(mean, wanted_mean)
        assert np.array_equal(scale, wanted_scale)
        known.put(step, step.of(values).reshape(-1))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    width=st.integers(1, 64),
    block=st.sampled_from([0, 3, 4, 5, 6]),
    large=st.booleans(),
    height=st.integers(1, 40),
    cols=st.integers(1, 40),
    spread=st.sampled_from([1, 20, 1000]),
)
def test_float_products_equal_the_integer_definition(
    seed: int, width: int, block: int, large: bool, height: int, cols: int, spread: int
) -> None:
    config = CoreConfig(levels=3, width=width, block=block)
    tensors = widest(config, seed) if large else tensors_of(config, seed)
    rng = np.random.default_rng(seed)
    grid = rng.integers(-spread, spread, (height, cols), endpoint=True).astype(np.int32)
    above = rng.integers(-spread, spread, ((height + 1) // 2, (cols + 1) // 2), endpoint=True)
    for parent in (None, above.astype(np.int32)):
        check(config, tensors, grid, parent, 1)


@pytest.mark.parametrize("seed", range(12))
def test_inputs_that_drive_a_sum_to_its_bound_stay_exact(seed: int) -> None:
    """Latents with the signs of one row's weights: its sum is 2^24 - 1, the bound itself."""
    config = CoreConfig(levels=2, width=8, block=3)
    tensors = widest(config, seed)
    row, (i, j) = seed % 8, (3, 4)  # a position whose known neighbours are all there
    first, bias = tensors["context.first"].symbols, tensors["context.bias"].symbols
    known = [n for n, (y, x) in enumerate(WINDOW) if x + 2 * y < 0]
    unseen = np.delete(np.abs(first[row]), known).sum()
    first[row, [n for n in range(len(WINDOW)) if n not in known]] = 0
    first[row, known[0]] += unseen if first[row, known[0]] >= 0 else -unseen
    bias[row] = [np.abs(bias[row]).sum(), 0, 0, 0, 0]
    grid, above = np.zeros((8, 8), np.int32), np.zeros((4, 4), np.int32)
    for n in known:
        y, x = WINDOW[n]
        grid[i + y, j + x] = 500 if first[row, n] >= 0 else -500
    weights = tensors["context.parent"].symbols[row].reshape(3, 3)
    above[i // 2 - 1 : i // 2 + 2, j // 2 - 1 : j // 2 + 2] = np.where(weights < 0, -500, 500)
    network = ContextNetwork(config, tensors)
    planes = BlockGrid((8, 8), 8, above)
    values, reached = planes.split(grid), 0
    for step in planes.passes():
        sums = first_sums(tensors, step)
        wanted = by_definition(config, tensors, step, 0)
        for found, expected in zip(network.predict(step, 0), wanted, strict=True):
            assert np.array_equal(found, expected)
        reached = max(reached, int(sums[row].max()))
        inputs = np.empty((network._first.shape[1], *step.shape), np.float32)
        network.gather(step, slice(None), slice(None), inputs)
        products = np.matmul(network._first, inputs.reshape(len(inputs), -1))
        assert np.array_equal(products, sums)  # before the clamp hides it
        planes.put(step, step.of(values).reshape(-1))
    assert reached == 2**24 - 1


def test_passes_longer_than_a_chunk_are_predicted_alike() -> None:
    config = CoreConfig(levels=2, width=64, block=3)  # 512 positions at a time
    grid = np.random.default_rng(0).integers(-9, 9, (20, 9001)).astype(np.int32)
    check(config, tensors_of(config), grid, np.ascontiguousarray(grid[:10, :4501]), 0)


@pytest.mark.parametrize(
    "name", ["context.first", "context.parent", "context.bias", "context.hidden"]
)
def test_one_unit_above_the_bound_is_refused(name: str) -> None:
    config = CoreConfig(levels=3, width=6)
    tensors = widest(config, 5)
    for bias in ("context.bias", "context.hidden_bias", "context.level"):
        tensors[bias].symbols[:] = 0
    ContextNetwork(config, tensors)
    if name == "context.bias":
        left = 2**24 - 127 * ((2**24 - 1) // 127)
        tensors[name].symbols[2, 0] = -left
    else:
        row = tensors[name].symbols[2]
        index = int(np.abs(row).argmax())
        row[index] += 1 if row[index] > 0 else -1
    with pytest.raises(CorruptError, match=r"row 2 can reach \d+, expected below 2\^24"):
        ContextNetwork(config, tensors)


@pytest.mark.parametrize("name", ["context.hidden_bias", "context.out", "context.level"])
def test_the_later_layers_are_bounded_too(name: str) -> None:
    config = CoreConfig(levels=3, width=6)
    tensors = tensors_of(config)
    tensors[name].symbols[..., 0] = 40_000
    tensors[name] = CodedTensor(tensors[name].symbols, 1)
    with pytest.raises(CorruptError, match="expected below 2\\^24"):
        ContextNetwork(config, tensors)


@pytest.mark.parametrize("name", CONTEXT_BITS)
def test_steps_finer_than_the_fixed_point_are_refused(name: str) -> None:
    config = CoreConfig()
    tensors = tensors_of(config)
    coded = tensors[name]
    tensors[name] = CodedTensor(np.sign(coded.symbols), -CONTEXT_BITS[name])
    ContextNetwork(config, tensors)
    tensors[name] = CodedTensor(np.sign(coded.symbols), -CONTEXT_BITS[name] - 1)
    with pytest.raises(CorruptError, match=f"{name}: expected a step in"):
        ContextNetwork(config, tensors)
    tensors[name] = CodedTensor(np.sign(coded.symbols), 9)
    with pytest.raises(CorruptError, match=f"{name}: expected a step in"):
        ContextNetwork(config, tensors)


def test_tensors_of_another_shape_are_refused() -> None:
    config = CoreConfig()
    tensors = tensors_of(config)
    tensors["context.out"] = CodedTensor(np.zeros((3, 16), np.int32), -6)
    with pytest.raises(InputError, match="context.out"):
        ContextNetwork(config, tensors)
    del tensors["context.out"]
    with pytest.raises(InputError, match="context.out"):
        ContextNetwork(config, tensors)
