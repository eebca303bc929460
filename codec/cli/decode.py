"""`coordx decode`: a .crdx file, or the part of it that is asked for, to media."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codec import media as files
from codec.cli.common import (
    PIPE,
    add_device,
    add_overwrite,
    dump_json,
    frame_slice,
    may_overwrite,
    output_name,
    read_input,
    rectangle,
)
from codec.media import ImageMedia, VideoInfo
from formats.errors import InputError

if TYPE_CHECKING:
    from codec.decoder import Image, Video
    from codec.signal import Samples

__all__ = ["add_parser"]

EPILOG = """\
examples:
  coordx decode photo.crdx                     writes photo.png
  coordx decode photo.crdx face.png --crop 180,20,160,160 --scale 3
  coordx decode clip.crdx clip.mp4             with the audio of the source
  coordx decode clip.crdx - | ffplay -         y4m on standard output
  coordx decode clip.crdx frame.png --frames 12
"""
ONE_FRAME = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}


def add_parser(commands: Any) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "decode",
        help="decode a .crdx file, wholly or in part",
        description="Decode a .crdx file to an image (PNG and others by suffix) or a video "
        "(.mp4, .mkv and others through ffmpeg, .y4m natively).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", metavar="IN", help=".crdx file, or - for standard input")
    parser.add_argument(
        "output",
        metavar="OUT",
        nargs="?",
        help="media file, or - for standard output [IN with the suffix .png or .mp4]",
    )
    part = parser.add_argument_group("part")
    part.add_argument(
        "--frames", type=frame_slice, metavar="A:B", help="frames A to B-1 of a video, or one"
    )
    part.add_argument(
        "--crop", type=rectangle, metavar="X,Y,W,H", help="rectangle in pixels of the picture"
    )
    part.add_argument(
        "--scale", type=float, default=1.0, metavar="S", help="output size, relative [1]"
    )
    how = parser.add_argument_group("how")
    add_device(how)
    how.add_argument(
        "--format",
        choices=("y4m", "raw", "png"),
        help="on standard output: y4m (videos), raw samples, or png (images) [y4m or png]",
    )
    add_overwrite(how)
    how.add_argument("--json", action="store_true", help="print sizes and times as JSON")
    how.add_argument("--quiet", action="store_true", help="no summary")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from codec import api  # torch takes a second to load: not for --help
    from codec.decoder import Video

    started = time.perf_counter()
    with api.open(read_input(args.input), device=args.device) as content:
        video = isinstance(content, Video)
        if args.frames is not None and not video:
            raise InputError("--frames: the file is an image, only videos have frames")
        output = output_name(args.output, args.input, ".mp4" if video else ".png")
        _check_format(args.format, output, content, video)
        overwrite = True if output == PIPE else may_overwrite(Path(output), args)
        if isinstance(content, Video):
            frames = _video(content, output, overwrite, args)
        else:
            frames = _image(content, output, overwrite, args)
    seconds = time.perf_counter() - started
    answer = sys.stderr if output == PIPE else sys.stdout
    summary = {"file": output, "frames": frames, "seconds": seconds}
    if args.json:
        print(dump_json(summary), file=answer)
    elif not args.quiet:
        count = f"{frames} frames, " if video else ""
        print(f"{output}: {count}{seconds:.2f} s with start and writing", file=answer)
    return 0


def _check_format(form: str | None, output: str, content: Image | Video, video: bool) -> None:
    """Refuse what could not be written, before the work."""
    if output != PIPE and form is not None:
        raise InputError(f"--format: it is for standard output, {output} gets what its suffix says")
    if form == ("png" if video else "y4m"):
        kind, other = ("a video", "y4m") if video else ("an image", "png")
        raise InputError(f"--format {form}: the file is {kind}; use {other} or raw")
    if output != PIPE and not video:
        files.require_writable(output, content.channels, _file_depth(content))


def _image(image: Image, output: str, overwrite: bool, args: argparse.Namespace) -> int:
    samples = image.read(crop=args.crop, scale=args.scale)
    _write_image(samples, image, output, overwrite, args.format)
    return 1


def _write_image(
    samples: Samples, content: Image | Video, output: str, overwrite: bool, form: str | None
) -> None:
    blocks = content.metadata
    media = ImageMedia(
        samples=_full_scale(samples, content.bit_depth),
        bit_depth=_file_depth(content),
        icc=blocks.get("icc"),
        exif=blocks.get("exif"),
        xmp=blocks.get("xmp"),
    )
    if output != PIPE:
        files.write_image(output, media, overwrite=overwrite)
        return
    data = samples.tobytes() if form == "raw" else files.image_bytes(media)
    sys.stdout.buffer.write(data)


def _file_depth(content: Image | Video) -> int:
    """Bits of a sample in a file: 8, else 16."""
    return 8 if content.bit_depth == 8 else 16


def _full_scale(samples: Samples, bit_depth: int) -> Samples:
    """Samples of 9 to 15 bits to the 16 that image files have."""
    if bit_depth in (8, 16):
        return samples
    top = (1 << bit_depth) - 1
    wide: Samples = ((samples.astype("uint32") * 65535 + top // 2) // top).astype("uint16")
    return wide


def _video(video: Video, output: str, overwrite: bool, args: argparse.Namespace) -> int:
    numbers = video.frame_range(args.frames)
    suffix = Path(output).suffix.lower()
    if output != PIPE and suffix in ONE_FRAME:
        if len(numbers) != 1:
            raise InputError(
                f"{output}: an image holds one frame, {len(numbers)} were asked for; choose one "
                "with --frames N, or write a video"
            )
        samples = video.read(args.frames, crop=args.crop, scale=args.scale)[0]
        _write_image(samples, video, output, overwrite, None)
        return 1

    def stream() -> Iterator[Samples]:
        for group in video.groups(args.frames, crop=args.crop, scale=args.scale):
            yield from group

    decoded = stream()
    first = next(decoded)
    header = video.header
    info = VideoInfo(
        width=first.shape[1],
        height=first.shape[0],
        channels=first.shape[2],
        bit_depth=header.bit_depth,
        rate=header.rate,
        colour=header.colour,
        subsampling=header.subsampling,
        frames=len(numbers),
        has_audio=False,
    )

    def all_frames() -> Iterator[Samples]:
        yield first
        yield from decoded

    if output == PIPE:
        if args.format == "raw":
            files.write_raw(sys.stdout.buffer, all_frames())
        else:
            files.write_y4m(sys.stdout.buffer, info, all_frames())
        return len(numbers)
    audio = video.audio()
    if audio is not None and suffix == ".y4m":
        print("coordx: note: y4m has no audio, it is left out", file=sys.stderr)
        audio = None
    if audio is not None and len(numbers) != len(video):
        print("coordx: note: audio is only written with all frames", file=sys.stderr)
        audio = None
    with files.open_video_writer(output, info, audio=audio, overwrite=overwrite) as writer:
        for frame in all_frames():
            writer.write(frame)
    return len(numbers)
