"""Kernels that a step of core fusion launches on a GPU, counted without one.

    python tools/count_launches.py [--size 768x512]

Steps run on the CPU, in the portions of a GPU; operations that only make views do not count, one
on a list of tensors is one. The loss with its gradients is recorded as a CUDA graph
(`codec/fit/replay.py`); all else is launched at every step, a mean of ten, of which one turns the
bases of SOAP. What a launch costs is the device's to say: some microseconds, fewer in a graph.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import codec.network.convolve as convolve
import codec.network.tail as tail
import codec.rate.plan as plan
from codec.fit.core_config import CoreFitConfig
from codec.fit.core_loop import CoreFitter
from codec.network.core import CoreCoordX
from codec.network.presets import core_network

NO_KERNEL = {
    *("alias", "as_strided", "detach", "expand", "permute", "select", "slice", "split"),
    *("split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view"),
    *("_reshape_alias", "_unsafe_view", "empty", "empty_like", "new_empty", "lift_fresh"),
    *("_record_function_enter_new", "_record_function_exit"),
}


class Counter(TorchDispatchMode):
    """Counts operations that compute something; one on a list of tensors is one."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ not in NO_KERNEL
        return func(*args, **(kwargs or {}))


def launches(call: Callable[[], Any]) -> int:
    """Operations of a call."""
    with torch.no_grad(), Counter() as counter:
        call()
    return counter.count


def main() -> None:
    """Count and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="768x512", help="WIDTHxHEIGHT")
    width, height = map(int, parser.parse_args().size.split("x"))
    for module in (plan, convolve, tail):
        module.CHUNK = module.GPU_CHUNK
    torch.set_num_threads(1)  # more evaluate the rate in two portions
    net = CoreCoordX(core_network(height, width, 1e-3, 0), {"y": height, "x": width}, 3)
    fitter = CoreFitter(net, torch.rand(3, height, width), CoreFitConfig.of(1e-3, 1000))
    for _ in range(2):  # what every step uses is made in the first
        fitter.advance()
    (softened, _), firmed = fitter._softened(), fitter._firmed()
    recorded = launches(lambda: fitter.loss.terms(softened, *firmed))
    steps = launches(lambda: [fitter.advance() for _ in range(10)])
    print("| size | recorded | launched each step |\n|---|---|---|")
    others = steps / 10 - recorded + 1  # and a copy of the latents to where the recording reads
    print(f"| {width}x{height} | {recorded} | {others:.0f} |")


if __name__ == "__main__":
    main()
