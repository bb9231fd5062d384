"""Where bytes come from: files, compressed files, and streams that can be read only once."""

from __future__ import annotations

import gzip
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.model.bounded import no_file

BLOCK = 1_000_000  # bytes that are read at once
LARGE = 64_000_000  # bytes; of what is larger, or may be, only what is needed is read
ALTERNATIVES = "use --corpus builtin or a text file of your own"


class Source(Protocol):
    """Bytes that may be read more than once; ``large``: reading all of them is not cheap."""

    @property
    def shown(self) -> str:
        """Its name in messages."""
        ...

    @property
    def large(self) -> bool:
        """Whether only what is needed of it should be read."""
        ...

    def blocks(self) -> Iterator[bytes]:
        """The bytes from the beginning; raises BadCorpusError."""
        ...


@dataclass(frozen=True)
class FileBytes:
    """A regular file."""

    path: Path
    shown: str

    @property
    def large(self) -> bool:
        """By its size when it was first asked for."""
        return self._large

    @cached_property
    def _large(self) -> bool:
        try:
            return self.path.stat().st_size > LARGE
        except OSError as error:
            raise unreadable(self.shown, error) from error

    def blocks(self) -> Iterator[bytes]:
        """Raises BadCorpusError, also where the file changes before its end is reached."""
        try:
            with _opened(self.path, self.shown) as file:
                before = _state(file)
                while block := file.read(BLOCK):
                    yield block
                if _state(file) != before:
                    raise BadCorpusError(
                        f"{self.shown} changed while it was read; measure again when nothing writes to it."
                    )
        except OSError as error:
            raise unreadable(self.shown, error) from error


@dataclass(frozen=True)
class GzipBytes:
    """What a gzip file holds."""

    path: Path
    shown: str

    @property
    def large(self) -> bool:
        """How much is in it is known only by unpacking it."""
        return self._large

    @cached_property
    def _large(self) -> bool:
        n_bytes = 0
        for block in self.blocks():
            n_bytes += len(block)
            if n_bytes > LARGE:
                return True
        return False

    def blocks(self) -> Iterator[bytes]:
        """Raises BadCorpusError, also where the file is damaged or cut."""
        try:
            with _opened(self.path, self.shown) as raw, gzip.open(raw) as file:
                while block := file.read(BLOCK):
                    yield block
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            why = "it is cut" if isinstance(error, EOFError) else "it is damaged or no gzip file"
            raise BadCorpusError(
                f"{self.shown} cannot be unpacked ({why}); copy or download it again."
            ) from error
        except OSError as error:
            raise unreadable(self.shown, error) from error


@dataclass(frozen=True)
class KeptBytes:
    """The beginning of a stream, kept because it cannot be read again."""

    content: bytes
    shown: str
    large: bool

    def blocks(self) -> Iterator[bytes]:
        """What was kept."""
        for start in range(0, len(self.content), BLOCK):
            yield self.content[start : start + BLOCK]


def source_of(path: Path, shown: str) -> Source:
    """A regular file; raises BadCorpusError for what is none."""
    try:
        other = _other(path.stat())
    except OSError as error:
        raise unreadable(shown, error) from error
    if other is not None:
        raise BadCorpusError(f"{shown} is {other}, not a file; name a text file, or use --corpus -.")
    return GzipBytes(path, shown) if path.suffix.lower() == ".gz" else FileBytes(path, shown)


_streams: dict[tuple[int, int], KeptBytes] = {}


def stream(descriptor: int, shown: str) -> KeptBytes:
    """All of an open stream, or its first LARGE bytes; read once and kept. Raises BadCorpusError."""
    try:
        found = os.fstat(descriptor)
        if os.isatty(descriptor):
            raise BadCorpusError(f"{shown} is a terminal; pipe a text into it, or {ALTERNATIVES}.")
        key = found.st_dev, found.st_ino
        if key not in _streams:
            with open(descriptor, "rb", closefd=False) as file:
                content = _at_most(file, LARGE + 1)
            _streams[key] = KeptBytes(content[:LARGE], shown, len(content) > LARGE)
        return _streams[key]
    except OSError as error:
        raise unreadable(shown, error) from error


def standard_input() -> KeptBytes:
    """What is piped into this process; raises BadCorpusError where nothing is."""
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError) as error:  # closed, or no stream of the system's
        raise BadCorpusError(
            f"there is no standard input to read; pipe a text into it, or {ALTERNATIVES}."
        ) from error
    return stream(descriptor, "standard input")


def unreadable(shown: str, error: OSError) -> BadCorpusError:
    """The sentence for what the system refused."""
    why = error.strerror or type(error).__name__
    return BadCorpusError(f"{shown} cannot be read ({why}); check its permissions, or {ALTERNATIVES}.")


def _at_most(file: BinaryIO, n: int) -> bytes:
    pieces: list[bytes] = []
    while n > 0 and (block := file.read(min(BLOCK, n))):
        pieces.append(block)
        n -= len(block)
    return b"".join(pieces)


def _opened(path: Path, shown: str) -> BinaryIO:
    # Not blocking: it may have become a pipe since it was looked at, and opening one waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    file = open(descriptor, "rb")  # noqa: SIM115
    other = _other(os.fstat(descriptor))
    if other is not None:
        file.close()
        raise BadCorpusError(f"{shown} is {other}, not a file; name a text file.")
    return file


def _state(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _other(about: os.stat_result) -> str | None:
    """What is there in words, where it is no plain file."""
    return "a folder" if stat.S_ISDIR(about.st_mode) else no_file(about)
