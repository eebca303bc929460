from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest

from formats import native
from formats.context import EXACT, TOP, ContextNetwork
from formats.core import CoreConfig
from formats.errors import InputError
from formats.latents import decode_by_passes, decode_segment, encode_segment
from formats.native import SWITCH, instruction_sets, native_on
from formats.unit import pack_core_unit, unpack_core_unit
from formats.weights import CodedTensor
from tests.formats.decoders import can_compile, decode_segment_alike
from tests.formats.factory import (
    core_grids,
    core_tensors,
    image_header,
    numbered,
    same_grids,
    shapes_of,
    with_colour,
)

compiled = pytest.mark.skipif(native._native is None, reason="formats._native is not compiled")


def network_of(config: CoreConfig, seed: int = 0) -> ContextNetwork:
    names = [spec.name for spec in config.tensors({}, 1)]
    return ContextNetwork(config, dict(zip(names, core_tensors(config, 1, seed), strict=True)))


@pytest.mark.skipif(not can_compile(), reason="no compiler, or no headers of Python")
def test_an_installation_with_a_compiler_has_machine_code() -> None:
    assert instruction_sets()[-1:] == ["plain"]


@pytest.mark.parametrize("wanted", ["", "0", "plain", "avx1024"])
def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv(SWITCH, wanted)
    known = instruction_sets()
    if wanted == "":
        assert native_on() == (known[0] if known else None)
    elif wanted == "0":
        assert native_on() is None
    elif wanted in known:
        assert native_on() == wanted
    else:
        with pytest.raises(InputError, match=f"{SWITCH}: expected 0 or one of .*{wanted}"):
            native_on()


def test_without_the_module_numpy_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_native", None)
    monkeypatch.delenv(SWITCH, raising=False)
    assert instruction_sets() == []
    assert native_on() is None
    config = CoreConfig(levels=2, width=3)
    network = network_of(config)
    data, seen = encode_segment(network, numbered(config, 20, 20))
    found = decode_segment(network, shapes_of(config, 20, 20), data, "test")
    assert same_grids(found, seen)


def signed(rng: np.random.Generator, rows: int, columns: int, total: int) -> npt.NDArray[np.int32]:
    """Integers whose absolute values sum up to at most `total` in each row."""
    size = rng.dirichlet(np.full(columns, 0.5), rows) * total
    return (size.astype(np.int32) * rng.choice([-1, 1], size.shape)).astype(np.int32)


@compiled
@pytest.mark.parametrize("width", [1, 7, 8, 9, 32, 64])
def test_sums_at_the_limit_of_exact_floats_are_the_same(width: int) -> None:
    """Every sum of products may come close to 2^24, and latents are as large as they get."""
    rng = np.random.default_rng(width)
    config = CoreConfig(levels=3, width=width, block=4, colour=2, colour_level=1)
    tensors = {
        spec.name: CodedTensor(np.zeros(spec.shape, np.int32), 0) for spec in config.tensors({}, 1)
    }
    rows = signed(rng, width, 25, EXACT // 127 - 100)
    hidden = signed(rng, width, width, EXACT // TOP - 140)
    out = signed(rng, 2, width, EXACT // TOP - 5)
    for name, symbols, step in (
        ("first", rows[:, :16], -7),
        ("parent", rows[:, 16:], -7),
        ("bias", signed(rng, width, 5, 4000), -7),
        ("hidden", hidden, -7),
        ("hidden_bias", signed(rng, width, 1, 8000)[:, 0], -14),
        ("out", out, -7),
        ("level", signed(rng, 2, 5, 4000), -12),
    ):
        tensors[f"context.{name}"] = CodedTensor(symbols, step)
    network = ContextNetwork(config, tensors)
    for spread in (1.0, 40.0, 1e6):
        data, seen = encode_segment(network, numbered(config, 50, 70, spread, width))
        found = decode_segment_alike(network, shapes_of(config, 50, 70), data, "test")
        assert same_grids(found, seen)


@compiled
@pytest.mark.parametrize("colour", [0, 3])
@pytest.mark.parametrize("block", [0, *range(3, 9)])
def test_blocks_of_any_side_and_grids_of_many(block: int, colour: int) -> None:
    config = with_colour(CoreConfig(levels=4, width=6, block=block), colour, 1)
    network = network_of(config, block)
    for size in ((150, 290), (256, 256), (257, 130), (3, 400)):
        data, seen = encode_segment(network, numbered(config, *size, 6.0, block))
        found = decode_segment_alike(network, shapes_of(config, *size), data, "test")
        assert same_grids(found, seen)


@compiled
@pytest.mark.parametrize(("colour", "level"), [(0, 0), (4, 1), (3, 0), (2, 4)])
def test_tiles_and_the_grids_above_them(
    monkeypatch: pytest.MonkeyPatch, colour: int, level: int
) -> None:
    config = with_colour(CoreConfig(tile=8, width=5), colour, level)
    header = image_header(network=config, height=300, width=600)
    payload, seen = pack_core_unit(
        0, config, core_tensors(config, 3), core_grids(config, 300, 600, 3.0), 300, 600
    )
    unit = unpack_core_unit(payload, 0, header)
    assert len(unit.segments) > 4
    for instructions in ("0", *instruction_sets()):
        monkeypatch.setenv(SWITCH, instructions)
        assert all(np.array_equal(a, b) for a, b in zip(unit.grids(), seen, strict=True))


@compiled
def test_threads_do_not_disturb_each_other() -> None:
    config = CoreConfig(levels=5)
    jobs = []
    for seed in range(4):
        network = network_of(config, seed)
        data, seen = encode_segment(network, numbered(config, 100, 120, 4.0, seed))
        jobs.append((network, data, seen))
    shapes = shapes_of(config, 100, 120)
    with ThreadPoolExecutor(4) as pool:
        for (_, _, seen), found in zip(
            jobs * 8,
            pool.map(lambda job: decode_segment(job[0], shapes, job[1], "test"), jobs * 8),
            strict=True,
        ):
            assert same_grids(found, seen)


@compiled
def test_arguments_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read before all sizes are known to be right."""
    assert native._native is not None
    config = CoreConfig(levels=2, width=5)
    network = network_of(config)
    shapes = shapes_of(config, 20, 20)
    data, _ = encode_segment(network, numbered(config, 20, 20))
    calls = []
    decode_grid = native._native.decode_grid
    monkeypatch.setattr(
        native._native, "decode_grid", lambda *args: (calls.append(args), decode_grid(*args))[1]
    )
    native.decode_segment(network, shapes, data, "test", {}, "plain")
    for args in calls:
        for place, value in enumerate(args):
            if isinstance(value, np.ndarray) and place != 1:  # words may be of any number
                for other in (value.reshape(-1)[:-1].copy(), np.append(value, value.flat[:1])):
                    with pytest.raises(ValueError, match="expected"):
                        decode_grid(*args[:place], other, *args[place + 1 :])
    args = calls[-1]
    starts = args[11].copy()
    starts[5] = starts[4]
    with pytest.raises(ValueError, match="ascending"):
        decode_grid(*args[:11], starts, *args[12:])
    for place, bad in (
        (12, (0, 20, 32)),
        (12, (20, 2**40, 32)),
        (12, (20, 20, 24)),
        (12, (20, 20, 4)),
        (13, (0, 0, 0, 0)),
        (13, (65, 0, 0, 0)),
        (13, (5, 2**30, 0, 0)),
        (13, (5, 0, 0, 64)),
        (14, -1),
        (14, 99),
    ):
        with pytest.raises(ValueError, match="expected"):
            decode_grid(*args[:place], bad, *args[place + 1 :])
    with pytest.raises(ValueError, match="range: expected"):
        decode_grid(np.zeros(5, np.uint64), *args[1:])
    frozen = args[2].copy()
    frozen.flags.writeable = False
    with pytest.raises((BufferError, TypeError, ValueError)):
        decode_grid(*args[:2], frozen, *args[3:])


@compiled
def test_no_memory_is_told() -> None:
    assert native._native is not None
    with pytest.raises(MemoryError, match="tile 3"):
        native._check(native._native.NO_MEMORY, 0, "tile 3")


def test_a_network_that_predicts_otherwise_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine code knows nothing of a subclass's `predict`."""
    asked = []

    class Other(ContextNetwork):
        def predict(self, *args: object) -> object:  # type: ignore[override]
            asked.append(args)
            return super().predict(*args)  # type: ignore[arg-type]

    config = CoreConfig(levels=1, width=2)
    network = network_of(config)
    data, seen = encode_segment(network, numbered(config, 9, 9))
    other = Other.__new__(Other)
    other.__dict__.update(network.__dict__)
    found = decode_segment(other, shapes_of(config, 9, 9), data, "test")
    assert same_grids(found, seen)
    assert asked
    assert same_grids(decode_by_passes(network, shapes_of(config, 9, 9), data, "t"), found)
