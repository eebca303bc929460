"""What codecs under evaluation let one set: points and choices, checked in one way, and presets."""

from __future__ import annotations

from collections.abc import Collection

from formats.errors import InputError

__all__ = [
    "VVENC_PRESETS",
    "X26_PRESETS",
    "check_choice",
    "check_points",
    "check_sweep",
    "integer_point",
]

# By the names of the encoders, from fast to slow.
X26_PRESETS: tuple[str, ...] = ("ultrafast", "superfast", "veryfast", "faster", "fast")
X26_PRESETS += ("medium", "slow", "slower", "veryslow", "placebo")
VVENC_PRESETS: tuple[str, ...] = ("faster", "fast", "medium", "slow", "slower")


def check_choice(what: str, value: str, allowed: Collection[str]) -> None:
    """Check a setting that is one of a few words.

    Raises:
        InputError: it is none of them.
    """
    if value not in allowed:
        raise InputError(f"{what}: expected one of {', '.join(allowed)}, got {value!r}")


def check_sweep(what: str, points: tuple[float, ...]) -> None:
    """Check that there are points, which differ.

    Raises:
        InputError: there is none, or one twice.
    """
    if not points or len(set(points)) < len(points):
        raise InputError(f"{what}: expected at least one, none twice, got {points}")


def check_points(what: str, points: tuple[float, ...], allowed: tuple[int, int]) -> None:
    """Check a sweep of integers.

    Args:
        what: they are called.
        points: of the sweep.
        allowed: the ends of their range, in either order.

    Raises:
        InputError: there is none, one twice, or one that `integer_point` refuses.
    """
    check_sweep(what, points)
    for q in points:
        integer_point(what, q, allowed)


def integer_point(what: str, q: float, allowed: tuple[int, int]) -> int:
    """A point of a codec whose points are integers.

    Raises:
        InputError: it is no integer, or out of the range.
    """
    low, high = sorted(allowed)
    if not float(q).is_integer() or not low <= q <= high:
        raise InputError(f"{what}: expected an integer {low}..{high}, got {q:g}")
    return int(q)
