import io

from PIL import Image, ImageCms

import codec
from codec.media import is_srgb
from tests.conftest import SAMPLES


def test_plain_srgb_profiles_are_recognised() -> None:
    built_in = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert is_srgb(built_in)
    with Image.open(SAMPLES / "astronaut.png") as image:
        assert is_srgb(image.info["icc_profile"])


def test_other_and_damaged_profiles_are_not() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert not is_srgb(lab)
    assert not is_srgb(b"")
    assert not is_srgb(b"sRGB IEC61966-2.1" * 20)


def test_an_srgb_profile_costs_no_bytes() -> None:
    with Image.open(SAMPLES / "astronaut.png") as image:
        small = image.resize((16, 16))
        stream = io.BytesIO()
        small.save(stream, "PNG", icc_profile=image.info["icc_profile"])
    encoded = codec.encode(stream.getvalue(), steps=10, device="cpu")
    with codec.open(encoded.data) as opened:
        assert opened.metadata == {}
        assert opened.header.colour == codec.api.SRGB
