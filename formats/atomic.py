"""Write a file so that a reader finds the old one, the new one, or none: never a part.

The bytes go to a temporary file in the same folder (so that the final step is a rename
within one file system), are flushed to the disk, renamed over the target, and the folder
entry is flushed too; without that last step a crash can lose the rename itself.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from formats.errors import OutputError

__all__ = ["atomic_path", "check_target", "write_bytes"]


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened, and renames are journalled there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_target(path: str | os.PathLike[str], *, overwrite: bool = True) -> Path:
    """Check that a file can be written at `path`, before hours are spent on its content.

    Raises:
        OutputError: the folder is missing or not writable, the target is a folder or a device,
            or it exists and `overwrite` is False.
    """
    target = Path(path)
    try:
        if target.is_symlink():  # write what the link points to, keep the link
            target = Path(os.path.realpath(target))  # resolve() fails on circles up to 3.12
            if target.is_symlink():
                raise OutputError(f"cannot write {path}: its links lead in a circle")
        _check_place(target, overwrite)
        probe = _temporary(target)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _check_place(target: Path, overwrite: bool) -> None:
    folder = target.parent
    if target.is_dir():
        raise OutputError(f"cannot write {target}: expected a file name, it is a folder")
    if not folder.is_dir():
        raise OutputError(f"cannot write {target}: the folder {folder} does not exist")
    if target.exists() and not target.is_file():  # a device such as /dev/null: no rename there
        raise OutputError(f"cannot write {target}: expected a regular file")
    if not overwrite and target.exists():
        raise OutputError(f"cannot write {target}: it exists, and overwriting was not allowed")


def _temporary(target: Path) -> Path:
    return target.parent / f".{target.stem[:64]}.{secrets.token_hex(6)}.part{target.suffix}"


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path; what is written there replaces `path` when the block succeeds.

    Args:
        path: the file to create or replace. Its folder must exist.
        overwrite: with False an existing `path` is an error, before anything is written.

    Yields:
        A path in the same folder with the same suffix. It does not exist yet.

    Raises:
        OutputError: the folder is missing or not writable, the target is a folder, it exists
            and `overwrite` is False, or the disk refused the bytes. Nothing is left behind.
    """
    target = check_target(path, overwrite=overwrite)
    temporary = _temporary(target)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        if overwrite:
            temporary.replace(target)
        else:
            _place_new(temporary, target)
        _sync_folder(target.parent)
    except OutputError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {target}: {reason}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _place_new(temporary: Path, target: Path) -> None:
    """Give the file its name, unless another process has created the target meanwhile."""
    try:
        os.link(temporary, target)  # atomic, fails if the target exists
    except FileExistsError:
        raise
    except OSError:  # no hard links here (FAT, many network disks): reserve the name, then rename
        with target.open("xb"):
            pass
        try:
            temporary.replace(target)
        except BaseException:
            target.unlink()
            raise


def write_bytes(path: str | os.PathLike[str], data: bytes, *, overwrite: bool = True) -> None:
    """Write `data` to `path` atomically; errors as in `atomic_path`."""
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)
