"""Moves of single latents at the end of a fit."""

from __future__ import annotations

import pytest
import torch

from codec.fit.core_distortion import CoreDistortion
from codec.fit.polish import CELL, Polish, _Cells
from codec.network.core import CoreCoordX
from codec.rate import ContextRate
from formats.core import CoreConfig
from tests.core_nets import CPU, grids_of, noisy_net, weights_of

LAM = 3e-4


def made(
    config: CoreConfig, height: int, width: int, channels: int = 3
) -> tuple[CoreCoordX, CoreDistortion, ContextRate, torch.Tensor]:
    net, distortion, latents = noisy_net(0, config, height, width, channels)
    return net, distortion, ContextRate(config, height, width, CPU), latents


def loss(
    net: CoreCoordX, distortion: CoreDistortion, rate: ContextRate, latents: torch.Tensor
) -> float:
    error = distortion(weights_of(net, context=False), grids_of(net, latents)).mse
    bits = rate(weights_of(net, context=True), latents, gradient=False, exact=True).bits
    return float(error) + LAM / net.pixels * float(bits)


@pytest.mark.parametrize(
    ("config", "height", "width", "channels"),
    [
        (CoreConfig(levels=3, width=4, hidden=4), 70, 90, 3),
        (CoreConfig(levels=1, width=4, hidden=4, residuals=0), 40, 33, 1),
        (CoreConfig(levels=5, width=4, hidden=4, block=4, tile=8), 300, 40, 4),
        (CoreConfig(levels=2, width=4, hidden=4), 1, 1, 3),
        (CoreConfig(levels=4, width=4, hidden=4, colour=3, colour_level=1), 70, 90, 3),
        (CoreConfig(levels=1, width=4, hidden=4, colour=1), 40, 33, 3),
    ],
    ids=["photo", "one level", "tiles", "pixel", "colour", "colour of one level"],
)
def test_the_loss_never_rises(config: CoreConfig, height: int, width: int, channels: int) -> None:
    net, distortion, rate, latents = made(config, height, width, channels)
    before = loss(net, distortion, rate, latents)
    given = latents.clone()
    found = Polish(net, distortion, rate, LAM)(latents, 12)
    assert torch.equal(latents, given)
    assert torch.equal(found, found.round())
    after = loss(net, distortion, rate, found)
    assert after <= before
    if height > 1:
        # Random latents have everything to gain.
        assert after < 0.995 * before
        assert int((found != latents).sum()) > 5
        assert int((found - latents).abs().max()) >= 1


def test_no_rounds_change_nothing() -> None:
    net, distortion, rate, latents = made(CoreConfig(levels=2, width=3, hidden=2), 20, 20)
    assert Polish(net, distortion, rate, LAM)(latents, 0) is latents


def test_it_finds_the_same_again() -> None:
    net, distortion, rate, latents = made(CoreConfig(levels=3, width=4, hidden=4), 50, 60)
    first, second = (Polish(net, distortion, rate, LAM)(latents, 8) for _ in range(2))
    assert torch.equal(first, second)


def test_the_model_is_about_what_moves_change() -> None:
    """Of single moves, tried one by one, those that the model likes most are good ones."""
    net, distortion, rate, latents = made(CoreConfig(levels=2, width=4, hidden=4), 24, 24)
    polish = Polish(net, distortion, rate, LAM)
    state = polish._state(latents)
    change, sign = polish._model(state, polish._curvature(latents))
    before = loss(net, distortion, rate, latents)
    found, wanted = [], []
    for number in change.argsort()[:10].tolist() + change.argsort()[-10:].tolist():
        moved = latents.clone()
        moved[number] += sign[number]
        found.append(float(change[number]))
        wanted.append(loss(net, distortion, rate, moved) - before)
    assert all(real < 0 for real in wanted[:10])
    assert torch.corrcoef(torch.tensor([found, wanted]))[0, 1] > 0.8


def test_errors_and_bits_add_up_to_the_loss() -> None:
    net, distortion, rate, latents = made(CoreConfig(levels=3, width=4, hidden=4), 40, 56)
    polish = Polish(net, distortion, rate, LAM)
    cost = polish._cost(polish._state(latents))
    assert cost == pytest.approx(loss(net, distortion, rate, latents), rel=1e-5)


@pytest.mark.parametrize("grid", [0, 1, 2, 4, 5])
def test_cells_hold_every_pixel_and_latent_once(grid: int) -> None:
    shapes = [(50, 70), (25, 35), (13, 18), (7, 9), (25, 35), (13, 18)]
    levels = [0, 1, 2, 3, 1, 2]
    level = levels[grid]
    random = torch.Generator().manual_seed(grid)
    cells = _Cells((50, 70), shapes, levels, grid, random, CPU)
    count = sum(h * w for h, w in shapes)
    sums = cells.sums(torch.ones(50, 70), torch.full((count,), 100.0))
    assert float(sums.sum()) == 50 * 70 + 100 * count
    assert len(sums) <= (50 // (CELL << level) + 2) * (70 // (CELL << level) + 2)
    # The move of a cell is at least a quarter of its side away from others.
    change = torch.rand(count) - 1
    chosen = cells.best(change, 0.0)
    assert len(chosen) == len(set(cells.latents[chosen].tolist()))
    start = sum(h * w for h, w in shapes[:grid])
    place = chosen - start
    assert 0 <= int(place.min()) <= int(place.max()) < shapes[grid][0] * shapes[grid][1]
    rows, columns = place // shapes[grid][1], place % shapes[grid][1]
    for a in range(len(chosen)):
        for b in range(a):
            away = max(abs(int(rows[a] - rows[b])), abs(int(columns[a] - columns[b])))
            assert away > CELL // 2
    for number in chosen.tolist():
        own = cells._movable[cells.latents[cells._movable] == cells.latents[number]]
        assert float(change[number]) == float(change[own].min())
