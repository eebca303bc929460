"""Points and choices of codecs are checked in one way."""

from __future__ import annotations

import pytest

from codec.evaluate.settings import check_choice, check_points, check_sweep, integer_point
from formats.errors import InputError


@pytest.mark.parametrize("q", [3, 64, 22.5, float("nan"), float("inf")])
def test_points_are_integers_in_their_range_given_in_either_order(q: float) -> None:
    assert integer_point("qp", 22.0, (63, 4)) == integer_point("qp", 22.0, (4, 63)) == 22
    for allowed in ((63, 4), (4, 63)):
        with pytest.raises(InputError, match=r"qp: expected an integer 4\.\.63"):
            check_points("qp", (22, q), allowed)


@pytest.mark.parametrize("points", [(), (24.5, 30, 24.5)])
def test_a_sweep_has_points_that_differ(points: tuple[float, ...]) -> None:
    check_sweep("target", (24.5, 30))
    with pytest.raises(InputError, match="target: expected at least one, none twice"):
        check_sweep("target", points)


def test_a_choice_is_one_of_those_named() -> None:
    check_choice("preset", "slow", ("fast", "slow"))
    with pytest.raises(InputError, match="preset: expected one of fast, slow, got 'quick'"):
        check_choice("preset", "quick", ("fast", "slow"))
