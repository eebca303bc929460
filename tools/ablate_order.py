"""What the order of the latents costs: blocks of several sizes against grids of one block.

    python tools/ablate_order.py KODAK [--items 8@384x256:0.001,20@384x256:0.004] [--steps 600]

one block  row after row, a row starting when the one above is two columns ahead: what a serial
           decoder would see
blocks B   all blocks of BxB side by side (formats/blocks.py): 3 B - 2 passes do a grid; above 32
           those of the finest grids (`CoreConfig.side`)

Layers, start, optimiser and schedule are the same. No prior: there is none for blocks. J = MSE +
lambda bpp is that of the rounded latents at the end of the soft stage, with the rate that the
network says, network weights not counted.
"""

from __future__ import annotations

import soft_fits
import torch
from torch import Tensor

from codec.fit.core_loop import CoreFitter

ORDERS = {
    "one block": 0,
    "blocks 8": 3,
    "blocks 16": 4,
    "blocks 32": 5,
    "blocks 64": 6,
    "blocks 128": 7,
    "blocks 256": 8,
}


def fit(samples: Tensor, lam: float, steps: int, width: int, order: str) -> tuple[float, float]:
    """Mean squared error and bits per pixel."""
    shape = {"width": width, "block": ORDERS[order]}
    return soft_fits.run(CoreFitter(*soft_fits.start(samples, lam, steps, **shape)))


def main() -> None:
    """Measure and print a table."""
    parser = soft_fits.parser(__doc__)
    parser.add_argument("--width", type=int, default=16, help="units of the context's layers")
    parser.add_argument("--orders", help=f"names among: {'; '.join(ORDERS)}", metavar="A;B;...")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| item | order | MSE | bpp | 1000 J | against the first |\n|---|---|---|---|---|---|")
    for item, lam, samples in soft_fits.pictures(args.folder, args.items):
        first = 0.0
        for order in args.orders.split(";") if args.orders else ORDERS:
            mse, bpp = fit(samples, lam, args.steps, args.width, order)
            j = mse + lam * bpp
            first = first or j
            row = soft_fits.row(f"{item} | {order}", lam, mse, bpp)
            print(f"{row} {100 * (j / first - 1):+.1f}% |", flush=True)


if __name__ == "__main__":
    main()
