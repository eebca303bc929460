"""CoordX codec: overfitted split-coordinate networks in an exact bitstream.

import codec
encoded = codec.encode("photo.png", quality=60)
encoded.save("photo.crdx")
samples = codec.decode("photo.crdx")            # (H, W, C) numpy array
with codec.open("clip.crdx") as video:
    frame = video[10]
"""

from __future__ import annotations

import formats

if not getattr(formats, "__coordx_codec__", False):  # another package of the same name
    raise ImportError(
        f"the package `formats` found at {getattr(formats, '__file__', '?')} is not the one of "
        "coordx-codec: another installed package shadows it; install coordx-codec in an "
        "environment of its own"
    )

from codec.api import Encoded, decode, encode, open
from codec.decoder import Image, Video
from formats.errors import CoordXError

__version__ = "0.1.0"

__all__ = ["CoordXError", "Encoded", "Image", "Video", "__version__", "decode", "encode", "open"]
