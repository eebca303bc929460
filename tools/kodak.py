"""What the tools on Kodak share: pictures by their items, and jobs among processes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch

from codec.media import read_image
from codec.signal import Samples

Job = TypeVar("Job")


def image_path(folder: Path, number: int) -> Path:
    """The file of one image, kodim01.png ... kodim24.png."""
    return folder / f"kodim{number:02d}.png"


def samples_of(folder: Path, item: str) -> Samples:
    """Samples (H, W, 3) of NUMBER, the whole image, or of NUMBER@WxH, a crop of its centre."""
    number, _, size = item.partition("@")
    samples = read_image(image_path(folder, int(number))).samples
    if not size:
        return samples
    width, height = map(int, size.split("x"))
    top, left = (samples.shape[0] - height) // 2, (samples.shape[1] - width) // 2
    return samples[top : top + height, left : left + width].copy()


def share(text: str) -> tuple[int, int]:
    """I/N: this process does the I-th part of N; for argparse."""
    try:
        part, parts = (int(word) for word in text.split("/"))
    except ValueError:
        part, parts = 0, 0
    if not 0 <= part < parts:
        raise argparse.ArgumentTypeError(f"expected I/N with 0 <= I < N, got {text!r}")
    return part, parts


def own_jobs(jobs: Sequence[Job], part_of: tuple[int, int]) -> list[Job]:
    """This process's jobs; beside others it computes on one thread, the best use of the cores."""
    part, parts = part_of
    if parts > 1:
        torch.set_num_threads(1)
    return list(jobs[part::parts])
