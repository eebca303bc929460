"""Settings and media shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

# Many tiny GEMMs: one thread a process is fastest, and xdist runs one process a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from tests import other_device

REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLES = REPOSITORY / "codec" / "samples"
SHARED = REPOSITORY.parent / "shared" / "data"

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels run on the CPU, number by number

other_device.prepare()


def picture(height: int = 24, width: int = 32, channels: int = 3, bits: int = 8) -> np.ndarray:
    """A smooth picture with an edge: what a small network fits well but not exactly."""
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for c in range(channels):
        plane = 0.5 + 0.3 * np.sin(x / 5 + c) * np.cos(y / 7 - c)
        plane = plane + 0.2 * (x > width // 2) * (y > height // 3)
        planes.append(plane)
    top = (1 << bits) - 1
    samples = np.clip(np.stack(planes, axis=-1) * top, 0, top)
    return samples.astype(np.uint8 if bits == 8 else np.uint16)


def clip(frames: int = 5, height: int = 16, width: int = 20) -> np.ndarray:
    """A moving picture."""
    return np.stack([np.roll(picture(height, width), t, axis=1) for t in range(frames)])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test media; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data is absent: the real test media are not in the repository")
    return SHARED
