"""Files from anywhere, read within bounds: none that is no plain file, and none larger than it may be."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
FREE = 200_000  # bytes of JSON that may be of any kind
BYTES_A_PART = 16
_DECODER = json.JSONDecoder()


class NotAFileError(OSError):
    """There is something else in the file's place: to open it might wait for ever."""


class TooLargeError(OSError):
    """The file is larger than anything of its kind; ``size`` in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes")
        self.size = size


class TooManyPartsError(ValueError):
    """JSON of more objects and lists than the description of anything has."""


def open_plain(path: Path) -> BinaryIO:
    """The file, or where a link leads; raises NotAFileError for what is none, OSError."""
    other = no_file(path.stat())
    if other is not None:
        raise NotAFileError(0, f"it is {other}, not a file")
    return path.open("rb")


def read_plain(path: Path, limit: int) -> bytes:
    """All of a file of at most ``limit`` bytes; raises TooLargeError, NotAFileError, OSError."""
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        # What is read counts: of some files the system knows no size.
        raw = file.read(limit + 1) if size <= limit else b""
        if max(size, len(raw)) > limit:
            raise TooLargeError(max(size, len(raw)))
        return raw


def parsed(raw: bytes, decoder: json.JSONDecoder | None = None) -> Any:
    """JSON in UTF-8 of a size that was checked; raises ValueError, RecursionError, TooManyPartsError.

    Many small lists take thirty times their text in memory, and long to make.
    """
    if len(raw) > FREE and raw.count(b"{") + raw.count(b"[") > len(raw) // BYTES_A_PART:
        raise TooManyPartsError
    return (decoder or _DECODER).decode(raw.decode("utf-8"))


def no_file(about: os.stat_result) -> str | None:
    """What is there in words, where it is no plain file."""
    if stat.S_ISREG(about.st_mode):
        return None
    return next((words for is_one, words in KINDS if is_one(about.st_mode)), "something else")
