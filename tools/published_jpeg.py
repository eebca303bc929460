"""The published JPEG curve of Kodak beside ours: which JPEG library makes the difference.

    python tools/published_jpeg.py KODAK PUBLISHED --programs FOLDER

KODAK holds kodim01.png ... kodim24.png; PUBLISHED is results/image/kodak/jpeg.json of CompressAI
or a collection that has that curve. It was made with Pillow 7.1.2, whose wheels carry the
Independent JPEG Group's libjpeg 9. FOLDER holds cjpeg and djpeg of any JPEG library, such as
those of libjpeg 9 (https://ijg.org). At each quality the table gives the mean bits per pixel and
the mean PSNR over the pictures as published, by the Pillow at hand and by the programs; the last
line the BD-PSNR of both against the published curve.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import numpy as np

from codec.evaluate import Jpeg, bd_psnr, bits_per_pixel, psnr
from codec.evaluate.metrics import Samples
from codec.evaluate.pillow import load
from codec.evaluate.published import read_published
from codec.media import read_image
from formats.errors import InputError

QUALITIES = range(5, 100, 5)  # of the published curve, which does not name them


class Programs:
    """cjpeg and djpeg, at the settings of Pillow's default: baseline, 4:2:0, accurate DCT."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def encode(self, samples: Samples, quality: int) -> bytes:
        """A JPEG file of (H, W, 3) uint8."""
        height, width = samples.shape[:2]
        ppm = b"P6 %d %d 255\n" % (width, height) + samples.tobytes()
        return self._run("cjpeg", "-quality", str(quality), "-baseline", data=ppm)

    def decode(self, data: bytes) -> Samples:
        """Samples (H, W, 3) uint8."""
        return load(self._run("djpeg", "-ppm", data=data), "PPM")

    def _run(self, name: str, *options: str, data: bytes) -> bytes:
        try:
            done = subprocess.run(
                [str(self.folder / name), *options], input=data, capture_output=True, check=False
            )
        except OSError as error:
            raise InputError(f"{self.folder}: expected the program {name}: {error}") from error
        if done.returncode:
            raise InputError(f"{name}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout


def mean_point(images: list[Samples], codec: Jpeg | Programs, quality: int) -> tuple[float, float]:
    """Mean bits per pixel and PSNR over pictures, both of real files."""
    points = []
    for samples in images:
        data = codec.encode(samples, quality)
        points.append(
            (bits_per_pixel(len(data), *samples.shape[:2]), psnr(samples, codec.decode(data)))
        )
    rate, decibels = np.mean(points, axis=0)
    return float(rate), float(decibels)


def published_curve(path: Path) -> list[tuple[float, float]]:
    """The points of the first curve called JPEG that has one point a quality."""
    for curve in read_published(path)[0]:
        name = curve.name.upper()
        if "JPEG" in name and "2000" not in name and len(curve.results["bpp"]) == len(QUALITIES):
            pairs = zip(curve.results["bpp"], curve.results["psnr-rgb"], strict=True)
            return [(float(rate or 0), float(value or 0)) for rate, value in pairs]
    raise InputError(f"{path}: expected a JPEG curve of {len(QUALITIES)} points, found none")


def main() -> None:
    """Read the arguments, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kodak", type=Path, help="folder of the 24 pictures")
    parser.add_argument("published", type=Path, help="JSON file with the published curve")
    parser.add_argument("--programs", type=Path, required=True, help="folder of cjpeg and djpeg")
    args = parser.parse_args()

    published = published_curve(args.published)
    files = sorted(args.kodak.glob("kodim*.png"))
    if len(files) != 24:
        raise InputError(f"{args.kodak}: expected 24 pictures kodim*.png, found {len(files)}")
    images = [read_image(file).samples for file in files]
    pillow = Jpeg(scan="baseline")
    curves: tuple[list[tuple[float, float]], ...] = ([], [])
    print(f"| quality | published | {pillow.version()} | programs |\n|---|---|---|---|")
    for quality, known in zip(QUALITIES, published, strict=True):
        points = [mean_point(images, codec, quality) for codec in (pillow, Programs(args.programs))]
        for curve, point in zip(curves, points, strict=True):
            curve.append(point)
        cells = " | ".join(f"{rate:.6f} bpp {value:.4f} dB" for rate, value in (known, *points))
        print(f"| {quality} | {cells} |", flush=True)
    rates, values = zip(*published, strict=True)
    gaps = [bd_psnr(rates, values, *zip(*curve, strict=True)) for curve in curves]
    print("| BD-PSNR | | " + " | ".join(f"{gap:+.4f} dB" for gap in gaps) + " |")


if __name__ == "__main__":
    main()
