"""Train a prior: weights that files of core fusion are coded relative to (formats/priors.py).

    python tools/train_prior.py 1 --lambda 1e-3 --steps 1500 --rate 0.015 --warm-up 0.03 \
        --weight-price 1 --crops 1 --hidden 32 --images PHOTOS/photo_*.png PHOTOS/art_*.png
    python tools/train_prior.py 2 --lambda 7e-4 --steps 1000 --width 32 --hidden 48 --columns 5 \
        --colour \
        --images PHOTOS/photo_*.png PHOTOS/art_*.png PHOTOS/rgb16_weld*.png PHOTOS/alpha_tulips*.png

The commands that made priors 1 and 2; that of 3 is that of 1 with --colour. PHOTOS holds
photographs and a painting, none of them from Kodak.

One network is fitted to a mosaic of crops of many pictures, so that it learns what they have in
common. Its weights, as integers, go to formats/data/prior<number>.json. A number that has been
released must never be trained anew: files name it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from codec.fit.core_config import CoreFitConfig
from codec.fit.core_loop import CoreFitter
from codec.network.coded import start_from_prior
from codec.network.core import CoreCoordX
from codec.network.presets import COLOUR, latent_gain
from formats.atomic import write_bytes
from formats.context import CONTEXT_BITS
from formats.core import CoreConfig

FINEST = 12
"""Fractional bits of the weights outside the context network."""


def crops(path: Path, side: int, count: int) -> list[npt.NDArray[np.uint8]]:
    """Square crops along the diagonal of a picture, (side, side, 3) each; one is its centre.

    Large pictures are reduced first, so that a crop shows about as much as of a small one.
    """
    image = Image.open(path).convert("RGB")
    image = image.reduce(max(1, min(image.size) // 512))
    width, height = image.size[0] - side, image.size[1] - side
    places = [(2 * n + 1) / (2 * count) for n in range(count)]
    return [
        np.asarray(image.crop((x, y, x + side, y + side)))
        for x, y in ((round(width * t), round(height * t)) for t in places)
    ]


def mosaic(paths: list[Path], side: int, count: int, columns: int) -> torch.Tensor:
    """Crops of all pictures side by side: (3, rows * side, columns * side) in [0, 1]."""
    tiles = [tile for path in paths for tile in crops(path, side, count)]
    tiles = tiles[: len(tiles) // columns * columns]
    rows = [np.hstack(tiles[n : n + columns]) for n in range(0, len(tiles), columns)]
    return torch.from_numpy(np.vstack(rows)).permute(2, 0, 1).float() / 255


def to_integers(weights: dict[str, torch.Tensor]) -> dict[str, object]:
    """Weights as integers in the resolution in which files know them."""
    stored = {}
    for name, value in weights.items():
        bits = CONTEXT_BITS.get(name, FINEST)
        integers = np.rint(np.ldexp(value.double().cpu().numpy(), bits)).astype(np.int64)
        stored[name] = {
            "exponent": -bits,
            "shape": list(integers.shape),
            "values": integers.flatten().tolist(),
        }
    return stored


def main() -> None:
    """Fit, and write the prior."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("number", type=int, help="number of the prior, 1..255")
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--lambda", dest="lam", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rate", type=float, default=0.03, help="learning rate of the networks")
    parser.add_argument("--warm-up", type=float, default=0.1, help="fraction of the steps")
    parser.add_argument(
        "--weight-price",
        type=float,
        default=0.0,
        help="factor on the bits of the weights; what a prior holds costs no file anything",
    )
    parser.add_argument("--side", type=int, default=192, help="side of a crop in pixels")
    parser.add_argument("--crops", type=int, default=2, help="crops of each picture")
    parser.add_argument("--columns", type=int, default=4, help="crops in a row of the mosaic")
    parser.add_argument("--start", type=int, default=0, help="prior to start from")
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--colour", action="store_true", help="with the presets' colour grids")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    target = mosaic(args.images, args.side, args.crops, args.columns).to(args.device)
    config = CoreConfig(
        hidden=args.hidden,
        width=args.width,
        prior=args.start,
        gain=latent_gain(args.lam),
        **(COLOUR if args.colour else {}),
    )
    lengths = {"y": target.shape[1], "x": target.shape[2]}
    net = CoreCoordX(config, lengths, 3)
    net.parameter("context.level").data.zero_()  # all priors began with wide scales
    start_from_prior(net)
    net = net.to(args.device)
    # Only the soft stage: the networks are wanted, not the integers of these pictures.
    fit = CoreFitConfig(
        args.lam,
        args.steps,
        rate=args.rate,
        soft_share=1.0,
        warm_up=args.warm_up,
        weight_price=args.weight_price,
        firm_from=1.0,
    )
    fitter = CoreFitter(net, target, fit)
    started = time.perf_counter()
    while fitter.step + 1 < args.steps:
        report = fitter.advance()
        if report.step % 100 == 0 or report.step == 1:
            seconds = time.perf_counter() - started
            print(
                f"{report.step:6} {report.psnr:.2f} dB {report.bpp:.4f} bpp {seconds:.0f} s",
                flush=True,
            )
    stored = {
        "number": args.number,
        "hidden": config.hidden,
        "width": config.width,
        "levels": config.levels,
        "colour": config.colour,
        "colour_level": config.colour_level,
        "lambda": args.lam,
        "tensors": to_integers(fitter.net.by_name()),
    }
    path = args.output or Path(f"formats/data/prior{args.number}.json")
    write_bytes(path, (json.dumps(stored, separators=(",", ":")) + "\n").encode())
    print(path)


if __name__ == "__main__":
    main()
