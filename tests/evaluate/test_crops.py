"""Crops at equal bytes: what is encoded again, what is taken from the kept files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec.evaluate import ffmpeg
from codec.evaluate.anchors import Jpeg, Jpeg2000
from codec.evaluate.coordx import CoordXCodec
from codec.evaluate.crops import compare_crops, find_source
from codec.evaluate.metrics import Samples
from codec.evaluate.registry import TEMPLATES, VIDEO_TEMPLATES, parse_codecs, spec_of
from codec.evaluate.runner import evaluate, files_folder
from codec.evaluate.stills import HevcIntra
from codec.evaluate.videos import FFmpegVideo
from codec.media import open_video
from formats.errors import MediaError
from tests.conftest import picture
from tests.evaluate.conftest import StepCodec, cut_bunny


@pytest.fixture
def photo(tmp_path: Path, photo: Samples) -> Path:
    """The photograph of 128x96 as a file."""
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    return path


def test_the_budget_is_a_file_of_coordx_and_others_come_near(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    codecs = [
        Jpeg(qualities=(10, 40, 80)),
        Jpeg2000(qualities=(24, 36)),
        HevcIntra(preset="ultrafast", qualities=(42, 22)),
        CoordXCodec(steps=10, qualities=(0.01, 0.001), device="cpu"),
    ]
    report = evaluate([photo], codecs, out=out, keep_files=True)
    crop = compare_crops(report, "photo.png", photo, files_folder(out), bpp=0.9)
    ours = min((row for row in report["codecs"][3]["items"]), key=lambda row: abs(row["bpp"] - 0.9))
    assert crop.budget == ours["bytes"]
    assert crop.missing == {}
    views = {view.codec: view for view in crop.views}
    assert views["coordx-10steps"].bytes == crop.budget
    assert views["coordx-10steps"].psnr == pytest.approx(ours["psnr"])
    for name, slack in (("jpeg", 0.9), ("jpeg2000", 0.9), ("hevc-intra-ultrafast", 0.75)):
        assert slack * crop.budget < views[name].bytes <= crop.budget, name
    # Between the points of the sweep: encoded again, not picked from the files.
    assert views["jpeg"].note not in ("quality 10", "quality 40", "quality 80")
    with Image.open(photo) as image:
        assert np.array_equal(views["original"].samples, np.array(image))


def test_a_part_of_the_picture_is_cut_out(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    report = evaluate([photo], [Jpeg(qualities=(30, 60))], out=out, keep_files=True)
    files = files_folder(out)
    crop = compare_crops(report, "photo.png", photo, files, box=(5, 7, 40, 30))
    assert [view.samples.shape for view in crop.views] == [(30, 40, 3)] * 2
    with Image.open(photo) as image:
        assert np.array_equal(crop.views[0].samples, np.array(image)[7:37, 5:45])
    assert compare_crops(report, "photo.png", photo, files, side=50).title.startswith("50 x 50")
    with pytest.raises(MediaError, match="not inside"):
        compare_crops(report, "photo.png", photo, files, box=(100, 0, 40, 30))


def test_grey_and_codecs_that_are_not_known(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    Image.fromarray(picture(64, 64, 1)[..., 0]).save(path)
    out = tmp_path / "out.json"
    report = evaluate([path], [StepCodec(), Jpeg(qualities=(30, 60))], out=out, keep_files=True)
    crop = compare_crops(report, "grey.png", path, files_folder(out))
    assert [view.codec for view in crop.views] == ["original", "jpeg"]
    assert crop.views[0].samples.shape == (64, 64, 3)
    assert crop.missing == {"step": "the codec is not known here"}


def test_clips_show_their_middle_frame_from_the_nearest_file(tmp_path: Path) -> None:
    path = cut_bunny(tmp_path / "bunny.mp4", 5)
    out = tmp_path / "out.json"
    codecs = [
        FFmpegVideo("x264", preset="ultrafast", qualities=(25, 35)),
        FFmpegVideo("x265", preset="ultrafast", qualities=(25, 35)),
    ]
    report = evaluate([path], codecs, out=out, video=True, keep_files=True)
    crop = compare_crops(report, "bunny.mp4", path, files_folder(out), bpp=0.2, side=100)
    assert crop.title.endswith(f"of frame {report['codecs'][0]['items'][0]['frames'] // 2}")
    assert [view.codec for view in crop.views][1:] == [codec.name for codec in codecs]
    assert crop.views[1].bytes == crop.budget
    assert "nearest" not in crop.views[1].note
    assert crop.views[2].note.endswith("nearest file of the sweep")
    with open_video(path) as source:
        frames = list(source)
    y, x = (frames[0].shape[0] - 100) // 2, (frames[0].shape[1] - 100) // 2
    middle = frames[len(frames) // 2][y : y + 100, x : x + 100]
    assert np.array_equal(crop.views[0].samples, middle)
    for name in (row["file"] for row in report["codecs"][1]["items"]):
        (files_folder(out) / name).unlink()
    crop = compare_crops(report, "bunny.mp4", path, files_folder(out))
    assert "the coded files of out.files are not there" in crop.missing[codecs[1].name]


@pytest.mark.parametrize("levels", ["tv", "pc"])
def test_clips_of_bt709_show_the_colours_that_were_measured(levels: str, tmp_path: Path) -> None:
    path = tmp_path / "colours.mp4"
    tags = f"scale=out_color_matrix=bt709:out_range={levels},format=yuv420p"
    source = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=5", "-frames:v", "1", "-vf", tags]
    code = ["-c:v", "libx264", "-qp", "0", "-colorspace", "bt709", "-color_range", levels]
    ffmpeg.run([*source, *code, str(path)], task="make")
    out = tmp_path / "out.json"
    codecs = [
        FFmpegVideo("x264", preset="ultrafast", qualities=(10,)),
        FFmpegVideo("vvenc", preset="faster", qualities=(10,)),  # 10 bits, rounded to 8
        CoordXCodec(steps=10, qualities=(0.001,), device="cpu"),
    ]
    report = evaluate([path], codecs, out=out, video=True, keep_files=True)
    crop = compare_crops(report, "colours.mp4", path, files_folder(out))
    assert crop.missing == {}
    # Of a clip of one frame the figure of the frame is that of the clip.
    measured = [entry["items"][0]["psnr"] for entry in report["codecs"]]
    assert [view.psnr for view in crop.views[1:]] == pytest.approx(measured)


def test_sources_are_known_by_their_content(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    report = evaluate([photo], [Jpeg(qualities=(30, 60))], out=out)
    assert find_source(report, "photo.png", out) == photo
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    photo.rename(moved / "photo.png")
    with pytest.raises(MediaError, match="say where with --media"):
        find_source(report, "photo.png", out)
    assert find_source(report, "photo.png", out, [moved]) == moved / "photo.png"
    Image.fromarray(picture()).save(moved / "photo.png")
    with pytest.raises(MediaError, match="has changed"):
        find_source(report, "photo.png", out, [moved])


def test_a_codec_comes_back_from_its_specification() -> None:
    specs: dict[str, Any] = {
        "jpeg:subsampling=4:4:4,50,60": TEMPLATES,
        "coordx:effort=2,seed=3,0.00123": TEMPLATES,
        "hevc-intra:preset=medium,chroma=4:2:0,30": TEMPLATES,
        "jpeg2000:30.25": TEMPLATES,
        "x265:preset=veryslow,keyint=16,22": VIDEO_TEMPLATES,
        "vvenc": VIDEO_TEMPLATES,
    }
    for spec, templates in specs.items():
        (codec,) = parse_codecs([spec], templates)
        again = spec_of(codec)
        assert again is not None
        assert parse_codecs([again], templates) == [codec]
    assert spec_of(StepCodec()) is None
