import itertools
import math

import pytest
import torch

from codec.network import AxisGrid, CoordX
from codec.network.presets import BITS_PER_WEIGHT, coding_network, paper_network, sized_network
from formats.errors import InputError
from formats.network import PARTITIONS, Activation, Encoding, Fusion, NetworkConfig, RankMode

LENGTHS = {"t": 3, "y": 5, "x": 7}


def lengths_of(config: NetworkConfig) -> dict[str, int]:
    return {axis: LENGTHS[axis] for axis in config.axes}


def agree(config: NetworkConfig) -> None:
    """Grid query equals point query."""
    net = CoordX(config, lengths_of(config), 3, seed=1)
    grid = AxisGrid.full(lengths_of(config)).scaled(1.3)
    with torch.no_grad():
        by_grid = net(grid)
        by_point = net.points(grid.points()).t().reshape(by_grid.shape)
    assert by_grid.shape == (3, *grid.shape)
    assert float(by_grid.std()) > 1e-4
    assert torch.allclose(by_grid, by_point, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("fusion", Fusion)
def test_grid_and_point_queries_agree_for_every_partition(partition: str, fusion: Fusion) -> None:
    agree(NetworkConfig(partition=partition, fusion=fusion, width=6, features=4, rank=3))


@pytest.mark.parametrize(
    ("encoding", "activation", "mode"), list(itertools.product(Encoding, Activation, RankMode))
)
def test_grid_and_point_queries_agree_for_every_kind_of_layer(
    encoding: Encoding, activation: Activation, mode: RankMode
) -> None:
    config = NetworkConfig(
        partition="x+y+t",
        encoding=encoding,
        activation=activation,
        rank_mode=mode,
        branch_layers=3,
        width=12 if mode == RankMode.FULL else 6,
        features=4,
        rank=3,
        frequencies=4 if encoding == Encoding.FOURIER else 0,
    )
    agree(config)


@pytest.mark.parametrize("branch_layers", [1, 2, 4])
@pytest.mark.parametrize("tail_layers", [0, 1, 2, 4])
def test_grid_and_point_queries_agree_at_every_fusion_depth(
    branch_layers: int, tail_layers: int
) -> None:
    agree(
        NetworkConfig(
            branch_layers=branch_layers, tail_layers=tail_layers, width=6, features=4, rank=3
        )
    )


def test_fusion_is_the_paper_formula() -> None:
    """fused[h, w, m] = gain * sum_r fy[h, m * R + r] * fx[w, m * R + r]."""
    config = NetworkConfig(width=6, features=4, rank=3)
    net = CoordX(config, {"y": 5, "x": 7}, 3, seed=2)
    grid = AxisGrid.full({"y": 5, "x": 7})
    with torch.no_grad():
        fy = net.branch(0, net.axis_inputs(grid, ("y",)))
        fx = net.branch(1, net.axis_inputs(grid, ("x",)))
        fused = net.fuse(net.features(grid)).view(4, 5, 7)
    for m in range(4):
        part = slice(3 * m, 3 * m + 3)
        expected = (fy[:, None, part] * fx[None, :, part]).sum(-1) * net.fusion_gain
        assert torch.allclose(fused[m], expected, atol=1e-6)


def test_one_branch_is_the_plain_network() -> None:
    config = NetworkConfig(partition="xy", width=8, features=8, rank=1, tail_layers=2)
    net = CoordX(config, {"y": 4, "x": 6}, 1, seed=0)
    points = AxisGrid.full({"y": 4, "x": 6}).points()
    u = torch.stack([(2 * points[:, 0] + 1) / 4 - 1, (2 * points[:, 1] + 1) / 6 - 1], 1)
    x = torch.sin(u @ net.tensor("branch0.weight") + net.tensor("branch0.bias"))
    x = torch.sin(x @ net.tensor("shared1.weight") + net.tensor("shared1.bias"))
    x = torch.sin(x @ net.tensor("tail0.weight") + net.tensor("tail0.bias"))
    x = x @ net.tensor("tail1.weight") + net.tensor("tail1.bias")
    assert torch.allclose(net.points(points), x, atol=1e-5)


def test_fusion_gain_keeps_the_variance_of_sine_features() -> None:
    for partition, rank in (("x+y", 1), ("x+y", 32), ("x+y+t", 16)):
        config = NetworkConfig(
            partition=partition, width=64, features=64, rank=rank, branch_layers=3, bandwidth=64
        )
        net = CoordX(config, dict.fromkeys(config.axes, 64), 3, seed=3)
        with torch.no_grad():
            grid = AxisGrid.full(dict.fromkeys(config.axes, 64))
            fused = net.fuse(net.features(grid.select("x", slice(0, 16))))
        assert 0.25 < float(fused.var()) < 1.0, (partition, rank)


def test_frequencies_reach_the_nyquist_of_the_axis_and_not_beyond() -> None:
    for length in (2, 3, 16, 17, 512, 768):
        config = NetworkConfig(encoding=Encoding.POSITIONAL)
        octaves = (config.encoded_size(length) - 1) // 2
        highest = 2 ** (octaves - 1) * 2 / length  # in units of pi radians a sample
        assert highest <= 1.0 + 1e-9
        assert highest > 0.5 or length == 2


def test_counts_follow_from_the_tensors() -> None:
    config = NetworkConfig(partition="x+y", width=10, features=6, rank=4, tail_layers=3)
    net = CoordX(config, {"y": 9, "x": 11}, 3)
    assert config.parameters({"y": 9, "x": 11}, 3) == sum(p.numel() for p in net.parameters())
    # 20 axis points through 1x10 and 10x24, 99 pixels through the fusion and the tail
    expected = 20 * (10 + 240) + 99 * (24 + 36 + 36 + 18)
    assert config.macs({"y": 9, "x": 11}, 3) == expected


def test_the_paper_network_has_the_published_size() -> None:
    split = paper_network("x+y")
    lengths = {"y": 512, "x": 512}
    assert split.parameters(lengths, 3) == 199_171
    plain = paper_network("xy")
    assert plain.parameters(lengths, 3) == 198_915
    assert round(split.macs(lengths, 3) / 512**2) == pytest.approx(67_073, rel=0.01)


def test_coding_networks_fit_their_budget() -> None:
    for bits in (500, 3000, 20_000, 100_000, 400_000):
        for partition, lengths in (("x+y", {"y": 512, "x": 768}), ("xy", {"y": 64, "x": 64})):
            config = coding_network(partition, lengths, 3, bits)
            weights = config.parameters(lengths, 3)
            smallest = sized_network(partition, 4)
            assert weights * BITS_PER_WEIGHT <= bits or config == smallest
            if config != smallest:
                raw = 8 * 3 * math.prod(lengths.values())
                assert weights * BITS_PER_WEIGHT > 0.7 * min(bits, raw)


def test_weights_can_be_substituted_and_come_back() -> None:
    config = NetworkConfig(width=4, features=3, rank=2)
    net = CoordX(config, {"y": 3, "x": 3}, 1)
    grid = AxisGrid.full({"y": 3, "x": 3})
    before = net(grid)
    zeros = {spec.name: torch.zeros(spec.shape) for spec in net.specs}
    with net.using(zeros):
        assert float(net(grid).abs().max()) == 0
    assert torch.equal(net(grid), before)


def test_seeds_decide_the_initial_weights() -> None:
    config = NetworkConfig(width=4, features=3, rank=2)
    make = [CoordX(config, {"y": 3, "x": 3}, 1, seed=s).tensor("tail0.weight") for s in (1, 1, 2)]
    assert torch.equal(make[0], make[1])
    assert not torch.equal(make[0], make[2])


def test_lengths_must_match_the_partition() -> None:
    with pytest.raises(InputError, match="x\\+y\\+t"):
        CoordX(NetworkConfig(partition="x+y+t"), {"y": 2, "x": 2}, 3)
    with pytest.raises(InputError, match="paper network"):
        paper_network("z")
    assert "parameters=" in repr(CoordX(NetworkConfig(), {"y": 2, "x": 2}, 3))
