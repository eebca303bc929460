"""What a wider context network is worth, by what its weights cost.

    python tools/ablate_width.py KODAK [--items 15@384x256:0.004,20@384x256:0.004] [--steps 600]

Fits without a prior, with networks whose weights are paid for in the loss at their price, at a
quarter of it (as on a picture of four times the size) and not at all. J = MSE + lambda bpp is that
of the rounded latents at the end of the soft stage, with real-valued networks and without their
bits: what the latents gain, against which the weights of a file have to be set.
"""

from __future__ import annotations

from dataclasses import replace

import soft_fits
import torch
from torch import Tensor

from codec.fit.core_loop import CoreFitter


def fit(samples: Tensor, lam: float, steps: int, width: int, price: float) -> tuple[float, float]:
    """Mean squared error and bits per pixel; the synthesis has the 48 units of wide networks."""
    net, target, config = soft_fits.start(samples, lam, steps, width=width, hidden=48)
    return soft_fits.run(CoreFitter(net, target, replace(config, weight_price=price)))


def main() -> None:
    """Measure and print a table."""
    parser = soft_fits.parser(__doc__)
    parser.set_defaults(items="15@384x256:0.004,20@384x256:0.004")
    parser.add_argument("--widths", default="16,24,32", help="units of the context's layers")
    parser.add_argument("--prices", default="0,0.25,1", help="factors on the bits of weights")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| item | price | width | MSE | bpp | 1000 J |\n|---|---|---|---|---|---|")
    for item, lam, samples in soft_fits.pictures(args.folder, args.items):
        for price in map(float, args.prices.split(",")):
            for width in map(int, args.widths.split(",")):
                found = fit(samples, lam, args.steps, width, price)
                names = f"{item} | {price:g} | {width}"
                print(soft_fits.row(names, lam, *found), flush=True)


if __name__ == "__main__":
    main()
