"""The saved state of an encode: finished units, finished rounds, the fit under way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from codec.fit.core_config import CoreFitConfig
from codec.fit.core_search import CoreResult, CoreRound
from codec.fit.loop import FitConfig
from codec.fit.search import Round, RoundResult
from codec.fit.state import load_state, save_state
from formats.core import CoreConfig
from formats.errors import ResumeError
from formats.network import Activation, Encoding, Fusion, NetworkConfig, RankMode
from formats.weights import CodedTensor

__all__ = [
    "Checkpoint",
    "core_result_from_values",
    "core_result_to_values",
    "network_from_values",
    "network_to_values",
    "result_from_values",
    "result_to_values",
]

LAYOUT = 11
"""Version of what a state holds; goes up with every change of it, of presets, of
priors, of the fit or of the format: finished rounds are bytes of a file."""
SAVE_SECONDS = 20.0
"""Seconds between two states on the disk: what a crash can lose."""


class Checkpoint:
    """The state file of an encode: finished units, finished rounds, the running fit."""

    def __init__(self, path: Path | None, key: str, device: torch.device, resume: bool) -> None:
        self.path, self.key = path, key
        self.units: list[dict[str, Any]] = []
        self.history: list[dict[str, Any]] = []
        self.fitter: dict[str, Any] | None = None
        self._saved = time.monotonic()
        if resume and path is not None and path.exists():
            state = load_state(path, device)
            if state.get("layout") != LAYOUT:
                raise ResumeError(
                    f"cannot resume from {path}: another version of the codec wrote it; delete it "
                    "to start anew"
                )
            if state.get("key") != key:
                raise ResumeError(
                    f"cannot resume from {path}: it belongs to other media or other settings; "
                    "give the same input and options, or delete it"
                )
            try:
                self.units, self.history = state["units"], state["history"]
                self.fitter = state["fitter"]
            except KeyError as error:
                raise ResumeError(f"cannot resume from {path}: {error} is missing") from error

    def due(self) -> bool:
        """Whether it is time to save."""
        return self.path is not None and time.monotonic() - self._saved > SAVE_SECONDS

    def save(self, fitter: Any) -> None:
        """Write the state, with the fit that is under way."""
        if self.path is None:
            return
        state = {
            "layout": LAYOUT,
            "key": self.key,
            "units": self.units,
            "history": self.history,
            "fitter": fitter.state() if fitter is not None else None,
        }
        save_state(self.path, state)
        self._saved = time.monotonic()


def network_to_values(network: NetworkConfig | CoreConfig) -> dict[str, Any]:
    """Plain values of an architecture."""
    values = {k: int(v) if not isinstance(v, str) else v for k, v in asdict(network).items()}
    return {"family": "core" if isinstance(network, CoreConfig) else "rank", **values}


def network_from_values(values: Mapping[str, Any]) -> NetworkConfig | CoreConfig:
    """Inverse of `network_to_values`."""
    typed = dict(values)
    if typed.pop("family") == "core":
        return CoreConfig(**typed)
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


def result_to_values(result: RoundResult) -> dict[str, Any]:
    """Plain values and tensors of a finished round."""
    return {
        "network": network_to_values(result.plan.network),
        "fit": asdict(result.plan.fit),
        "start": result.plan.start,
        "coded": [[t.symbols, t.step] for t in result.coded],
        "weights": dict(result.weights),
        "bits": result.bits,
        "mse": result.mse,
        "lam": result.lam,
    }


def result_from_values(stored: Mapping[str, Any]) -> RoundResult:
    """Inverse of `result_to_values`."""
    network = network_from_values(stored["network"])
    assert isinstance(network, NetworkConfig)
    plan = Round(network, FitConfig(**stored["fit"]), stored["start"])
    coded = [CodedTensor(symbols, step) for symbols, step in stored["coded"]]
    return RoundResult(plan, coded, stored["weights"], stored["bits"], stored["mse"], stored["lam"])


def core_result_to_values(result: CoreResult) -> dict[str, Any]:
    """Plain values and tensors of a finished round of core fusion."""
    return {
        "fit": asdict(result.plan.fit),
        "gain": result.plan.gain,
        "start": result.plan.start,
        "weights": dict(result.weights),
        "latents": result.latents,
        "payload": result.payload,
        "mse": result.mse,
    }


def core_result_from_values(stored: Mapping[str, Any]) -> CoreResult:
    """Inverse of `core_result_to_values`."""
    fit = dict(stored["fit"])
    for name, value in fit.items():
        if isinstance(value, list):
            fit[name] = tuple(value)
    return CoreResult(
        CoreRound(CoreFitConfig(**fit), stored["gain"], stored["start"]),
        stored["weights"],
        stored["latents"],
        stored["payload"],
        stored["mse"],
    )
