"""What a decoded picture may lack, and what it must not."""

from __future__ import annotations

import numpy as np
import pytest

from codec.evaluate.anchors import Jpeg
from codec.evaluate.coordx import CoordXCodec
from codec.evaluate.interface import device_of, with_shape
from formats.errors import InputError
from tests.conftest import picture


def test_channels_are_mended_where_the_format_has_no_such_kind() -> None:
    grey = picture(channels=1)
    assert with_shape(grey, (24, 32, 3)).shape == (24, 32, 3)
    assert np.array_equal(with_shape(np.repeat(grey, 3, axis=2), (24, 32, 1)), grey)
    alpha = with_shape(picture(), (24, 32, 4))
    assert (alpha[..., 3] == 255).all()
    with pytest.raises(InputError, match="expected 1 channels, got 4"):
        with_shape(picture(channels=4), (24, 32, 1))


def test_only_the_copy_of_an_odd_row_or_column_is_cropped() -> None:
    even = picture(24, 32)
    assert np.array_equal(with_shape(even, (23, 31, 3)), even[:23, :31])
    assert with_shape(even, (23, 32, 3)).shape == (23, 32, 3)
    # 22 rows come back as 22 or not at all: then the metrics say that the sizes differ.
    assert with_shape(even, (22, 32, 3)).shape == even.shape


def test_codecs_say_where_they_compute() -> None:
    assert device_of(Jpeg()) == "cpu"
    assert device_of(CoordXCodec(device="cpu")) == "cpu"
