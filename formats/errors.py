"""Every error this project raises on purpose, in one tree.

CoordXError
├── FormatError              the bytes of a .crdx file break formats/SPEC.md
│   ├── NotCrdxError         the magic is not there: some other kind of file
│   ├── VersionError         a .crdx of a version this library cannot read
│   ├── TruncatedError       the file ends before what it announces
│   ├── ChecksumError        a chunk's CRC-32 does not match its bytes
│   ├── LimitError           a declared size is over the limits of formats/limits.py
│   └── CorruptError         a field holds what the specification forbids
├── MediaError               a picture or a clip cannot be read or written as asked
├── InputError               an argument has a wrong type, shape, range or combination
├── OutputError              a result cannot be written where it was asked for
├── ResumeError              a saved encoder state does not belong to this encode
└── MissingLibraryError      an optional library is needed and not installed

The message of each says what was expected, what came and where.
"""

from __future__ import annotations

__all__ = [
    "ChecksumError",
    "CoordXError",
    "CorruptError",
    "FormatError",
    "InputError",
    "LimitError",
    "MediaError",
    "MissingLibraryError",
    "NotCrdxError",
    "OutputError",
    "ResumeError",
    "TruncatedError",
    "VersionError",
]


class CoordXError(Exception):
    """Base class: catch this one to catch everything the project raises on purpose."""


class FormatError(CoordXError):
    """The bytes given are not a `.crdx` file that this library may decode."""


class NotCrdxError(FormatError):
    """The first bytes are not the `.crdx` magic."""


class VersionError(FormatError):
    """The file announces a version of the format that this library does not know."""


class TruncatedError(FormatError):
    """The bytes end before the file does; more of the same file would decode."""


class ChecksumError(FormatError):
    """The CRC-32 of a chunk differs from the one stored beside it."""


class LimitError(FormatError):
    """A declared size exceeds a limit; nothing of that size was allocated."""


class CorruptError(FormatError):
    """A field, or a combination of fields, is forbidden by the specification."""


class MediaError(CoordXError):
    """A media file cannot be read, understood or written."""


class InputError(CoordXError, ValueError):
    """An argument of a public function has a wrong type, shape, range or combination."""


class OutputError(CoordXError, OSError):
    """A result cannot be written; no partial file is left behind."""


class ResumeError(CoordXError):
    """A saved encoder state does not fit the media or the settings of this encode."""


class MissingLibraryError(CoordXError, ImportError):
    """An optional library is needed for this request and is not installed."""
