"""What encoding and decoding the latents of an image costs, by part.

    OMP_NUM_THREADS=1 python tools/bench_latents.py [--height 512] [--width 768] [--scale 13]

The latents are synthetic: a context network with small random weights predicts means and scales,
and every latent is drawn from its own table, so that the stream is what the tables expect. Prints
the median over runs in milliseconds: of numpy's decoder by part, and of machine code.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from formats import native, residuals, tables
from formats.blocks import BlockGrid
from formats.context import ContextNetwork, Scratch
from formats.core import CoreConfig
from formats.latents import Codes, _Coded, _coded, _walk, decode_by_passes, encode_segment
from formats.residuals import LatentDecoder, by_key
from formats.tables import FAR, TOTAL, latent_frequencies
from formats.weights import CodedTensor


def network(config: CoreConfig, scale: int, seed: int = 0) -> ContextNetwork:
    """Small random weights; the scale indices lie around `scale`."""
    rng = np.random.default_rng(seed)
    spread = {"context.first": 2, "context.parent": 2, "context.hidden": 12, "context.out": 6}
    tensors = {}
    for spec in config.tensors({}, 3):
        values = np.rint(rng.laplace(0, spread.get(spec.name, 0.01), spec.shape))
        tensors[spec.name] = CodedTensor(values.astype(np.int32), -6)
    tensors["context.bias"].symbols[:] = rng.integers(-8, 64, (config.width, 1))
    tensors["context.level"].symbols[1] = (scale - 44) * 8
    return ContextNetwork(config, tensors)


def drawn(
    network: ContextNetwork, shapes: Mapping[int, tuple[int, int]], seed: int = 1
) -> dict[int, npt.NDArray[np.int32]]:
    """Latents drawn from the tables that the network chooses for them."""
    rng = np.random.default_rng(seed)

    ends = by_key(latent_frequencies().cumsum(-1))

    def draw(number: int, coded: _Coded, values: Codes) -> Codes:
        point = rng.integers(0, TOTAL, (len(coded.keys), 1))
        symbols = (ends[coded.keys] <= point).sum(1).astype(np.int32)
        return coded.place(symbols - FAR)

    return _walk(network, shapes, {}, draw)


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
    for cached in (tables.latent_frequencies, residuals._latent_models, residuals._excess_model):
        cached.cache_clear()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--height", type=int, default=512, help="rows (%(default)s)")
    parser.add_argument("--width", type=int, default=768, help="columns (%(default)s)")
    parser.add_argument("--levels", type=int, default=7, help="with a grid each (%(default)s)")
    parser.add_argument("--colour", type=int, default=0, help="colour grids (%(default)s)")
    parser.add_argument("--colour-level", type=int, default=0, help="of the finest (%(default)s)")
    parser.add_argument("--context", type=int, default=16, help="context width (%(default)s)")
    parser.add_argument("--block", type=int, default=0, help="log2 of the blocks (%(default)s)")
    parser.add_argument("--scale", type=int, default=10, help="typical scale (%(default)s)")
    parser.add_argument("--runs", type=int, default=9, help="runs to take the median of")
    args = parser.parse_args()
    config = CoreConfig(
        levels=args.levels,
        width=args.context,
        block=args.block,
        colour=args.colour,
        colour_level=args.colour_level,
    )
    net = network(config, args.scale)
    shapes = dict(enumerate(config.grid_shapes(args.height, args.width)))
    grids = drawn(net, shapes)
    data, seen = encode_segment(net, grids)
    if any(not np.array_equal(seen[number], grid) for number, grid in grids.items()):
        raise SystemExit("the encoder changed latents that were drawn from its tables")

    decoded = net, shapes, data, "bench"
    scratch = Scratch()
    predicted: list[tuple[Codes, Codes, npt.NDArray[np.bool_] | None]] = []

    def empty(number: int) -> BlockGrid:
        parent = config.parent(number)
        above = None if parent is None else grids[parent]
        return BlockGrid(shapes[number], config.side(number), above)

    def order() -> None:
        for number, grid in grids.items():
            known = empty(number)
            given = known.split(grid)
            for step in known.passes():
                known.put(step, step.of(given))
            known.grid()

    def context() -> None:
        predicted.clear()
        for number in shapes:
            for step in empty(number).passes():
                predicted.append((*net.predict(step, number, scratch), step.inside))

    def symbols() -> None:
        coder = LatentDecoder(data, "bench")
        for coded in prepared:
            coder.decode(coded.keys)
        coder.finish()

    rows = [
        ("order of the latents", median_ms(order, args.runs)),
        ("the same and context network", median_ms(context, args.runs)),
        ("choice of tables", median_ms(lambda: [_coded(*p) for p in predicted], args.runs)),
    ]
    prepared: list[_Coded] = []

    def prepare(number: int, coded: _Coded, values: Codes) -> Codes:
        prepared.append(coded)
        return values

    _walk(net, shapes, {}, prepare, grids)
    rows += [
        ("symbols", median_ms(symbols, args.runs)),
        ("decode, numpy", median_ms(lambda: decode_by_passes(*decoded), args.runs)),
        ("encode, numpy", median_ms(lambda: encode_segment(net, grids), args.runs)),
    ]

    def cold() -> None:
        forget_tables()
        decode_by_passes(*decoded)

    rows.append(("decode, numpy, cold tables", median_ms(cold, args.runs)))
    for name in native.instruction_sets():
        machine_code = partial(native.decode_segment, *decoded, {}, name)
        rows.append((f"decode, {name}", median_ms(machine_code, args.runs)))
    latents = config.latents(args.height, args.width)
    print(
        f"{args.width}x{args.height}, {config.levels} levels, {config.colour} colour grids, "
        f"context width {config.width}: "
        f"{8 * len(data) / (args.height * args.width):.3f} bpp, "
        f"{sum(len(p.keys) for p in prepared):,} of {latents:,} latents coded in "
        f"{len(prepared)} passes"
    )
    print("                                    wall processor")
    for name, (wall, cpu) in rows:
        print(f"  {name:28} {wall:7.1f} {cpu:9.1f} ms")


if __name__ == "__main__":
    main()
