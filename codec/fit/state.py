"""Save and load the state of a fit: tensors and plain values in one .npz, no pickle.

Optimiser state is a tree of dicts, lists, numbers and tensors. The tree is written as JSON in
which every tensor is a reference to an array of the same file.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from formats.atomic import write_bytes
from formats.errors import ResumeError

__all__ = ["load_state", "save_state"]

_TREE = "tree"


def _flatten(value: Any, arrays: list[npt.NDArray[Any]]) -> Any:
    if isinstance(value, Tensor):
        arrays.append(value.detach().cpu().numpy())
        return {"tensor": len(arrays) - 1}
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, bytes):
        arrays.append(np.frombuffer(value, dtype=np.uint8))
        return {"bytes": len(arrays) - 1}
    if isinstance(value, dict):
        # Pairs, not a JSON object: optimiser state is keyed by integers.
        return {"dict": [[_flatten(k, arrays), _flatten(v, arrays)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_flatten(v, arrays) for v in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"state of a fit: cannot store a {type(value).__name__}")


def _restore(node: Any, arrays: Any, device: torch.device) -> Any:
    if not isinstance(node, dict):
        return node
    (kind, content), *rest = node.items()
    if rest:
        raise ValueError("a node has one kind")
    if kind == "dict":
        return {_restore(k, arrays, device): _restore(v, arrays, device) for k, v in content}
    if kind == "list":
        return [_restore(v, arrays, device) for v in content]
    array = arrays[f"a{int(content)}"]
    if kind == "tensor":
        # Strides are kept: a GEMM may round differently for a transposed operand.
        return torch.from_numpy(array.copy(order="K")).to(device)
    if kind == "bytes":
        return array.tobytes()
    if kind == "array":
        return array
    raise ValueError(f"unknown kind {kind!r}")


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a tree of dicts, lists, numbers, strings, bytes, arrays and tensors atomically."""
    arrays: list[npt.NDArray[Any]] = []
    tree = json.dumps(_flatten(state, arrays)).encode()
    buffer = io.BytesIO()
    named = {f"a{number}": array for number, array in enumerate(arrays)}
    np.savez(buffer, **{_TREE: np.frombuffer(tree, dtype=np.uint8)}, **named)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def load_state(path: Path, device: torch.device) -> dict[str, Any]:
    """Read what `save_state` wrote; tensors land on `device`.

    Raises:
        ResumeError: the file is not such a state.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            tree = json.loads(arrays[_TREE].tobytes())
            state = _restore(tree, arrays, device)
    except Exception as error:
        # Damaged archives raise from OSError and BadZipFile to NotImplementedError and
        # tokenize.TokenError; here is the boundary where all of it means one thing.
        raise ResumeError(
            f"cannot resume from {path}: it is not a saved encoder state; delete it to start anew"
        ) from error
    if not isinstance(state, dict):
        raise ResumeError(f"cannot resume from {path}: expected a state, got {type(state)}")
    return state
