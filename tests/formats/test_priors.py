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


def zeros(config: CoreConfig, channels: int = 3) -> dict[str, CodedTensor]:
    return {
        spec.name: CodedTensor(np.zeros(spec.shape, np.int32), 0)
        for spec in config.tensors({}, channels)
    }


@pytest.mark.parametrize("number", PRIORS)
@pytest.mark.parametrize("levels", [1, 2, 7, 10])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_prior_fits_every_picture(number: int, levels: int, channels: int) -> None:
    config = CoreConfig(levels=levels, prior=number, **prior_shape(number))
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
    for changes in ({"width": 15}, {"hidden": 8}):
        with pytest.raises(InputError, match=f"prior {number} is for"):
            CoreConfig(prior=number, **(prior_shape(number) | changes))


def test_released_priors_never_change() -> None:
    known = {
        1: "d9c354088060e01f263fca242bd2b9ae9059b48e6a21a680cf08d4ac1f4173dd",
        2: "726c715e785b5913ea8d15c3ac63aa32139beba34f16054c444e6dc81c3be13a",
    }
    for number in PRIORS:
        data = resources.files("formats").joinpath(f"data/prior{number}.json").read_bytes()
        assert hashlib.sha256(data).hexdigest() == known[number]
