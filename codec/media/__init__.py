"""Pictures and clips as samples: reading, writing, and telling them apart.

Importing this package loads numpy only; Pillow and ffmpeg are loaded by the first call that
needs them. PNG and y4m never need ffmpeg.
"""

from __future__ import annotations

from codec.media.image import read_image
from codec.media.image_write import image_bytes, require_writable, write_image
from codec.media.profile import is_srgb
from codec.media.sniff import sniff
from codec.media.source import VideoSource, open_video
from codec.media.values import ImageMedia, VideoInfo
from codec.media.writer import VideoWriter, open_video_writer
from codec.media.y4m import write_raw, write_y4m

__all__ = [
    "ImageMedia",
    "VideoInfo",
    "VideoSource",
    "VideoWriter",
    "image_bytes",
    "is_srgb",
    "open_video",
    "open_video_writer",
    "read_image",
    "require_writable",
    "sniff",
    "write_image",
    "write_raw",
    "write_y4m",
]
