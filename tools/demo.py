"""The first thing a newcomer runs: real media to .crdx and back, beside JPEG at equal bytes."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

import codec
from codec.evaluate import Jpeg, at_size, ms_ssim, psnr
from codec.media import open_video, read_image, sniff
from formats.errors import CoordXError

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "codec" / "samples"
Samples = npt.NDArray[np.uint8 | np.uint16]


@dataclass
class Row:
    """A line of the table."""

    name: str
    codec: str
    bytes: int
    bpp: float
    psnr: float
    ms_ssim: float | None
    encode: float | None = None
    decode: float | None = None


def coordx(*arguments: str | Path) -> None:
    """Run the command line as a user would."""
    command = [sys.executable, "-m", "codec", *map(str, arguments)]
    print("$ coordx " + " ".join(map(str, arguments)), flush=True)
    subprocess.run(command, check=True)


def measure(name: str, source: Samples, path: Path, seconds: float, audio: int) -> Row:
    """Decode a file a few times; quality of what came out."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        decoded = codec.decode(path)
        times.append(time.perf_counter() - started)
    size = path.stat().st_size - audio
    pixels = int(np.prod(source.shape[:-1]))
    return Row(
        name,
        "coordx",
        size,
        8 * size / pixels,
        psnr(source, decoded),
        ms_ssim(source, decoded),
        seconds,
        statistics.median(times),
    )


def jpeg(name: str, source: Samples, size: int) -> tuple[Row, Samples]:
    """JPEG at the largest quality that does not exceed as many bytes; a clip frame by frame."""
    frames = source if source.ndim == 4 else source[None]
    total, decoded, lowest = 0, [], False
    for frame in frames:
        fitted = at_size(Jpeg(), frame, max(1, size // len(frames)))
        total += len(fitted.data)
        lowest |= not fitted.fits
        decoded.append(Jpeg().decode(fitted.data))
    back = np.stack(decoded).reshape(source.shape)
    pixels = int(np.prod(source.shape[:-1]))
    label = "jpeg*" if lowest else "jpeg"
    row = Row(name, label, total, 8 * total / pixels, psnr(source, back), ms_ssim(source, back))
    return row, back


def side_by_side(pictures: list[tuple[str, Samples]], path: Path) -> None:
    """Pictures beside each other with a caption, as a PNG."""
    height, width, channels = pictures[0][1].shape
    zoom = max(1, 384 // max(height, 1))
    bar = 22
    sheet = Image.new("RGB", ((width * zoom + 8) * len(pictures) - 8, height * zoom + bar), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (caption, samples) in enumerate(pictures):
        rgb = samples[..., :3] if channels >= 3 else np.repeat(samples, 3, axis=-1)
        if rgb.dtype == np.uint16:
            rgb = (rgb >> 8).astype(np.uint8)
        tile = Image.fromarray(np.ascontiguousarray(rgb))
        tile = tile.resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
        left = number * (width * zoom + 8)
        draw.text((left + 4, 3), caption, fill="black", font=ImageFont.load_default(14))
        sheet.paste(tile, (left, bar))
    sheet.save(path)


def photo(path: Path, out: Path, rate: list[str]) -> list[Row]:
    """Encode, decode and compare an image."""
    source = read_image(path).samples
    packed, back = out / f"{path.stem}.crdx", out / f"{path.stem}_decoded.png"
    started = time.perf_counter()
    coordx("encode", path, packed, "-y", *rate)
    seconds = time.perf_counter() - started
    coordx("decode", packed, back, "-y")
    ours = measure(path.name, source, packed, seconds, 0)
    rows, panels = [ours], [("original", source), (caption(ours), read_image(back).samples)]
    if source.dtype == np.uint8:
        row, decoded = jpeg(path.name, source[..., :3], ours.bytes)
        rows.append(row)
        panels.append((caption(row), decoded))
    side_by_side(panels, out / f"{path.stem}_side_by_side.png")
    return rows


def video(path: Path, out: Path, rate: list[str]) -> list[Row]:
    """Encode, decode and compare a clip."""
    with open_video(path) as opened:
        source = np.stack(list(opened))
        audio = len(opened.audio() or b"")
    packed, back = out / f"{path.stem}.crdx", out / f"{path.stem}_decoded.mp4"
    started = time.perf_counter()
    coordx("encode", path, packed, "-y", *rate)
    seconds = time.perf_counter() - started
    coordx("decode", packed, back, "-y")
    ours = measure(path.name, source, packed, seconds, audio)
    rows = [ours]
    middle = len(source) // 2
    panels = [("original", source[middle]), (caption(ours), codec.decode(packed)[middle])]
    if source.dtype == np.uint8:
        row, decoded = jpeg(path.name, source, ours.bytes)
        rows.append(row)
        panels.append((caption(row), decoded[middle]))
    side_by_side(panels, out / f"{path.stem}_side_by_side.png")
    return rows


def caption(row: Row) -> str:
    """One line for a picture."""
    return f"{row.codec}: {row.bytes:,} B, {row.bpp:.3f} bpp, {row.psnr:.2f} dB"


def table(rows: list[Row]) -> str:
    """Rows as aligned text."""
    lines = ["file              codec      bytes     bpp   PSNR dB  MS-SSIM  encode s  decode ms"]
    for row in rows:
        similarity = "-" if row.ms_ssim is None else f"{row.ms_ssim:.4f}"
        encode = "" if row.encode is None else f"{row.encode:.1f}"
        decode = "" if row.decode is None else f"{1000 * row.decode:.0f}"
        lines.append(
            f"{row.name[:16]:16}  {row.codec:6} {row.bytes:>9,} {row.bpp:>7.3f} {row.psnr:>9.2f} "
            f"{similarity:>8} {encode:>9} {decode:>10}"
        )
    return "\n".join(lines)


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", help="an image or a video of yours")
    parser.add_argument("--relative-to", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "demo", help="folder for the results")
    args = parser.parse_args()
    out = args.out
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    try:
        if args.file:
            path = args.relative_to / args.file
            kind = sniff(path)
            rows = (photo if kind == "image" else video)(path, out, ["-e", "2"])
        else:
            rows += photo(SAMPLES / "astronaut.png", out, ["-q", "35", "-e", "2"])
            rows += video(
                SAMPLES / "bunny.mp4", out, ["--target-bpp", "0.15", "-e", "3", "--gop", "16"]
            )
    except CoordXError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    text = table(rows)
    (out / "table.txt").write_text(text + "\n")
    print(f"\n{text}\n")
    print("JPEG at the same number of bytes (a clip frame by frame); audio is not counted.")
    if any(row.codec.endswith("*") for row in rows):
        print("* JPEG's lowest quality still takes more bytes than that.")
    print(f"The decoded files and side-by-side pictures are in {out}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
