"""The run of one encode over its units: targets, units, the file. What a unit is: subclasses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codec.checkpoint import Checkpoint, network_from_values, network_to_values
from codec.fit.progress import Progress
from codec.fit.search import Goal
from codec.options import EncodeOptions
from codec.records import Encoded, EncodeProgress, EncodeStats, Media, Survey
from codec.signal import Samples, decibel
from formats.container import write_container
from formats.core import CoreConfig
from formats.errors import InputError, LimitError
from formats.header import Header, MediaKind
from formats.network import NetworkConfig

__all__ = ["FinishedUnit", "Work"]

SPARE_BYTES, SPARE_UNIT_BYTES = 6, 6
"""What numbers in the header and the sizes of a unit may take more than in an empty container."""


@dataclass(frozen=True)
class FinishedUnit:
    """What the fit of a unit leaves.

    Attributes:
        payload: of its chunk.
        mse: of the samples that a decoder returns, in [0, 1].
        lam: lambda at the end.
        network: its architecture.
        weights: real-valued, to start the next unit from.
    """

    payload: bytes
    mse: float
    lam: float
    network: NetworkConfig | CoreConfig
    weights: Mapping[str, Tensor]


class Work:
    """The run over all units."""

    def __init__(
        self,
        media: Media,
        options: EncodeOptions,
        survey: Survey,
        device: torch.device,
        checkpoint: Checkpoint,
        progress: Callable[[EncodeProgress], None] | None,
    ) -> None:
        self.media, self.options, self.survey = media, options, survey
        self.device = device
        self.checkpoint, self.progress = checkpoint, progress
        self.network = options.network
        self.steps_run = 0
        *_, self.height, self.width, self.channels = survey.shapes[0]
        self.frames = [shape[0] if media.video else 1 for shape in survey.shapes]

    # -- for subclasses --------------------------------------------------------------------

    def stand_in(self) -> NetworkConfig | CoreConfig:
        """The network of the file, or one like it where that is not decided yet."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Decide what all units share, and refuse what cannot work, before any fit."""
        raise NotImplementedError

    def unit(self, number: int, samples: Samples) -> FinishedUnit:
        """Fit one unit, going on from the checkpoint."""
        raise NotImplementedError

    def lengths(self, number: int) -> dict[str, int]:
        """Axis lengths of a unit."""
        lengths = {"y": self.height, "x": self.width}
        return {"t": self.frames[number], **lengths} if self.media.video else lengths

    def goal(self, number: int) -> Goal:
        """What a unit is fitted for: its share of the target."""
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
        return Goal(bits=(bits - 8 * self._container_bytes) * pixels / total)

    @cached_property
    def _container_bytes(self) -> int:
        """What the file takes besides the units, of what counts in a target."""
        counted = {k: v for k, v in self.media.metadata.items() if self._counts(k)}
        units = [b""] * len(self.frames)
        empty = write_container(self.header(self.stand_in()), units, self.frames, counted)
        return len(empty) + SPARE_BYTES + SPARE_UNIT_BYTES * len(units)

    def _counts(self, name: str) -> bool:
        """Whether an optional chunk counts: a target in bytes is the file, bpp is the picture."""
        return name != "audio" or self.options.target_size is not None

    def header(self, network: NetworkConfig | CoreConfig) -> Header:
        """The header of the file."""
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

    def check_format(self, network: NetworkConfig | CoreConfig) -> None:
        """Refuse before the fit what the format cannot hold.

        Raises:
            InputError: dimensions, rate or network are over a limit of the format.
        """
        try:
            header = self.header(network)
            for frames in set(self.frames):
                header.tensors(frames)
        except LimitError as error:
            raise InputError(f"the format cannot hold this: {error}") from error

    def refuse_target(self, bits: float, least: float, what: str) -> None:
        """Refuse a target that leaves less than `least` bits.

        Raises:
            InputError: it does.
        """
        if bits < least:
            raise InputError(
                f"target: {max(bits, 0) / 8:.0f} bytes are left for {what}, the smallest takes "
                f"about {least / 8:.0f}; ask for a larger size"
            )

    def advance(self, fitter: Any, number: int, index: int) -> None:
        """Run a fit to its end: progress, interrupts, checkpoints."""
        while not fitter.finished:
            report: Progress = fitter.advance()
            self.steps_run += 1
            if self.progress is not None:
                try:
                    self.progress(EncodeProgress(number, len(self.frames), index, report))
                except KeyboardInterrupt:  # raised between two steps: the state is whole
                    self.checkpoint.save(fitter)
                    raise
            if self.checkpoint.due():
                self.checkpoint.save(fitter)

    @staticmethod
    def mean_error(decoded: Samples, samples: Samples, bit_depth: int) -> float:
        """Mean squared error of decoded samples, in [0, 1]."""
        top = float((1 << bit_depth) - 1)
        error = 0.0
        rows = decoded.reshape(-1, *decoded.shape[-2:])  # row by row: float64 copies stay small
        for a, b in zip(rows, samples.reshape(rows.shape), strict=True):
            error += float(np.square(a.astype(np.float64) - b).sum())
        return error / decoded.size / top**2

    # -- the run ---------------------------------------------------------------------------

    def run(self, started: float) -> Encoded:
        """Fit every unit that the checkpoint does not hold yet, and write the container."""
        checkpoint = self.checkpoint
        self.prepare()
        if checkpoint.units:
            self.network = network_from_values(checkpoint.units[0]["network"])
        for number, samples in enumerate(self._units()):
            if number < len(checkpoint.units):
                continue
            result = self.unit(number, samples)
            self.network = result.network
            checkpoint.units.append(
                {
                    "payload": result.payload,
                    "mse": result.mse,
                    "lam": result.lam,
                    "weights": dict(result.weights),
                    "network": network_to_values(result.network),
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

    def _target_met(self, units: list[dict[str, Any]]) -> bool:
        """Whether a target PSNR was reached in every unit (other targets are always met)."""
        wanted = self.options.target_psnr
        if wanted is None:
            return True
        return all(decibel(float(u["mse"])) >= wanted - 0.005 for u in units)

    def _finish(self, started: float) -> Encoded:
        media = self.media
        assert self.network is not None
        header = self.header(self.network)
        units = self.checkpoint.units
        data = write_container(header, [u["payload"] for u in units], self.frames, media.metadata)
        pixels = sum(self.frames) * self.width * self.height
        audio = len(media.metadata.get("audio", b""))
        mse = sum(u["mse"] * f for u, f in zip(units, self.frames, strict=True)) / sum(self.frames)
        stats = EncodeStats(
            bytes=len(data),
            bpp=8 * (len(data) - audio) / pixels,
            audio_bytes=audio,
            psnr=decibel(mse),
            width=self.width,
            height=self.height,
            frames=sum(self.frames),
            channels=self.channels,
            parameters=self.network.parameters(self.lengths(0), self.channels),
            steps=self.steps_run,
            seconds=time.perf_counter() - started,
            device=str(self.device),
            lam=units[-1]["lam"],
            target_met=self._target_met(units),
            network=network_to_values(self.network),
            units=[
                {"bytes": len(u["payload"]), "psnr": decibel(u["mse"]), "frames": f}
                for u, f in zip(units, self.frames, strict=True)
            ],
        )
        return Encoded(data, stats)
