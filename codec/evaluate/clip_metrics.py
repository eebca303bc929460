"""Quality of a decoded clip: PSNR of R'G'B' and of Y'CbCr frame by frame, MS-SSIM, VMAF.

PSNR and MS-SSIM are means over frames of the value of each frame, as in CompressAI and the
NeRV papers; x264's "global" PSNR, of the mean MSE, is lower on clips of uneven frames.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from pathlib import Path
from statistics import fmean

import numpy as np

from codec.evaluate import ffmpeg
from codec.evaluate.clips import Clip, like
from codec.evaluate.metrics import Samples, mean_known, ms_ssim
from formats.errors import MediaError

__all__ = ["VMAF_MODEL", "compare_clips", "vmaf"]

VMAF_MODEL = "vmaf_v0.6.1"


def compare_clips(
    reference: Clip, decoded: Clip, folder: Path, metrics: Collection[str]
) -> dict[str, float | None]:
    """Every figure of a decoded clip.

    Args:
        reference: what was coded.
        decoded: what came back; at the reference's depth, or another that is shifted to it.
        folder: for temporary files.
        metrics: "psnr" is always measured; "ms-ssim" and "vmaf" if named.

    Returns:
        "mse" (R'G'B', over all samples), "psnr", "psnr_y", "psnr_u", "psnr_v" in dB,
        "psnr_yuv" = (4 y + u + v) / 6, "ms_ssim" 0..1, "vmaf" 0..100; None where a frame is
        without error, a value is not defined, or was not asked for.

    Raises:
        MediaError: the clips differ in size or length.
    """
    size = (reference.width, reference.height, reference.frames)
    if (decoded.width, decoded.height, decoded.frames) != size:
        raise MediaError(
            f"decoded clip: expected {size[0]}x{size[1]} and {size[2]} frames, "
            f"got {decoded.width}x{decoded.height} and {decoded.frames}"
        )
    decoded = like(decoded, reference, folder)
    peak = (1 << reference.depth) - 1
    errors = [
        [_mse(a, b) for a, b in zip(ours, theirs, strict=True)]
        for ours, theirs in zip(reference.planes(), decoded.planes(), strict=True)
    ]
    y, u, v = (_mean_psnr([frame[n] for frame in errors], peak) for n in range(3))
    known = y is not None and u is not None and v is not None
    rgb_errors: list[float] = []
    indices: list[float | None] = []
    for a, b in zip(reference.rgb_frames(folder), decoded.rgb_frames(folder), strict=True):
        rgb_errors.append(_mse(a, b))
        if "ms-ssim" in metrics:
            indices.append(ms_ssim(a, b, reference.depth))
    return {
        "mse": fmean(rgb_errors),
        "psnr": _mean_psnr(rgb_errors, peak),
        "psnr_y": y,
        "psnr_u": u,
        "psnr_v": v,
        "psnr_yuv": (4 * y + u + v) / 6 if known else None,  # type: ignore[operator]
        "ms_ssim": mean_known(indices),
        "vmaf": vmaf(reference, decoded, folder) if "vmaf" in metrics else None,
    }


def vmaf(reference: Clip, decoded: Clip, folder: Path) -> float:
    """Mean VMAF over frames by libvmaf's built-in model `VMAF_MODEL`; nothing is downloaded.

    Raises:
        MediaError: libvmaf failed (for one, a picture too small for it).
    """
    # Frames are paired by their numbers: time stamps of elementary streams are made up.
    number = "settb=1/25,setpts=N"
    model = f"model=version={VMAF_MODEL}:n_threads=1:log_fmt=json:log_path=vmaf.json"
    graph = f"[0:v]{number}[a];[1:v]{number}[b];[a][b]libvmaf={model}"
    clips = ["-i", str(decoded.path.absolute()), "-i", str(reference.path.absolute())]
    arguments = [*clips, "-lavfi", graph, "-f", "null", "-"]
    ffmpeg.run(arguments, task="cannot compute VMAF", folder=folder)
    log = json.loads((folder / "vmaf.json").read_text(encoding="utf-8"))
    frames = log["frames"]
    if len(frames) != reference.frames:
        raise MediaError(f"VMAF: expected {reference.frames} frames, got {len(frames)}")
    return float(log["pooled_metrics"]["vmaf"]["mean"])


def _mse(a: Samples, b: Samples) -> float:
    difference = a.astype(np.int32) - b
    return float(np.sum(difference * difference, dtype=np.int64)) / a.size


def _mean_psnr(errors: list[float], peak: int) -> float | None:
    if not all(errors):
        return None  # a frame without error has no finite PSNR
    return fmean(10 * math.log10(peak * peak / error) for error in errors)
