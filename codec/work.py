"""The run of one encode over its units: plan, fit, quantise, assemble the file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch

from codec.checkpoint import (
    Checkpoint,
    network_from_values,
    network_to_values,
    result_from_values,
    result_to_values,
)
from codec.fit.loop import Fitter
from codec.fit.search import Goal, Round, RoundResult, Search
from codec.network import CoordX
from codec.network.presets import coding_network, sized_network
from codec.options import EncodeOptions
from codec.quantise import coded_bits, coded_tensors, load_tensors
from codec.reconstruct import Reconstructor
from codec.records import Encoded, EncodeProgress, EncodeStats, Media, Survey
from codec.signal import Samples, to_signal
from formats.container import write_container
from formats.errors import InputError, LimitError
from formats.header import Header, MediaKind
from formats.network import NetworkConfig
from formats.weights import MAX_STEP, CodedTensor, pack_unit

__all__ = ["Work"]

OVERHEAD_BITS = 8 * 64
"""Container bytes of an image; reserved from a target in bits or bytes."""


class Work:
    """The run over all units."""

    def __init__(
        self,
        media: Media,
        options: EncodeOptions,
        survey: Survey,
        partition: str,
        device: torch.device,
        checkpoint: Checkpoint,
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
        counted = {k: v for k, v in self.media.metadata.items() if self._counts(k)}
        extra = sum(len(v) + 10 for v in counted.values()) + 16 * len(self.frames)
        bits -= OVERHEAD_BITS + 8 * extra
        return Goal(bits=bits * pixels / total)

    def _counts(self, name: str) -> bool:
        """Whether an optional chunk counts: a target in bytes is the file, bpp is the picture."""
        return name != "audio" or self.options.target_size is not None

    def _check_target(self) -> None:
        """Refuse before the fit what no fit could reach.

        Raises:
            InputError: the target leaves less than the side information of the smallest network.
        """
        goal = self._goal(0)
        if goal.bits is None:
            return
        smallest = sized_network(self.partition, 4) if self.network is None else self.network
        tensors = smallest.tensors(self._lengths(0), self.channels)
        least = 16 * len(tensors) + sum(t.size for t in tensors)  # about a bit a weight
        if goal.bits < least:
            raise InputError(
                f"target: {max(goal.bits, 0) / 8:.0f} bytes are left for the weights of a unit, "
                f"the smallest network takes about {least / 8:.0f}; ask for a larger size"
            )

    def _header(self, network: NetworkConfig) -> Header:
        media = self.media
        return Header(
            kind=MediaKind.VIDEO if media.video else MediaKind.IMAGE,
            width=self.width,
            height=self.height,
            channels=self.channels,
            bit_depth=media.bit_depth,
            network=network,
            colour=media.colour,
            subsampling=media.subsampling,
            rate=media.rate,
            frames=sum(self.frames),
        )

    def _check_format(self, network: NetworkConfig) -> None:
        """Refuse before the fit what the format cannot hold.

        Raises:
            InputError: dimensions, rate or network are over a limit of the format.
        """
        try:
            header = self._header(network)
            for frames in set(self.frames):
                header.tensors(frames)
        except LimitError as error:
            raise InputError(f"the format cannot hold this: {error}") from error

    def _common_network(self) -> NetworkConfig | None:
        """Units of a video share one network: sized for the mean over its units."""
        if self.network is not None or not self.media.video:
            return self.network
        goal = self._goal(0)
        if goal.psnr is not None:
            return None  # the first unit decides
        bits = goal.bits
        if bits is None:
            share = [b / f for b, f in zip(self.survey.bits, self.frames, strict=True)]
            bits = sum(share) / len(share) * self.frames[0]
        return coding_network(self.partition, self._lengths(0), self.channels, bits)

    # -- fitting ---------------------------------------------------------------------------

    def run(self, started: float) -> Encoded:
        """Fit every unit that the checkpoint does not hold yet, and write the container."""
        checkpoint = self.checkpoint
        self._check_target()
        self.network = self._common_network()
        if self.network is not None:
            self._check_format(self.network)
        else:
            self._check_format(sized_network(self.partition, 4))
        if checkpoint.units and self.network is None:
            self.network = network_from_values(checkpoint.units[0]["network"])
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
                    "network": network_to_values(result.plan.network),
                }
            )
            if number:  # only the latest weights are needed, to start the next unit from
                checkpoint.units[number - 1]["weights"] = {}
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
        history = [result_from_values(h) for h in self.checkpoint.history]
        while (plan := search.next_round(history)) is not None:
            start = None
            if plan.start is not None:
                start = history[plan.start].weights
            elif number and not history:
                start = self.checkpoint.units[number - 1]["weights"]
            history.append(self._round(number, len(history), plan, signal, samples, lengths, start))
            self.checkpoint.history.append(result_to_values(history[-1]))
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
        if start is not None and net.accepts(start):  # a shorter last GOP has other octaves
            net.assign(start)
        fitter = Fitter(net, signal, plan.fit)
        if self.checkpoint.fitter is not None:
            fitter.restore(self.checkpoint.fitter)
        while not fitter.finished:
            report = fitter.advance()
            self.steps_run += 1
            if self.progress is not None:
                try:
                    self.progress(EncodeProgress(number, len(self.frames), index, report))
                except KeyboardInterrupt:  # raised between two steps: the state is whole
                    self.checkpoint.save(fitter)
                    raise
            if self.checkpoint.due():
                self.checkpoint.save(fitter)
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

    def _target_met(self, units: list[dict[str, object]]) -> bool:
        """Whether a target PSNR was reached in every unit (other targets are always met)."""
        wanted = self.options.target_psnr
        if wanted is None:
            return True
        return all(_decibel(float(u["mse"])) >= wanted - 0.005 for u in units)  # type: ignore[arg-type]

    # -- the file --------------------------------------------------------------------------

    def _finish(self, started: float) -> Encoded:
        media = self.media
        assert self.network is not None
        header = self._header(self.network)
        units = self.checkpoint.units
        data = write_container(header, [u["payload"] for u in units], self.frames, media.metadata)
        pixels = sum(self.frames) * self.width * self.height
        audio = len(media.metadata.get("audio", b""))
        mse = sum(u["mse"] * f for u, f in zip(units, self.frames, strict=True)) / sum(self.frames)
        stats = EncodeStats(
            bytes=len(data),
            bpp=8 * (len(data) - audio) / pixels,
            audio_bytes=audio,
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
            target_met=self._target_met(units),
            network=network_to_values(self.network),
            units=[
                {"bytes": len(u["payload"]), "psnr": _decibel(u["mse"]), "frames": f}
                for u, f in zip(units, self.frames, strict=True)
            ],
        )
        return Encoded(data, stats)


def _decibel(mse: float) -> float:
    return math.inf if mse <= 0 else -10 * math.log10(mse)
