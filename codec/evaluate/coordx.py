"""This project's own codec, of images and clips, as a plug-in of the evaluation."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from codec import __version__
from codec.evaluate.clips import Clip
from codec.evaluate.metrics import Samples
from codec.evaluate.settings import check_sweep
from codec.options import DEFAULT_EFFORT, EncodeOptions

__all__ = ["CoordXCodec"]

# Folders whose code has no influence on the bytes of a file or on its decoded samples.
NOT_THE_CODEC = ("evaluate", "cli", "samples")


@dataclass(frozen=True)
class CoordXCodec:
    """Encode and decode through `codec.api`, one lambda a point.

    Attributes:
        effort, steps, fusion, split, seed, device: as `codec.encode` takes them.
        qualities: the lambdas of the sweep; the default ones span the rates at which image
            codecs are compared on Kodak, 0.1 to 2 bits per pixel.

    Raises:
        InputError: a value out of its range.
    """

    effort: int = DEFAULT_EFFORT
    steps: int | None = None
    fusion: str | None = None
    split: str | None = None
    seed: int = 0
    device: str = "auto"
    qualities: tuple[float, ...] = (0.02, 0.004, 0.001, 0.0004, 0.0001)

    options: ClassVar[Mapping[str, Callable[[str], object]]] = {
        "effort": int,
        "steps": int,
        "fusion": str,
        "split": str,
        "seed": int,
        "device": str,
    }
    point: ClassVar[str] = "lambda"
    suffix: ClassVar[str] = ".crdx"

    def __post_init__(self) -> None:
        """Check the settings once."""
        check_sweep("lambdas", self.qualities)
        for lam in self.qualities:
            options = EncodeOptions(**self._settings(lam))
            if self.split is not None:
                options.partition(video="t" in self.split)

    @property
    def name(self) -> str:
        """`coordx-e4`: with the effort, on which the rate depends; other settings if given."""
        effort = f"e{self.effort}" if self.steps is None else f"{self.steps}steps"
        split = "" if self.fusion is None else f"-{self.fusion}"
        split += "" if self.split is None else f"-{self.split}"
        return f"coordx-{effort}{split}{f'-seed{self.seed}' if self.seed else ''}"

    def version(self) -> str:
        """Package version, a digest of its source, and the torch it runs on."""
        _api()  # imported here, so that its seconds are not those of the first encode
        torch = importlib.metadata.version("torch")
        return f"coordx-codec {__version__}, source {_source_digest()}, torch {torch}"

    def command(self, q: float) -> str:
        """The call of `codec.api.encode` at lambda `q`."""
        arguments = ", ".join(f"{key}={value!r}" for key, value in self._settings(q).items())
        return f"codec.encode(samples, {arguments})"

    def encode(self, samples: Samples, q: float) -> bytes:
        """A `.crdx` file of (H, W, C) samples at lambda `q`."""
        data: bytes = _api().encode(samples, **self._settings(q)).data
        return data

    def decode(self, data: bytes) -> Samples:
        """Samples (H, W, C) of a `.crdx` file."""
        return np.asarray(_api().decode(data, device=self.device))

    def encode_clip(self, clip: Clip, q: float) -> bytes:
        """A `.crdx` file of the R'G'B' frames of a clip at lambda `q`; no sound."""
        with tempfile.TemporaryDirectory(prefix="coordx-") as name:
            frames = np.stack(list(clip.rgb_frames(Path(name))))
        depth = None if clip.depth == 8 else clip.depth
        settings = self._settings(q)
        encoded = _api().encode(frames, bit_depth=depth, rate=clip.rate, **settings)
        data: bytes = encoded.data
        return data

    def decode_clip(self, data: bytes, folder: Path) -> Samples:
        """R'G'B' frames (T, H, W, C) of a `.crdx` file."""
        return np.asarray(_api().decode(data, device=self.device))

    def compute_device(self) -> str:
        """What encodes and decodes: "cpu", or the name of the GPU."""
        device = importlib.import_module("codec.device").pick_device(self.device)
        torch = importlib.import_module("torch")
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return str(name)

    def _settings(self, q: float) -> dict[str, Any]:
        return {
            "lam": q,
            "effort": self.effort,
            "steps": self.steps,
            "fusion": self.fusion,
            "split": self.split,
            "seed": self.seed,
            "device": self.device,
        }


def _api() -> Any:
    # Not at the top: it loads torch, which JPEG against WebP does not need.
    return importlib.import_module("codec.api")


def _source_digest() -> str:
    """Eight hex digits that change with the code of the codec.

    A version number does not change between two edits, and a resumed evaluation must not mix
    measurements of two states of the code.
    """
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for package in ("codec", "formats"):
        for path in sorted((root / package).rglob("*.py")):
            relative = path.relative_to(root)
            if relative.parts[1] not in NOT_THE_CODEC:
                digest.update(f"{relative.as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:8]
