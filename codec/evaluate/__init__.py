"""Measure codecs: metrics, anchors, rate-distortion results, Bjøntegaard deltas, plots.

Nothing here is needed to encode or decode. MS-SSIM and plots need the optional libraries of
`coordx-codec[metrics]` and `coordx-codec[plots]`.
"""

from codec.evaluate.anchors import Avif, Jpeg, Jpeg2000, WebP
from codec.evaluate.bdrate import bd_psnr, bd_rate
from codec.evaluate.comparison import Comparison, compare
from codec.evaluate.coordx import CoordXCodec
from codec.evaluate.curves import Curve, find_curve, load_curves
from codec.evaluate.inputs import Inputs, find_inputs
from codec.evaluate.interface import Codec, ImageCodec, QualityCodec, VideoCodec
from codec.evaluate.metrics import bits_per_pixel, ms_ssim, mse, psnr
from codec.evaluate.plot import plot_curves
from codec.evaluate.registry import parse_codecs
from codec.evaluate.results import Failure, Measurement
from codec.evaluate.runner import Progress, evaluate
from codec.evaluate.search import SizedFile, at_size
from codec.evaluate.stills import HevcIntra, JpegXl, VvcIntra
from codec.evaluate.videos import FFmpegVideo

__all__ = [
    "Avif",
    "Codec",
    "Comparison",
    "CoordXCodec",
    "Curve",
    "FFmpegVideo",
    "Failure",
    "HevcIntra",
    "ImageCodec",
    "Inputs",
    "Jpeg",
    "Jpeg2000",
    "JpegXl",
    "Measurement",
    "Progress",
    "QualityCodec",
    "SizedFile",
    "VideoCodec",
    "VvcIntra",
    "WebP",
    "at_size",
    "bd_psnr",
    "bd_rate",
    "bits_per_pixel",
    "compare",
    "evaluate",
    "find_curve",
    "find_inputs",
    "load_curves",
    "ms_ssim",
    "mse",
    "parse_codecs",
    "plot_curves",
    "psnr",
]
