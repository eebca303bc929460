"""The largest sizes a decoder accepts, checked from the header before anything is allocated.

They bound memory and work for hostile input: a few bytes can *declare* any size. All are far
above real use; a future version of the format may raise them, never lower them.
"""

from __future__ import annotations

from formats.errors import LimitError

__all__ = [
    "MAX_CHUNK_BYTES",
    "MAX_FRAMES",
    "MAX_LATENTS_PER_BYTE",
    "MAX_LATENTS_PER_UNIT",
    "MAX_MACS_PER_UNIT",
    "MAX_PARAMETERS",
    "MAX_PIXELS",
    "MAX_SIDE",
    "MAX_UNITS",
    "MAX_UNIT_SAMPLES",
    "MAX_WEIGHTS_PER_BYTE",
    "check_limit",
]

MAX_SIDE = 65_535
MAX_PIXELS = 2**28
"""Pixels of one frame: 16384 x 16384."""
MAX_FRAMES = 2**24
MAX_UNITS = 2**20
MAX_UNIT_SAMPLES = 2**33
"""Samples (pixels times channels times frames) that one unit reconstructs."""
MAX_PARAMETERS = 2**24
"""Weights of one unit."""
MAX_WEIGHTS_PER_BYTE = 4096
"""Weights of one unit per payload byte: near-certain symbols are almost free to *send*, not to
decode, so the size of the payload must pay for the work it asks for."""
MAX_MACS_PER_UNIT = 2**44
MAX_LATENTS_PER_UNIT = 2**28
MAX_LATENTS_PER_BYTE = 2**20
"""Latents of one unit per payload byte. Certain latents cost nothing at all: a plain image is a
few bytes whatever its size, so the bound is loose. It is there so that 20 bytes of payload cannot
declare more than 80 MiB of grids, which take up to ten times as much while they are decoded. A
plain image of 100 megapixels needs 128 bytes, about what its weights take; every tile adds one."""
MAX_CHUNK_BYTES = 2**31


def check_limit(what: str, value: int, limit: int) -> int:
    """Return `value`, or raise LimitError when it is over `limit`."""
    if value > limit:
        raise LimitError(f"{what}: at most {limit} is accepted, the file declares {value}")
    return value
