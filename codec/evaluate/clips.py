"""Clips on disk in one layout: y4m, 4:2:0 Y'CbCr or R'G'B' frames, ready to be compared.

Every clip is turned into this form once, by ffmpeg's default conversions, which are those of
the published experiments: 8-bit frames read as R'G'B' here equal the PNG frames of "bunny" that
the NeRV papers use. Clips of more than 8 bits become 10-bit ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from codec.evaluate import ffmpeg
from codec.evaluate.metrics import Samples
from codec.media.probe import file_argument, probe
from codec.media.y4m import read_header
from formats.errors import InputError, MediaError

__all__ = ["Clip", "Planes", "at_depth", "from_frames", "like", "reference_clip"]

Planes = tuple[Samples, Samples, Samples]

# H.273 matrices by the names of ffmpeg's setparams.
MATRIX_NAMES = {1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}


@dataclass(frozen=True)
class Clip:
    """A clip as a y4m file.

    Attributes:
        path: of the file, 4:2:0.
        width, height: luma samples; even, or odd with chroma rounded up.
        depth: bits a sample, 8 or 10.
        rate: frames per second.
        frames: how many.
        matrix: H.273 MatrixCoefficients of its Y'CbCr.
        full_range: whether the planes use all code values.
        rgb: a file of packed R'G'B' frames of the same clip, where the clip was R'G'B' first
            (8 bits: one byte a sample; 10 bits: two, least significant first).
    """

    path: Path
    width: int
    height: int
    depth: int
    rate: Fraction
    frames: int
    matrix: int = 6
    full_range: bool = False
    rgb: Path | None = None

    @property
    def pixels(self) -> str:
        """ffmpeg's name of the planes."""
        return "yuv420p" if self.depth == 8 else "yuv420p10le"

    @property
    def tags(self) -> str:
        """The filter that tells ffmpeg the colour, which y4m does not carry."""
        scale = "pc" if self.full_range else "tv"
        return f"setparams=range={scale}:colorspace={MATRIX_NAMES.get(self.matrix, 'smpte170m')}"

    def planes(self) -> Iterator[Planes]:
        """Y', Cb, Cr of each frame: (H, W) and twice (ceil(H/2), ceil(W/2)), uint8 or uint16."""
        kind = "u1" if self.depth == 8 else "<u2"
        luma = (self.height, self.width)
        chroma = ((self.height + 1) // 2, (self.width + 1) // 2)
        size = np.dtype(kind).itemsize * (luma[0] * luma[1] + 2 * chroma[0] * chroma[1])
        with self.path.open("rb") as file:
            file.readline()
            for _ in range(self.frames):
                file.readline()
                values = np.frombuffer(file.read(size), kind)
                first, second = luma[0] * luma[1], luma[0] * luma[1] + chroma[0] * chroma[1]
                yield (
                    values[:first].reshape(luma),
                    values[first:second].reshape(chroma),
                    values[second:].reshape(chroma),
                )

    def rgb_frames(self, folder: Path) -> Iterator[Samples]:
        """(H, W, 3) R'G'B' of each frame, uint8 or uint16, by ffmpeg's default conversion.

        Args:
            folder: where a file of all frames may be written; it is removed at the end.
        """
        path = self.rgb if self.rgb is not None else folder / f"{self.path.stem}.rgb"
        if self.rgb is None:
            pixels = "rgb24" if self.depth == 8 else "rgb48le"
            arguments = ["-i", str(self.path.absolute()), "-vf", self.tags, "-f", "rawvideo"]
            task = f"cannot convert {self.path.name} to R'G'B'"
            arguments += ["-pix_fmt", pixels, str(path.absolute())]
            # Not counted: a codec that asks for R'G'B' does not do its work in this process.
            ffmpeg.run(arguments, task=task, counted=False)
        try:
            shape = (self.height, self.width, 3)
            kind = np.dtype("u1" if self.depth == 8 else "<u2")
            with path.open("rb") as file:
                for _ in range(self.frames):
                    data = file.read(kind.itemsize * self.height * self.width * 3)
                    frame = np.frombuffer(data, kind).reshape(shape)
                    # ffmpeg's 48-bit R'G'B' spans 16 bits; the clip has only 10.
                    yield frame if self.depth == 8 else frame >> 6
        finally:
            if self.rgb is None:
                path.unlink(missing_ok=True)


def reference_clip(source: Path, folder: Path) -> Clip:
    """The clip of a file, decoded once into `folder`.

    Raises:
        MediaError: it is no clip, or is damaged.
    """
    info, _ = probe(source, source.name)
    depth = 8 if info.bit_depth == 8 else 10
    pixels = "yuv420p" if depth == 8 else "yuv420p10le"
    target = folder / "reference.y4m"
    task = f"cannot read {source.name} as a video"
    read = ["-xerror", "-i", file_argument(source), "-map", "0:V:0", "-fps_mode", "passthrough"]
    write = ["-f", "yuv4mpegpipe", "-strict", "-1", "-pix_fmt", pixels, str(target.absolute())]
    ffmpeg.run([*read, *write], task=task)
    matrix = info.colour.matrix if info.colour.matrix in MATRIX_NAMES else 6
    # R'G'B' and grey clips are full range; their 4:2:0 form is what ffmpeg makes by default.
    native = info.colour.matrix != 0 and info.channels == 3
    return read_clip(target, info.rate, matrix, native and info.colour.full_range)


def read_clip(path: Path, rate: Fraction, matrix: int, full_range: bool) -> Clip:
    """Describe a y4m file that ffmpeg wrote.

    Raises:
        MediaError: it has no frames, or another layout.
    """
    with path.open("rb") as file:
        info, layout = read_header(file, path.name)
        start, end = file.tell(), file.seek(0, 2)
    if layout.subsampling != "420" or layout.bit_depth not in (8, 10):
        raise MediaError(f"{path.name}: expected 4:2:0 at 8 or 10 bits, got {layout}")
    frames, rest = divmod(end - start, layout.frame_bytes + len(b"FRAME\n"))
    if rest or not frames:
        raise MediaError(f"{path.name}: expected whole frames, got {frames} and {rest} bytes")
    size = (info.width, info.height, info.bit_depth)
    return Clip(path, *size, rate, frames, matrix, full_range)


def from_frames(
    frames: Samples,
    depth: int,
    rate: Fraction,
    folder: Path,
    *,
    matrix: int = 6,
    full_range: bool = False,
) -> Clip:
    """A clip of R'G'B' frames, with the 4:2:0 form that ffmpeg's default conversion gives.

    Args:
        frames: (T, H, W, 3), or (T, H, W, 1) for grey, uint8 or uint16 of `depth` bits.
        depth: 8 or 10.
        rate: frames per second.
        folder: where its two files go.
        matrix, full_range: of the 4:2:0 form.
    """
    if frames.ndim != 4 or frames.shape[3] not in (1, 3) or depth not in (8, 10):
        raise InputError(f"clip: expected (T, H, W, 1 or 3) of 8 or 10 bits, got {frames.shape}")
    count, height, width, channels = frames.shape
    wide = np.repeat(frames, 3, axis=-1) if channels == 1 else frames
    raw, target = folder / "decoded.rgb", folder / "decoded.y4m"
    # As ffmpeg's 48-bit frames: 10 bits at the top of 16.
    stored = wide.astype("u1") if depth == 8 else wide.astype("<u2") << 6
    raw.write_bytes(stored.tobytes())
    pixels = ("rgb24", "yuv420p") if depth == 8 else ("rgb48le", "yuv420p10le")
    size = ("-s", f"{width}x{height}", "-framerate", str(rate))
    read = ["-f", "rawvideo", "-pix_fmt", pixels[0], *size, "-i", str(raw.absolute())]
    name = MATRIX_NAMES.get(matrix, "smpte170m")
    # With no filter ffmpeg would convert by BT.601 whatever the reference has.
    scale = f"scale=out_color_matrix={name}:out_range={'pc' if full_range else 'tv'}"
    convert = ["-vf", scale, "-pix_fmt", pixels[1]]
    write = ["-f", "yuv4mpegpipe", "-strict", "-1", str(target.absolute())]
    ffmpeg.run([*read, *convert, *write], task="cannot convert decoded frames to Y'CbCr")
    return Clip(target, width, height, depth, rate, count, matrix, full_range, raw)


def at_depth(clip: Clip, depth: int, folder: Path) -> Clip:
    """The clip at 8 or 10 bits, shifted: 10 to 8 rounds halves up, 8 to 10 is exact."""
    if clip.depth == depth:
        return clip
    target = folder / f"{clip.path.stem}.{depth}.y4m"
    layout = "C420jpeg" if depth == 8 else "C420p10"
    rate = f"F{clip.rate.numerator}:{clip.rate.denominator}"
    with target.open("wb") as file:
        head = f"YUV4MPEG2 W{clip.width} H{clip.height} {rate} Ip {layout}\n"
        file.write(head.encode())
        for planes in clip.planes():
            file.write(b"FRAME\n")
            for plane in planes:
                if depth == 10:
                    file.write((plane.astype("<u2") << 2).tobytes())
                else:
                    file.write(
                        np.minimum((plane.astype("<u2") + 2) >> 2, 255).astype("u1").tobytes()
                    )
    return replace(clip, path=target, depth=depth, rgb=None)


def like(clip: Clip, reference: Clip, folder: Path) -> Clip:
    """A decoded clip at the depth of its reference, and tagged as it.

    A bare stream does not say its rate and not always its colour: what went in is what comes
    out. Frames that were R'G'B' first need no tags.

    Args:
        clip: what came back.
        reference: what was coded.
        folder: for a file of another depth.
    """
    clip = at_depth(clip, reference.depth, folder)
    if clip.rgb is not None:
        return clip
    return replace(
        clip, rate=reference.rate, matrix=reference.matrix, full_range=reference.full_range
    )
