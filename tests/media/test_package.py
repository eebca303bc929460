"""The package's promises: what it exports, and what it does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import codec.media
from codec.media.pnm import encode_pnm
from tests.media.conftest import REPOSITORY, SAMPLES, clip_info, smooth


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


def test_pictures_and_y4m_load_no_library_they_do_not_need(tmp_path):
    clip, netpbm = tmp_path / "clip.y4m", tmp_path / "p.ppm"
    netpbm.write_bytes(encode_pnm(smooth(4, 5)))
    with codec.media.open_video_writer(clip, clip_info()) as writer:
        writer.write(smooth(24, 32))
    code = """
import sys
from codec.media import open_video, read_image
clip, netpbm, png = sys.argv[1:]
assert not {"PIL", "imageio_ffmpeg"} & set(sys.modules), "importing the package"
read_image(netpbm)
with open_video(clip) as source:
    assert len(list(source)) == 1
assert "PIL" not in sys.modules, "Netpbm and y4m"
read_image(png)
assert "imageio_ffmpeg" not in sys.modules, "PNG"
"""
    _fresh(code, clip, netpbm, SAMPLES / "astronaut.png")


def test_without_imageio_ffmpeg_png_and_y4m_work_and_the_rest_names_it(tmp_path):
    clip = tmp_path / "clip.y4m"
    with codec.media.open_video_writer(clip, clip_info()) as writer:
        writer.write(smooth(24, 32))
    code = """
import sys
sys.modules["imageio_ffmpeg"] = None  # as if it were not installed
from codec.media import *
from formats.errors import MissingLibraryError
picture, clip, compressed, out = sys.argv[1:]
write_image(out + ".png", read_image(picture))
with open_video(clip) as source, open_video_writer(out + ".y4m", source.info) as writer:
    for frame in source:
        writer.write(frame)
with open_video(out + ".y4m") as again:
    print(read_image(out + ".png").samples.shape, len(list(again)))
try:
    open_video(compressed)
except MissingLibraryError as error:
    print(error)
"""
    arguments = (SAMPLES / "astronaut.png", clip, SAMPLES / "bunny.mp4", tmp_path / "out")
    first, second = _fresh(code, *arguments).splitlines()
    assert first == "(512, 512, 3) 1"
    assert "pip install imageio-ffmpeg" in second
