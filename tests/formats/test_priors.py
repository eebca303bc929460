"""Priors: part of the format, so what they hold is pinned."""

from __future__ import annotations

import hashlib
from importlib import resources

import numpy as np
import pytest

from formats.blocks import BlockGrid
from formats.context import CONTEXT_BITS, MIDDLE, ContextNetwork
from formats.core import CoreConfig
from formats.errors import InputError
from formats.priors import PRIORS, prior_shape, prior_tensors
from formats.weights import CodedTensor
from tests.formats.factory import of_prior


def zeros(config: CoreConfig, channels: int = 3) -> dict[str, CodedTensor]:
    return {
        spec.name: CodedTensor(np.zeros(spec.shape, np.int32), 0)
        for spec in config.tensors({}, channels)
    }


@pytest.mark.parametrize("number", PRIORS)
@pytest.mark.parametrize("levels", [1, 2, 7, 10])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("changes", [{}, {"colour": 0, "colour_level": 0}], ids=["", "plain"])
def test_a_prior_fits_every_picture(
    number: int, levels: int, channels: int, changes: dict[str, int]
) -> None:
    config = of_prior(number, levels=levels, **changes)
    found = prior_tensors(config, channels)
    for spec in config.tensors({}, channels):
        if spec.name in found:
            assert found[spec.name].values.shape == spec.shape
        else:
            assert spec.name.startswith("residual")
            assert channels != 3
    for name, bits in CONTEXT_BITS.items():
        if name in found:
            assert found[name].exponent == -bits
    ContextNetwork(config, zeros(config))  # exact in float32


@pytest.mark.parametrize("number", PRIORS)
def test_the_context_network_starts_from_its_prior(number: int) -> None:
    shape = prior_shape(number)
    config, plain = CoreConfig(prior=number, **shape), CoreConfig(**shape)
    step = next(BlockGrid((8, 8), 8, None).passes())  # one latent that knows nothing
    mean, scale = ContextNetwork(plain, zeros(plain)).predict(step, 0)
    assert (mean.item(), scale.item()) == (0, MIDDLE)
    own = ContextNetwork(config, zeros(config)).predict(step, 0)[1]
    assert own.item() < MIDDLE  # a prior expects small latents


@pytest.mark.parametrize("number", PRIORS)
def test_other_networks_than_the_priors_are_refused(number: int) -> None:
    shape = prior_shape(number)
    for changes in (
        {"width": 15},
        {"hidden": 8},
        {"colour": shape["colour"] % 3 + 1},
        {"colour": shape["colour"] or 1, "colour_level": shape["colour_level"] + 1},
    ):
        with pytest.raises(InputError, match=f"prior {number} is for"):
            CoreConfig(prior=number, **(shape | changes))


@pytest.mark.parametrize(
    ("levels", "colour", "columns", "stages"),
    [
        (3, True, [0, 1, 2, 3, 4], [0, 1]),
        (3, False, [0, 1, 2], [0, 1]),
        (2, False, [0, 1], [0]),
        (1, False, [0], []),
        (5, True, [0, 1, 2, 2, 2, 3, 4], [0, 1, 1, 1]),
        (5, False, [0, 1, 2, 2, 2], [0, 1, 1, 1]),
    ],
)
def test_every_grid_has_its_columns_of_the_prior(
    monkeypatch: pytest.MonkeyPatch,
    levels: int,
    colour: bool,
    columns: list[int],
    stages: list[int],
) -> None:
    """More levels are as the coarsest one; colour grids keep their own columns."""
    shapes = CoreConfig(levels=3, hidden=2, width=2, colour=2, colour_level=1).tensors({}, 3)
    stored = {
        spec.name: np.random.default_rng(len(spec.name)).integers(-99, 99, spec.shape)
        for spec in shapes
    }
    tensors = {
        name: {"exponent": -12, "shape": values.shape, "values": values.ravel().tolist()}
        for name, values in stored.items()
    }
    fields = {"hidden": 2, "width": 2, "colour": 2, "colour_level": 1}
    monkeypatch.setattr(
        "formats.priors._load", lambda number: {**fields, "levels": 3, "tensors": tensors}
    )
    if not colour:
        fields |= {"colour": 0, "colour_level": 0}
    config = CoreConfig(levels=levels, prior=1, **fields)
    found = {name: start.values for name, start in prior_tensors(config, 3).items()}
    for name, values in stored.items():
        if name in ("context.level", "tail.weight", "skip"):
            np.testing.assert_array_equal(found[name], values[:, columns], name)
        elif name == "filter":
            np.testing.assert_array_equal(found[name], values[columns], name)
        elif name == "kernel" and stages:
            np.testing.assert_array_equal(found[name], values[stages], name)
        elif levels > 1 or name not in ("kernel", "context.parent"):
            np.testing.assert_array_equal(found[name], values, name)
        else:
            assert name not in found


def test_released_priors_never_change() -> None:
    known = {
        1: "1cdd68e839b6e4f7e6830b2edf614963ad2e3fcb1d86f9c939e05f4d42122235",
        2: "89ce8aa494448792463de0b192d35614f04d34902bd262fb3812a5dcc56728be",
        3: "4f07036670537df7cc3c7531067be5bfb13d3b7bbdd5af6f61b0175278ce9b1c",
    }
    for number in PRIORS:
        data = resources.files("formats").joinpath(f"data/prior{number}.json").read_bytes()
        assert hashlib.sha256(data).hexdigest() == known[number]
