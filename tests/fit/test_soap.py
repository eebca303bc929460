"""The optimiser for many small matrices beside the one of a library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from pytorch_optimizer import SOAP

from codec.fit.soap import Soap

Shapes = Sequence[tuple[int, ...]]


def library(params: list[torch.nn.Parameter], rate: float) -> torch.optim.Optimizer:
    return SOAP(
        params,
        lr=rate,
        betas=(0.95, 0.95),
        weight_decay=0.0,
        precondition_frequency=10,
        max_precondition_dim=512,
    )


def parameters(shapes: Shapes) -> list[torch.nn.Parameter]:
    rng = np.random.default_rng(1)
    return [torch.nn.Parameter(torch.from_numpy(rng.normal(size=shape))) for shape in shapes]


def advance(
    optimiser: torch.optim.Optimizer, params: list[torch.nn.Parameter], steps: range
) -> list[np.ndarray]:
    """Steps down badly conditioned quadratic bowls, with noise; where the parameters are then."""
    for step in steps:
        rng = np.random.default_rng(100 + step)
        for p in params:
            size = p.shape[0]
            slopes = torch.from_numpy(np.diag(0.5 ** np.arange(size)) + 0.1 * np.eye(size)[::-1])
            noise = torch.from_numpy(0.1 * rng.normal(size=tuple(p.shape)))
            p.grad = (slopes @ p.detach().reshape(size, -1)).view(p.shape) + noise
        optimiser.step()
    return [p.detach().numpy().copy() for p in params]


@pytest.mark.parametrize(
    "shapes",
    [
        [(16, 21), (32, 7), (5,), (3, 8), (32,), (2, 1)],  # padded to one size
        [(70, 70), (70, 66), (64, 63), (66, 70), (1,)],  # longer sides only with their equals
        [(520, 3), (4, 600), (600,)],  # sides without a preconditioner
    ],
)
def test_like_the_library(shapes: Shapes, monkeypatch: pytest.MonkeyPatch) -> None:
    eigh = torch.linalg.eigh

    def distinct(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The first gradient's outer product has a null space, whose basis is up to rounding."""
        apart = 1e-6 * torch.arange(matrix.shape[-1], dtype=matrix.dtype)
        values, vectors = eigh(matrix + torch.diag(apart))
        return values, vectors

    monkeypatch.setattr(torch.linalg, "eigh", distinct)
    ours, theirs = parameters(shapes), parameters(shapes)
    found = advance(Soap(ours, 0.03), ours, range(35))
    expected = advance(library(theirs, 0.03), theirs, range(35))
    for a, b, start in zip(found, expected, parameters(shapes), strict=True):
        assert np.abs(b - start.detach().numpy()).max() > 0.1  # they move
        np.testing.assert_allclose(a, b, atol=1e-4)  # their QR is in float32


def test_bases_stay_orthonormal_and_padding_the_identity() -> None:
    params = parameters([(32, 7), (2, 40), (5, 3)])
    optimiser = Soap(params, 0.03)
    for step in range(25):
        rng = np.random.default_rng(step)
        for p in params:
            p.grad = torch.from_numpy(rng.normal(size=tuple(p.shape)))
            p.grad[-1] = 0  # a row and a column without any slope
            p.grad[:, -1] = 0
        optimiser.step()
    (state,) = optimiser.state.values()
    for axis in (0, 1):
        for basis, p in zip(state[f"basis{axis}"], params, strict=True):
            size = p.shape[axis]
            expected = torch.eye(len(basis), dtype=torch.float64)
            torch.testing.assert_close(basis @ basis.T, expected, atol=1e-12, rtol=0)
            assert torch.equal(basis[size:, size:], expected[size:, size:])
            assert not basis[:size, size:].any()


def test_more_axes_are_a_matrix_of_the_first() -> None:
    wide, flat = parameters([(3, 4, 2)]), parameters([(3, 8)])
    (a,), (b,) = (advance(Soap(p, 0.03), p, range(25)) for p in (wide, flat))
    np.testing.assert_array_equal(a.reshape(3, 8), b)


def test_goes_on_from_a_state() -> None:
    shapes = [(6, 9), (4, 3, 3), (7,)]
    straight = parameters(shapes)
    expected = advance(Soap(straight, 0.03), straight, range(30))
    begun = parameters(shapes)
    first = Soap(begun, 0.03)
    advance(first, begun, range(17))
    second = Soap(begun, 0.03)
    second.load_state_dict(first.state_dict())
    for a, b in zip(advance(second, begun, range(17, 30)), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_rate_scales_a_step() -> None:
    one, two = parameters([(5, 4)]), parameters([(5, 4)])
    slow, fast = Soap(one, 0.01), Soap(two, 1.0)
    advance(slow, one, range(1))
    advance(fast, two, range(1))
    np.testing.assert_array_equal(one[0].detach(), two[0].detach())  # the first moves nothing
    start = one[0].detach().clone()
    fast.param_groups[0]["lr"] = 0.02
    advance(slow, one, range(1, 2))
    advance(fast, two, range(1, 2))
    np.testing.assert_allclose(2 * (one[0].detach() - start), two[0].detach() - start, rtol=1e-9)


def test_gradients_that_are_no_numbers() -> None:
    (p,) = parameters([(4, 4)])
    p.grad = torch.full_like(p, torch.nan)
    with pytest.raises(torch.linalg.LinAlgError):
        Soap([p], 0.1).step()
