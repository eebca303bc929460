"""The one interface of every codec under evaluation, ours and others.

Image codecs and video codecs share name, version, command and points; an image codec takes
samples, a video codec a clip on disk. Both return the bytes of a real file and decode from
nothing but those bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from codec.evaluate.clips import Clip
from codec.evaluate.metrics import Samples
from formats.errors import InputError

__all__ = ["Codec", "ImageCodec", "QualityCodec", "VideoCodec", "device_of", "with_shape"]


class Codec(Protocol):
    """What the runner needs of any codec.

    Attributes:
        name: unique within a run; carries every setting that is not at its default.
        point: what a point of the sweep is called: "quality", "lambda", "qp", "crf", "target".
        qualities: the points of the sweep.
        options: the settings that a specification such as `avif:speed=0` may give, each with
            the function that turns its text into a value.
    """

    options: ClassVar[Mapping[str, Callable[[str], object]]]

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def point(self) -> str: ...  # noqa: D102
    @property
    def qualities(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def suffix(self) -> str: ...  # noqa: D102

    def version(self) -> str:
        """Names and versions of the libraries; loads them, so that no clock sees it."""

    def command(self, q: float) -> str:
        """Every setting that has an influence on the bytes at point `q`, for the record."""


class ImageCodec(Codec, Protocol):
    """A codec of pictures."""

    def encode(self, samples: Samples, q: float) -> bytes:
        """Code (H, W, C) samples; InputError if the codec has no such kind of picture."""

    def decode(self, data: bytes) -> Samples:
        """Samples (H, W, C) from the bytes alone; may have a shape `with_shape` mends."""


class VideoCodec(Codec, Protocol):
    """A codec of clips."""

    def encode_clip(self, clip: Clip, q: float) -> bytes:
        """Code the frames of a clip; InputError if the codec has no such kind of clip."""

    def decode_clip(self, data: bytes, folder: Path) -> Clip | Samples:
        """The bytes alone as a clip in a new file of `folder`, or as R'G'B' (T, H, W, C)."""


class QualityCodec(ImageCodec, Protocol):
    """An image codec whose points go from the worst to the best in steps.

    A step is 1, or the codec's `quality_step`.
    """

    @property
    def quality_range(self) -> tuple[int, int]: ...  # noqa: D102


def device_of(codec: Codec) -> str:
    """Where the codec computes: "cpu" unless it has a `compute_device` that says otherwise."""
    answer = getattr(codec, "compute_device", None)
    return "cpu" if answer is None else str(answer())


def with_shape(samples: Samples, shape: tuple[int, ...]) -> Samples:
    """Decoded samples in the shape of the source, where the file cannot say it.

    4:2:0 streams have even sizes, so that an odd row or column comes back with a copy of it;
    a codec without greyscale returns three channels for one; one that drops an opaque alpha
    channel three for four. The shape of the source is the only thing about it that the
    measurement of a decoded file takes from elsewhere.

    Args:
        samples: (H, W, 1, 3 or 4), 8 or 16 bits.
        shape: (H, W, C) of the source.

    Raises:
        InputError: the two differ by more than that.
    """
    height, width, channels = shape
    rows, columns = samples.shape[:2]
    if (rows - height, columns - width) in ((0, 0), (height % 2, width % 2)):
        samples = samples[:height, :width]
    return _with_channels(samples, channels)


def _with_channels(samples: Samples, channels: int) -> Samples:
    found = samples.shape[-1]
    if found == channels:
        return samples
    if (found, channels) == (3, 1):
        # R, G and B of a coded greyscale picture are equal up to rounding.
        grey: Samples = np.rint(samples.mean(axis=-1, keepdims=True)).astype(samples.dtype)
        return grey
    if (found, channels) == (3, 4):
        opaque = np.full_like(samples[..., :1], np.iinfo(samples.dtype).max)
        return np.concatenate([samples, opaque], axis=-1)
    if (found, channels) == (1, 3):
        return np.repeat(samples, 3, axis=-1)
    raise InputError(f"decoded picture: expected {channels} channels, got {found}")
