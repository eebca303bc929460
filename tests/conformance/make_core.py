"""Write the golden streams of core fusion: `python -m tests.conformance.make_core`.

Most have random weights and latents, so that every branch of the integer format is there; the
pictures (`encoded_*`) come from the encoder, their decoded samples lie beside them. Files that
exist are never rewritten. The manifest holds, for each, the SHA-256 of the file, of its weights
and of its latents.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

import codec
from formats.container import Container, write_container
from formats.core import CoreConfig
from formats.header import Header, MediaKind
from formats.unit import pack_core_unit
from formats.weights import CodedTensor
from tests.conftest import picture
from tests.formats.factory import of_prior

FOLDER = Path(__file__).parent / "core"


def stream(
    config: CoreConfig,
    height: int,
    width: int,
    channels: int,
    spread: float,
    seed: int,
    scale: int = 0,
) -> bytes:
    """A file with random weights and Laplace latents.

    `scale` is added to the scale index of every latent: far below -44 all are certain, to be
    zero then. Every second level is.
    """
    rng = np.random.default_rng(seed)
    tensors = []
    for spec in config.tensors({}, channels):
        wide = 10 if spec.name in ("context.hidden", "context.out") else 6
        step = -6 if spec.name.startswith("context.") else -8
        symbols = np.rint(rng.laplace(0, wide, spec.shape)).astype(np.int32)
        if scale and spec.name in ("context.out", "context.level"):
            symbols[0] = 0
        if spec.name == "context.level":
            symbols[1] += 8 * scale  # in steps of 1/64, an index is 1/8
        tensors.append(CodedTensor(symbols, step))
    grids = [
        np.rint(rng.laplace(0, spread, shape)).astype(np.int32)
        for shape in config.grid_shapes(height, width)
    ]
    for grid in grids[1::2] if scale else []:
        grid[...] = 0
    payload, _ = pack_core_unit(0, config, tensors, grids, height, width)
    header = Header(MediaKind.IMAGE, width, height, channels, 8, config)
    return write_container(header, [payload], [1])


def streams() -> dict[str, bytes]:
    """Name and bytes of each stream."""
    small = CoreConfig(levels=3, hidden=4, residuals=1, width=5, block=3)
    return {
        "default_rgb_21x30": stream(CoreConfig(), 21, 30, 3, 2.0, 1),
        "blocks_rgb_40x50": stream(CoreConfig(block=5), 40, 50, 3, 2.0, 12),
        "grey_1x1": stream(CoreConfig(levels=1, residuals=0), 1, 1, 1, 3.0, 2),
        "large_blocks_rgba_7x7": stream(
            CoreConfig(levels=3, hidden=2, residuals=4, width=6, block=8), 7, 7, 4, 20.0, 3
        ),
        "blocks_by_level_12x150": stream(  # more than 32 columns at level 2, than 16 at 3
            CoreConfig(levels=4, hidden=2, residuals=0, width=3, block=6), 12, 150, 1, 1.0, 10
        ),
        "blocks_by_level_6x600": stream(  # blocks of 128, 64 and 32, each in grids that are wider
            CoreConfig(levels=5, hidden=2, residuals=0, width=2, block=7), 6, 600, 1, 1.0, 11
        ),
        "small_blocks_29x40": stream(CoreConfig(levels=8, width=3, block=3), 29, 40, 3, 1.0, 4),
        "far_latents_12x9": stream(small, 12, 9, 3, 4000.0, 5),
        "tiles_300x12": stream(
            CoreConfig(levels=4, hidden=3, residuals=0, width=4, tile=8), 300, 12, 3, 0.5, 6
        ),
        "tiles_of_blocks_20x270": stream(
            CoreConfig(levels=4, hidden=3, residuals=0, width=4, block=4, tile=8),
            20,
            270,
            3,
            0.5,
            13,
        ),
        "tiles_alone_20x270": stream(
            CoreConfig(levels=3, hidden=3, residuals=0, width=4, tile=8), 20, 270, 3, 0.5, 8
        ),
        "certain_300x40": stream(
            CoreConfig(levels=5, hidden=3, residuals=0, width=4, tile=8), 300, 40, 3, 0.1, 9, -300
        ),
        "column_33x1": stream(small, 33, 1, 1, 3.0, 7),
        "colour_rgb_37x45": stream(
            CoreConfig(levels=7, width=6, block=4, colour=3, colour_level=2), 37, 45, 3, 2.0, 14
        ),
        "colour_tiles_270x20": stream(  # of the colour grids, levels 1 and 2 are in tiles
            CoreConfig(levels=7, hidden=3, residuals=0, width=4, tile=8, colour=4, colour_level=1),
            270,
            20,
            3,
            0.5,
            15,
        ),
        "colour_small_5x9": stream(
            CoreConfig(levels=2, hidden=2, residuals=1, width=3, colour=2, colour_level=0),
            5,
            9,
            3,
            3.0,
            16,
        ),
        "colour_certain_40x30": stream(
            CoreConfig(levels=5, hidden=3, residuals=0, width=4, colour=3, colour_level=1),
            40,
            30,
            3,
            0.2,
            18,
            -300,
        ),
        "colour_of_one_level_4x6": stream(
            CoreConfig(levels=1, hidden=2, residuals=0, width=3, colour=1), 4, 6, 3, 3.0, 17
        ),
    }


def pictures() -> dict[str, bytes]:
    """Name and bytes of encoded pictures."""
    fast: dict[str, Any] = {"steps": 120, "device": "cpu", "lam": 2e-4}
    wide, colour = of_prior(2, levels=6), of_prior(3, levels=6)
    return {
        "encoded_rgb_40x56": codec.encode(picture(40, 56, 3), **fast).data,
        "encoded_grey16_19x70": codec.encode(picture(19, 70, 1, bits=16), **fast).data,
        "encoded_rgba_33x33": codec.encode(picture(33, 33, 4), **fast).data,
        "encoded_wide_rgb_24x40": codec.encode(picture(24, 40, 3), network=wide, **fast).data,
        "encoded_colour_rgb_30x47": codec.encode(picture(30, 47, 3), network=colour, **fast).data,
        "encoded_rgb_1x1": codec.encode(picture(1, 1, 3), **fast).data,
    }


def digests(data: bytes) -> dict[str, str]:
    """SHA-256 of a file, of its symbols and steps, and of its latents."""
    weights, latents = hashlib.sha256(), hashlib.sha256()
    with Container.open(data) as box:
        unit = box.core_unit(0)
    for tensor in unit.tensors:
        weights.update(tensor.step.to_bytes(2, "little", signed=True))
        weights.update(tensor.symbols.astype("<i4").tobytes())
    for grid in unit.grids():
        latents.update(grid.astype("<i4").tobytes())
    return {
        "file": hashlib.sha256(data).hexdigest(),
        "weights": weights.hexdigest(),
        "latents": latents.hexdigest(),
    }


def main() -> None:
    """Write what is missing."""
    FOLDER.mkdir(exist_ok=True)
    manifest_path = FOLDER / "manifest.json"
    manifest = json.loads(manifest_path.read_text()) if manifest_path.exists() else {}
    for name, data in streams().items():
        path = FOLDER / f"{name}.crdx"
        if not path.exists():
            path.write_bytes(data)
            manifest[name] = digests(data)
    for name, data in pictures().items():
        path = FOLDER / f"{name}.crdx"
        if not path.exists():
            path.write_bytes(data)
            samples = codec.decode(data, device="cpu")
            np.save(path.with_suffix(".npy"), samples, allow_pickle=False)
            manifest[name] = digests(data)
    manifest_path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
