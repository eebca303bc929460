"""Rate-distortion of core fusion beside JPEG, WebP and AVIF, all measured in one run.

    python tools/rd_table.py run KODAK -o runs/rd --jobs 2
    python tools/rd_table.py run KODAK -o runs/rd --device cuda --steps 10000 --fits 4 --finish 14
    python tools/rd_table.py report -o runs/rd --plot docs/rd.png
    python tools/rd_table.py report -o runs/rd --published kodak.json --against NAME --against ...

KODAK holds kodim01.png ... kodim24.png; items are NUMBER (the whole image) or NUMBER@WxH (a centre
crop). Every result is a JSON file, the .crdx beside it; what is there is not measured again, and a
killed encode goes on from its state. With --finish N a GPU makes all steps of a fit but the last
and leaves NAME.fitted; N processes on the CPU make the last one, the search of the weights once
more, the moves of single latents and the file. Their seconds are those of the fit, beside others on
the GPU, and of what finished it (of that alone where the run was killed in between).

Rate is the size of the file, PSNR that of the decoded 8-bit R'G'B' samples; the BD-rate (PCHIP on
log rate) is taken image by image and averaged. A published curve, in any file that `coordx import`
reads, is compared image by image where the file has a curve NAME/kodimNN, else with the mean curve
of the whole images: that is fair for all 24 only, and then it is in the plot too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import kodak
import torch
from rd_report import ANCHORS, VTM, report

import codec
from codec.evaluate import psnr
from codec.network.presets import core_network
from codec.signal import Samples
from formats.atomic import write_bytes

Job = tuple[str, float | None]
"""An item and a lambda; None: the anchors."""
DEFAULT_ITEMS = "5,15,1@384x256,8@384x256,20@384x256,23@384x256"
DEFAULT_LAMBDAS = "0.01,0.004,0.001,0.0004"


def encode(
    samples: Samples,
    state: Path,
    lam: float,
    args: argparse.Namespace,
    device: str,
    progress: Callable[[codec.EncodeProgress], None] | None = None,
) -> codec.Encoded:
    """Encode at one lambda, going on from a state that is there."""
    network = None
    if args.network is not None:
        preset = core_network(*samples.shape[:2], lam, math.inf, args.steps, samples.shape[2])
        network = replace(preset, prior=0, width=args.network[0], hidden=args.network[1])
    return codec.encode(
        samples,
        lam=lam,
        steps=args.steps,
        network=network,
        device=device,
        progress=progress,
        state_path=state,
        resume=True,
    )


class Fitted(KeyboardInterrupt):
    """All steps but the last are done. An encode that a user interrupts writes its state."""


def fit(samples: Samples, state: Path, lam: float, args: argparse.Namespace) -> None:
    """All steps but the last, which leaves a finished fit; `state` is where it goes on."""

    def stop(at: codec.EncodeProgress) -> None:
        if at.fit.step == args.steps - 1:
            raise Fitted

    with contextlib.suppress(Fitted):
        encode(samples, state, lam, args, args.device, stop)


def measure(
    samples: Samples, state: Path, lam: float, args: argparse.Namespace, device: str
) -> dict[str, Any]:
    """Encode at one lambda and decode the file."""
    encoded = encode(samples, state, lam, args, device)
    path = state.with_suffix(".crdx")
    encoded.save(path)
    decoded = codec.decode(path, device="cpu")
    size = path.stat().st_size
    return {
        "lambda": lam,
        "bytes": size,
        "bpp": 8 * size / (samples.shape[0] * samples.shape[1]),
        "psnr": psnr(samples, decoded),
        "seconds": encoded.stats.seconds,
        "steps": args.steps,
        "version": codec.__version__,
        "device": args.device if args.finish else encoded.stats.device,
        "finished_on": encoded.stats.device,
        "network": args.network,
        "threads": torch.get_num_threads(),
    }


def anchor_points(samples: Samples) -> dict[str, Any]:
    """Rate and quality of every anchor at its qualities."""
    pixels = samples.shape[0] * samples.shape[1]
    found: dict[str, Any] = {}
    for name, anchor in ANCHORS.items():
        points = []
        for quality in anchor.qualities:
            data = anchor.encode(samples, quality)
            points.append(
                {
                    "quality": quality,
                    "bpp": 8 * len(data) / pixels,
                    "psnr": psnr(samples, anchor.decode(data)),
                }
            )
        found[name] = {"version": anchor.version(), "points": points}
    return found


def run(args: argparse.Namespace) -> None:
    """Measure what is missing, the short encodes first, then lambda by lambda."""
    args.out.mkdir(parents=True, exist_ok=True)
    items = args.items.split(",")
    jobs: list[Job] = [(item, lam) for lam in args.lambdas for item in items]
    jobs.sort(key=lambda job: "@" not in job[0])
    jobs += [(item, None) for item in items if not args.no_anchors]
    jobs = [job for job in kodak.own_jobs(jobs, args.share) if not _measured(args, job)]
    if args.jobs * args.fits == 1 and not args.finish:
        for job in jobs:
            _do(args, job)
        return
    context = multiprocessing.get_context("spawn")
    waiting, fitted = context.Queue(), context.Queue() if args.finish else None
    for job in jobs:
        if fitted is not None and _state(args, job, "fitted").exists():
            fitted.put((job, 0.0))
        else:
            waiting.put(job)
    for _ in range(args.jobs * args.fits):
        waiting.put(None)
    workers = [
        context.Process(target=_work, args=(args, waiting, fitted)) for _ in range(args.jobs)
    ]
    finishers = [context.Process(target=_finish, args=(args, fitted)) for _ in range(args.finish)]
    for process in workers + finishers:
        process.start()
    try:
        for worker in workers:
            worker.join()
        for _ in finishers:
            fitted.put(None)
        for finisher in finishers:
            finisher.join()
    finally:  # all there is to lose is on the disk
        for process in workers + finishers:
            process.terminate()
    if not all(_result(args, job).exists() for job in jobs):
        raise SystemExit("some were not measured: see above, and run the command again")


def _work(args: argparse.Namespace, waiting: Any, fitted: Any) -> None:
    """A process with some fits at once: on a GPU their kernels overlap. What it does not get done
    has no result in the end."""
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(1 if args.finish else max(1, cores // args.jobs // args.fits))
    sys.setswitchinterval(5e-4)  # a fit waits for a GPU in between; another one must not keep it

    def one_after_the_other() -> None:
        own = torch.cuda.Stream(args.device) if args.device.startswith("cuda") else None
        with torch.cuda.stream(own):
            while (job := _next(waiting)) is not None:
                try:
                    _do(args, job, fitted)
                except Exception:
                    traceback.print_exc()

    threads = [  # daemons: an interrupted process does not wait for its fits
        threading.Thread(target=one_after_the_other, daemon=True) for _ in range(args.fits)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _next(jobs: Any) -> Any:
    """The next of a queue; None where who fills it is gone."""
    while True:
        try:
            return jobs.get(timeout=5)
        except queue.Empty:
            parent = multiprocessing.parent_process()
            if parent is not None and not parent.is_alive():
                return None


def _finish(args: argparse.Namespace, fitted: Any) -> None:
    """A process that makes files of fits whose steps are done."""
    torch.set_num_threads(1)
    os.nice(5)  # the processes that keep a GPU busy go first
    while (found := _next(fitted)) is not None:
        job, seconds = found
        try:
            row = measure(_samples(args, job), _state(args, job, "fitted"), job[1], args, "cpu")
            _write(args, job, row | {"seconds": seconds + row["seconds"]})
        except Exception:
            traceback.print_exc()


def _result(args: argparse.Namespace, job: Job) -> Path:
    item, lam = job
    stem = f"kodim{item.replace('@', '_')}"
    path: Path = args.out / f"{stem}_{'anchors' if lam is None else format(lam, 'g')}.json"
    return path


def _measured(args: argparse.Namespace, job: Job) -> bool:
    """Whether a result is there; one of another fit is not taken for it."""
    path = _result(args, job)
    if not path.exists():
        return False
    row = json.loads(path.read_text())
    asked = {"steps": args.steps, "network": args.network and list(args.network)}
    for name, value in asked.items() if job[1] is not None else ():
        if row[name] != value:
            raise SystemExit(f"{path}: {name} {row[name]}, not {value}; choose another -o")
    return True


def _state(args: argparse.Namespace, job: Job, suffix: str) -> Path:
    return _result(args, job).with_suffix(f".{suffix}")


def _samples(args: argparse.Namespace, job: Job) -> Samples:
    return kodak.samples_of(args.folder, job[0])


def _do(args: argparse.Namespace, job: Job, fitted: Any = None) -> None:
    """Measure one thing, and write it down; a fit goes to those who finish it, if there are."""
    samples, lam = _samples(args, job), job[1]
    if lam is None:
        _write(args, job, anchor_points(samples))
    elif fitted is None:
        state = _state(args, job, "fitted")
        if not state.exists():
            state = _state(args, job, "state")
        _write(args, job, measure(samples, state, lam, args, args.device))
    else:
        state, started = _state(args, job, "state"), time.perf_counter()
        fit(samples, state, lam, args)
        state.replace(_state(args, job, "fitted"))
        fitted.put((job, time.perf_counter() - started))


def _write(args: argparse.Namespace, job: Job, row: dict[str, Any]) -> None:
    result = _result(args, job)
    write_bytes(result, json.dumps({"item": job[0], **row}, indent=1).encode())
    for suffix in ("state", "fitted"):  # not before: a fit is long
        _state(args, job, suffix).unlink(missing_ok=True)
    if "lambda" in row:
        print(
            f"{result.stem}: {row['bpp']:.4f} bpp {row['psnr']:.2f} dB, {row['seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def _count(text: str) -> int:
    """A number of at least one; for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def _units(text: str) -> tuple[int, int]:
    """WIDTH/HIDDEN; for argparse."""
    width, _, hidden = text.partition("/")
    if not (width.isdecimal() and hidden.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected WIDTH/HIDDEN, got {text!r}")
    return int(width), int(hidden)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    runner = commands.add_parser("run", help="measure what is missing")
    runner.add_argument("folder", type=Path, help="folder with kodim01.png ... kodim24.png")
    runner.add_argument("--steps", type=int, default=2000)
    runner.add_argument("--device", default="cpu")
    runner.add_argument(
        "--share", type=kodak.share, default="0/1", metavar="I/N", help="this process's share"
    )
    runner.add_argument(
        "--network",
        type=_units,
        metavar="WIDTH/HIDDEN",
        help="units of the context and of the synthesis, without a prior, instead of the preset's",
    )
    runner.add_argument("--jobs", type=_count, default=1, help="processes [%(default)s]")
    runner.add_argument(
        "--fits", type=_count, default=1, help="fits at once in each, for a GPU [%(default)s]"
    )
    runner.add_argument(
        "--finish",
        type=_count,
        default=0,
        metavar="N",
        help="processes that finish fits on the CPU [%(default)s: whoever fits does]",
    )
    runner.add_argument("--no-anchors", action="store_true", help="neither JPEG, WebP nor AVIF")
    runner.add_argument("--items", default=DEFAULT_ITEMS)
    runner.set_defaults(run=run)
    reporter = commands.add_parser("report", help="print the tables")
    reporter.add_argument("--plot", type=Path, metavar="PNG", help="of mean curves")
    reporter.add_argument("--published", type=Path, metavar="JSON", help="curves of others")
    reporter.add_argument(
        "--against",
        action="append",
        metavar="NAME",
        help=f"a curve of these, or those NAME/kodimNN of the images; again for more [{VTM}]",
    )
    reporter.set_defaults(run=report)
    for command in (runner, reporter):
        command.add_argument(
            "--lambdas",
            type=lambda text: [float(x) for x in text.split(",")],
            default=DEFAULT_LAMBDAS,
        )
        command.add_argument("-o", "--out", type=Path, default=Path("runs/rd"))
    args = parser.parse_args(arguments)
    args.run(args)


if __name__ == "__main__":
    main()
