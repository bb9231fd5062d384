"""How far a download is, told some times a second."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mqf_tui.library.hub.files import HubFile

SPEED_SECONDS = 5.0  # over which the speed is taken
LEAST_SECONDS = 0.3  # under which there is none yet
TELL_SECONDS = 0.1


@dataclass(frozen=True)
class Progress:
    """How far a download is; bytes count all its files together, with those that were here before.

    ``waiting`` is "" while data flows, else what it waits for, as a clause: "the hub asks to wait 12 s".
    While the hub is asked what there is, ``n_files`` is 0.
    """

    file: str
    n_files: int
    files_done: int
    bytes_done: int
    bytes_total: int
    bytes_per_second: float
    waiting: str = ""


class Meter:
    """Counts what comes in and tells it."""

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self._tell = on_progress
        self._here: dict[str, int] = {}  # bytes of each file
        self._total = 0
        self._file = ""
        self._done = 0
        self._waiting = ""
        self._received = 0
        self._marks: deque[tuple[float, int]] = deque()  # when, and how much had been received then
        self._told = 0.0

    def plan(self, files: Sequence[HubFile], here: Sequence[int]) -> None:
        """What is to be fetched, and how much of each file is here."""
        self._here = {file.path: n for file, n in zip(files, here, strict=True)}
        self._total = sum(file.size for file in files)

    @property
    def missing(self) -> int:
        """Bytes still to come."""
        return self._total - sum(self._here.values())

    def begin(self, file: HubFile) -> None:
        """From now on it is this file."""
        self._file = file.path
        self.tell()

    def here(self, n_bytes: int) -> None:
        """So much of the file is here, as it turned out."""
        self._here[self._file] = n_bytes

    def add(self, n_bytes: int) -> None:
        """So much more has come."""
        self._here[self._file] += n_bytes
        self._received += n_bytes
        self._waiting = ""
        self.idle()

    def finish(self, file: HubFile) -> None:
        """The file is in its place."""
        self._here[file.path] = file.size
        self._done += 1
        self._waiting = ""
        self.tell()

    def wait(self, words: str) -> None:
        """Say what is waited for; "" for nothing any more."""
        self._waiting = words
        self.tell()

    def idle(self) -> None:
        """Tell how far it is, unless that was told just now."""
        if time.monotonic() - self._told >= TELL_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Tell how far it is."""
        self._told = time.monotonic()
        speed = self._speed(self._told)
        done = sum(self._here.values())
        self._tell(Progress(self._file, len(self._here), self._done, done, self._total, speed, self._waiting))

    def _speed(self, now: float) -> float:
        self._marks.append((now, self._received))
        while now - self._marks[0][0] > SPEED_SECONDS:
            self._marks.popleft()
        began, before = self._marks[0]
        seconds = now - began
        return (self._received - before) / seconds if seconds >= LEAST_SECONDS else 0.0
