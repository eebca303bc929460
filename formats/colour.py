"""How sample values map to light: the code points of ITU-T H.273 (CICP), and the range."""

from __future__ import annotations

from dataclasses import dataclass

from formats.errors import InputError

__all__ = ["BT601", "BT709", "SRGB", "Colour"]


@dataclass(frozen=True)
class Colour:
    """Colour description of decoded samples.

    Attributes:
        primaries: H.273 ColourPrimaries, 0..255 (1 = BT.709, 2 = unspecified, 9 = BT.2020).
        transfer: H.273 TransferCharacteristics, 0..255 (1 = BT.709, 13 = sRGB).
        matrix: H.273 MatrixCoefficients, 0..255 (0 = RGB, 1 = BT.709, 6 = BT.601). The
            samples in a `.crdx` are always R'G'B' (or grey); this is the matrix of the
            *source* and the one a decoder uses when it writes Y'CbCr again.
        full_range: whether that Y'CbCr uses the full range rather than the video range.

    Raises:
        InputError: a code point is outside 0..255.
    """

    primaries: int = 1
    transfer: int = 13
    matrix: int = 0
    full_range: bool = True

    def __post_init__(self) -> None:
        """Check the code points once, so that no one else has to."""
        for name in ("primaries", "transfer", "matrix"):
            value = getattr(self, name)
            if not 0 <= value <= 255:
                raise InputError(f"colour {name}: expected 0..255, got {value}")


SRGB = Colour()
BT709 = Colour(primaries=1, transfer=1, matrix=1, full_range=False)
BT601 = Colour(primaries=6, transfer=6, matrix=6, full_range=False)
