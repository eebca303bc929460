"""media samples -> signal -> fit -> integers -> units -> container: one encode, resumable."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codec.device import pick_device
from codec.fit.budget import transform_bits
from codec.fit.loop import FitConfig, Fitter, Progress
from codec.fit.search import Goal, Round, RoundResult, Search
from codec.fit.state import load_state, save_state
from codec.network import CoordX
from codec.network.presets import coding_network
from codec.options import EncodeOptions
from codec.quantise import coded_bits, coded_tensors, load_tensors
from codec.reconstruct import Reconstructor
from codec.signal import Samples, to_signal
from formats.atomic import write_bytes
from formats.colour import SRGB, Colour
from formats.container import write_container
from formats.errors import InputError, ResumeError
from formats.header import Header, MediaKind
from formats.network import NetworkConfig
from formats.weights import MAX_STEP, CodedTensor, pack_unit

__all__ = ["EncodeProgress", "EncodeStats", "Encoded", "Media", "encode_media"]

OVERHEAD_BITS = 8 * 64
"""Container bytes of an image; reserved from a target in bits or bytes."""
SAVE_SECONDS = 20.0


@dataclass(frozen=True)
class Media:
    """Samples to encode and how to present them.

    Attributes:
        units: a function that starts a new pass over the units: (H, W, C) for an image, or
            GOPs (T, H, W, C) in order. Videos are passed over twice.
        video: whether units are GOPs.
        bit_depth: of the samples.
        colour, subsampling, rate: see `formats.header.Header`.
        metadata: optional chunks, see `formats.container.METADATA`.
    """

    units: Callable[[], Iterable[Samples]]
    video: bool
    bit_depth: int
    colour: Colour = SRGB
    subsampling: str = "444"
    rate: Fraction = Fraction(1)
    metadata: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class EncodeProgress:
    """Where an encode stands.

    Attributes:
        unit, units: unit being fitted (from 0), and how many there are.
        round: fit of this unit (targets may take several), from 0.
        fit: the fit's own progress.
    """

    unit: int
    units: int
    round: int
    fit: Progress


@dataclass(frozen=True)
class EncodeStats:
    """What an encode gave; quality is that of the decoded samples.

    Attributes:
        bytes: size of the file.
        bpp: bits per pixel, all bytes counted.
        psnr: dB over all samples, from the decoded integer samples.
        width, height, frames, channels: of the media.
        parameters: weights of a unit.
        steps: optimiser steps run, all units and rounds.
        seconds: wall time of the encode (of this run, if it was resumed).
        device: where it ran.
        lam: lambda of the last unit.
        network: the architecture.
        units: bytes, PSNR and frames of each unit.
    """

    bytes: int
    bpp: float
    psnr: float
    width: int
    height: int
    frames: int
    channels: int
    parameters: int
    steps: int
    seconds: float
    device: str
    lam: float
    network: dict[str, Any]
    units: list[dict[str, float]]


@dataclass(frozen=True)
class Encoded:
    """The result of an encode.

    Attributes:
        data: the bytes of a `.crdx` file.
        stats: size, quality, time, network.
    """

    data: bytes = field(repr=False)
    stats: EncodeStats

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Write the file atomically.

        Raises:
            OutputError: it cannot be written, or exists and `overwrite` is False.
        """
        write_bytes(path, self.data, overwrite=overwrite)


@dataclass
class _Survey:
    """What a first pass over the media tells."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)
    bits: list[float] = field(default_factory=list)
    digest: str = ""


def _survey(media: Media, lam: float, device: torch.device) -> _Survey:
    """Shapes, digest and estimated bits of every unit."""
    found = _Survey()
    digest = hashlib.sha256()
    for unit in media.units():
        digest.update(repr(unit.shape).encode())
        digest.update(np.ascontiguousarray(unit).data)
        found.shapes.append(unit.shape)
        found.bits.append(transform_bits(to_signal(unit, media.bit_depth, device), lam))
    if not found.shapes:
        raise InputError("video: expected at least one frame, the source has none")
    found.digest = digest.hexdigest()
    return found


class _Checkpoint:
    """The state file of an encode: finished units, finished rounds, the running fit."""

    def __init__(self, path: Path | None, key: str, device: torch.device, resume: bool) -> None:
        self.path, self.key = path, key
        self.units: list[dict[str, Any]] = []
        self.history: list[dict[str, Any]] = []
        self.fitter: dict[str, Any] | None = None
        self._saved = time.monotonic()
        if resume and path is not None and path.exists():
            state = load_state(path, device)
            if state.get("key") != key:
                raise ResumeError(
                    f"cannot resume from {path}: it belongs to other media or other settings; "
                    "give the same input and options, or delete it"
                )
            self.units, self.history = state["units"], state["history"]
            self.fitter = state["fitter"]

    def due(self) -> bool:
        return self.path is not None and time.monotonic() - self._saved > SAVE_SECONDS

    def save(self, fitter: Fitter | None) -> None:
        if self.path is None:
            return
        state = {
            "key": self.key,
            "units": self.units,
            "history": self.history,
            "fitter": fitter.state() if fitter is not None else None,
        }
        save_state(self.path, state)
        self._saved = time.monotonic()


def encode_media(
    media: Media,
    options: EncodeOptions,
    *,
    progress: Callable[[EncodeProgress], None] | None = None,
    state_path: Path | None = None,
    resume: bool = False,
) -> Encoded:
    """Encode media to the bytes of a `.crdx` file.

    Args:
        media: what to encode.
        options: how.
        progress: called after every optimiser step.
        state_path: where to keep the state of the encode while it runs; None keeps none. The
            caller removes it once the result is safe.
        resume: continue from `state_path` if it exists.

    Returns:
        The file's bytes and statistics.

    Raises:
        InputError: options that do not fit the media.
        ResumeError: `state_path` belongs to something else.
    """
    started = time.perf_counter()
    device = pick_device(options.device)
    partition = options.partition(media.video)
    network = options.network
    if network is not None and network.partition != partition:
        raise InputError(f"split: {partition} was asked for, the network has {network.partition}")
    survey = _survey(media, options.fixed_lambda or 2e-3, device)
    key = _key(media, options, survey)
    checkpoint = _Checkpoint(state_path, key, device, resume)
    work = _Work(media, options, survey, partition, device, checkpoint, progress)
    return work.run(started)


def _key(media: Media, options: EncodeOptions, survey: _Survey) -> str:
    """What a saved state must agree on: samples, options, presentation."""
    settings = asdict(replace(options, device="auto"))
    described = json.dumps([settings, survey.digest, media.bit_depth, str(media.rate)], default=str)
    return hashlib.sha256(described.encode()).hexdigest()


class _Work:
    """The run over all units."""

    def __init__(
        self,
        media: Media,
        options: EncodeOptions,
        survey: _Survey,
        partition: str,
        device: torch.device,
        checkpoint: _Checkpoint,
        progress: Callable[[EncodeProgress], None] | None,
    ) -> None:
        self.media, self.options, self.survey = media, options, survey
        self.partition, self.device = partition, device
        self.checkpoint, self.progress = checkpoint, progress
        self.network = options.network
        self.steps_run = 0
        *_, self.height, self.width, self.channels = survey.shapes[0]
        self.frames = [shape[0] if media.video else 1 for shape in survey.shapes]

    # -- planning --------------------------------------------------------------------------

    def _lengths(self, number: int) -> dict[str, int]:
        lengths = {"y": self.height, "x": self.width}
        return {"t": self.frames[number], **lengths} if self.media.video else lengths

    def _goal(self, number: int) -> Goal:
        options = self.options
        pixels = self.frames[number] * self.height * self.width
        lam = options.fixed_lambda
        if lam is not None:
            return Goal(lam=lam)
        if options.target_psnr is not None:
            return Goal(psnr=options.target_psnr)
        total = sum(self.frames) * self.height * self.width
        if options.target_bpp is not None:
            bits = options.target_bpp * total
        else:
            assert options.target_size is not None
            bits = 8.0 * options.target_size
        extra = sum(len(v) + 10 for v in self.media.metadata.values()) + 16 * len(self.frames)
        bits -= OVERHEAD_BITS + 8 * extra
        return Goal(bits=max(bits * pixels / total, 64.0))

    def _common_network(self) -> NetworkConfig | None:
        """Units of a video share one network: sized for the mean over its units."""
        if self.network is not None or not self.media.video:
            return self.network
        goal = self._goal(0)
        if goal.psnr is not None:
            return None  # the first unit decides
        share = [b / f for b, f in zip(self.survey.bits, self.frames, strict=True)]
        bits = goal.bits or sum(share) / len(share) * self.frames[0]
        return coding_network(self.partition, self._lengths(0), self.channels, bits)

    # -- fitting ---------------------------------------------------------------------------

    def run(self, started: float) -> Encoded:
        """Fit every unit that the checkpoint does not hold yet, and write the container."""
        checkpoint = self.checkpoint
        self.network = self._common_network()
        if checkpoint.units and self.network is None:
            self.network = _network_from(checkpoint.units[0]["network"])
        for number, samples in enumerate(self._units()):
            if number < len(checkpoint.units):
                continue
            result = self._unit(number, samples)
            self.network = result.plan.network
            checkpoint.units.append(
                {
                    "payload": pack_unit(number, result.coded),
                    "mse": result.mse,
                    "lam": result.lam,
                    "weights": dict(result.weights),
                    "network": _network_to(result.plan.network),
                }
            )
            checkpoint.history, checkpoint.fitter = [], None
            if number + 1 < len(self.frames):
                checkpoint.save(None)
        return self._finish(started)

    def _units(self) -> Iterator[Samples]:
        """The second pass; the media must not have changed since the first."""
        count = 0
        for number, unit in enumerate(self.media.units()):
            if number >= len(self.frames) or unit.shape != self.survey.shapes[number]:
                raise InputError("media: its frames changed while it was being encoded")
            count += 1
            yield unit
        if count != len(self.frames):
            raise InputError("media: it became shorter while it was being encoded")

    def _unit(self, number: int, samples: Samples) -> RoundResult:
        signal = to_signal(samples, self.media.bit_depth, self.device)
        lengths = self._lengths(number)
        goal = self._goal(number)
        search = Search(
            signal,
            lengths,
            self.partition,
            goal,
            self.options.budget,
            self.options.seed,
            self.network,
        )
        history = [_result_from(h) for h in self.checkpoint.history]
        while (plan := search.next_round(history)) is not None:
            start = None
            if plan.start is not None:
                start = history[plan.start].weights
            elif number and not history:
                start = self.checkpoint.units[number - 1]["weights"]
            history.append(self._round(number, len(history), plan, signal, samples, lengths, start))
            self.checkpoint.history.append(_result_to(history[-1]))
            self.checkpoint.fitter = None
        chosen = search.choose(history)
        if goal.bits is not None and chosen.bits > goal.bits:
            chosen = self._coarsen(chosen, goal.bits, samples, lengths)
        return chosen

    def _round(
        self,
        number: int,
        index: int,
        plan: Round,
        signal: torch.Tensor,
        samples: Samples,
        lengths: dict[str, int],
        start: Mapping[str, torch.Tensor] | None,
    ) -> RoundResult:
        net = CoordX(plan.network, lengths, self.channels, seed=plan.fit.seed).to(self.device)
        if start is not None:
            net.assign(start)
        fitter = Fitter(net, signal, plan.fit)
        if self.checkpoint.fitter is not None:
            fitter.restore(self.checkpoint.fitter)
        try:
            while not fitter.finished:
                report = fitter.advance()
                self.steps_run += 1
                if self.progress is not None:
                    self.progress(EncodeProgress(number, len(self.frames), index, report))
                if self.checkpoint.due():
                    self.checkpoint.save(fitter)
        except KeyboardInterrupt:
            self.checkpoint.save(fitter)
            raise
        coded = fitter.result()
        weights = {spec.name: net.parameter(spec.name).detach().clone() for spec in net.specs}
        mse = self._decoded_mse(net, coded, samples)
        return RoundResult(plan, coded, weights, coded_bits(coded), mse, fitter.lam)

    def _decoded_mse(self, net: CoordX, coded: list[CodedTensor], samples: Samples) -> float:
        """Mean squared error of what a decoder will return, in [0, 1]."""
        decoded_net = CoordX(net.config, net.lengths, net.channels, seed=None).to(self.device)
        load_tensors(decoded_net, coded)
        decoder = Reconstructor(decoded_net, self.media.bit_depth)
        frames = range(samples.shape[0]) if self.media.video else range(1)
        decoded = decoder.region(frames, None)
        top = float((1 << self.media.bit_depth) - 1)
        error = 0.0
        rows = decoded.reshape(-1, *decoded.shape[-2:])  # row by row: float64 copies stay small
        for a, b in zip(rows, samples.reshape(rows.shape), strict=True):
            error += float(np.square(a.astype(np.float64) - b).sum())
        return error / decoded.size / top**2

    def _coarsen(
        self, result: RoundResult, bits: float, samples: Samples, lengths: dict[str, int]
    ) -> RoundResult:
        """Last resort for a tight target: double the steps until the weights fit."""
        net = CoordX(result.plan.network, lengths, self.channels, seed=None).to(self.device)
        net.assign(result.weights)
        names = [spec.name for spec in net.specs]
        steps = {n: t.step for n, t in zip(names, result.coded, strict=True)}
        coded = result.coded
        while coded_bits(coded) > bits:
            if all(step == MAX_STEP for step in steps.values()):
                raise InputError(
                    f"target: {bits / 8:.0f} bytes a unit are fewer than the smallest network "
                    "takes; ask for a larger size"
                )
            steps = {name: min(step + 1, MAX_STEP) for name, step in steps.items()}
            coded = coded_tensors(net, steps)
        mse = self._decoded_mse(net, coded, samples)
        return replace(result, coded=coded, bits=coded_bits(coded), mse=mse)

    # -- the file --------------------------------------------------------------------------

    def _finish(self, started: float) -> Encoded:
        media = self.media
        assert self.network is not None
        header = Header(
            kind=MediaKind.VIDEO if media.video else MediaKind.IMAGE,
            width=self.width,
            height=self.height,
            channels=self.channels,
            bit_depth=media.bit_depth,
            network=self.network,
            colour=media.colour,
            subsampling=media.subsampling,
            rate=media.rate,
            frames=sum(self.frames),
        )
        units = self.checkpoint.units
        data = write_container(header, [u["payload"] for u in units], self.frames, media.metadata)
        pixels = sum(self.frames) * self.width * self.height
        mse = sum(u["mse"] * f for u, f in zip(units, self.frames, strict=True)) / sum(self.frames)
        stats = EncodeStats(
            bytes=len(data),
            bpp=8 * len(data) / pixels,
            psnr=_decibel(mse),
            width=self.width,
            height=self.height,
            frames=sum(self.frames),
            channels=self.channels,
            parameters=self.network.parameters(self._lengths(0), self.channels),
            steps=self.steps_run,
            seconds=time.perf_counter() - started,
            device=str(self.device),
            lam=units[-1]["lam"],
            network=_network_to(self.network),
            units=[
                {"bytes": len(u["payload"]), "psnr": _decibel(u["mse"]), "frames": f}
                for u, f in zip(units, self.frames, strict=True)
            ],
        )
        return Encoded(data, stats)


def _decibel(mse: float) -> float:
    return math.inf if mse <= 0 else -10 * math.log10(mse)


def _network_to(network: NetworkConfig) -> dict[str, Any]:
    return {k: int(v) if not isinstance(v, str) else v for k, v in asdict(network).items()}


def _network_from(values: Mapping[str, Any]) -> NetworkConfig:
    from formats.network import Activation, Encoding, Fusion, RankMode

    typed = dict(values)
    kinds = {
        "encoding": Encoding,
        "activation": Activation,
        "fusion": Fusion,
        "rank_mode": RankMode,
        "gain": bool,
    }
    for name, kind in kinds.items():
        typed[name] = kind(typed[name])
    return NetworkConfig(**typed)


def _result_to(result: RoundResult) -> dict[str, Any]:
    return {
        "network": _network_to(result.plan.network),
        "fit": asdict(result.plan.fit),
        "start": result.plan.start,
        "coded": [[t.symbols, t.step] for t in result.coded],
        "weights": dict(result.weights),
        "bits": result.bits,
        "mse": result.mse,
        "lam": result.lam,
    }


def _result_from(stored: Mapping[str, Any]) -> RoundResult:
    plan = Round(_network_from(stored["network"]), FitConfig(**stored["fit"]), stored["start"])
    coded = [CodedTensor(symbols, step) for symbols, step in stored["coded"]]
    return RoundResult(plan, coded, stored["weights"], stored["bits"], stored["mse"], stored["lam"])
