"""Times of core fusion by picture size: a step of the fit, and a decode part by part.

    python tools/bench_core.py --pixels 0.1,0.4,2,8 [--device cuda] [--threads 2] [-o report.json]
    python tools/bench_core.py --file picture.crdx      # its decode alone

The picture is a Kodak-like synthetic one or --image, resized; the file that is decoded comes from
a fit of --steps steps at --lambda, so it has realistic statistics and about 0.5 bpp. The step is
one of a fit of --budget steps, whose network is another from 2000 steps on. Medians.
The peak of a fit is the most that the process has held so far, libraries included; that of a decode
is what a fresh process needs over its idle state, the samples that it returns included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import codec
from codec.bitstream import reconstructor_of_unit
from codec.blas import one_blas_thread
from codec.evaluate.machine import peak_memory
from codec.fit.budget import transform_bits
from codec.fit.core_config import CoreFitConfig
from codec.fit.core_loop import CoreFitter
from codec.network.coded import start_from_prior
from codec.network.core import CoreCoordX
from codec.network.presets import core_network
from codec.signal import Samples, to_signal
from formats.container import Container
from formats.header import Header

# Idle: the libraries and the tables of the context network are there, which a 1x1 picture loads.
DECODE = """
import sys
import codec
from codec.evaluate.machine import peak_memory
codec.decode(sys.argv[1], device=sys.argv[3])
idle = peak_memory()
codec.decode(sys.argv[2], device=sys.argv[3])
print(peak_memory() - idle)
"""

SAMPLE = Path(__file__).resolve().parents[1] / "codec" / "samples" / "astronaut.png"


def picture(path: Path, megapixels: float) -> Samples:
    """The image at a size of about this many pixels, 3:2; (H, W, 3) uint8."""
    width = max(8, round((megapixels * 1e6 * 1.5) ** 0.5 / 8) * 8)
    height = max(8, round(width / 1.5 / 8) * 8)
    return np.asarray(
        Image.open(path).convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    )


def median(call: Callable[[], Any], repeats: int) -> float:
    """Median milliseconds of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def step_time(
    samples: Samples, lam: float, budget: int, device: torch.device, repeats: int
) -> tuple[int, float]:
    """Width of the context of a fit of `budget` steps, and milliseconds of a step."""
    height, width, channels = samples.shape
    signal = to_signal(samples, 8, device)
    config = core_network(height, width, lam, transform_bits(signal, lam), budget)
    net = CoreCoordX(config, {"y": height, "x": width}, channels)
    start_from_prior(net)
    fit = CoreFitConfig.of(lam, 10_000)
    fitter = CoreFitter(net.to(device), signal, fit)
    return config.width, median(fitter.advance, repeats)


def decode_times(data: bytes, device: torch.device, repeats: int) -> dict[str, float]:
    """Milliseconds of a whole decode from bytes to uint8, and of its parts."""
    with Container.open(data) as container:
        header: Header = container.header
        unit = container.core_unit(0)
        reconstructor = reconstructor_of_unit(container, 0, device)
        found = {"parse": median(lambda: container.core_unit(0), repeats)}
        with one_blas_thread():
            found["entropy decode"] = median(unit.grids, repeats)
        found["interpolation and tail"] = median(
            lambda: reconstructor.region(range(1), None), repeats
        )
    found["decode"] = median(lambda: codec.decode(data, device=str(device)), repeats)
    found["context"] = reconstructor.net.config.width
    found["megapixels"] = header.width * header.height / 1e6
    return found


def decode_memory(data: bytes, device: str) -> float:
    """MiB that a decode takes over the idle process, of the CPU's memory."""
    tiny = codec.encode(np.zeros((1, 1, 3), np.uint8), lam=1e-2, steps=10, device="cpu").data
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("tiny.crdx", "file.crdx")]
        for path, content in zip(paths, (tiny, data), strict=True):
            path.write_bytes(content)
        command = [sys.executable, "-c", DECODE, *map(str, paths), device]
        return int(subprocess.check_output(command)) / 2**20


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pixels", default="0.1,0.4", help="megapixels, e.g. 0.1,0.4,2,8")
    parser.add_argument("--image", type=Path, default=SAMPLE)
    parser.add_argument("--lambda", dest="lam", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--budget", type=int, default=1000, help="steps of the fit that is timed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--file", type=Path, help="decode this file, fit nothing")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    names = ("parse", "entropy decode", "interpolation and tail", "decode")

    def decode(data: bytes) -> dict[str, float]:
        found = decode_times(data, device, args.repeats)
        found["bpp"] = 8e-6 * len(data) / found["megapixels"]
        found["decode peak"] = decode_memory(data, args.device)
        return found

    def line(row: dict[str, float], *cells: str) -> None:
        shown = [f"{row['megapixels']:.2f}", *cells, f"{row['context']:.0f}", f"{row['bpp']:.2f}"]
        shown += [*(f"{row[name]:.1f}" for name in names), f"{row['decode peak']:.0f}"]
        print(f"| {' | '.join(shown)} |", flush=True)

    fitted = [] if args.file else ["step's context", "step ms", "fit peak MiB"]
    parts = [f"{name} ms" for name in names]
    head = ["megapixels", *fitted, "context", "bpp", *parts, "decode over idle MiB"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    rows = []
    if args.file:
        rows.append(decode(args.file.read_bytes()))
        line(rows[-1])
    for size in [] if args.file else map(float, args.pixels.split(",")):
        samples = picture(args.image, size)
        width, step = step_time(samples, args.lam, args.budget, device, args.repeats)
        encoded = codec.encode(samples, lam=args.lam, steps=args.steps, device=args.device)
        peak = (peak_memory() or 0) / 2**20
        rows.append({"step's context": width, "step": step, "fit peak": peak})
        rows[-1] |= decode(encoded.data)
        line(rows[-1], str(width), f"{step:.0f}", f"{peak:.0f}")
    if args.output:
        args.output.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
