"""The integer context network on a torch device, for decoding.

`formats.context.ContextNetwork` is the definition and what a CPU uses. This one runs the same
integers, carried by float32, through torch: every sum stays below 2^24, so that any order of
additions on any device gives the same bits. Matrix products must not be reduced to TF32 or
bfloat16, which torch only does when asked to.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from formats.blocks import Pass
from formats.context import MEAN_LIMIT, TOP, TOP_SCALE, ContextNetwork, Scratch
from formats.errors import InputError

__all__ = ["TorchContextNetwork"]


class TorchContextNetwork(ContextNetwork):
    """Predicts like the network it is made from, on `device`.

    Raises:
        InputError: torch was told to compute float32 products with less precision.
    """

    def __init__(self, network: ContextNetwork, device: torch.device) -> None:
        self.__dict__.update(network.__dict__)
        if torch.get_float32_matmul_precision() != "highest":
            raise InputError(
                "torch.set_float32_matmul_precision: entropy decoding needs 'highest', got "
                f"{torch.get_float32_matmul_precision()!r}"
            )
        self.device = device
        self._matrices = {
            name: self._on_device(getattr(self, name))
            for name in ("_first", "_coarsest", "_hidden")
        }
        self._outputs = [self._on_device(matrix) for matrix in self._out]

    def _on_device(self, array: npt.NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    @torch.inference_mode()
    def predict(
        self, step: Pass, level: int, scratch: Scratch | None = None
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """As `ContextNetwork.predict`; the whole pass at once."""
        rows, cols = step.shape
        weights = self._matrices["_coarsest" if step.parent is None else "_first"]
        inputs = np.empty((weights.shape[1], rows, cols), np.float32)
        self.gather(step, slice(0, rows), slice(0, cols), inputs)
        x = self._on_device(inputs.reshape(weights.shape[1], -1))
        first = torch.mm(weights, x).clamp_(0, TOP)
        hidden, output = self._matrices["_hidden"], self._outputs[level]
        second = torch.addmm(hidden[:, :1], hidden[:, 1:], first).floor_().clamp_(0, TOP)
        found = torch.addmm(output[:, :1], output[:, 1:], second).floor_()
        found[0].clamp_(-MEAN_LIMIT, MEAN_LIMIT)
        found[1].clamp_(self.full >> level & 1, TOP_SCALE)
        mean, scale = found.cpu().numpy().astype(np.intp)
        return mean, scale
