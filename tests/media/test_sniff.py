"""Files are told apart by their content."""

from __future__ import annotations

import pytest

from codec.media import sniff
from codec.media.sniff import image_format
from formats.errors import MediaError
from tests.media.conftest import SAMPLES

PADDING = bytes(64)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"\xff\xd8\xff\xe0", "image"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image"),
        (b"BM\x10\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "image"),
        (b"II*\0\x08\0\0\0", "image"),
        (b"P6\n2 2\n255\n", "image"),
        (b"GIF89a", "image"),
        (b"\0\0\0\x1cftypavif", "image"),
        (b"\0\0\0\x18ftypheic", "image"),
        (b"\0\0\0\x1cftypavis", "video"),
        (b"\0\0\0\x18ftypmp42", "video"),
        (b"\0\0\0\x08wide", "video"),
        (b"\x1aE\xdf\xa3\x01", "video"),
        (b"YUV4MPEG2 W2 H2 F25:1\n", "video"),
        (b"RIFF\x10\0\0\0AVI LIST", "video"),
        (b"FLV\x01\x05", "video"),
        (b"\0\0\0\x01\x67\x64", "video"),
        ((b"G" + bytes(187)) * 4, "video"),
        ((bytes(4) + b"G" + bytes(187)) * 4, "video"),
        (b"\x8aCRDX\r\n\x1a\x01", "crdx"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "unknown"),
        (b"BMW and other words that begin", "unknown"),
        (b"GGG", "unknown"),
        (b"plain text", "unknown"),
    ],
)
def test_kind_follows_from_the_first_bytes(head, kind):
    assert sniff(head + PADDING) == kind


def test_suffix_is_not_believed(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes((SAMPLES / "astronaut.png").read_bytes())
    assert sniff(path) == "image"
    assert sniff(str(SAMPLES / "bunny.mp4")) == "video"


@pytest.mark.parametrize("magic", [b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"P6\n", b"BM"])
def test_part_of_a_magic_is_not_enough(magic):
    for length in range(1, len(magic)):
        assert image_format(magic[:length]) is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "missing.png", "no such file"),
        (lambda folder: folder, "it is a folder"),
        (lambda folder: (folder / "empty.png").write_bytes(b"") or folder / "empty.png", "empty"),
        (lambda folder: b"", "empty"),
        (lambda folder: "nul\0name", "cannot read"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(tmp_path, make, words):
    with pytest.raises(MediaError, match=words) as caught:
        sniff(make(tmp_path))
    assert "\n" not in str(caught.value)
