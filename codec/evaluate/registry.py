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

from codec.evaluate.anchors import Avif, Jpeg, WebP
from codec.evaluate.coordx import CoordXCodec
from codec.evaluate.interface import ImageCodec
from formats.errors import InputError

__all__ = ["TEMPLATES", "parse_codecs"]

# Frozen dataclasses; a specification makes a changed copy.
TEMPLATES: Mapping[str, ImageCodec] = {
    "coordx": CoordXCodec(),
    "jpeg": Jpeg(),
    "webp": WebP(),
    "avif": Avif(),
}

POINT_KEYS = {"quality": ("q", "quality"), "lambda": ("lam", "lambda")}


def parse_codecs(
    specs: Sequence[str], templates: Mapping[str, ImageCodec] = TEMPLATES
) -> list[ImageCodec]:
    """The codecs that the specifications name, in their order.

    Args:
        specs: see the grammar above.
        templates: the codecs by name, as frozen dataclasses with their default settings.

    Raises:
        InputError: an unknown name, setting or value, two points alike, or two codecs of one
            name (give them different settings).
    """
    codecs: list[ImageCodec] = []
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


def _template(name: str, templates: Mapping[str, ImageCodec]) -> ImageCodec:
    if name.strip() not in templates:
        raise InputError(f"codec: expected one of {', '.join(templates)}, got {name.strip()!r}")
    return templates[name.strip()]


def _configured(template: ImageCodec, items: str, spec: str) -> ImageCodec:
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
    changed: ImageCodec = dataclasses.replace(template, **changes)  # type: ignore[type-var]
    return changed


def _number(text: str, spec: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(
            f"codec {spec!r}: expected a number as a point of the sweep, got {text!r}"
        ) from error
