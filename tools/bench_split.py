"""Split evaluation against the same-size plain MLP, on this machine: time, MACs, ratio.

    python tools/bench_split.py [--sizes 512,2048] [--device cpu] [--repeats 5]

Rows: the paper's network (width 256; one product, R = 1) as x+y and as xy, and the coding preset
for 0.3 bpp as x+y and as an xy network with as many weights. The two of a pair are timed
alternately; the ratio is that of the medians. "ceiling" is the ratio of multiply-accumulates.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from codec.network import CoordX
from codec.network.presets import coding_network, paper_network
from codec.reconstruct import Reconstructor
from formats.network import NetworkConfig


def pairs(size: int) -> list[tuple[str, NetworkConfig, NetworkConfig]]:
    """(name, split, plain) for a square picture of this size."""
    lengths = {"y": size, "x": size}
    bits = 0.3 * size * size
    return [
        ("paper, width 256", paper_network("x+y"), paper_network("xy")),
        (
            "coding preset, 0.3 bpp",
            coding_network("x+y", lengths, 3, bits),
            coding_network("xy", lengths, 3, bits),
        ),
    ]


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="512,2048", help="picture sides [512,2048]")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each [5]")
    args = parser.parse_args()
    device = torch.device(args.device)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads\n")
    print(
        "| network | picture | weights split / plain | MAC/px split / plain | ceiling "
        "| split ms | plain ms | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for size in (int(s) for s in args.sizes.split(",")):
        for name, split, plain in pairs(size):
            print(row(name, size, split, plain, device, args.repeats), flush=True)


def row(
    name: str,
    size: int,
    split: NetworkConfig,
    plain: NetworkConfig,
    device: torch.device,
    repeats: int,
) -> str:
    """Time one pair."""
    lengths = {"y": size, "x": size}
    times: list[list[float]] = [[], []]
    nets = [CoordX(c, lengths, 3).requires_grad_(False).to(device) for c in (split, plain)]
    for repeat in range(repeats + 1):
        for number, net in enumerate(nets):
            decoder = Reconstructor(net, 8)  # new each time: axis features are part of the cost
            started = time.perf_counter()
            decoder.region(range(1), None)
            if repeat:  # the first round warms up
                times[number].append(1000 * (time.perf_counter() - started))
    weights = [c.parameters(lengths, 3) for c in (split, plain)]
    macs = [c.macs(lengths, 3) / size**2 for c in (split, plain)]
    a, b = (statistics.median(t) for t in times)
    return (
        f"| {name} | {size}x{size} | {weights[0]:,} / {weights[1]:,} | "
        f"{macs[0]:,.0f} / {macs[1]:,.0f} | {macs[1] / macs[0]:.2f} | {a:.0f} | {b:.0f} | "
        f"{b / a:.2f} |"
    )


if __name__ == "__main__":
    main()
