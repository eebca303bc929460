"""The one interface of every codec under evaluation, ours and others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol

import numpy as np

from codec.evaluate.metrics import Samples
from formats.errors import InputError

__all__ = ["ImageCodec", "QualityCodec", "with_channels"]


class ImageCodec(Protocol):
    """What the runner needs of an image codec.

    Attributes:
        name: unique within a run; carries every setting that is not at its default.
        point: what a point of the sweep is called, "quality" or "lambda".
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

    def version(self) -> str:
        """Names and versions of the libraries; loads them, so that no clock sees it."""

    def command(self, q: float) -> str:
        """Every setting that has an influence on the bytes at point `q`, for the record."""

    def encode(self, samples: Samples, q: float) -> bytes:
        """Code (H, W, C) samples; InputError if the codec has no such kind of picture."""

    def decode(self, data: bytes) -> Samples:
        """Samples (H, W, C) from the bytes alone; may have channels `with_channels` mends."""


class QualityCodec(ImageCodec, Protocol):
    """An image codec whose points are integers of a range, larger meaning better."""

    @property
    def quality_range(self) -> tuple[int, int]: ...  # noqa: D102


def with_channels(samples: Samples, channels: int) -> Samples:
    """Decoded samples in the channel count of the source, where the file cannot say it.

    A codec without greyscale returns three channels for one, and one that drops an opaque
    alpha channel returns three for four. The channel count of the source is the only thing
    about it that the measurement of a decoded file takes from elsewhere.

    Args:
        samples: (H, W, 1, 3 or 4), 8 or 16 bits.
        channels: of the source.

    Returns:
        (H, W, channels).

    Raises:
        InputError: another pair of channel counts.
    """
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
