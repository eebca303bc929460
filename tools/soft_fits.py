"""What ablations share that end before a file: fits of Kodak's crops without a prior.

They stop at the end of the soft stage, with real-valued networks, so that parts can be compared
which the format does not have.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kodak
import torch
from torch import Tensor

from codec.fit.core_config import CoreFitConfig
from codec.fit.core_loop import CoreFitter
from codec.network.core import CoreCoordX
from codec.network.presets import core_network
from codec.signal import to_signal


def parser(description: str | None) -> argparse.ArgumentParser:
    """A command line with a folder, --items NUMBER@WxH:LAMBDA,... and --steps."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("folder", type=Path, help="folder with kodim01.png ... kodim24.png")
    found.add_argument("--items", default="8@384x256:0.001,20@384x256:0.004")
    found.add_argument("--steps", type=int, default=600)
    return found


def pictures(folder: Path, items: str) -> Iterator[tuple[str, float, Tensor]]:
    """Each item, its lambda and its samples (3, H, W)."""
    for item in items.split(","):
        where, lam = item.split(":")
        samples = to_signal(kodak.samples_of(folder, where), 8, torch.device("cpu"))
        yield item, float(lam), samples


def start(
    samples: Tensor, lam: float, steps: int, **shape: Any
) -> tuple[CoreCoordX, Tensor, CoreFitConfig]:
    """What a `CoreFitter` takes; `shape` changes fields of the network."""
    channels, height, width = samples.shape
    config = replace(core_network(height, width, lam, 0), prior=0, **shape)
    net = CoreCoordX(config, {"y": height, "x": width}, channels, seed=0)
    net.parameter("context.level").data.zero_()  # wide scales, as in docs/experiments.md
    return net, samples, replace(CoreFitConfig.of(lam, steps), warm_up=0.1, firm_from=1.0)


def row(names: str, lam: float, mse: float, bpp: float) -> str:
    """A row of a table: names, what `run` found, and 1000 J; columns may follow."""
    return f"| {names} | {mse:.6f} | {bpp:.4f} | {1e3 * (mse + lam * bpp):.4f} |"


def run(fitter: CoreFitter) -> tuple[float, float]:
    """Mean squared error and bits per pixel of the rounded latents at the end."""
    while fitter.step < fitter.config.soft_steps:
        fitter.advance()
    with torch.no_grad():
        found, rate = fitter.loss.evaluate(fitter.latents.round(), exact=False, gradient=False)
    return float(found.mse), float(rate.bits) / fitter.net.pixels
