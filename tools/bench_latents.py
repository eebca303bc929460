"""What encoding and decoding the latents of an image costs, by part.

    OMP_NUM_THREADS=1 python tools/bench_latents.py [--height 512] [--width 768] [--scale 13]

The latents are synthetic: a context network with small random weights predicts means and scales,
and every latent is drawn from its own table, so that the stream is what the tables expect. Prints
the median over runs in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from formats import entropy, tables
from formats.context import ContextNetwork, Scratch
from formats.core import CoreConfig
from formats.entropy import LatentDecoder
from formats.latents import _group, _Groups, _read, _walk, decode_segment, encode_segment
from formats.lattice import passes, plane
from formats.tables import TOTAL, latent_frequencies
from formats.weights import CodedTensor


def network(config: CoreConfig, scale: int, seed: int = 0) -> ContextNetwork:
    """Small random weights; the scale indices lie around `scale`."""
    rng = np.random.default_rng(seed)
    spread = {"context.first": 2, "context.parent": 2, "context.hidden": 12, "context.out": 30}
    tensors = {}
    for spec in config.tensors({}, 3):
        values = np.rint(rng.laplace(0, spread.get(spec.name, 0.01), spec.shape))
        tensors[spec.name] = CodedTensor(values.astype(np.int32), -6)
    tensors["context.bias"].symbols[:] = rng.integers(-8, 64, (config.width, 1))
    tensors["context.level"].symbols[1] = (scale - 44) * 8
    return ContextNetwork(config, tensors)


def drawn(
    network: ContextNetwork, shapes: list[tuple[int, int]], seed: int = 1
) -> list[npt.NDArray[np.int32]]:
    """Latents drawn from the tables that the network chooses for them."""
    rng = np.random.default_rng(seed)

    def draw(groups: _Groups, values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        parts = [
            np.searchsorted(
                latent_frequencies(key).cumsum(), rng.integers(0, TOTAL, end - first), "right"
            )
            for key, first, end in groups.tables
        ]
        symbols = np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int32)
        return groups.place((symbols - groups.reach) * groups.sign)

    grids = [np.zeros(shape, np.int32) for shape in shapes]
    _walk(network, grids, draw)
    return grids


def median_ms(work: Callable[[], object], runs: int) -> tuple[float, float]:
    """Median wall and processor time of `runs` calls after one more, in milliseconds."""
    work()
    walls, busy = [], []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        busy.append(time.process_time() - cpu)
    return 1e3 * statistics.median(walls), 1e3 * statistics.median(busy)


def forget_tables() -> None:
    """Empty the caches, as in a fresh process."""
    for cached in (tables._masses, tables.latent_frequencies, entropy._latent_model):
        cached.cache_clear()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--height", type=int, default=512, help="rows (%(default)s)")
    parser.add_argument("--width", type=int, default=768, help="columns (%(default)s)")
    parser.add_argument("--levels", type=int, default=7, help="grids (%(default)s)")
    parser.add_argument("--context", type=int, default=16, help="context width (%(default)s)")
    parser.add_argument("--magnitudes", action="store_true", help="context sees magnitudes too")
    parser.add_argument("--scale", type=int, default=10, help="typical scale (%(default)s)")
    parser.add_argument("--runs", type=int, default=9, help="runs to take the median of")
    args = parser.parse_args()
    config = CoreConfig(levels=args.levels, width=args.context, magnitudes=args.magnitudes)
    net = network(config, args.scale)
    shapes = config.level_shapes(args.height, args.width)
    grids = drawn(net, shapes)
    data, seen = encode_segment(net, grids)
    if any(not np.array_equal(a, b) for a, b in zip(seen, grids, strict=True)):
        raise SystemExit("the encoder changed latents that were drawn from its tables")

    scratch = Scratch()
    predicted = []

    def context() -> None:
        predicted.clear()
        parent = None
        for level in reversed(range(config.levels)):
            for step in passes(grids[level], config.octaves, parent):
                predicted.append(net.predict(step, level, scratch))
            parent = plane(grids[level])

    def symbols() -> None:
        coder = LatentDecoder(data, "bench")
        for group in grouped:
            _read(coder, group, group.nearest)
        coder.finish()

    rows = [
        ("context network", median_ms(context, args.runs)),
        ("table grouping", median_ms(lambda: [_group(*p) for p in predicted], args.runs)),
    ]
    grouped = [_group(*p) for p in predicted]
    rows += [
        ("symbols", median_ms(symbols, args.runs)),
        ("decode, all", median_ms(lambda: decode_segment(net, shapes, data, "bench"), args.runs)),
        ("encode, all", median_ms(lambda: encode_segment(net, grids), args.runs)),
    ]

    def cold() -> None:
        forget_tables()
        decode_segment(net, shapes, data, "bench")

    rows.append(("decode, cold tables", median_ms(cold, args.runs)))
    latents = config.latents(args.height, args.width)
    keys = {key for group in grouped for key, _, _ in group.tables}
    print(
        f"{args.width}x{args.height}, {config.levels} levels, context width {config.width}: "
        f"{8 * len(data) / (args.height * args.width):.3f} bpp, {latents:,} latents in "
        f"{sum(len(g.tables) for g in grouped):,} groups of {len(keys)} tables"
    )
    print("                            wall processor")
    for name, (wall, cpu) in rows:
        print(f"  {name:20} {wall:7.1f} {cpu:9.1f} ms")


if __name__ == "__main__":
    main()
