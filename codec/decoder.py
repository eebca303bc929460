"""Open `.crdx` files: objects that decode any frame, crop or scale on demand."""

from __future__ import annotations

import operator
import os
import threading
from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from codec.bitstream import reconstructor_of_unit
from codec.core_reconstruct import CoreReconstructor
from codec.device import pick_device
from codec.reconstruct import Crop, Reconstructor
from codec.signal import Samples, empty_samples
from formats.container import Container
from formats.errors import InputError
from formats.header import Header, MediaKind

__all__ = ["Image", "Video", "open_container"]


def open_container(source: bytes | str | os.PathLike[str], device: str) -> Image | Video:
    """An `Image` or a `Video`, by what the header says."""
    target = pick_device(device)
    container = Container.open(source)
    if container.header.kind == MediaKind.VIDEO:
        return Video(container, target)
    return Image(container, target)


class _Content:
    """What images and videos share: the header, metadata, the last unit decoded."""

    def __init__(self, container: Container, device: torch.device) -> None:
        self._container = container
        self._device = device
        self._cached: tuple[int, Reconstructor | CoreReconstructor] | None = None
        self._closed = False
        self._lock = threading.RLock()

    @property
    def header(self) -> Header:
        """Dimensions, depth, colour, rate and network."""
        return self._container.header

    @property
    def metadata(self) -> dict[str, bytes]:
        """ICC, Exif, XMP and comment blocks by name, as stored."""
        return dict(self._container.metadata)

    @property
    def width(self) -> int:
        """Pixels."""
        return self.header.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.header.height

    @property
    def channels(self) -> int:
        """1 grey, 3 R'G'B', 4 with alpha."""
        return self.header.channels

    @property
    def bit_depth(self) -> int:
        """Bits of a sample."""
        return self.header.bit_depth

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("the file is closed: decode inside the `with` block")

    def _region(self, number: int, frames: range, crop: Crop | None, scale: float) -> Samples:
        """Part of a unit; one thread at a time, since the file has one position."""
        with self._lock:
            return self._unit(number).region(frames, crop, scale)

    def _unit(self, number: int) -> Reconstructor | CoreReconstructor:
        self._check_open()
        if self._cached is None or self._cached[0] != number:
            found = reconstructor_of_unit(self._container, number, self._device)
            self._cached = (number, found)
        return self._cached[1]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._container.close()
            self._cached = None
            self._closed = True

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Image(_Content):
    """An image in a `.crdx` file. Threads may share it; one of them decodes at a time.

    with codec.open("photo.crdx") as image:
        image.read()                     # (H, W, C)
        image.crop(64, 32, 128, 128)     # only what is asked for is evaluated
        image.scale(2.0)                 # the network between the pixels
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.height, self.width, self.channels

    def read(self, *, crop: Crop | None = None, scale: float = 1.0) -> Samples:
        """Samples (H, W, C) of a crop (x, y, width, height), at a scale.

        Raises:
            InputError: the crop leaves the picture. FormatError: the file is damaged.
        """
        return self._region(0, range(1), crop, scale)

    def crop(self, x: int, y: int, width: int, height: int) -> Samples:
        """Samples of a rectangle: equal to that part of `read()`."""
        return self.read(crop=(x, y, width, height))

    def scale(self, factor: float) -> Samples:
        """The whole picture at another size."""
        return self.read(scale=factor)

    def __len__(self) -> int:
        return self.height

    def __getitem__(self, index: Any) -> Samples:
        """Array-like: `image[10:20, 30:40]` evaluates only that rectangle.

        Raises:
            IndexError: what is neither an integer, a slice nor `...`, or lies outside.
        """
        rows, columns, channels = _axes(index)
        ys, xs = _numbers(rows, self.height), _numbers(columns, self.width)
        if not ys or not xs:
            box = empty_samples((len(ys), len(xs), self.channels), self.bit_depth)
        else:
            top, left = min(ys), min(xs)
            box = self.crop(left, top, max(xs) - left + 1, max(ys) - top + 1)
            box = box[np.array(ys) - top][:, np.array(xs) - left]
        picked: Samples = box[
            slice(None) if isinstance(rows, slice) else 0,
            slice(None) if isinstance(columns, slice) else 0,
            channels,
        ]
        return picked

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """`numpy.asarray(image)`."""
        return np.asarray(self.read(), dtype=dtype)

    def __repr__(self) -> str:
        return f"<codec.Image {self.width}x{self.height}x{self.channels} {self.bit_depth} bit>"


def _axes(index: Any) -> tuple[int | slice, int | slice, int | slice]:
    """One index an axis, of rows, columns and channels."""
    given = list(index) if isinstance(index, tuple) else [index]
    if not any(part is Ellipsis for part in given):
        given.append(Ellipsis)
    places = [number for number, part in enumerate(given) if part is Ellipsis]
    if len(places) > 1 or len(given) > 4:
        raise IndexError(f"expected at most 3 indices and one '...', got {index!r}")
    filled = given[: places[0]] + [slice(None)] * (4 - len(given)) + given[places[0] + 1 :]
    rows, columns, channels = (
        part if isinstance(part, slice) else _integer(part) for part in filled
    )
    return rows, columns, channels


def _integer(part: Any) -> int:
    try:
        return operator.index(part)
    except TypeError:
        raise IndexError(f"expected integers, slices and '...' as indices, got {part!r}") from None


def _numbers(part: int | slice, size: int) -> range:
    """The sample numbers that an index names; IndexError outside, as arrays do."""
    if isinstance(part, slice):
        return range(*part.indices(size))
    number = range(size)[part]
    return range(number, number + 1)


class Video(_Content):
    """A video in a `.crdx` file: a sequence of frames. Threads share it like an `Image`.

    with codec.open("clip.crdx") as video:
        len(video), video.rate
        video[10]                 # (H, W, C); decodes only the GOP that holds it
        video[10:20]              # (10, H, W, C)
        video.read(slice(0, 5), crop=(0, 0, 64, 64), scale=0.5)
    """

    def __init__(self, container: Container, device: torch.device) -> None:
        super().__init__(container, device)
        self._starts = list(accumulate(container.unit_frames, initial=0))

    @property
    def rate(self) -> Fraction:
        """Frames per second, exact."""
        return self.header.rate

    @property
    def duration(self) -> Fraction:
        """Seconds, exact."""
        return len(self) / self.rate

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, C)."""
        return len(self), self.height, self.width, self.channels

    def audio(self) -> bytes | None:
        """The audio, a Matroska file of the source's own stream; None if there is none."""
        with self._lock:
            self._check_open()
            return self._container.audio()

    def __len__(self) -> int:
        return self.header.frames

    def __getitem__(self, index: int | slice) -> Samples:
        """One frame (H, W, C), or a slice of frames (n, H, W, C) with any step."""
        if isinstance(index, slice):
            numbers = range(*index.indices(len(self)))
            if numbers.step == 1 and numbers:
                return self.read(index)
            shape = (len(numbers), self.height, self.width, self.channels)
            picked = empty_samples(shape, self.bit_depth)
            for position, number in enumerate(numbers):
                picked[position] = self[number]
            return picked
        asked = _integer(index)
        number = asked + len(self) if asked < 0 else asked
        if not 0 <= number < len(self):
            raise IndexError(f"frame {index}: the video has {len(self)} frames")
        frame: Samples = self.read(slice(number, number + 1))[0]
        return frame

    def __iter__(self) -> Iterator[Samples]:
        """Frames (H, W, C) in order."""
        for group in self.groups():
            yield from group

    def crop(self, x: int, y: int, width: int, height: int) -> Samples:
        """All frames of a rectangle (T, height, width, C)."""
        return self.read(crop=(x, y, width, height))

    def scale(self, factor: float) -> Samples:
        """All frames at another size."""
        return self.read(scale=factor)

    def frame_range(self, frames: slice | None) -> range:
        """The frames that a slice names.

        Raises:
            InputError: it names none, or has a step.
        """
        if frames is None:
            return range(len(self))
        if not isinstance(frames, slice):
            raise InputError(f"frames: expected a slice such as slice(0, 10), got {frames!r}")
        if frames.step not in (None, 1):
            raise InputError(f"frames: expected a slice without a step, got {frames.step}")
        try:
            numbers = range(*frames.indices(len(self)))
        except TypeError as error:
            raise InputError(f"frames: {error}, got {frames}") from error
        if not numbers:
            start = "" if frames.start is None else frames.start
            stop = "" if frames.stop is None else frames.stop
            raise InputError(f"frames: {start}:{stop} names no frame of the {len(self)}")
        return numbers

    def groups(
        self, frames: slice | None = None, *, crop: Crop | None = None, scale: float = 1.0
    ) -> Iterator[Samples]:
        """Frames (n, H, W, C) one GOP at a time, so that memory stays bounded."""
        numbers = self.frame_range(frames)
        position = numbers.start
        while position < numbers.stop:
            unit = bisect_right(self._starts, position) - 1
            start, stop = self._starts[unit], self._starts[unit + 1]
            wanted = range(position - start, min(numbers.stop, stop) - start)
            yield self._region(unit, wanted, crop, scale)
            position = stop

    def read(
        self, frames: slice | None = None, *, crop: Crop | None = None, scale: float = 1.0
    ) -> Samples:
        """Frames (n, H, W, C) of a slice, of a crop (x, y, width, height), at a scale.

        Raises:
            InputError: a request outside the video. FormatError: the file is damaged.
        """
        groups = list(self.groups(frames, crop=crop, scale=scale))
        return groups[0] if len(groups) == 1 else np.concatenate(groups)

    def __repr__(self) -> str:
        return (
            f"<codec.Video {len(self)} frames {self.width}x{self.height}x{self.channels} "
            f"{self.bit_depth} bit, {float(self.rate):g} fps>"
        )
