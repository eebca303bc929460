"""The best file of a codec within a byte budget."""

from __future__ import annotations

from dataclasses import dataclass

from codec.evaluate.interface import QualityCodec
from codec.evaluate.metrics import Samples
from formats.errors import InputError

__all__ = ["SizedFile", "at_size"]


@dataclass(frozen=True)
class SizedFile:
    """The best file within a byte budget.

    Attributes:
        q: the point it was made with.
        data: the file.
        fits: False when even the worst point is over the budget; `data` is then that one.
    """

    q: float
    data: bytes
    fits: bool


def at_size(
    codec: QualityCodec,
    samples: Samples,
    target_bytes: int,
    between: tuple[float, float] | None = None,
) -> SizedFile:
    """The file of the best point that does not exceed `target_bytes`.

    A binary search of about seven encodes. It takes the size to grow with the quality; where
    a codec breaks that by a few bytes the result still fits, one step may be missed.

    Args:
        codec: `Jpeg()`, `WebP()`, `Avif()` or another with a range of points.
        samples: (H, W, C) uint8.
        target_bytes: the budget, at least 1.
        between: a point known to fit and a better one known not to, which shorten the search;
            the codec's whole range when None.

    Raises:
        InputError: a budget below 1, or a picture that the codec does not take.
    """
    if target_bytes < 1:
        raise InputError(f"target size: expected at least 1 byte, got {target_bytes}")
    step: float = getattr(codec, "quality_step", 1)
    worst, best = codec.quality_range if between is None else between
    sign = 1 if best >= worst else -1  # a quantiser (qp) is the better the smaller it is
    low, high = 0, round(abs(best - worst) / step) - (between is not None)
    found = SizedFile(worst, codec.encode(samples, worst), fits=True)
    if len(found.data) > target_bytes:
        return SizedFile(worst, found.data, fits=False)
    while low < high:
        middle = (low + high + 1) // 2
        q = worst + sign * middle * step
        data = codec.encode(samples, q)
        if len(data) <= target_bytes:
            low, found = middle, SizedFile(q, data, fits=True)
        else:
            high = middle - 1
    return found
