"""One line a measurement, written as it comes, so that a killed evaluation can go on.

A JSON Lines file beside the result. Each line carries a key, a digest of everything that the
measurement depends on; a line whose key is asked for again is the answer. A torn last line,
the trace of a kill, counts as absent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, Self

from codec.evaluate.results import Measurement
from formats.errors import OutputError

__all__ = ["Journal", "measurement_key"]


def measurement_key(*parts: object) -> str:
    """A digest of what a measurement depends on: content, codec, version, settings, metrics."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()


class Journal:
    """Measurements on disk by key. A context manager; lines reach the system one by one.

    Args:
        path: the file; created or, with `resume`, continued.
        resume: False forgets what the file held.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool = True) -> None:
        self._found: dict[str, Measurement] = {}
        try:
            text = path.read_bytes() if resume and path.exists() else b""
            self._file = path.open("ab" if resume else "wb")
            if text and not text.endswith(b"\n"):
                self._file.write(b"\n")  # keep the torn line apart from the next one
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        self._path = path
        for line in text.splitlines():
            # ValueError: not JSON or not text. AttributeError: no object. KeyError, TypeError: of
            # another version of Measurement. In each case the measurement is made again.
            with contextlib.suppress(ValueError, AttributeError, KeyError, TypeError):
                record: dict[str, Any] = json.loads(line)
                key = record.pop("key")
                self._found[key] = Measurement(**record)

    def get(self, key: str) -> Measurement | None:
        """The measurement of this key, if it was made before."""
        return self._found.get(key)

    def add(self, key: str, measurement: Measurement) -> None:
        """Append one line.

        Raises:
            OutputError: the disk refused it.
        """
        record = {"key": key, **dataclasses.asdict(measurement)}
        try:
            self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror or error}") from error
        self._found[key] = measurement

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
