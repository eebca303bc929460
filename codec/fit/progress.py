"""What a fit reports after every step."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """What a progress callback is told.

    Attributes:
        step, steps: steps done, and in all.
        stage: its name: "float", "soft" or "hard" with rank fusion, "soft" or "settle"
            with core fusion.
        bpp: estimated bits per pixel (nan while there is no estimate).
        psnr: dB of the training samples of this step.
    """

    step: int
    steps: int
    stage: str
    bpp: float
    psnr: float
