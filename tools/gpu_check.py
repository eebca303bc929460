"""Everything that wants a CUDA device, in one command: python tools/gpu_check.py [-o report.json]

1. Golden streams decode on CUDA to the same integers (of core fusion: the context network runs
   there too) and, within the tolerance of formats/SPEC.md, the same samples as on the CPU.
2. A picture and a clip are fitted on CUDA and decode on both.
3. Steps of core fusion replayed from a CUDA graph reach what called ones reach.
4. Microseconds of a step by kernel, for both networks.
5. Milliseconds of a fit step and of a decode, at several sizes; split against plain evaluation.

Exit code 1 if a check fails. Needs constriction (carry its wheel where there is no index).
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import codec
from codec.fit.core_config import CoreFitConfig
from codec.fit.core_loop import CoreFitter
from codec.fit.loop import FitConfig, Fitter
from codec.network import CoordX
from codec.network.coded import start_from_prior
from codec.network.core import CoreCoordX
from codec.network.presets import coding_network, core_network, paper_network
from codec.rate.predictor import TorchContextNetwork
from codec.reconstruct import Reconstructor
from codec.signal import to_signal
from formats.container import Container

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "conformance"


def median_ms(call: Any, repeats: int, device: torch.device) -> float:
    """Median milliseconds of a call, after one to warm up."""
    times = []
    for repeat in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if repeat:
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def golden(device: str) -> list[str]:
    """Names of streams whose samples on `device` leave the tolerance."""
    wrong = []
    manifest = json.loads((GOLDEN / "core" / "manifest.json").read_text())
    for name, entry in manifest.items():
        with Container.open(GOLDEN / "core" / f"{name}.crdx") as box:
            unit = box.core_unit(0)
        network = TorchContextNetwork(unit.network, torch.device(device))
        digest = hashlib.sha256()
        for grid in dataclasses.replace(unit, network=network).grids():
            digest.update(grid.astype("<i4").tobytes())
        if digest.hexdigest() != entry["latents"]:
            wrong.append(f"{name}: other latents")
    for path in sorted(GOLDEN.rglob("*.crdx")):
        if not path.with_suffix(".npy").exists():
            continue  # random integers, no picture
        expected = np.load(path.with_suffix(".npy"), allow_pickle=False)
        decoded = codec.decode(path, device=device)
        worst = int(np.abs(decoded.astype(int) - expected.astype(int)).max())
        if worst > (1 if expected.dtype == np.uint8 else 4):
            wrong.append(f"{path.stem}: {worst}")
    return wrong


def round_trip(device: str) -> dict[str, Any]:
    """Fit on `device`, decode on both; PSNR on each and the largest difference."""
    y, x = np.mgrid[0:192, 0:256]
    planes = [127 + 90 * np.sin(x / (9 + c)) * np.cos(y / 13) + 30 * (x > y) for c in range(3)]
    picture = np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)
    clip = np.stack([np.roll(picture[:96, :128], 2 * t, 1) for t in range(12)])
    found = {}
    for name, media in (("image", picture), ("video", clip)):
        encoded = codec.encode(media, lam=1e-3, steps=500, gop=6, device=device)
        there, here = (codec.decode(encoded.data, device=d) for d in (device, "cpu"))
        difference = int(np.abs(there.astype(int) - here.astype(int)).max())
        found[name] = {
            "psnr": encoded.stats.psnr,
            "bpp": encoded.stats.bpp,
            "seconds": encoded.stats.seconds,
            "largest_difference": difference,
        }
    return found


def core_fitter(signal: torch.Tensor, steps: int, bits: float = 0) -> CoreFitter:
    """A fit of a picture (3, height, width); `bits`: see `core_network`."""
    height, width = signal.shape[1:]
    network = core_network(height, width, 1e-3, bits, steps)
    net = CoreCoordX(network, {"y": height, "x": width}, 3)
    start_from_prior(net)
    config = CoreFitConfig.of(1e-3, steps, prior=network.prior != 0)
    return CoreFitter(net.to(signal.device), signal, config)


def replayed(device: torch.device) -> dict[str, Any]:
    """A fit whose steps are replayed beside one whose steps are called."""
    y, x = np.mgrid[0:256, 0:384]
    planes = [127 + 90 * np.sin(x / (9 + c)) * np.cos(y / 13) + 30 * (x > y) for c in range(3)]
    signal = to_signal(np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8), 8, device)
    found: dict[str, Any] = {}
    for name in ("called", "replayed"):
        fitter = core_fitter(signal, 1000)
        if name == "called":
            fitter.call_steps()
        for _ in range(200):
            progress = fitter.advance()
        step = median_ms(fitter.advance, 50, device)
        found[name] = {"psnr": progress.psnr, "bpp": progress.bpp, "step_ms": step}
    found["recorded"] = fitter.steps_recorded
    return found


def kernels(device: torch.device) -> dict[str, dict[str, float]]:
    """Microseconds that each kernel takes of a step of 768x512, by network."""
    found = {}
    for bits in (100_000, 200_000):
        fitter = core_fitter(torch.rand(3, 512, 768, device=device), 10_000, bits)
        for _ in range(40):
            fitter.advance()
        assert fitter.steps_recorded
        activity = torch.profiler.ProfilerActivity.CUDA
        with torch.profiler.profile(activities=[activity]) as profile:
            for _ in range(20):
                fitter.advance()
            torch.cuda.synchronize()
        rows = sorted(profile.key_averages(), key=lambda row: -row.self_device_time_total)
        network = fitter.net.config
        found[f"{network.width}/{network.hidden} units, {network.grids} grids"] = {
            row.key[:60]: round(row.self_device_time_total / 20, 1) for row in rows
        }
    return found


def timings(device: torch.device) -> list[dict[str, Any]]:
    """Fit step, decode, and split against plain, by size."""
    rows = []
    for height, width in ((256, 384), (512, 768), (1080, 1920), (2160, 3840)):
        lengths = {"y": height, "x": width}
        signal = torch.rand(3, height, width, device=device)
        config = coding_network("x+y", lengths, 3, 0.3 * height * width)
        net = CoordX(config, lengths, 3).to(device)
        fitter = Fitter(net, signal, FitConfig(lam=2e-3, steps=1000))
        step = median_ms(fitter.advance, 20, device)
        core_steps = {}
        # Bits of a transform coder a pixel: two networks, the same one in a small picture.
        for density in (0.3, 0.5):
            core = core_fitter(signal, 10_000, density * height * width)
            units = f"{core.net.config.width}/{core.net.config.hidden}"
            core_steps[units] = median_ms(core.advance, 20, device)
        still = net.requires_grad_(False)
        row: dict[str, Any] = {
            "size": f"{width}x{height}",
            "weights": config.parameters(lengths, 3),
            "step_ms": step,
            "core_step_ms": core_steps,
            "decode_ms": median_ms(
                lambda still=still: Reconstructor(still, 8).region(range(1), None), 5, device
            ),
        }
        for name in ("x+y", "xy"):
            paper = CoordX(paper_network(name), lengths, 3).requires_grad_(False).to(device)
            row[f"paper_{name}_ms"] = median_ms(
                lambda paper=paper: Reconstructor(paper, 8).region(range(1), None), 3, device
            )
        row["split_ratio"] = row["paper_xy_ms"] / row["paper_x+y_ms"]
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def main() -> int:
    """Run all checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda (or cpu, to try the script)")
    parser.add_argument("-o", "--out", type=Path, help="also write the report here")
    args = parser.parse_args()
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    report: dict[str, Any] = {"device": name, "torch": torch.__version__}
    report["golden_failures"] = golden(args.device)
    report["round_trip"] = round_trip(args.device)
    report["steps"] = replayed(device)
    if device.type == "cuda":
        report["kernels"] = kernels(device)
    report["timings"] = timings(device)
    text = json.dumps(report, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    apart = any(r["largest_difference"] > 1 for r in report["round_trip"].values())
    called, again = report["steps"]["called"], report["steps"]["replayed"]
    # Gradients are added in any order on CUDA: two fits are alike, not the same.
    apart |= abs(called["psnr"] - again["psnr"]) > 0.5
    apart |= device.type == "cuda" and not report["steps"]["recorded"]
    return 1 if report["golden_failures"] or apart else 0


if __name__ == "__main__":
    sys.exit(main())
