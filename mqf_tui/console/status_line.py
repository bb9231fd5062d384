"""One line on standard error that is drawn over and over, only where that is a terminal."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from types import TracebackType
from typing import Self

from mqf_tui.fidelity.events import Estimated, Loading

REDRAW_SECONDS = 0.1


class StatusLine:
    """What the progress of every command has in common; gone when the block ends."""

    def __init__(self) -> None:
        self.on = sys.stderr.isatty()
        self._drawn = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.draw("")

    @property
    def due(self) -> bool:
        """Whether a tenth of a second has passed since this was last so."""
        now = time.monotonic()
        if now - self._drawn < REDRAW_SECONDS:
            return False
        self._drawn = now
        return True

    def draw(self, text: str) -> None:
        """Put ``text`` in place of what stood there."""
        if self.on:
            width = shutil.get_terminal_size().columns
            self._write("\r\x1b[2K" + text[: width - 1])

    def say(self, text: str) -> None:
        """A line that stays, in a pipe too."""
        self.draw("")
        self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        # Where nobody can be told how it goes, it goes on all the same.
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()

    def loading(self, event: Loading | Estimated) -> None:
        """What is being loaded, and what it will take; in a pipe only what advice there is."""
        if isinstance(event, Loading):
            self.draw(event.what + (f" {event.share:.0%}" if event.share is not None else " …"))
        elif self.on or event.memory.advice:
            from mqf_tui.fidelity.timing import estimate_words

            self.say(estimate_words(event.memory, event.time))
