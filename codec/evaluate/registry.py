"""From text to codecs: what `--codec jpeg,webp` and `--codec avif:speed=0,40,60` mean.

SPEC  =  NAME [, NAME ...]                   several codecs with their default sweeps
      |  NAME : ITEM [, ITEM ...]            one codec with points or settings of its own
ITEM  =  POINT                               a quality (or lambda) of the sweep
      |  KEY=VALUE                           a setting; q=40 and lam=0.004 name a point
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from codec.evaluate.anchors import Avif, Jpeg, Jpeg2000, WebP
from codec.evaluate.coordx import CoordXCodec
from codec.evaluate.interface import Codec
from codec.evaluate.stills import HevcIntra, JpegXl, VvcIntra
from codec.evaluate.videos import VIDEO_ENCODERS, FFmpegVideo
from formats.errors import InputError

__all__ = ["TEMPLATES", "VIDEO_TEMPLATES", "parse_codecs", "spec_of"]

# Frozen dataclasses; a specification makes a changed copy.
TEMPLATES: Mapping[str, Codec] = {
    "coordx": CoordXCodec(),
    "jpeg": Jpeg(),
    "jpeg2000": Jpeg2000(),
    "webp": WebP(),
    "avif": Avif(),
    "jxl": JpegXl(),
    "hevc-intra": HevcIntra(),
    "vvc-intra": VvcIntra(),
}
"""Codecs of images."""

VIDEO_TEMPLATES: Mapping[str, Codec] = {
    "coordx": CoordXCodec(qualities=(0.01, 0.004, 0.002, 0.001)),
    **{name: FFmpegVideo(name) for name in VIDEO_ENCODERS},
}
"""Codecs of videos."""

POINT_KEYS = {
    "quality": ("q", "quality"),
    "lambda": ("lam", "lambda"),
    "qp": ("q", "qp"),
    "crf": ("q", "crf"),
    "target": ("q", "target"),
}


def parse_codecs(specs: Sequence[str], templates: Mapping[str, Codec] = TEMPLATES) -> list[Codec]:
    """The codecs that the specifications name, in their order.

    Args:
        specs: see the grammar above.
        templates: the codecs by name, as frozen dataclasses with their default settings.

    Raises:
        InputError: an unknown name, setting or value, two points alike, or two codecs of one
            name (give them different settings).
    """
    codecs: list[Codec] = []
    for spec in specs:
        if ":" in spec:
            name, items = spec.split(":", 1)
            if "," in name:
                raise InputError(
                    f"codec {spec!r}: a codec with points of its own takes a --codec of its own, "
                    f"expected NAME:ITEM,... got the names {name!r} before the colon"
                )
            codecs.append(_configured(_template(name, templates), items, spec))
        else:
            codecs += [_template(name, templates) for name in spec.split(",")]
    names = [codec.name for codec in codecs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"codec {name!r} is named {names.count(name)} times: "
                "give its points in one --codec, or different settings"
            )
    if not codecs:
        raise InputError(f"expected at least one codec of {', '.join(templates)}, got none")
    return codecs


def spec_of(codec: Codec) -> str | None:
    """A specification that gives this codec again; None for one that is not of the tables."""
    for templates in (TEMPLATES, VIDEO_TEMPLATES):
        for name, template in templates.items():
            if type(template) is not type(codec):
                continue
            fields = {field.name for field in dataclasses.fields(template)}  # type: ignore[arg-type]
            given = fields & set(codec.options) | {"qualities"}
            if any(getattr(codec, f) != getattr(template, f) for f in fields - given):
                continue
            items = [
                f"{key}={value}"
                for key in codec.options
                if (value := getattr(codec, key)) != getattr(template, key)
            ]
            points = [f"{q:.17g}" for q in codec.qualities]
            return f"{name}:{','.join(items + points)}"
    return None


def _template(name: str, templates: Mapping[str, Codec]) -> Codec:
    if name.strip() not in templates:
        known = ", ".join(templates)
        elsewhere = name.strip() in {**TEMPLATES, **VIDEO_TEMPLATES}
        hint = "" if not elsewhere else ", which does not code this kind of media"
        raise InputError(f"codec: expected one of {known}, got {name.strip()!r}{hint}")
    return templates[name.strip()]


def _configured(template: Codec, items: str, spec: str) -> Codec:
    """A copy of the template with the points and settings of `items`."""
    points: list[float] = []
    changes: dict[str, Any] = {}
    for item in items.split(","):
        key, equals, value = item.strip().partition("=")
        if not equals or key in POINT_KEYS.get(template.point, ()):
            points.append(_number(value if equals else key, spec))
        elif key in template.options:
            try:
                changes[key] = template.options[key](value)
            except ValueError as error:
                raise InputError(f"codec {spec!r}: {key} does not take {value!r}") from error
        else:
            known = ", ".join(f"{name}=" for name in template.options)
            raise InputError(f"codec {spec!r}: expected {known} or a number, got {item!r}")
    if points:
        changes["qualities"] = tuple(points)
    changed: Codec = dataclasses.replace(template, **changes)  # type: ignore[type-var]
    return changed


def _number(text: str, spec: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(
            f"codec {spec!r}: expected a number as a point of the sweep, got {text!r}"
        ) from error
