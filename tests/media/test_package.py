"""The package's promises: what it exports, and what it does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import codec.media
from codec.media.pnm import encode_pnm
from codec.media.values import ImageMedia
from media.conftest import REPOSITORY, SAMPLES, clip_info, smooth


def _fresh(code: str, *arguments: Path) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_exported_name_exists_and_no_public_name_is_left_out():
    for name in codec.media.__all__:
        assert hasattr(codec.media, name)
    assert codec.media.__all__ == sorted(codec.media.__all__)
    classes = {n for n, v in vars(codec.media).items() if getattr(v, "__module__", "") != n}
    public = {n for n in classes if callable(getattr(codec.media, n)) and not n.startswith("_")}
    assert public == set(codec.media.__all__)


def test_importing_the_package_loads_neither_pillow_nor_ffmpeg_nor_torch():
    code = (
        "import sys, codec.media\n"
        "print([m for m in ('PIL', 'imageio_ffmpeg', 'torch') if m in sys.modules])"
    )
    assert _fresh(code).strip() == "[]"


def test_png_and_y4m_are_read_and_written_without_imageio_ffmpeg(tmp_path):
    clip = tmp_path / "clip.y4m"
    with codec.media.open_video_writer(clip, clip_info()) as writer:
        writer.write(smooth(24, 32))
    code = """
import sys
sys.modules["imageio_ffmpeg"] = None  # as if it were not installed
from codec.media import *
picture, clip, out = sys.argv[1:]
image = read_image(picture)
write_image(out + ".png", image)
with open_video(clip) as source, open_video_writer(out + ".y4m", source.info) as writer:
    for frame in source:
        writer.write(frame)
with open_video(out + ".y4m") as again:
    print(read_image(out + ".png").samples.shape, len(list(again)))
"""
    printed = _fresh(code, SAMPLES / "astronaut.png", clip, tmp_path / "out")
    assert printed.strip() == "(512, 512, 3) 1"


def test_reading_a_png_and_a_y4m_does_not_import_imageio_ffmpeg(tmp_path):
    clip = tmp_path / "clip.y4m"
    with codec.media.open_video_writer(clip, clip_info()) as writer:
        writer.write(smooth(24, 32))
    code = """
import sys
from codec.media import open_video, read_image
read_image(sys.argv[1])
with open_video(sys.argv[2]) as source:
    assert len(list(source)) == 1
assert "imageio_ffmpeg" not in sys.modules
"""
    _fresh(code, SAMPLES / "astronaut.png", clip)


def test_compressed_video_without_imageio_ffmpeg_names_the_missing_library():
    code = """
import sys
sys.modules["imageio_ffmpeg"] = None
from codec.media import open_video
from formats.errors import MissingLibraryError
try:
    open_video(sys.argv[1])
except MissingLibraryError as error:
    print(error)
"""
    assert "pip install imageio-ffmpeg" in _fresh(code, SAMPLES / "bunny.mp4")


def test_netpbm_needs_no_pillow(tmp_path):
    path = tmp_path / "p.ppm"
    path.write_bytes(encode_pnm(ImageMedia(smooth(4, 5)).samples))
    code = (
        "import sys\nfrom codec.media import read_image\nread_image(sys.argv[1])\n"
        "assert 'PIL' not in sys.modules"
    )
    _fresh(code, path)
