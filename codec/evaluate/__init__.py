"""Measure codecs: metrics, anchors, rate-distortion results, Bjøntegaard deltas, plots.

Nothing here is needed to encode or decode. MS-SSIM and plots need the optional libraries of
`coordx-codec[metrics]` and `coordx-codec[plots]`.
"""

from codec.evaluate.anchors import Avif, Jpeg, SizedFile, WebP, at_size
from codec.evaluate.bdrate import bd_psnr, bd_rate
from codec.evaluate.coordx import CoordXCodec
from codec.evaluate.curves import Comparison, Curve, compare, find_curve, load_curves
from codec.evaluate.inputs import find_images
from codec.evaluate.interface import ImageCodec, QualityCodec
from codec.evaluate.metrics import bits_per_pixel, ms_ssim, mse, psnr
from codec.evaluate.plot import plot_curves
from codec.evaluate.registry import parse_codecs
from codec.evaluate.results import Failure, Measurement
from codec.evaluate.runner import Progress, evaluate

__all__ = [
    "Avif",
    "Comparison",
    "CoordXCodec",
    "Curve",
    "Failure",
    "ImageCodec",
    "Jpeg",
    "Measurement",
    "Progress",
    "QualityCodec",
    "SizedFile",
    "WebP",
    "at_size",
    "bd_psnr",
    "bd_rate",
    "bits_per_pixel",
    "compare",
    "evaluate",
    "find_curve",
    "find_images",
    "load_curves",
    "ms_ssim",
    "mse",
    "parse_codecs",
    "plot_curves",
    "psnr",
]
