"""encode(), decode() and open(): the three calls most programs need."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from codec import media as files
from codec.decoder import Image, Video, open_container
from codec.encoder import encode_media
from codec.media.values import broadcast_rate
from codec.options import DEFAULT_EFFORT, DEFAULT_GOP, EncodeOptions
from codec.reconstruct import Crop
from codec.records import Encoded, EncodeProgress, Media
from codec.signal import Samples, check_samples
from formats.atomic import check_target
from formats.colour import BT709, SRGB
from formats.core import CoreConfig
from formats.errors import InputError, MediaError
from formats.network import NetworkConfig

__all__ = ["decode", "encode", "open"]

# Rates of two decimals, 29.97 and 23.98, are off by half a hundredth at most.
ROUNDED_RATE = 0.5e-2


def encode(
    source: Any,
    *,
    quality: float | None = None,
    lam: float | None = None,
    target_bpp: float | None = None,
    target_size: int | None = None,
    target_psnr: float | None = None,
    effort: int = DEFAULT_EFFORT,
    steps: int | None = None,
    seed: int = 0,
    fusion: str | None = None,
    split: str | None = None,
    gop: int = DEFAULT_GOP,
    device: str = "auto",
    network: NetworkConfig | CoreConfig | None = None,
    bit_depth: int | None = None,
    rate: Fraction | float = Fraction(25),
    progress: Callable[[EncodeProgress], None] | None = None,
    state_path: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> Encoded:
    """Encode an image or a video.

    Args:
        source: a path (or the bytes) of an image or a video file, or an array (or CPU tensor)
            of code values: (H, W) or (H, W, C) is an image, (T, H, W, C) a video; C is 1
            (grey), 3 (R'G'B') or 4 (with straight alpha), dtype uint8 or uint16.
        quality: 0..100, the default scale of rate (50 if no other target is given).
        lam: lambda, mean squared error (samples in [0, 1]) per bit per pixel, 1e-7..10.
        target_bpp: bits per pixel, not exceeded, all bytes but the copied audio counted.
        target_size: bytes of the file, not exceeded.
        target_psnr: dB, reached if possible.
        effort: 1..9, optimiser steps; time is proportional to them.
        steps: overrides the steps of `effort`.
        seed: on a CPU the result is a function of source, options, seed, number of threads and
            machine code (its vectors, or none). On CUDA core fusion adds gradients in any order,
            and two results may differ in the last bits of the fit.
        fusion: "core" (latent grids, the default for images) or "rank" (networks without
            latents; videos).
        split: axis partition of rank fusion, which it implies: "x+y" or "xy" for an image;
            "x+y+t", "xy+t", "x+yt", "xt+y" or "xyt" for a video.
        gop: frames per unit of a video: random access, memory and fitting granularity.
        device: "auto", "cpu", "cuda" or "cuda:N".
        network: an explicit architecture instead of one sized for the target. The `gain` of a
            `CoreConfig` is not kept: it follows from lambda.
        bit_depth: of an array of uint16 samples (default 16); files know theirs.
        rate: frames per second of an array; files know theirs.
        progress: called after every optimiser step.
        state_path: keep a resumable state in this file. It is there until you delete it, which
            is when the result has been saved.
        resume: continue from `state_path` if it exists.

    Returns:
        The bytes and the statistics.

    Raises:
        InputError: a bad argument. MediaError: a file that cannot be read. ResumeError: a
        state of another encode. OutputError: `state_path` cannot be written.
    """
    options = EncodeOptions(
        quality=quality,
        lam=lam,
        target_bpp=target_bpp,
        target_size=target_size,
        target_psnr=target_psnr,
        effort=effort,
        steps=steps,
        seed=seed,
        fusion=fusion,
        split=split,
        gop=gop,
        device=device,
        network=network,
    )
    state = None if state_path is None else check_target(state_path)
    if isinstance(source, str | os.PathLike | bytes):
        content = media_of_file(source, options.gop)
    else:
        content = _media_of_array(source, options.gop, bit_depth, rate)
    return encode_media(
        content,
        options,
        progress=progress,
        state_path=state,
        resume=resume,
    )


def decode(
    source: bytes | str | os.PathLike[str],
    *,
    frames: slice | None = None,
    crop: Crop | None = None,
    scale: float = 1.0,
    device: str = "auto",
) -> Samples:
    """Decode a `.crdx` file, or the part of it that is asked for.

    Args:
        source: a path, or the bytes of a file.
        frames: which frames of a video, by default all; steps other than 1 are not supported.
        crop: (x, y, width, height) in pixels of the coded picture.
        scale: output size relative to the (cropped) picture, 0.001..64.
        device: where to evaluate the network.

    Returns:
        (H, W, C) for an image, (T, H, W, C) for a video; uint8, or uint16 above 8 bits.

    Raises:
        FormatError: the file is damaged. InputError: the request lies outside it.
    """
    with open(source, device=device) as content:
        if isinstance(content, Video):
            return content.read(frames, crop=crop, scale=scale)
        if frames is not None:
            raise InputError("frames: the file is an image, only videos have frames")
        picture: Samples = content.read(crop=crop, scale=scale)
        return picture


def open(source: bytes | str | os.PathLike[str], *, device: str = "auto") -> Image | Video:
    """Open a `.crdx` file for random access; only its front is read.

    Returns:
        An `Image` or a `Video`, usable as a context manager.

    Raises:
        FormatError, MediaError: the file is damaged, or cannot be read.
    """
    return open_container(source, device)


# -- sources --------------------------------------------------------------------------------


def media_of_file(source: str | os.PathLike[str] | bytes, gop: int) -> Media:
    """What to encode for a media file."""
    kind = files.sniff(source)
    if kind == "crdx":
        raise MediaError(f"{_name(source)}: expected an image or a video, it is a .crdx already")
    if kind == "image":
        image = files.read_image(source)
        samples = image.samples
        # The header says sRGB in three bytes; the profile would take three thousand.
        icc = None if image.icc is not None and files.is_srgb(image.icc) else image.icc
        blocks = (("icc", icc), ("exif", image.exif), ("xmp", image.xmp))
        metadata = {name: value for name, value in blocks if value}
        return Media(
            lambda: [samples],
            video=False,
            bit_depth=image.bit_depth,
            colour=SRGB,
            metadata=metadata,
        )
    with _open_video(source, kind) as video:
        info = video.info
        audio = video.audio()

    def units() -> Iterator[Samples]:
        with files.open_video(source) as again:
            sizes = gop_lengths(info.frames, gop) if info.frames else []
            group: list[Samples] = []
            for frame in again:
                group.append(frame)
                if len(group) == (sizes[0] if sizes else gop):
                    yield np.stack(group)
                    group, sizes = [], sizes[1:]
            if group:
                yield np.stack(group)

    return Media(
        units,
        video=True,
        bit_depth=info.bit_depth,
        colour=info.colour,
        subsampling=info.subsampling,
        rate=info.rate,
        metadata={"audio": audio} if audio else {},
    )


def _open_video(source: str | os.PathLike[str] | bytes, kind: str) -> files.VideoSource:
    try:
        return files.open_video(source)
    except MediaError as error:
        if kind == "video":
            raise
        # Neither kind was recognised: say so, rather than complain of a bad video.
        reason = str(error)
        if "expected" in reason:
            reason = (
                f"cannot read {_name(source)}: expected an image (PNG, JPEG, WebP, BMP, TIFF, "
                "PPM ...) or a video (MP4, MKV, WebM, y4m ...), it is none of these"
            )
        raise MediaError(reason) from error


def _media_of_array(source: Any, gop: int, bit_depth: int | None, rate: Fraction | float) -> Media:
    samples, depth = check_samples(source, bit_depth)
    if samples.ndim == 3:
        return Media(lambda: [samples], video=False, bit_depth=depth)
    if samples.shape[-1] == 4:
        raise InputError(f"samples: a video has 1 or 3 channels, got shape {samples.shape}")
    stops = list(accumulate(gop_lengths(len(samples), gop), initial=0))
    return Media(
        lambda: [samples[a:b] for a, b in pairwise(stops)],
        video=True,
        bit_depth=depth,
        colour=BT709,
        subsampling="420" if samples.shape[-1] == 3 else "400",
        rate=_rate(rate),
    )


def gop_lengths(frames: int, gop: int) -> list[int]:
    """Frames of each GOP: at most `gop`, as equal as can be (a lone last frame costs a network)."""
    count = -(-frames // gop)
    return [frames // count + (number < frames % count) for number in range(count)]


def _rate(value: Fraction | float) -> Fraction:
    """An exact frame rate; 29.97 and its like are taken for what they stand for."""
    try:
        exact = Fraction(value)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"rate: expected frames per second, got {value!r}") from error
    if isinstance(value, float) and exact.denominator > 1001:
        ntsc = broadcast_rate(value)
        near = ntsc > 0 and abs(float(ntsc) - value) < ROUNDED_RATE
        exact = ntsc if near else exact.limit_denominator(1001)
    if exact <= 0:
        raise InputError(f"rate: expected frames per second above 0, got {value}")
    return exact


def _name(source: str | os.PathLike[str] | bytes) -> str:
    return "the input" if isinstance(source, bytes) else os.fspath(source)
