"""Write the golden streams of tests/conformance: small files that must decode for ever.

    python tools/make_golden.py [--check]

Files that exist are never rewritten: a golden stream of a released version is kept as it is.
Streams of core fusion: `python -m tests.conformance.make_core`. The manifest holds, for each, the
SHA-256 of the file and of its integer weights (exact); samples are compared with the stored .npy.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import codec
from formats.container import Container
from formats.network import Activation, Encoding, Fusion, NetworkConfig, RankMode

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "conformance"


def picture(height: int, width: int, channels: int, bits: int = 8) -> np.ndarray[Any, Any]:
    """A small deterministic picture."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [((x * (3 + c) + y * (5 - c)) % 32 + 4 * (x > y)) / 40 for c in range(channels)]
    top = (1 << bits) - 1
    return (np.stack(planes, -1) * top).astype(np.uint8 if bits == 8 else np.uint16)


def streams() -> dict[str, bytes]:
    """Name and bytes of each stream."""
    fast: dict[str, Any] = {"steps": 60, "device": "cpu", "lam": 3e-5, "fusion": "rank"}
    clip = np.stack([np.roll(picture(12, 16, 3), t, 1) for t in range(7)])
    full = NetworkConfig(
        encoding=Encoding.FOURIER,
        activation=Activation.GELU,
        fusion=Fusion.SUM,
        rank_mode=RankMode.FULL,
        width=8,
        features=4,
        rank=2,
        frequencies=3,
        bandwidth=16,
        branch_layers=2,
        tail_layers=2,
    )
    split = NetworkConfig(activation=Activation.RELU, width=6, rank=5, tail_layers=0)
    return {
        "rgb_24x17": codec.encode(picture(17, 24, 3), **fast).data,
        "grey_1x1": codec.encode(picture(1, 1, 1), **fast).data,
        "rgba_9x7": codec.encode(picture(7, 9, 4), **fast).data,
        "grey16_13x11": codec.encode(picture(11, 13, 1, 16), **fast).data,
        "plain_xy_12x12": codec.encode(picture(12, 12, 3), split="xy", **fast).data,
        "fourier_sum_full_10x8": codec.encode(picture(8, 10, 3), network=full, **fast).data,
        "fully_split_10x8": codec.encode(picture(8, 10, 3), network=split, **fast).data,
        "video_x+y+t_7f": codec.encode(clip, gop=3, rate=Fraction(30000, 1001), **fast).data,
        "video_xy+t_4f": codec.encode(clip[:4], gop=4, split="xy+t", **fast).data,
    }


def digest_of_weights(data: bytes) -> str:
    """SHA-256 of every symbol and step of a file."""
    digest = hashlib.sha256()
    with Container.open(data) as box:
        box.verify()
        for number in range(len(box.unit_spans)):
            for tensor in box.unit(number):
                digest.update(tensor.step.to_bytes(2, "little", signed=True))
                digest.update(tensor.symbols.astype("<i4").tobytes())
    return digest.hexdigest()


def main() -> int:
    """Write what is missing, or check what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare with the manifest")
    args = parser.parse_args()
    manifest_path = FOLDER / "manifest.json"
    manifest = json.loads(manifest_path.read_text()) if manifest_path.exists() else {}
    if not args.check:
        for name, data in streams().items():
            path = FOLDER / f"{name}.crdx"
            if path.exists():
                continue
            path.write_bytes(data)
            decoded = codec.decode(data, device="cpu")
            path.with_suffix(".npy").unlink(missing_ok=True)
            np.save(path.with_suffix(".npy"), decoded, allow_pickle=False)
            manifest[name] = {
                "version": codec.__version__,
                "file": hashlib.sha256(data).hexdigest(),
                "weights": digest_of_weights(data),
                "shape": list(decoded.shape),
            }
        manifest_path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    wrong = [
        name
        for name, entry in manifest.items()
        if digest_of_weights((FOLDER / f"{name}.crdx").read_bytes()) != entry["weights"]
    ]
    for name in wrong:
        print(f"{name}: decodes to other weights than when it was written", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
