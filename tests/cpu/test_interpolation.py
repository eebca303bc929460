"""Interpolation in machine code against torch's operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from codec import cpu
from codec.cpu import instruction_sets, numbers_of
from codec.cpu.interpolation import FusedInterpolation
from codec.network.kernels import INITIAL, Kernel, band_of, composites, interpolate

SETS = [numbers_of(cpu._rate)[name] for name in instruction_sets()]
pytestmark = pytest.mark.skipif(not SETS, reason="the modules are not compiled")


def start(
    levels: list[int], height: int, width: int, seed: int
) -> tuple[list[Tensor], list[Tensor], list[Kernel]]:
    """Grids of these levels, what their kernels are made of, and the kernels."""
    torch.manual_seed(seed)
    leaves = [(0.1 * torch.randn(len(levels), 4)).requires_grad_()]
    stages = None
    if max(levels):
        stages = torch.tensor(INITIAL).repeat(max(levels), 1) / 2
        stages = (stages + 0.05 * torch.randn(stages.shape)).requires_grad_()
        leaves.append(stages)
    grids = [
        torch.randn(-(-height // 2**level), -(-width // 2**level)).requires_grad_()
        for level in levels
    ]
    return grids, leaves, composites(stages, leaves[0], levels)


def close(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) <= 2e-4 * (1 + float(wanted.abs().max()))


sides = st.integers(1, 150)


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(0, 99))
def test_samples_and_gradients_are_those_of_the_operations(
    height: int, width: int, levels: list[int], seed: int
) -> None:
    grids, leaves, kernels = start(levels, height, width, seed)
    bands = [band_of(kernel) for kernel in kernels]
    planes = interpolate(grids, bands, range(height), range(width))
    slopes = torch.randn(len(levels), height, width)
    wanted = torch.autograd.grad(planes, [*leaves, *grids], list(slopes), retain_graph=True)
    for number in SETS:
        fused = FusedInterpolation(number)
        found = fused.samples(grids, kernels, range(height), range(width))
        assert bool((found[-1] == 1).all())
        close(found[:-1], torch.stack(planes).detach())
        by_latents, by_kernels = fused.back(grids, kernels, slopes)
        taps = [kernel.taps for kernel in kernels]
        by_leaves = torch.autograd.grad(taps, leaves, by_kernels, retain_graph=True)
        for value, other in zip([*by_leaves, *by_latents], wanted, strict=True):
            close(value, other)


@settings(max_examples=40, deadline=None)
@given(st.data(), sides, sides, st.integers(0, 8))
def test_a_part_is_that_part_of_the_whole(
    data: st.DataObject, height: int, width: int, level: int
) -> None:
    """Bit for bit, wherever it begins and ends."""
    grids, _, kernels = start([level], height, width, 0)
    top, left = (data.draw(st.integers(0, side - 1)) for side in (height, width))
    rows = range(top, data.draw(st.integers(top + 1, height)))
    columns = range(left, data.draw(st.integers(left + 1, width)))
    for number in SETS:
        fused = FusedInterpolation(number)
        whole = fused.samples(grids, kernels, range(height), range(width))
        part = fused.samples(grids, kernels, rows, columns)
        assert torch.equal(part, whole[:, rows.start : rows.stop, columns.start : columns.stop])
        room = torch.full_like(part, torch.nan)
        assert fused.samples(grids, kernels, rows, columns, room) is room
        assert torch.equal(room, part)


def test_sums_over_large_pictures_are_as_exact() -> None:
    """In lanes of float32 the last rows of a large picture would count for less."""
    for level, height, width in ((0, 2000, 300), (1, 2000, 300), (4, 2000, 300), (0, 70, 20000)):
        grids, _, kernels = start([level], height, width, 0)
        grids = [grid.detach().abs() for grid in grids]
        slopes = torch.rand(1, height, width)
        taps = kernels[0].taps.detach().double().requires_grad_()
        wide = Kernel(taps, kernels[0].offset, kernels[0].stride)
        plane = interpolate([grids[0].double()], [band_of(wide)], range(height), range(width))[0]
        plane.backward(slopes[0].double())
        for number in SETS:
            _, (found,) = FusedInterpolation(number).back(grids, kernels, slopes)
            assert taps.grad is not None
            assert torch.allclose(found.double(), taps.grad, rtol=2e-6)


def test_what_is_no_number_stays_none() -> None:
    grids, _, kernels = start([1], 20, 30, 0)
    grids[0].data[3, 4] = torch.nan
    for number in SETS:
        fused = FusedInterpolation(number)
        found = fused.samples(grids, kernels, range(20), range(30))[0]
        assert bool(found[6, 8].isnan())
        assert bool(found[19, 29].isfinite())


def test_arguments_that_do_not_fit_are_refused() -> None:
    """Nothing is read before all sizes are known to be right."""
    module = cpu._interpolation
    assert module is not None
    grid, kernel = np.zeros((10, 15), np.float32), np.zeros(20, np.float32)
    plane, number = np.zeros((20, 30), np.float32), SETS[-1]
    expand = (grid, kernel, plane, (10, 15), (2, -9), (0, 20, 0, 30), number)
    contract = (grid, kernel, plane, grid.copy(), np.zeros(20), (10, 15), (2, -9), (20, 30), number)
    for function, args in ((module.expand, expand), (module.contract, contract)):
        function(*args)  # type: ignore[operator]
        for place, value in enumerate(args):
            others: list[object] = []
            if isinstance(value, np.ndarray):
                # One more tap is a kernel too, so that its gradient alone may be wrong.
                others = [value.reshape(-1)[:-1].copy(), np.append(value, value.flat[:1])]
                others = [] if function is module.expand and place == 1 else others
            elif isinstance(value, tuple):
                for at in range(len(value)):
                    for wrong in (10**9, 2**31 - 1, -(10**6)):
                        others.append((*value[:at], wrong, *value[at + 1 :]))
            else:
                others = [-1, 99]
            for other in others:
                with pytest.raises(ValueError, match="expected"):
                    function(*args[:place], other, *args[place + 1 :])  # type: ignore[operator]
    for stride in (0, 3, 1024):
        with pytest.raises(ValueError, match="expected"):
            module.expand(*expand[:4], (stride, -9), *expand[5:])
    with pytest.raises(ValueError, match="taps"):
        module.expand(grid, np.zeros(31, np.float32), *expand[2:])
    with pytest.raises(ValueError, match="taps"):
        module.expand(grid, np.zeros(0, np.float32), *expand[2:])
    askew = np.frombuffer(bytearray(grid.nbytes + 1), np.uint8)[1:].view(np.float32)
    with pytest.raises(ValueError, match="address"):
        module.expand(askew, *expand[1:])
