"""media samples -> signal -> fit -> integers -> units -> container: one encode, resumable."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from codec.checkpoint import Checkpoint
from codec.core_work import CoreWork
from codec.device import on_device, pick_device
from codec.fit.budget import network_bits
from codec.options import EncodeOptions
from codec.rank_work import RankWork
from codec.records import Encoded, EncodeProgress, Media, Survey
from codec.signal import to_signal
from codec.work import Work
from formats.errors import InputError
from formats.network import NetworkConfig

__all__ = ["encode_media"]


def _survey(media: Media, lam: float | None, device: torch.device) -> Survey:
    """Shapes and digest of every unit, and with a lambda the bits each deserves."""
    found = Survey()
    digest = hashlib.sha256()
    for unit in media.units():
        digest.update(repr(unit.shape).encode())
        digest.update(np.ascontiguousarray(unit).data)
        found.shapes.append(unit.shape)
        if lam is not None:
            found.bits.append(network_bits(to_signal(unit, media.bit_depth, device), lam))
    if not found.shapes:
        raise InputError("video: expected at least one frame, the source has none")
    found.digest = digest.hexdigest()
    return found


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
    fusion = options.fusion_of(media.video)
    partition = options.partition(media.video) if fusion == "rank" else None
    network = options.network
    if isinstance(network, NetworkConfig) and network.partition != partition:
        raise InputError(f"split: {partition} was asked for, the network has {network.partition}")
    # Only the units of a video share a network, and only a lambda leaves its size open.
    survey = _survey(media, options.fixed_lambda if media.video else None, device)
    key = _key(media, options, survey)
    checkpoint = Checkpoint(state_path, key, device, resume)
    parts = (media, options, survey, device, checkpoint, progress)
    work: Work
    work = CoreWork(*parts) if partition is None else RankWork(*parts, partition=partition)
    with on_device(device):
        return work.run(started)


def _key(media: Media, options: EncodeOptions, survey: Survey) -> str:
    """What a saved state must agree on: samples, options, presentation."""
    settings = asdict(replace(options, device="auto"))
    described = json.dumps([settings, survey.digest, media.bit_depth, str(media.rate)], default=str)
    return hashlib.sha256(described.encode()).hexdigest()
