"""What the text after --codec means."""

from __future__ import annotations

import pytest

from codec.evaluate.anchors import Avif, Jpeg, WebP
from codec.evaluate.coordx import CoordXCodec
from codec.evaluate.registry import TEMPLATES, VIDEO_TEMPLATES, parse_codecs
from formats.errors import InputError


def test_names_stand_for_default_sweeps() -> None:
    assert parse_codecs(["coordx,jpeg, webp,avif"]) == [CoordXCodec(), Jpeg(), WebP(), Avif()]


def test_points_and_settings_of_one_codec() -> None:
    assert parse_codecs(
        ["jpeg:10,20,q=40", "coordx:effort=2,lam=0.004,0.001", "avif:speed=0", "webp"]
    ) == [
        Jpeg(qualities=(10, 20, 40)),
        CoordXCodec(effort=2, qualities=(0.004, 0.001)),
        Avif(speed=0),
        WebP(),
    ]


def test_a_setting_may_hold_colons() -> None:
    assert parse_codecs(["jpeg:subsampling=4:4:4,50"]) == [
        Jpeg(subsampling="4:4:4", qualities=(50,))
    ]


def test_one_codec_at_two_settings_is_two_codecs() -> None:
    names = [codec.name for codec in parse_codecs(["avif:speed=8", "avif:speed=9", "coordx,jpeg"])]
    assert names == ["avif-s8", "avif-s9", "coordx-e4", "jpeg"]


def test_templates_may_be_replaced() -> None:
    mine = {**TEMPLATES, "jpeg": Jpeg(qualities=(7,))}
    assert parse_codecs(["jpeg"], mine)[0].qualities == (7,)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["jpg"], "avif, jxl, hevc-intra, vvc-intra, got 'jpg'$"),
        (["x264"], "got 'x264', which does not code this kind of media"),
        (["hevc-intra:preset=quick"], "hevc-intra preset: expected one of ultrafast"),
        (["hevc-intra:chroma=4:2:2"], "hevc-intra chroma: expected one of 4:2:0, 4:4:4"),
        (["hevc-intra:99"], r"qp: expected an integer 4\.\.51, got 99"),
        (["vvc-intra:preset=placebo"], "vvc-intra preset: expected one of faster"),
        (["jxl:effort=0"], r"jxl effort: expected 1\.\.9, got 0"),
        ([""], "got ''"),
        ([], "at least one codec"),
        (["jpeg:"], "expected a number"),
        (["jpeg:high"], "expected a number as a point of the sweep, got 'high'"),
        (["jpeg:speed=3"], "expected subsampling=, scan= or a number, got 'speed=3'"),
        (["avif:speed=slow"], "speed does not take 'slow'"),
        (["jpeg:lam=3"], "got 'lam=3'"),
        (["jpeg:10,10"], "none twice"),
        (["jpeg:10,nan"], "got nan"),
        (["jpeg,webp:10,20"], "a --codec of its own"),
        (["jpeg", "jpeg:10"], "'jpeg' is named 2 times"),
        (["coordx:effort=12"], r"effort: expected 1\.\.9, got 12"),
        (["coordx:0"], "lambda: expected 1e-07..10, got 0"),
        (["coordx:split=x-y"], "split: expected one of"),
    ],
)
def test_mistakes_are_named(specs: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_codecs(specs)


def test_video_codecs_have_presets_and_key_frame_intervals() -> None:
    codecs = parse_codecs(
        ["x264", "x265:preset=veryslow,keyint=16,22,27", "vvenc:qp=30"], VIDEO_TEMPLATES
    )
    assert [codec.name for codec in codecs] == [
        "x264-medium-k32",
        "x265-veryslow-k16",
        "vvenc-medium-k32",
    ]
    assert [codec.point for codec in codecs] == ["crf", "crf", "qp"]
    assert codecs[1].qualities == (22, 27)
    assert codecs[2].qualities == (30,)
    for spec, message in (
        ("jpeg", "which does not code this kind of media"),
        ("x264:preset=good", "x264 preset: expected one of ultrafast"),
        ("x264:keyint=0", r"x264 keyint: expected 1\.\.1000, got 0"),
        ("svt-av1:64", r"crf: expected an integer 0\.\.63, got 64"),
        ("vp9:30,30", "none twice"),
    ):
        with pytest.raises(InputError, match=message):
            parse_codecs([spec], VIDEO_TEMPLATES)
