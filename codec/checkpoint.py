"""The saved state of an encode: finished units, finished rounds, the fit under way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from codec.fit.loop import FitConfig, Fitter
from codec.fit.search import Round, RoundResult
from codec.fit.state import load_state, save_state
from formats.errors import ResumeError
from formats.network import Activation, Encoding, Fusion, NetworkConfig, RankMode
from formats.weights import CodedTensor

__all__ = [
    "Checkpoint",
    "network_from_values",
    "network_to_values",
    "result_from_values",
    "result_to_values",
]

LAYOUT = 1
"""Version of what a state holds; goes up with every change of it, of presets or of the fit."""
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

    def save(self, fitter: Fitter | None) -> None:
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


def network_to_values(network: NetworkConfig) -> dict[str, Any]:
    """Plain values of an architecture."""
    return {k: int(v) if not isinstance(v, str) else v for k, v in asdict(network).items()}


def network_from_values(values: Mapping[str, Any]) -> NetworkConfig:
    """Inverse of `network_to_values`."""
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
    plan = Round(
        network_from_values(stored["network"]), FitConfig(**stored["fit"]), stored["start"]
    )
    coded = [CodedTensor(symbols, step) for symbols, step in stored["coded"]]
    return RoundResult(plan, coded, stored["weights"], stored["bits"], stored["mse"], stored["lam"])
