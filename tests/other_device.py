"""A device that is not the CPU, for machines that have none.

Its tensors are computed on the CPU, but they belong to a device of their own: an operation that
mixes them with tensors of the CPU is refused as on a GPU, numpy() too, and what waits for a
device (a read of a value, a copy to the CPU) is counted. What is right here may still be slow or
run out of registers on a real device; what is wrong here is wrong there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

__all__ = ["OtherDevice", "other_device", "prepare"]

NAME = "elsewhere"
TRANSFERS = ("aten::_to_copy", "aten::copy_")
READS = ("aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::nonzero")


class _Elsewhere(Tensor):
    """A tensor of the other device; `here` holds its values."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> _Elsewhere:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=torch.device(NAME, 0),
        )
        made.here = here
        return made  # type: ignore[no-any-return]

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.here})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class OtherDevice(TorchDispatchMode):
    """While active, the other device exists.

    Attributes:
        device: to put tensors on.
        waits: names of the operations that waited for the device.
        uploads: names of those that copied from the CPU; a CUDA graph can hold neither.
    """

    def __init__(self) -> None:
        super().__init__()
        self.device = torch.device(NAME, 0)
        self.waits: list[str] = []
        self.uploads = _uploads
        self._recording: list[tuple[Any, Any, Any, Any]] | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        target = kwargs.get("device")
        moved = any(isinstance(a, _Elsewhere) for a in tree_leaves((args, kwargs)))
        if moved and (name in READS or _leaves(name, args, target)):
            self.waits.append(name)
        if _arrives(name, args, target):
            self.uploads.append(name)
        found = _run(func, args, kwargs)
        if self._recording is not None:
            self._recording.append((func, args, kwargs, found))
        return found

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """Record a computation as a CUDA graph does: its kernels, on the tensors they were on.

        Raises:
            RuntimeError: it reads from the device, or copies to it.
        """
        before = len(self.waits), len(self.uploads)
        self._recording = []
        result = function()
        kernels, self._recording = self._recording, None
        if (len(self.waits), len(self.uploads)) != before:
            raise RuntimeError("a graph holds no transfers")

        def replay() -> None:
            for func, args, kwargs, found in kernels:
                again = _run(func, args, kwargs)
                for old, new in zip(tree_leaves(found), tree_leaves(again), strict=True):
                    if isinstance(old, _Elsewhere) and old.here.data_ptr() != new.here.data_ptr():
                        old.here.copy_(new.here)

        return result, replay


_uploads: list[str] = []


def _leaves(name: str, args: tuple[Any, ...], target: torch.device | None) -> bool:
    if name == "aten::_to_copy":
        return target is not None and target.type == "cpu"
    return name == "aten::copy_" and not isinstance(args[0], _Elsewhere)


def _arrives(name: str, args: tuple[Any, ...], target: torch.device | None) -> bool:
    if name == "aten::_to_copy":
        there = target is not None and target.type == NAME
        return there and not isinstance(args[0], _Elsewhere)
    return (
        name == "aten::copy_"
        and isinstance(args[0], _Elsewhere)
        and not isinstance(args[1], _Elsewhere)
    )


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operation on the CPU's copies; its results stay where its tensors are."""
    name = func._schema.name
    tensors = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
    moved = [a for a in tensors if isinstance(a, _Elsewhere)]
    target = kwargs.get("device")
    if target is None:
        there = bool(moved)
    else:
        there = torch.device(target).type == NAME
        kwargs = kwargs | {"device": torch.device("cpu")}
    # As on a GPU, a single number may come from the CPU.
    if moved and name not in TRANSFERS:
        strangers = [a for a in tensors if not isinstance(a, _Elsewhere) and a.dim()]
        if strangers:
            raise RuntimeError(
                f"{name}: expected all tensors on {NAME}, found {tuple(strangers[0].shape)} on cpu"
            )
    args_here, kwargs_here = tree_map_only(_Elsewhere, lambda a: a.here, (args, kwargs))
    found = func(*args_here, **kwargs_here)
    if name == "aten::copy_":
        return args[0]
    if not there:
        return found
    out = tree_map_only(Tensor, _Elsewhere, found)
    return return_and_correct_aliasing(func, args, kwargs, out)


def _empty_strided(size: Any, stride: Any, **kwargs: Any) -> Tensor:
    return _Elsewhere(torch.empty_strided(size, stride, dtype=kwargs.get("dtype")))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    assert isinstance(target, _Elsewhere)
    if not isinstance(source, _Elsewhere):
        _uploads.append("aten::_copy_from")
    target.here.copy_(source.here if isinstance(source, _Elsewhere) else source)
    return target


class _Generator(torch.Generator):
    """The CPU's, whichever device it is asked for."""

    def __new__(cls, device: Any = None) -> _Generator:
        return super().__new__(cls, torch.device("cpu"))  # type: ignore[call-arg]


def _enter(self: Any) -> None:
    self._no_grad = torch.no_grad()
    self._no_grad.__enter__()


def _exit(self: Any, *error: Any) -> None:
    self._no_grad.__exit__(*error)


def prepare() -> bool:
    """Make the device known to torch; False where that cannot be.

    It must come before the first backward pass of the process, which counts the devices; beside a
    real one it would be taken for the accelerator.
    """
    setup = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
    if setup is None or torch.cuda.is_available():
        return False
    if not hasattr(torch, NAME):
        setup(NAME)
        # Indices that are lists become tensors below the level at which the mode listens.
        torch.library.impl("aten::empty_strided", "privateuseone")(_empty_strided)
        torch.library.impl("aten::_copy_from", "privateuseone")(_copy_from)
    return True


@contextmanager
def other_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtherDevice]:
    """The device, for the length of a block; skips where torch cannot have one."""
    if not prepare():
        pytest.skip("there is a real device, or this torch has no devices written in Python")
    monkeypatch.setattr(torch, "Generator", _Generator)
    # In inference mode operations that are made of others arrive whole, aliases and all.
    monkeypatch.setattr(torch.inference_mode, "__enter__", _enter)
    monkeypatch.setattr(torch.inference_mode, "__exit__", _exit)
    _uploads.clear()
    with OtherDevice() as mode:
        yield mode
