"""Ablations of network and fit at a fixed rate, on crops; the source of docs/experiments.md.

    python tools/ablate.py FOLDER [--only encoding,sampler] [--images 5,23] -o runs/ablate.jsonl
    python tools/ablate.py report -o runs/ablate.jsonl

FOLDER holds kodim01.png ...; crops are 384x256 at (200, 128). Every variant is fitted to at most
the same bits (0.27 bpp), its integer weights are entropy-coded, and the PSNR is that of the 8-bit
samples they decode to. Results are appended as they come; variants that are there are skipped.
Run one process an image with OMP_NUM_THREADS=1 to use several cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from codec.fit.loop import FitConfig, Fitter
from codec.fit.objective import distortion
from codec.media import read_image
from codec.network import CoordX
from codec.network.presets import sized_network
from codec.quantise import load_tensors
from codec.signal import to_signal
from formats.network import Activation, Encoding, Fusion, NetworkConfig, RankMode
from formats.weights import pack_unit

BPP = 0.27
PIXELS = 384 * 256
BASE = replace(sized_network("x+y", 20), width=26)
FIT = FitConfig(lam=4e-3, steps=1400, rate=0.1, target_bits=BPP * PIXELS * 0.985, batch=PIXELS // 4)
FOURIER = {"encoding": Encoding.FOURIER, "frequencies": 8}
PLAIN = {"partition": "xy", "width": 34, "features": 34, "rank": 1, "tail_layers": 2}

Variant = tuple[str, dict[str, Any], dict[str, Any]]
GROUPS: dict[str, list[Variant]] = {
    "base": [("coding preset: PE, sine, T=3, M=20 R=5 width 26", {}, {})],
    "optimiser": [
        ("Adam 1e-2", {}, {"optimiser": "adam", "rate": 1e-2}),
        ("Adam 3e-2", {}, {"optimiser": "adam", "rate": 3e-2}),
        ("SOAP 0.03", {}, {"rate": 0.03}),
        ("SOAP 0.05", {}, {"rate": 0.05}),
        ("SOAP 0.2", {}, {"rate": 0.2}),
    ],
    "sampler": [
        ("whole grid, 350 steps (as many samples)", {}, {"batch": PIXELS, "steps": 350}),
        ("half grid, 700 steps (as many samples)", {}, {"batch": PIXELS // 2, "steps": 700}),
        ("1/8 grid, 2800 steps (as many samples)", {}, {"batch": PIXELS // 8, "steps": 2800}),
    ],
    "encoding": [
        (
            "sine first layer, bandwidth 1/26 Nyquist (the paper's)",
            {"encoding": Encoding.SINE, "bandwidth": 2},
            {},
        ),
        (
            "sine first layer, bandwidth 1/8 Nyquist",
            {"encoding": Encoding.SINE, "bandwidth": 8},
            {},
        ),
        (
            "sine first layer, bandwidth 1/2 Nyquist",
            {"encoding": Encoding.SINE, "bandwidth": 32},
            {},
        ),
        ("Fourier, 8 frequencies to 1/4 Nyquist", {**FOURIER, "bandwidth": 16}, {}),
        ("Fourier, 8 frequencies to 1/2 Nyquist", {**FOURIER, "bandwidth": 32}, {}),
    ],
    "activation": [
        ("GELU", {"activation": Activation.GELU}, {}),
        ("ReLU", {"activation": Activation.RELU}, {}),
    ],
    "fusion": [
        ("sum fusion", {"fusion": Fusion.SUM}, {}),
        ("no fusion gain", {"gain": False}, {}),
        (
            "full rank mode, M=16 R=2",
            {"rank_mode": RankMode.FULL, "width": 32, "features": 16, "rank": 2},
            {},
        ),
        ("plain MLP (xy), as many weights", PLAIN, {}),
    ],
    "depth": [
        ("fully split (T=0), R=40", {"tail_layers": 0, "rank": 40, "width": 26}, {}),
        ("T=2, M=20 R=6 width 28", {"tail_layers": 2, "rank": 6, "width": 28}, {}),
        ("T=4, M=18 R=5 width 26", {"tail_layers": 4, "features": 18}, {}),
        ("3 layers before the fusion, width 22", {"branch_layers": 3, "width": 22}, {}),
    ],
    "shape": [
        ("M=16 R=8 width 24", {"features": 16, "rank": 8, "width": 24}, {}),
        ("M=24 R=4 width 24", {"features": 24, "rank": 4, "width": 24}, {}),
        ("M=32 R=1 width 40", {"features": 32, "rank": 1, "width": 40}, {}),
    ],
    "size": [
        ("3.3k weights (8 bits each)", {"features": 16, "rank": 6, "width": 20}, {}),
        ("7.2k weights (3.7 bits each)", {"features": 24, "rank": 6, "width": 32}, {}),
    ],
    "quantise": [
        ("no noise (straight-through in both stages)", {}, {"noise": 0.0}),
        ("noise of a whole step", {}, {"noise": 1.0}),
        ("steps 1.4x the water-filled", {}, {"coarseness": 1.4}),
        ("steps 0.7x the water-filled", {}, {"coarseness": 0.7}),
        ("float 30%, soft 50%, hard 20%", {}, {"float_share": 0.3, "soft_share": 0.5}),
        ("float 65%, soft 15%, hard 20%", {}, {"float_share": 0.65, "soft_share": 0.15}),
    ],
}


def measure(signal: torch.Tensor, network: NetworkConfig, fit: FitConfig) -> dict[str, Any]:
    """Fit one variant; rate of its coded weights, PSNR of its decoded 8-bit samples."""
    channels, height, width = signal.shape
    lengths = {"y": height, "x": width}
    net = CoordX(network, lengths, channels, seed=fit.seed)
    started = time.perf_counter()
    fitter = Fitter(net, signal, fit)
    coded = fitter.run()
    seconds = time.perf_counter() - started
    load_tensors(net, coded)
    weights = {spec.name: net.parameter(spec.name) for spec in net.specs}
    mse = distortion(net, fitter.grid, signal, weights, 255)
    size = len(pack_unit(0, coded)) + 48
    return {
        "weights": network.parameters(lengths, channels),
        "mac_per_pixel": network.macs(lengths, channels) / (width * height),
        "bpp": 8 * size / (width * height),
        "psnr": float(-10 * torch.log10(torch.tensor(mse))),
        "seconds": seconds,
    }


def run(args: argparse.Namespace) -> None:
    """Measure what is missing."""
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done = {(r["variant"], r["image"]) for r in load(args.out)}
    groups = args.only.split(",") if args.only else list(GROUPS)
    for group in groups:
        for label, network, fit in GROUPS[group]:
            for image in args.images:
                if (label, image) in done:
                    continue
                samples = read_image(Path(args.folder) / f"kodim{image:02d}.png").samples
                crop = samples[128:384, 200:584]
                signal = to_signal(crop, 8, torch.device("cpu"))
                row = measure(signal, replace(BASE, **network), replace(FIT, **fit))
                row |= {"group": group, "variant": label, "image": image}
                with args.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{label} @{image}: {row['psnr']:.2f} dB {row['bpp']:.4f}", file=sys.stderr)


def load(path: Path) -> list[dict[str, Any]]:
    """Rows so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def report(args: argparse.Namespace) -> None:
    """Print a Markdown table, one line a variant."""
    rows = load(args.out)
    images = sorted({r["image"] for r in rows})
    found = {(r["variant"], r["image"]): r for r in rows}
    heads = " | ".join(f"kodim{i:02d} dB (bpp)" for i in images)
    print(f"| group | variant | weights | MAC/px | {heads} |")
    print("|---" * (4 + len(images)) + "|")
    for group, variants in GROUPS.items():
        for label, _, _ in variants:
            mine = [found[label, i] for i in images if (label, i) in found]
            if len(mine) < len(images):
                continue
            cells = " | ".join(f"{r['psnr']:.2f} ({r['bpp']:.3f})" for r in mine)
            print(
                f"| {group} | {label} | {mine[0]['weights']:,} | {mine[0]['mac_per_pixel']:,.0f} "
                f"| {cells} |"
            )


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="folder of Kodak images, or the word report")
    parser.add_argument("--only", help=f"groups, of {', '.join(GROUPS)}")
    parser.add_argument("--images", type=lambda t: [int(x) for x in t.split(",")], default=[5, 23])
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/ablate.jsonl"))
    args = parser.parse_args()
    if args.folder == "report":
        report(args)
    else:
        run(args)


if __name__ == "__main__":
    main()
