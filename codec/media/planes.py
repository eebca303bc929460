"""One frame as consecutive planes of bytes: the layout inside y4m and ffmpeg's raw pipes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from codec.media.values import Samples
from codec.media.ycbcr import Siting, grey_to_luma, luma_to_grey, to_rgb, to_ycbcr
from formats.errors import MediaError

__all__ = ["PlanarFormat"]


@dataclass(frozen=True)
class PlanarFormat:
    """How a frame is laid out as planes.

    Attributes:
        width: luma samples in a row.
        height: luma rows.
        bit_depth: 8, 10, 12 or 16; over 8, samples are two bytes, least significant first.
        subsampling: "400" (luma only), "420", "422" or "444".
        matrix: H.273 MatrixCoefficients; 0 with "444" is the planes G', B', R'.
        full_range: whether all code values are used.
        siting: where chroma samples lie horizontally, see codec/media/ycbcr.py.
    """

    width: int
    height: int
    bit_depth: int
    subsampling: str
    matrix: int
    full_range: bool
    siting: Siting = "left"

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each plane, in the order of the bytes."""
        luma = (self.height, self.width)
        if self.subsampling == "400":
            return (luma,)
        rows = (self.height + 1) // 2 if self.subsampling == "420" else self.height
        columns = self.width if self.subsampling == "444" else (self.width + 1) // 2
        return luma, (rows, columns), (rows, columns)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return 1 if self.bit_depth == 8 else 2

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return self.sample_bytes * sum(rows * columns for rows, columns in self.shapes)

    def decode(self, data: bytes, name: str) -> Samples:
        """Turn the `frame_bytes` bytes of one frame into (H, W, 1 or 3) grey or R'G'B'.

        Raises:
            MediaError: a sample is over the bit depth; `name` says where.
        """
        values = np.frombuffer(data, "u1" if self.sample_bytes == 1 else "<u2")
        if self.bit_depth in (10, 12) and int(values.max()) >= 1 << self.bit_depth:
            raise MediaError(
                f"{name}: expected samples of {self.bit_depth} bits, got one of {values.max()}"
            )
        planes, at = [], 0
        for rows, columns in self.shapes:
            planes.append(values[at : at + rows * columns].reshape(rows, columns))
            at += rows * columns
        if len(planes) == 1:
            grey = luma_to_grey(planes[0], self.bit_depth, self.full_range)
            return grey.astype(np.uint8 if self.bit_depth == 8 else np.uint16)
        return to_rgb(
            (planes[0], planes[1], planes[2]),
            self.bit_depth,
            self.matrix,
            full_range=self.full_range,
            subsampling=self.subsampling,
            siting=self.siting,
        )

    def encode(self, frame: Samples) -> bytes:
        """Turn (H, W, 1 or 3) samples into the bytes of one frame.

        Grey goes into a layout with chroma as equal R', G' and B'.
        """
        planes: tuple[Samples, ...]
        if self.subsampling == "400":
            planes = (grey_to_luma(frame, self.bit_depth, self.full_range),)
        else:
            planes = to_ycbcr(
                np.broadcast_to(frame, (self.height, self.width, 3)),
                self.bit_depth,
                self.matrix,
                full_range=self.full_range,
                subsampling=self.subsampling,
                siting=self.siting,
            )
        kind = "u1" if self.sample_bytes == 1 else "<u2"
        return b"".join(plane.astype(kind, copy=False).tobytes() for plane in planes)
