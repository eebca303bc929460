"""Paths and folders become a list of images, or of videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from codec.evaluate.inputs import find_inputs
from formats.errors import InputError, MediaError


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_a_folder_stands_for_its_images_by_name(tmp_path: Path) -> None:
    make(tmp_path, "b.PNG", "a.jpg", "c.webp", "notes.txt", "deeper/d.png", "deeper/d.mp4")
    found = find_inputs([tmp_path])
    assert [path.name for path in found.files] == ["a.jpg", "b.PNG", "c.webp"]
    assert not found.video


def test_a_folder_stands_for_its_videos(tmp_path: Path) -> None:
    make(tmp_path, "b.y4m", "a.MP4", "readme.txt")
    found = find_inputs([tmp_path])
    assert [path.name for path in found.files] == ["a.MP4", "b.y4m"]
    assert found.video


def test_what_is_named_is_taken_in_order_and_once(tmp_path: Path) -> None:
    make(tmp_path, "b.png", "a.png", "raw.dat", "d/e.txt")
    paths = [tmp_path / "raw.dat", tmp_path / "b.png", tmp_path, tmp_path / "d" / ".." / "b.png"]
    assert [path.name for path in find_inputs(paths).files] == ["raw.dat", "b.png", "a.png"]
    assert [path.name for path in find_inputs(paths, limit=2).files] == ["raw.dat", "b.png"]


def test_mistakes_are_named(tmp_path: Path) -> None:
    make(tmp_path, "both/clip.mp4", "both/a.png", "none/readme.txt")
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        find_inputs([tmp_path / "nowhere"])
    with pytest.raises(MediaError, match="1 files, none of them an image or a video"):
        find_inputs([tmp_path / "none"])
    with pytest.raises(InputError, match=r"1 images and 1 videos \(such as .*clip\.mp4\)"):
        find_inputs([tmp_path / "both"])
    with pytest.raises(InputError, match="at least 1, got 0"):
        find_inputs([tmp_path / "both" / "a.png"], limit=0)
