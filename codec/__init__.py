"""CoordX codec: overfitted split-coordinate networks in an exact bitstream.

    import codec
    encoded = codec.encode("photo.png", quality=60)
    encoded.save("photo.crdx")
    samples = codec.decode("photo.crdx")            # (H, W, C) numpy array
    with codec.open("clip.crdx") as video:
        frame = video[10]

Names are loaded on first use, so that `import codec.media` or `coordx --help` does not wait
for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import formats

if not getattr(formats, "__coordx_codec__", False):  # another package of the same name
    raise ImportError(
        f"the package `formats` found at {getattr(formats, '__file__', '?')} is not the one of "
        "coordx-codec: another installed package shadows it; install coordx-codec in an "
        "environment of its own"
    )

if TYPE_CHECKING:
    from codec.api import decode, encode, open
    from codec.decoder import Image, Video
    from codec.records import Encoded, EncodeProgress, EncodeStats
    from formats.errors import CoordXError

__version__ = "0.1.0"

__all__ = [
    "CoordXError",
    "EncodeProgress",
    "EncodeStats",
    "Encoded",
    "Image",
    "Video",
    "__version__",
    "decode",
    "encode",
    "open",
]

_HOMES = {
    "CoordXError": "formats.errors",
    "EncodeProgress": "codec.records",
    "EncodeStats": "codec.records",
    "Encoded": "codec.records",
    "Image": "codec.decoder",
    "Video": "codec.decoder",
    "decode": "codec.api",
    "encode": "codec.api",
    "open": "codec.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'codec' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
