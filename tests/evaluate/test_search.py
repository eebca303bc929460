"""The best file within a budget, for codecs that count up and codecs that count down."""

from __future__ import annotations

import numpy as np
import pytest

from codec.evaluate.anchors import Avif, Jpeg, WebP
from codec.evaluate.interface import QualityCodec
from codec.evaluate.search import at_size
from codec.evaluate.stills import HevcIntra
from formats.errors import InputError
from tests.conftest import picture

ALL = pytest.mark.parametrize("codec", [Jpeg(), WebP(), Avif(speed=10)], ids=lambda c: c.name)


@ALL
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_at_size_is_the_best_that_fits(
    codec: QualityCodec, photo: np.ndarray, share: float
) -> None:
    low, high = codec.quality_range
    target = int(share * len(codec.encode(photo, high)))
    best = at_size(codec, photo, target)
    assert best.fits
    assert len(best.data) <= target < len(codec.encode(photo, best.q + 1))
    assert low <= best.q < high
    assert best.data == codec.encode(photo, best.q)


def test_at_size_finds_the_one_best_quality_for_every_budget() -> None:
    class Ruler(Jpeg):
        def encode(self, samples: np.ndarray, q: float) -> bytes:
            return bytes(int(3 * q))

    for target in range(3, 310):
        assert at_size(Ruler(), picture(), target).q == min(target // 3, 100)


def test_at_size_says_when_nothing_fits_and_takes_all_that_does(photo: np.ndarray) -> None:
    tiny = at_size(Jpeg(), photo, 1)
    assert (tiny.fits, tiny.q, tiny.data) == (False, 1, Jpeg().encode(photo, 1))
    exact = at_size(Jpeg(), photo, len(tiny.data))
    assert exact.fits
    huge = at_size(Jpeg(), photo, 10**9)
    assert (huge.fits, huge.q) == (True, 100)
    with pytest.raises(InputError, match="at least 1 byte"):
        at_size(Jpeg(), photo, 0)


def test_a_quantiser_is_the_better_the_smaller_it_is() -> None:
    class Quantiser(HevcIntra):
        def encode(self, samples: np.ndarray, q: float) -> bytes:
            return bytes(int(3 * (60 - q)))

    for target in range(27, 200):
        found = at_size(Quantiser(), picture(), target)
        assert found.fits
        assert found.q == max(60 - target // 3, 4)
    assert not at_size(Quantiser(), picture(), 26).fits
