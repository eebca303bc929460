"""Ablations of core fusion: what one change of the network or of the fit does to D + lambda R.

    python tools/ablate_core.py run FOLDER --only prior,soft -o runs/ablate_core.jsonl
    python tools/ablate_core.py report -o runs/ablate_core.jsonl

FOLDER holds kodim01.png ...; items are centre crops NUMBER@WxH:LAMBDA. Every variant is encoded
to a real file, which is decoded: J = MSE + lambda * bpp of that file, and the share of it that is
network weights. Results are appended as they come; variants that are there are skipped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import kodak
import torch
from torch import Tensor

from codec.bitstream import core_reconstructor
from codec.fit.budget import transform_bits
from codec.fit.core_config import CoreFitConfig
from codec.fit.core_loop import CoreFitter
from codec.fit.core_loss import CoreLoss, Terms
from codec.fit.optim import build_optimiser
from codec.network.coded import start_from_prior
from codec.network.core import CoreCoordX
from codec.network.presets import COLOUR, core_network
from codec.signal import to_signal
from codec.work import Work
from formats.core import CoreConfig
from formats.entropy import best_table
from formats.priors import prior_shape
from formats.unit import pack_core_unit

DEFAULT_ITEMS = "8@384x256:0.001,20@384x256:0.004"

NO_COLOUR = dict.fromkeys(COLOUR, 0)

# name -> (changes of the network, changes of the fit); two of the fit are no settings of its own:
# "optimiser" of the networks, and "frozen", tensors that stay as they start.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "base": ({}, {}),
    "seed: 1": ({}, {"seed": 1}),
    "seed: 2": ({}, {"seed": 2}),
    "prior: none": ({"prior": 0}, {"warm_up": 0.1}),
    "prior: the wide one": ({"prior": 2, **prior_shape(2)}, {}),
    "soft: T 0.3 to 0.05": ({}, {"temperature": (0.3, 0.05)}),
    "soft: T 0.25 to 0.03": ({}, {"temperature": (0.25, 0.03)}),
    "soft: T 0.3 to 0.1": ({}, {"temperature": (0.3, 0.1)}),
    "soft: T 0.6 to 0.03": ({}, {"temperature": (0.6, 0.03)}),
    "soft: noise 0.3 to 0.15": ({}, {"noise": (0.3, 0.15)}),
    "soft: noise 0.15 to 0.15": ({}, {"noise": (0.15, 0.15)}),
    "soft: noise 0.22 to 0.18": ({}, {"noise": (0.22, 0.18)}),
    "soft: noise 0.22 to 0.12": ({}, {"noise": (0.22, 0.12)}),
    "settle: 25% of the steps": ({}, {"soft_share": 0.75}),
    "settle: 15% of the steps": ({}, {"soft_share": 0.85}),
    "settle: 1% of the steps": ({}, {"soft_share": 0.99}),
    "weights: not in the loss": ({}, {"weight_price": 0.0}),
    "weights: three times in the loss": ({}, {"weight_price": 3.0}),
    "rate: latents 0.12": ({}, {"latent_rate": 0.12}),
    "rate: latents 0.3": ({}, {"latent_rate": 0.3}),
    "rate: networks 0.01": ({}, {"rate": 0.01}),
    "rate: networks 0.06": ({}, {"rate": 0.06}),
    "clip: 1": ({}, {"clip": 1.0}),
    "optimiser: Adam at 0.003": ({}, {"optimiser": "adam", "rate": 0.003}),
    "optimiser: Adam at 0.01": ({}, {"optimiser": "adam", "rate": 0.01}),
    "optimiser: Adam at 0.03": ({}, {"optimiser": "adam", "rate": 0.03}),
    "kernels: as in the prior": ({}, {"frozen": ("kernel", "filter")}),
    "kernels: no prior, learned": ({"prior": 0}, {"warm_up": 0.1}),
    "kernels: no prior, as at the start": (
        {"prior": 0},
        {"warm_up": 0.1, "frozen": ("kernel", "filter")},
    ),
    "betas: 0.9, 0.999": ({}, {"betas": (0.9, 0.999)}),
    "betas: 0.9, 0.95": ({}, {"betas": (0.9, 0.95)}),
    "betas: 0.9, 0.995": ({}, {"betas": (0.9, 0.995)}),
    "betas: 0.8, 0.99": ({}, {"betas": (0.8, 0.99)}),
    "betas: 0.8, 0.95": ({}, {"betas": (0.8, 0.95)}),
    "betas: 0.5, 0.99": ({}, {"betas": (0.5, 0.99)}),
    "betas: 0.3, 0.95": ({}, {"betas": (0.3, 0.95)}),
    "betas: 0, 0.95": ({}, {"betas": (0.0, 0.95)}),
    "colour: none": (NO_COLOUR, {}),
    "colour: no prior, none": ({"prior": 0, **NO_COLOUR}, {"warm_up": 0.1}),
    "colour: no prior, levels 2 to 4": ({"prior": 0, **COLOUR}, {"warm_up": 0.1}),
    "colour: no prior, levels 1 to 3": (
        {"prior": 0, "colour": 3, "colour_level": 1},
        {"warm_up": 0.1},
    ),
    "colour: no prior, levels 3 to 5": (
        {"prior": 0, "colour": 3, "colour_level": 3},
        {"warm_up": 0.1},
    ),
    "block: no prior, 8": ({"prior": 0, "block": 3}, {"warm_up": 0.1}),
    "block: no prior, 16": ({"prior": 0, "block": 4}, {"warm_up": 0.1}),
    "block: no prior, 64": ({"prior": 0, "block": 6}, {"warm_up": 0.1}),
    "block: no prior, 256": ({"prior": 0, "block": 8}, {"warm_up": 0.1}),
    "firm: never": ({}, {"firm_from": 1.0}),
    "firm: from 40% of the steps": ({}, {"firm_from": 0.4}),
    "firm: from 80% of the steps": ({}, {"firm_from": 0.8}),
    "firm: no noise": ({}, {"firm_noise": 0.0}),
    "firm: noise 0.2": ({}, {"firm_noise": 0.2}),
    "polish: never": ({}, {"polish": 0.0}),
    "polish: twice the rounds": ({}, {"polish": 0.04}),
    "shape: no prior, context 8 wide": ({"prior": 0, "width": 8}, {"warm_up": 0.1}),
    "shape: no prior, context 32 wide": ({"prior": 0, "width": 32}, {"warm_up": 0.1}),
    "shape: no prior, tail 8 wide": ({"prior": 0, "hidden": 8}, {"warm_up": 0.1}),
    "shape: no prior, tail 24 wide": ({"prior": 0, "hidden": 24}, {"warm_up": 0.1}),
    "shape: no prior, tail 32 wide": ({"prior": 0, "hidden": 32}, {"warm_up": 0.1}),
    "shape: no prior, tail 48 wide": ({"prior": 0, "hidden": 48}, {"warm_up": 0.1}),
    "shape: no 3x3 layers": ({"residuals": 0}, {}),
    "shape: one 3x3 layer": ({"residuals": 1}, {}),
}


class Frozen(CoreLoss):
    """The loss of a fit in which some tensors stay as they start."""

    frozen: tuple[str, ...] = ()

    def terms(self, softened: Tensor, firmed: Tensor, slopes: Tensor) -> Terms:
        """As the loss has them, without gradients by those tensors."""
        terms = super().terms(softened, firmed, slopes)
        for name in self.frozen:
            terms.weights[name].zero_()
        return terms


def measure(
    samples: Any,
    config: CoreConfig,
    fit: CoreFitConfig,
    optimiser: str = "soap",
    frozen: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Encode and decode a picture."""
    height, width, channels = samples.shape
    lengths, device = {"y": height, "x": width}, torch.device("cpu")
    net = CoreCoordX(config, lengths, channels, seed=fit.seed)
    start_from_prior(net)
    target = to_signal(samples, 8, device)
    loss = Frozen(net, target, fit)
    loss.frozen = frozen
    fitter = CoreFitter(net, target, fit, loss)
    if optimiser != "soap":
        fitter.networks = build_optimiser(optimiser, net.parameters(), fit.rate)
    started = time.perf_counter()
    fitter.run()
    seconds = time.perf_counter() - started
    coded, grids = fitter.result()
    payload, seen = pack_core_unit(0, config, coded, grids, height, width)
    decoder = core_reconstructor(config, lengths, channels, coded, seen, 8, device)
    mse = Work.mean_error(decoder.region(range(1), None), samples, 8)
    bpp = 8 * len(payload) / (height * width)
    weights = sum(best_table(t.symbols)[1] + 16 for t in coded) / (height * width)
    return {
        "j": mse + fit.lam * bpp,
        "mse": mse,
        "bpp": bpp,
        "weights_bpp": weights,
        "estimate_bpp": fitter._seen[0],
        "seconds": seconds,
    }


def run(args: argparse.Namespace) -> None:
    """Measure what is missing."""
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done = set()
    if args.out.exists():
        for line in args.out.read_text().splitlines():
            row = json.loads(line)
            done.add((row["variant"], row["item"], row["steps"]))
    wanted = args.only.split(",") if args.only else None
    for name, (shape, changes) in VARIANTS.items():
        if wanted and name.split(":")[0] not in wanted:
            continue
        for item in args.items.split(","):
            if (name, item, args.steps) in done:
                continue
            where, lam = item.split(":")
            samples = kodak.samples_of(args.folder, where)
            height, width = samples.shape[:2]
            bits = transform_bits(to_signal(samples, 8, torch.device("cpu")), float(lam))
            config = core_network(height, width, float(lam), bits, args.steps)
            config = replace(config, **shape)
            others = {k: changes[k] for k in ("optimiser", "frozen") if k in changes}
            settings = {k: v for k, v in changes.items() if k not in others}
            fit = CoreFitConfig.of(float(lam), args.steps, prior=config.prior != 0)
            fit = replace(fit, **settings)
            row = {"variant": name, "item": item, "steps": args.steps}
            row |= measure(samples, config, fit, **others)
            with args.out.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            print(f"{name} {item}: J {1e3 * row['j']:.4f}e-3", file=sys.stderr, flush=True)


def report(args: argparse.Namespace) -> None:
    """Print the table as Markdown."""
    rows = [json.loads(line) for line in args.out.read_text().splitlines()]
    items = sorted({row["item"] for row in rows})
    print("| variant | steps | " + " | ".join(f"{i}: 1000 J (weights)" for i in items) + " |")
    print("|---|---|" + "---|" * len(items))
    for steps in sorted({row["steps"] for row in rows}):
        for name in VARIANTS:
            found = {r["item"]: r for r in rows if r["variant"] == name and r["steps"] == steps}
            if not found:
                continue
            cells = []
            for item in items:
                row = found.get(item)
                lam = float(item.split(":")[1])
                cells.append(
                    f"{1e3 * row['j']:.3f} ({1e3 * lam * row['weights_bpp']:.3f})" if row else ""
                )
            print(f"| {name} | {steps} | " + " | ".join(cells) + " |")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    runner = commands.add_parser("run", help="measure what is missing")
    runner.add_argument("folder", type=Path, help="folder with kodim01.png ... kodim24.png")
    runner.add_argument("--only", help="groups of variants, e.g. soft,rate")
    runner.add_argument("--items", default=DEFAULT_ITEMS)
    runner.add_argument("--steps", type=int, default=400)
    runner.set_defaults(run=run)
    reporter = commands.add_parser("report", help="print the table")
    reporter.set_defaults(run=report)
    for command in (runner, reporter):
        command.add_argument("-o", "--out", type=Path, default=Path("runs/ablate_core.jsonl"))
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
