"""`coordx encode`: media to a .crdx file."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codec.cli.common import (
    PIPE,
    add_device,
    add_overwrite,
    dump_json,
    may_overwrite,
    output_name,
    read_input,
)
from codec.options import DEFAULT_EFFORT, DEFAULT_GOP, DEFAULT_QUALITY, EFFORT_STEPS, FUSIONS
from formats.atomic import check_target
from formats.errors import InputError, OutputError
from formats.network import PARTITIONS

if TYPE_CHECKING:
    from codec.records import EncodeProgress, EncodeStats

__all__ = ["add_parser"]

EPILOG = """\
Give at most one of -q, --lambda and the targets. Time grows with --effort: an effort is a
number of optimiser steps for each image (for each GOP of a video):
  {efforts}

While it runs, the encoder keeps its state in OUT.state and removes it at the end. After an
interruption the same command with --resume goes on where it stopped.

examples:
  coordx encode photo.png                              quality 50, writes photo.crdx
  coordx encode photo.png out.crdx --target-bpp 0.3 --effort 5
  coordx encode clip.mp4 out.crdx -q 40 --gop 24 --split xy+t
  cat photo.jpg | coordx encode - - --target-size 20000 > photo.crdx
"""


def add_parser(commands: Any) -> None:
    """Add the sub-command."""
    efforts = ", ".join(f"{effort}: {steps}" for effort, steps in EFFORT_STEPS.items())
    parser = commands.add_parser(
        "encode",
        help="fit a network to an image or a video and write it as a .crdx file",
        description="Encode an image (PNG, JPEG, WebP, BMP, TIFF, PPM ...) or a video (anything "
        "ffmpeg reads, and y4m) as a .crdx file.",
        epilog=EPILOG.format(efforts=efforts),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", metavar="IN", help="media file, or - for standard input")
    parser.add_argument(
        "output",
        metavar="OUT",
        nargs="?",
        help="the .crdx file, not named like media, or - for standard output [IN with the suffix "
        ".crdx]",
    )
    rate = parser.add_argument_group("rate (one of)").add_mutually_exclusive_group()
    rate.add_argument(
        "-q",
        "--quality",
        type=float,
        metavar="Q",
        help=f"0 (smallest) to 100 (best) [{DEFAULT_QUALITY:g}]",
    )
    rate.add_argument(
        "--lambda",
        dest="lam",
        type=float,
        metavar="L",
        help="mean squared error (samples in 0..1) worth one bit per pixel, e.g. 0.002",
    )
    rate.add_argument("--target-bpp", type=float, metavar="B", help="bits per pixel, not exceeded")
    rate.add_argument("--target-size", type=int, metavar="BYTES", help="file size, not exceeded")
    rate.add_argument(
        "--target-psnr",
        type=float,
        metavar="DB",
        help="quality to reach, in dB; targets take several fits",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "-e",
        "--effort",
        type=int,
        default=DEFAULT_EFFORT,
        metavar="N",
        help=f"1 (fastest) to 9 (smallest file at a quality) [{DEFAULT_EFFORT}]",
    )
    how.add_argument(
        "--steps", type=int, metavar="N", help="optimiser steps, 10 or more, instead of --effort"
    )
    how.add_argument(
        "--fusion",
        choices=FUSIONS,
        help="core: latent grids with an entropy model; rank: networks alone, as in the CoordX "
        "paper [core for images, rank for videos]",
    )
    how.add_argument(
        "--split",
        metavar="AXES",
        help=f"how rank fusion splits the axes: {', '.join(PARTITIONS)} [x+y, x+y+t for a video]",
    )
    how.add_argument(
        "--gop",
        type=int,
        default=DEFAULT_GOP,
        metavar="N",
        help=f"frames of a video that are coded together [{DEFAULT_GOP}]",
    )
    how.add_argument("--seed", type=int, default=0, metavar="N", help="random seed [0]")
    add_device(how)
    run = parser.add_argument_group("running")
    run.add_argument("--resume", action="store_true", help="go on from OUT.state if it is there")
    add_overwrite(run)
    run.add_argument("--json", action="store_true", help="print the statistics as JSON")
    run.add_argument("--quiet", action="store_true", help="no progress, no summary")
    parser.set_defaults(run=_run)


class _Bar:
    """Progress on stderr: steps of all units, with the present rate and quality."""

    def __init__(self, quiet: bool) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm
        self._quiet = quiet
        self._bar: Any = None
        self._done = 0
        self._key = (-1, -1)

    def __call__(self, at: EncodeProgress) -> None:
        fit = at.fit
        if self._bar is None:
            self._bar = self._tqdm(
                total=fit.steps * at.units,
                unit="step",
                disable=self._quiet,
                dynamic_ncols=True,
                mininterval=0.5,
                file=sys.stderr,
            )
            # A resumed encode starts in the middle; what was done before is not timed.
            self._bar.update(at.unit * fit.steps + fit.step - 1)
            self._bar.unpause()
            self._key = (at.unit, at.round)
        if self._key != (at.unit, at.round):
            if at.round > 0:
                self._bar.total += fit.steps
            self._key = (at.unit, at.round)
        self._bar.update(1)
        if fit.step % 10 == 0 or fit.step == fit.steps:
            where = f"GOP {at.unit + 1}/{at.units} " if at.units > 1 else ""
            again = f"round {at.round + 1} " if at.round else ""
            rate = "" if fit.stage == "float" else f"{fit.bpp:.3f} bpp "
            self._bar.set_description_str(where + again + fit.stage, refresh=False)
            self._bar.set_postfix_str(f"{rate}{fit.psnr:.2f} dB", refresh=False)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Interrupt:
    """Turns Ctrl-C into an interruption between two steps; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> _Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _note(self, *_: object) -> None:
        self.asked = True
        self._restore()


def _state_path(output: str, args: argparse.Namespace) -> Path | None:
    """Where the state goes; an older one is only replaced when that was allowed.

    Raises:
        OutputError: it cannot be written there, or is there and neither --resume nor -y is given.
    """
    if output == PIPE:
        return None
    state = Path(output + ".state")
    if state.exists() and not args.resume and not args.yes:
        raise OutputError(
            f"{state} is there: an interrupted encode, it seems; --resume goes on with it, -y "
            "starts anew"
        )
    check_target(state)
    return state


def _require_coded_name(output: str) -> None:
    """Refuse an OUT that is named like media: a second IN, or one that would hide what it is.

    Raises:
        InputError: it is.
    """
    from codec.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

    named = Path(output).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
    if named and not Path(output).is_dir():
        raise InputError(
            f"OUT: expected the name of a .crdx file, got {output}, that of a picture or a video; "
            "one IN is encoded at a time"
        )


def _written(state: Path | None) -> int | None:
    """When the state was written, in nanoseconds; None if there is none."""
    return state.stat().st_mtime_ns if state is not None and state.exists() else None


def _run(args: argparse.Namespace) -> int:
    from codec import api  # torch takes a second to load: not for --help

    output = output_name(args.output, args.input, ".crdx")
    _require_coded_name(output)
    to_pipe = output == PIPE
    overwrite = True if to_pipe else may_overwrite(Path(output), args)
    state = _state_path(output, args)
    older = None if args.resume else _written(state)
    interrupt = _Interrupt()
    bar = _Bar(args.quiet)

    def report(progress: EncodeProgress) -> None:
        bar(progress)
        if interrupt.asked:
            raise KeyboardInterrupt

    try:
        with interrupt:
            encoded = api.encode(
                read_input(args.input),
                quality=args.quality,
                lam=args.lam,
                target_bpp=args.target_bpp,
                target_size=args.target_size,
                target_psnr=args.target_psnr,
                effort=args.effort,
                steps=args.steps,
                seed=args.seed,
                fusion=args.fusion,
                split=args.split,
                gop=args.gop,
                device=args.device,
                progress=report,
                state_path=state,
                resume=args.resume,
            )
    except KeyboardInterrupt:
        bar.close()
        if _written(state) not in (None, older):
            print(f"state kept in {state}: add --resume to go on", file=sys.stderr)
        raise
    finally:
        bar.close()
    if to_pipe:
        sys.stdout.buffer.write(encoded.data)
        sys.stdout.buffer.flush()
    else:
        encoded.save(output, overwrite=overwrite)
        if state is not None:
            state.unlink(missing_ok=True)
    answer = sys.stderr if to_pipe else sys.stdout
    if not encoded.stats.target_met:
        print(
            f"coordx: note: {args.target_psnr:g} dB were not reached, only "
            f"{encoded.stats.psnr:.2f}; a higher --effort may",
            file=sys.stderr,
        )
    if args.json:
        print(dump_json({"file": output, **vars(encoded.stats)}), file=answer)
    elif not args.quiet:
        print(_summary(output, encoded.stats), file=answer)
    return 0


def _summary(output: str, stats: EncodeStats) -> str:
    frames = f" {stats.frames} frames," if stats.frames > 1 else ""
    return (
        f"{output}: {stats.width}x{stats.height},{frames} {stats.bytes:,} bytes, "
        f"{stats.bpp:.4f} bpp, {stats.psnr:.2f} dB, {stats.parameters:,} weights, "
        f"{stats.steps} steps in {stats.seconds:.1f} s on {stats.device}"
    )
