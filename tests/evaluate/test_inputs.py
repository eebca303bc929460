"""Paths and folders become a list of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from codec.evaluate.inputs import find_images
from formats.errors import InputError, MediaError


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_a_folder_stands_for_its_images_by_name(tmp_path: Path) -> None:
    make(tmp_path, "b.PNG", "a.jpg", "c.webp", "notes.txt", "clip.mp4", "deeper/d.png")
    assert [path.name for path in find_images([tmp_path])] == ["a.jpg", "b.PNG", "c.webp"]


def test_what_is_named_is_taken_in_order_and_once(tmp_path: Path) -> None:
    make(tmp_path, "b.png", "a.png", "raw.dat", "d/e.txt")
    paths = [tmp_path / "raw.dat", tmp_path / "b.png", tmp_path, tmp_path / "d" / ".." / "b.png"]
    assert [path.name for path in find_images(paths)] == ["raw.dat", "b.png", "a.png"]
    assert [path.name for path in find_images(paths, limit=2)] == ["raw.dat", "b.png"]


def test_mistakes_are_named(tmp_path: Path) -> None:
    make(tmp_path, "clips/clip.mp4", "clips/readme.txt", "film.y4m")
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        find_images([tmp_path / "nowhere"])
    with pytest.raises(MediaError, match="2 files, 1 of them videos and none an image"):
        find_images([tmp_path / "clips"])
    with pytest.raises(MediaError, match=r"film\.y4m: expected an image, videos cannot"):
        find_images([tmp_path / "film.y4m"])
    with pytest.raises(InputError, match="at least 1, got 0"):
        find_images([tmp_path], limit=0)
