"""The machine a measurement was made on, as far as seconds depend on it."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

from codec.cpu import machine_code

__all__ = ["cores", "describe_machine", "peak_memory", "reset_peak_memory"]


def cores() -> int:
    """Cores that this process may use, which a container or taskset makes fewer than exist."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine() -> dict[str, Any]:
    """System, processor, cores, versions and machine code in use; no host or user name.

    torch and a GPU are named when torch has been loaded, that is, when it was of use.
    """
    machine: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        "python": platform.python_version(),
        "machine code": machine_code(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        machine["torch"] = torch.__version__
        if torch.cuda.is_available():
            machine["gpu"] = torch.cuda.get_device_name()
    return machine


def reset_peak_memory() -> None:
    """Let `peak_memory` count from now on; without effect where the system has no such thing."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: 5 resets the high-water mark


def peak_memory() -> int | None:
    """Largest resident size of this process since `reset_peak_memory`, in bytes.

    What was resident at the reset counts: interpreter, libraries and what they have loaded.
    Without /proc it is the largest size so far, and None where there is no getrusage either.
    """
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts in KiB


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"
