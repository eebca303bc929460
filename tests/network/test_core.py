"""Core fusion: interpolation by axis, crops, scales, and the gradients of its distortion."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from codec.core_reconstruct import CoreReconstructor
from codec.fit.core_distortion import CoreDistortion
from codec.network import AxisGrid, convolve, kernels, tail
from codec.network.core import CoreCoordX, gain_of
from codec.network.kernels import INITIAL, axis_matrix, bands, expand
from codec.network.parts import Parts
from formats.core import CoreConfig
from formats.errors import InputError


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def network(
    height: int, width: int, channels: int = 3, *, amplitude: float = 0.1, **changes: int
) -> CoreCoordX:
    torch.manual_seed(0)
    config = CoreConfig(**{"levels": 4, "hidden": 5, "width": 4, **changes})
    net = CoreCoordX(config, {"y": height, "x": width}, channels)
    with torch.no_grad():
        for spec in net.specs:
            net.parameter(spec.name).add_(0.03 * torch.randn(spec.shape))
    net.latents = [torch.randn(s) * amplitude for s in config.grid_shapes(height, width)]
    return net.requires_grad_(False)


def grid(rows: torch.Tensor, columns: torch.Tensor) -> AxisGrid:
    return AxisGrid(("y", "x"), (rows, columns))


def test_one_stage_is_a_transposed_convolution() -> None:
    half = torch.tensor(INITIAL)
    found = bands(half[None], torch.zeros(2, 4), range(2))[1]
    latents = torch.randn(1, 40)
    taps = torch.cat([half.flip(0), half])
    wide = torch.nn.functional.pad(latents, (8, 8), mode="replicate")
    spread = torch.nn.functional.conv_transpose1d(wide[None], taps[None, None], stride=2)[0]
    expected = spread[:, 3 + 16 : 3 + 16 + 80]
    torch.testing.assert_close(expand(latents, found, 0, 80), expected)


@pytest.mark.parametrize("length", [1, 2, 5, 63, 64, 65, 200])
def test_blocks_equal_the_whole_matrix(length: int) -> None:
    kernel, prefilter = torch.randn(5, 4), torch.randn(6, 4) * 0.1
    for level, band in enumerate(bands(kernel, prefilter, range(6))):
        latents = torch.randn(3, -(-length // 2**level))
        matrix = axis_matrix(band, latents.shape[1], torch.arange(float(length)), length)
        torch.testing.assert_close(expand(latents, band, 0, length), latents @ matrix.t())
        if length > 64:
            part = expand(latents, band, 64, length)
            torch.testing.assert_close(part, (latents @ matrix.t())[:, 64:])


@pytest.mark.parametrize("length", [1, 7, 200])
def test_a_coordinate_has_its_row_whatever_comes_with_it(length: int) -> None:
    coords = torch.tensor([-90.0, -0.4, 0.0, length / 2, length / 3, length - 1.0, length + 70.5])
    for level, band in enumerate(bands(torch.randn(5, 4), torch.randn(6, 4), range(6))):
        latents = -(-length // 2**level)
        together = axis_matrix(band, latents, coords, length)
        for row, coordinate in zip(together, coords, strict=True):
            torch.testing.assert_close(
                axis_matrix(band, latents, coordinate[None], length)[0], row, rtol=0, atol=0
            )


def test_colour_grids_have_the_stages_of_their_level_and_a_filter_of_their_own() -> None:
    kernel, prefilter = torch.randn(3, 4), torch.randn(7, 4) * 0.1
    found = bands(kernel, prefilter, [0, 1, 2, 3, 1, 2, 3])
    for level in (1, 2, 3):
        filters = prefilter[:4].clone()
        filters[level] = prefilter[3 + level]
        wanted = bands(kernel, filters, range(4))[level]
        band = found[3 + level]
        own, other = band.kernel, wanted.kernel
        assert (own.stride, band.left, own.offset) == (other.stride, wanted.left, other.offset)
        torch.testing.assert_close(band.matrix, wanted.matrix, rtol=0, atol=0)
        torch.testing.assert_close(own.taps, other.taps, rtol=0, atol=0)
        assert not torch.allclose(own.taps, found[level].kernel.taps)


def test_colour_grids_are_stages_of_two_one_after_the_other() -> None:
    """By the steps of the specification: the filter, then the stages, the coarsest first."""
    net = network(40, 56, levels=4, colour=3, colour_level=1, amplitude=1.0)
    wide = 16  # latents repeated beyond the edges, more than any kernel reaches
    planes = []
    for grid, latents in enumerate(net.latents):
        level = net.config.level_of(grid)
        plane = torch.nn.functional.pad(latents[None, None], (wide,) * 4, mode="replicate")
        side = net.tensor("filter")[grid]
        taps = torch.cat([side[1:].flip(0), side])
        taps[3] += 1
        for turned in (taps[:, None], taps[None, :]):
            plane = torch.nn.functional.conv2d(plane, turned[None, None], padding="same")
        for stage in reversed(range(level)):
            half = net.tensor("kernel")[stage]
            taps = torch.cat([half.flip(0), half])
            plane = torch.nn.functional.conv_transpose2d(
                plane, torch.outer(taps, taps)[None, None], stride=2, padding=3
            )
        start = wide << level
        planes.append(plane[0, 0, start : start + 40, start : start + 56])
    found = Parts(net.bands()).features(net.latents, range(40), range(56))
    torch.testing.assert_close(found, torch.stack([*planes, torch.ones(40, 56)]))


@pytest.mark.parametrize("colour", [0, 3])
@pytest.mark.parametrize("size", [(37, 45), (1, 1), (7, 7), (70, 130), (1, 50)])
def test_grid_queries_at_samples_are_the_samples(size: tuple[int, int], colour: int) -> None:
    net = network(*size, colour=colour, colour_level=colour // 3)
    native = net.native(range(size[0]), range(size[1]))
    queried = net(grid(torch.arange(float(size[0])), torch.arange(float(size[1]))))
    torch.testing.assert_close(native, queried)


@pytest.mark.parametrize(
    ("levels", "colour", "colour_level"),
    [(1, 0, 0), (2, 0, 0), (7, 0, 0), (10, 0, 0), (7, 3, 2), (10, 5, 5)],
)
def test_parts_are_the_axis_matrices_at_any_samples(
    levels: int, colour: int, colour_level: int
) -> None:
    """By strips, as a CPU does, and by blocks, as a GPU does."""
    net = network(300, 530, levels=levels, amplitude=1.0, colour=colour, colour_level=colour_level)
    parts = Parts(net.bands())
    full = AxisGrid.full(net.lengths, torch.device("cpu"))
    whole = [
        axis_matrix(band, len(latent), full["y"], 300)
        @ latent
        @ axis_matrix(band, latent.shape[1], full["x"], 530).t()
        for band, latent in zip(parts.bands, net.latents, strict=True)
    ]
    expected = torch.stack([*whole, torch.ones(300, 530)])
    for rows, columns in (
        (range(300), range(530)),
        (range(254, 300), range(253, 515)),
        (range(1, 259), range(511, 530)),
        (range(299, 300), range(1)),
        (range(63, 66), range(127, 386)),
    ):
        wanted = expected[:, rows.start : rows.stop, columns.start : columns.stop]
        torch.testing.assert_close(parts.features(net.latents, rows, columns), wanted)
        torch.testing.assert_close(parts._of_blocks(net.latents, rows, columns), wanted)


@pytest.mark.parametrize(("residuals", "colour"), [(0, 0), (1, 0), (3, 0), (1, 4)])
def test_any_crop_is_that_part_of_the_picture(residuals: int, colour: int) -> None:
    net = network(80, 150, residuals=residuals, colour=colour)
    whole = net.native(range(80), range(150))
    for rows, columns in (
        (range(5, 30), range(11, 40)),
        (range(1, 79), range(2, 150)),
        (range(0, 80), range(70, 71)),
        (range(79, 80), range(149, 150)),
    ):
        part = net.native(rows, columns)
        expected = whole[:, rows.start : rows.stop, columns.start : columns.stop]
        torch.testing.assert_close(part, expected)


def test_3x3_layers_are_matrix_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU a convolution of torch would round its inputs to TF32."""
    net = network(20, 30)
    padded = torch.nn.functional.pad(torch.randn(1, 3, 20, 30), (1, 1, 1, 1), mode="replicate")
    weight, bias = net.tensor("residual0.weight"), net.tensor("residual0.bias")
    inner = padded[0, :, 1:-1, 1:-1]
    expected = inner + torch.nn.functional.conv2d(padded, weight, bias)[0]
    for chunk in (50, 10_000):
        found = convolve.add_convolution(padded[0], weight, bias, chunk)
        torch.testing.assert_close(found, expected)

    def refuse(*_: object) -> None:
        raise AssertionError("a convolution of torch")

    monkeypatch.setattr("torch.nn.functional.conv2d", refuse)
    assert net.native(range(20), range(30)).shape == (3, 20, 30)


def test_between_samples_the_picture_is_continuous() -> None:
    net = network(40, 40)
    base = torch.arange(5.0, 30.0)
    near = net(grid(base + 1e-5, base - 1e-5))
    torch.testing.assert_close(near, net(grid(base, base)), rtol=0, atol=1e-4)


def test_a_fit_can_come_after_a_decode() -> None:
    kernels._constant.cache_clear()
    net = network(20, 30)
    with torch.inference_mode():
        net.native(range(20), range(30))
    weights = {s.name: net.parameter(s.name).data for s in net.specs}
    found = CoreDistortion(net.config, torch.rand(3, 20, 30))(weights, net.latents)
    assert found.weights["kernel"].abs().max() > 0


def test_gain_scales_what_the_tail_sees() -> None:
    assert gain_of(CoreConfig()) == 0.5
    assert gain_of(CoreConfig(gain=8)) == 1.0
    plain, loud = network(9, 9), network(9, 9, gain=8)
    loud.latents = [q / 2 for q in plain.latents]
    torch.testing.assert_close(loud.native(range(9), range(9)), plain.native(range(9), range(9)))


@pytest.mark.parametrize("colour", [0, 2])
@pytest.mark.parametrize("chunk", [30, 16384])
@pytest.mark.parametrize("size", [(19, 22, 3), (1, 1, 3), (7, 5, 1), (6, 9, 4)])
def test_gradients_are_those_of_finite_differences(
    monkeypatch: pytest.MonkeyPatch, chunk: int, size: tuple[int, int, int], colour: int
) -> None:
    monkeypatch.setattr(convolve, "CHUNK", chunk)
    monkeypatch.setattr(tail, "CHUNK", 40 * chunk)
    height, width, channels = size
    net = network(height, width, channels, levels=3, colour=colour, colour_level=colour // 2)
    weights = {
        s.name: net.parameter(s.name).data for s in net.specs if not s.name.startswith("context")
    }
    target = torch.rand(channels, height, width)
    measure = CoreDistortion(net.config, target)
    found = measure(weights, net.latents)
    picture = net.native(range(height), range(width)).clamp(0, 1)
    torch.testing.assert_close(found.mse, (picture - target).square().mean())
    smooth = measure.smooth(weights, measure.features(weights, net.latents))
    assert measure.error(weights, smooth) == pytest.approx(float(found.mse))

    def slope(values: torch.Tensor, index: int) -> float:
        flat, kept = values.view(-1), float(values.view(-1)[index])
        flat[index] = kept + 1e-6
        above = float(measure(weights, net.latents).mse)
        flat[index] = kept - 1e-6
        below = float(measure(weights, net.latents).mse)
        flat[index] = kept
        return (above - below) / 2e-6

    for name, values in weights.items():
        for index in range(0, values.numel(), max(1, values.numel() // 4)):
            gradient = float(found.weights[name].reshape(-1)[index])
            assert gradient == pytest.approx(slope(values, index), 1e-4, 1e-8), name
    for number, values in enumerate(net.latents):
        gradient = float(found.latents[number].reshape(-1)[values.numel() // 2])
        assert gradient == pytest.approx(slope(values, values.numel() // 2), 1e-4, 1e-8)


def test_the_clamp_passes_gradients() -> None:
    net = network(12, 12, amplitude=40.0)
    weights = {s.name: net.parameter(s.name).data for s in net.specs}
    found = CoreDistortion(net.config, torch.full((3, 12, 12), 0.5))(
        {k: v for k, v in weights.items() if not k.startswith("context")}, net.latents
    )
    assert float(found.latents[0].abs().min()) > 0


@pytest.mark.parametrize("bits", [8, 16])
def test_the_decoder_cuts_and_scales(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr("codec.core_reconstruct.CPU_BLOCK", 64)
    decoder = CoreReconstructor(network(150, 90), bits)
    whole = decoder.region(range(1), None)
    assert whole.shape == (150, 90, 3)
    assert whole.dtype == (np.uint8 if bits == 8 else np.uint16)
    for crop in ((0, 0, 90, 150), (10, 60, 70, 20), (89, 149, 1, 1)):
        x, y, w, h = crop
        np.testing.assert_array_equal(decoder.region(range(1), crop), whole[y : y + h, x : x + w])
    double = decoder.region(range(1), None, 2.0).astype(float)
    half = decoder.region(range(1), None, 0.5).astype(float)
    assert double.shape == (300, 180, 3)
    assert half.shape == (75, 45, 3)
    top = (1 << bits) - 1
    inner = double.reshape(150, 2, 90, 2, 3).mean((1, 3))
    assert np.abs(inner - whole).mean() / top < 0.02
    np.testing.assert_allclose(half, whole.reshape(75, 2, 45, 2, 3).mean((1, 3)), atol=1)
    with pytest.raises(InputError, match="crop"):
        decoder.region(range(1), (80, 0, 20, 20))
