"""Downloads as the app holds them: a thread fetches one model after the other, screens ask how they stand."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.reports.text import inert

if TYPE_CHECKING:
    from mqf_tui.library.hub.download import Progress

State = Literal["waiting", "running", "finished", "failed", "cancelled"]
SECONDS_TO_END = 3.0  # for the thread at the end of the app; what it has fetched lies on disk in any case


@dataclass(frozen=True)
class Standing:
    """How a download stands. ``progress`` is the last that was told, also of one that has ended.

    ``problem``: why it failed, in a sentence; ``folder``: where the model lies once it is here.
    """

    name: str
    state: State = "waiting"
    progress: Progress | None = None
    problem: str = ""
    folder: Path | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ("finished", "failed", "cancelled")

    @property
    def share(self) -> float | None:
        """How much of its bytes is here, from 0 to 1; None where that is not known."""
        if self.state == "finished":
            return 1.0
        p = self.progress
        return min(1.0, p.bytes_done / p.bytes_total) if p is not None and p.bytes_total else None


class Download:
    """A model that was asked for: ``name`` is ``owner/name`` or ``owner/name@revision``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._standing = Standing(name)
        self._lock = threading.Lock()
        self._cancel = threading.Event()

    def standing(self) -> Standing:
        """How it stands now."""
        with self._lock:
            return self._standing

    def cancel(self) -> None:
        """One that waits ends at once, one that runs as soon as its thread looks; what is here stays."""
        self._cancel.set()
        with self._lock:
            if self._standing.state == "waiting":
                self._standing = replace(self._standing, state="cancelled")

    def begin(self) -> bool:
        """Its turn has come; False where it was cancelled."""
        with self._lock:
            if self._standing.state != "waiting":
                return False
            self._standing = replace(self._standing, state="running")
            return True

    def fetch(self) -> None:
        """All of it, in the thread that downloads; never raises."""
        try:
            from mqf_tui.library.hub.download import download_model

            folder = download_model(self.name, on_progress=self._progressed, cancelled=self._cancel.is_set)
        except FidelityError as error:
            if self._cancel.is_set():
                self._change(state="cancelled")
            else:
                self._change(state="failed", problem=str(error))
        except Exception as error:
            self._change(state="failed", problem=mistake(error))
        else:
            self._change(state="finished", folder=folder)

    def _progressed(self, progress: Progress) -> None:
        self._change(progress=progress)

    def _change(self, **changes: object) -> None:
        with self._lock:
            self._standing = replace(self._standing, **changes)


class Downloads:
    """All downloads since the app began; all methods are for one thread, the app's.

    The thread begins with the first one. It is a daemon: whatever the network does, the app can end.
    """

    def __init__(self) -> None:
        self._all: list[Download] = []
        self._work = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def all(self) -> tuple[Download, ...]:
        """In the order in which they were asked for."""
        return tuple(self._all)

    @property
    def current(self) -> Download | None:
        """The one that runs, else the next that waits."""
        going = [one for one in self._all if not one.standing().ended]
        return next((one for one in going if one.standing().state == "running"), next(iter(going), None))

    @property
    def going(self) -> list[str]:
        """The names of those that run or wait."""
        return [one.name for one in self._all if not one.standing().ended]

    @property
    def busy(self) -> bool:
        """Whether one runs or waits."""
        return self.current is not None

    @property
    def alive(self) -> bool:
        """Whether the thread has begun and not ended."""
        return self._thread is not None and self._thread.is_alive()

    def of(self, name: str) -> Download | None:
        """The newest download of this name."""
        return next((one for one in reversed(self._all) if one.name == name), None)

    def start(self, name: str) -> Download:
        """Fetch a model after those that were asked for before; one that is under way is not begun twice."""
        before = self.of(name)
        if before is not None and not before.standing().ended:
            return before
        download = Download(name)
        with self._work:
            # A new try stands in place of the one before it.
            self._all = [one for one in self._all if one is not before] + [download]
            self._work.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="hub", daemon=True)
            self._thread.start()
        return download

    def cancel(self) -> None:
        """Cancel what runs and all that waits."""
        for one in reversed(self._all):  # so that none of them begins in between
            one.cancel()

    def close(self) -> None:
        """Cancel everything and wait for the thread, but not longer than a few seconds."""
        self.cancel()
        with self._work:
            self._closed = True
            self._work.notify()
        if self._thread is not None:
            self._thread.join(SECONDS_TO_END)

    def _run(self) -> None:
        while (download := self._next()) is not None:
            if download.begin():
                download.fetch()

    def _next(self) -> Download | None:
        """The next one that waits, once there is one; None at the end."""
        with self._work:
            while True:
                if self._closed:
                    return None
                waiting = (one for one in self._all if one.standing().state == "waiting")
                if (download := next(waiting, None)) is not None:
                    return download
                self._work.wait()


def mistake(error: Exception) -> str:
    """What is said of an error that nobody foresaw."""
    return f"{type(error).__name__}: {inert(str(error))}; please report this."
