"""The integer context network: the mean and the scale of every latent from its neighbours.

Its definition (formats/SPEC.md, section 9.3) is integer arithmetic, so that encoder and decoder
agree to the last bit on any machine. Here it runs in float32 matrix products, which are exact:
`ContextNetwork` refuses weights with which any sum of products, in any order, could pass 2^24,
the last integer up to which float32 holds all of them; the powers of two that the rows are scaled
by change exponents only. A rounding constant, or `MIDDLE`, may carry a sum past 2^24, then or on
the way, but only where the result is clamped (the means, the closest, from 32736 * 2^9 on: 2^24 -
2^14). No BLAS mode of less than float32 precision may be used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from formats.blocks import BOXED, BOXES, FLAGS, LIMIT, WINDOW, Pass
from formats.core import PARENTS, CoreConfig
from formats.errors import CorruptError, InputError
from formats.network import TensorSpec
from formats.priors import PriorTensor, prior_tensors
from formats.weights import MAX_STEP, CodedTensor

__all__ = [
    "CONTEXT_BITS",
    "EXACT",
    "MEAN_LIMIT",
    "MIDDLE",
    "ONE",
    "TOP",
    "TOP_SCALE",
    "ContextNetwork",
    "Scratch",
    "all_inputs",
    "largest_sums",
]

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
T = TypeVar("T", bound=np.generic)

CONTEXT_BITS = {
    "context.first": 7,
    "context.parent": 7,
    "context.bias": 7,
    "context.hidden": 7,
    "context.hidden_bias": 14,
    "context.out": 7,
    "context.level": 12,
}
"""Fractional bits of the fixed-point weights: the smallest step is 2^-bits."""
ACTIVATION_BITS = 7
TOP = 4095
"""Largest activation, 7 fractional bits."""
ONE = 1 << ACTIVATION_BITS
"""The residual connection among the weights of the hidden layer, which have as many bits."""
EXACT = 1 << 24
"""float32 holds every integer up to here."""
MEAN_LIMIT = 32736
"""Largest mean in 1/32 symbol: 1023 symbols."""
MIDDLE, TOP_SCALE = 44, 63
"""Scale index that the network's output 0 means, and the largest one."""
_BOXES = sum(2 * columns for _, columns in BOXES)
_LOWEST = np.array([[[-MEAN_LIMIT], [least]] for least in (0, 1)], np.float32)
_HIGHEST = np.array([[MEAN_LIMIT], [TOP_SCALE]], np.float32)
_CHUNK = 32768
"""Values of one layer's output at a time: the second-level cache holds all of a chunk."""


def _fixed(spec: TensorSpec, tensor: CodedTensor | None, prior: PriorTensor | None) -> Integers:
    """The fixed-point integers of a tensor, step and shape checked, plus the prior's."""
    shape = None if tensor is None else tensor.symbols.shape
    if tensor is None or shape != spec.shape:
        raise InputError(f"{spec.name}: expected the shape {spec.shape}, got {shape}")
    bits = CONTEXT_BITS[spec.name]
    if not -bits <= tensor.step <= MAX_STEP:
        raise CorruptError(
            f"{spec.name}: expected a step in 2^-{bits}..2^{MAX_STEP}, got 2^{tensor.step}"
        )
    fixed: Integers = tensor.symbols.astype(np.int64) << (tensor.step + bits)
    if prior is not None:
        fixed = fixed + (prior.values << (prior.exponent + bits))
    return fixed


def largest_sums(
    fixed: Mapping[str, Any], row_max: Callable[[Any], Any] = lambda rows: rows.max(1)
) -> dict[tuple[str, ...], Any]:
    """How large the sums of each layer can get, to be below `EXACT` (formats/SPEC.md, 9.3).

    Args:
        fixed: tensors "context.*" by name, in units of their fixed point; floating-point
            values have bounds too, and so have arrays of other libraries.
        row_max: the largest value of each row of such an array.

    Returns:
        By the names of the tensors that take part: (rows,), the bound of each row.
    """
    size = {name: abs(values) for name, values in fixed.items()}
    inputs = size["context.first"].sum(1)
    if "context.parent" in size:  # a network of one level has no parents
        inputs = inputs + size["context.parent"].sum(1)
    return {
        ("context.first", "context.parent", "context.bias"): LIMIT * inputs
        + size["context.bias"].sum(1),
        ("context.hidden", "context.hidden_bias"): TOP * (size["context.hidden"].sum(1) + ONE)
        + size["context.hidden_bias"],
        ("context.out", "context.level"): TOP * size["context.out"].sum(1)
        + 4 * row_max(size["context.level"]),
    }


def all_inputs(
    config: CoreConfig, first: npt.NDArray[T], bias: npt.NDArray[T]
) -> tuple[npt.NDArray[T], npt.NDArray[T]]:
    """The first layer's weights with columns for all of `WINDOW` and of `FLAGS`.

    Args:
        config: says which ones there are.
        first, bias: (w, some) each.

    Returns:
        (w, 16) and (w, 5): zero where the network has no such input.
    """
    window = np.zeros((len(first), len(WINDOW)), first.dtype)
    window[:, config.window] = first
    flags = np.zeros((len(bias), FLAGS), bias.dtype)
    flags[:, : config.flags] = bias
    return window, flags


class Scratch:
    """Buffers that are used again from pass to pass; not to be shared by threads."""

    def __init__(self) -> None:
        self._buffers: dict[str, Floats] = {}
        self._views: dict[tuple[str, int, int], Floats] = {}

    def take(self, name: str, rows: int, cols: int) -> Floats:
        """A (rows, cols) float32 array with unspecified content, valid until the next call."""
        key = name, rows, cols
        if key not in self._views:
            buffer = self._buffers.get(name)
            if buffer is None or buffer.size < rows * cols:
                buffer = self._buffers[name] = np.empty(rows * cols, np.float32)
                self._views = {key: v for key, v in self._views.items() if key[0] != name}
            self._views[key] = buffer[: rows * cols].reshape(rows, cols)
        return self._views[key]


class ContextNetwork:
    """The context network of one unit.

    Args:
        config: its shape.
        tensors: coded tensors by name; those whose name starts with "context." are used.
        full: bit l: level l is coded in full, its scale indices are at least 1.

    Attributes:
        config, full: as given.
        fixed: the integers of its tensors by name, the prior added.

    Raises:
        CorruptError: a step outside the fixed-point range, or weights so large that float32
            sums would not be exact.
        InputError: a tensor is missing or has another shape.
    """

    def __init__(
        self, config: CoreConfig, tensors: Mapping[str, CodedTensor], full: int = 0
    ) -> None:
        self.config, self.full = config, full
        prior = prior_tensors(config, 3)
        self.fixed = fixed = {
            spec.name: _fixed(spec, tensors.get(spec.name), prior.get(spec.name))
            for spec in config.tensors({}, 1)
            if spec.name in CONTEXT_BITS
        }
        for names, bound in largest_sums(fixed).items():
            if (worst := int(bound.max())) >= EXACT:
                row = int(bound.argmax())
                raise CorruptError(
                    f"{', '.join(names)}: sums of row {row} can reach {worst}, expected below 2^24"
                )
        first, bias = all_inputs(config, fixed["context.first"], fixed["context.bias"])
        hidden, hidden_bias = fixed["context.hidden"], fixed["context.hidden_bias"]
        out, level = fixed["context.out"], fixed["context.level"]
        # A network of one level has no parents.
        parent = fixed.get("context.parent", np.zeros((config.width, 0), np.int64))
        boxed = np.zeros((config.width, _BOXES), np.int64)
        boxed[:, BOXED] = first
        # The sums of the first layer are activations, without rounding: both have 7 bits.
        self._first = np.concatenate([boxed, parent, bias], axis=1).astype(np.float32)
        self._coarsest = np.concatenate([boxed, bias], axis=1).astype(np.float32)
        # A column for the constant, then the matrix with the residual connection; in units of 1.
        residual = hidden + ONE * np.eye(config.width, dtype=np.int64)
        self._hidden = np.ldexp(
            np.concatenate([hidden_bias[:, None] + ONE // 2, residual], 1).astype(np.float32),
            -ACTIVATION_BITS,
        )
        # The two outputs have 5 and 3 fractional bits of the sums' 14. A matrix for each grid: its
        # first column is the constant.
        shift = np.array([[9], [11]])
        constant = 4 * level + (1 << shift >> 1) + np.array([[0], [MIDDLE << 11]])
        self._out = [
            np.ldexp(np.concatenate([each[:, None], out], 1).astype(np.float32), -shift)
            for each in constant.T
        ]

    def first_layer(self, step: Pass) -> Floats:
        """Weights (w, inputs): the own grid's boxes, the parent's window if there is one, flags."""
        return self._coarsest if step.parent is None else self._first

    @np.errstate(invalid="ignore")  # BLAS computes with what lies behind a matrix, and drops it
    def predict(
        self, step: Pass, level: int, scratch: Scratch | None = None
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Predict the latents of one pass.

        Args:
            step: the positions and what they see.
            level: the grid's level.
            scratch: buffers to use again.

        Returns:
            In the order of the positions, both (n,): the mean in 1/32 symbol,
            -32736..32736, and the scale index, 0..63.
        """
        scratch = scratch or Scratch()
        rows, cols = step.shape
        width = self.config.width
        weights = self.first_layer(step)
        output = scratch.take("output", 2, rows * cols)
        for row, col in _chunks(rows, cols, max(1, _CHUNK // width)):
            shape = row.stop - row.start, col.stop - col.start
            size = shape[0] * shape[1]
            inputs = scratch.take("inputs", weights.shape[1], size)
            self.gather(step, row, col, inputs.reshape(-1, *shape))
            first = scratch.take("first", 1 + width, size)
            first[0] = 1
            np.dot(weights, inputs, out=first[1:])
            _activate(first[1:])
            second = scratch.take("second", 1 + width, size)
            second[0] = 1
            np.dot(self._hidden, first, out=second[1:])
            np.floor(second[1:], out=second[1:])
            _activate(second[1:])
            start = row.start * cols + col.start
            np.matmul(self._out[level], second, out=output[:, start : start + size])
        np.floor(output, out=output)
        np.maximum(output, _LOWEST[self.full >> level & 1], out=output)
        np.minimum(output, _HIGHEST, out=output)
        mean, scale = output.astype(np.intp)
        return mean, scale

    def gather(self, step: Pass, row: slice, col: slice, inputs: npt.NDArray[Any]) -> None:
        """Fill (inputs, rows, cols): the own grid's boxes, the parent's window, the flags."""
        end = 0
        for (_, columns), view in zip(BOXES, step.windows, strict=True):
            start, end = end, end + 2 * columns
            target = inputs[start:end].reshape(2, columns, *inputs.shape[1:])
            target[...] = view[:, :, row, col]
        if step.parent is not None:
            start, end = end, end + PARENTS
            target = inputs[start:end].reshape(3, 3, *inputs.shape[1:])
            target[...] = step.parent[:, :, row, col]
        inputs[end:] = step.flags[:, row, None]


def _activate(sums: Floats) -> None:
    """Clamp to 0..TOP in place: `clip` is one pass over memory, but slow to start."""
    if sums.size > 8192:
        sums.clip(0, TOP, out=sums)
    else:
        np.maximum(sums, 0, out=sums)
        np.minimum(sums, TOP, out=sums)


def _chunks(rows: int, cols: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Parts of at most `size` positions that are contiguous in raster order."""
    count = size // cols
    if count >= rows:
        yield slice(0, rows), slice(0, cols)
    elif count:
        for top in range(0, rows, count):
            yield slice(top, min(top + count, rows)), slice(0, cols)
    else:
        for top in range(rows):
            for left in range(0, cols, size):
                yield slice(top, top + 1), slice(left, min(left + size, cols))
