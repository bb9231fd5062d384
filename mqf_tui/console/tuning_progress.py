"""Progress of ``sensitivity`` and ``tune`` on standard error: one line, and a line for each stage."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from mqf_tui.fidelity.events import Estimated, Event, Loading, Started, StepScored

if TYPE_CHECKING:
    from mqf_tui.fidelity.sensitivity import Sensed
    from mqf_tui.fidelity.tuning import Stage, Tuned

REDRAW_SECONDS = 0.1


class TuningProgress:
    """Draws what share of a stage is scored and how long the rest takes, only where there is a terminal."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._planned = self._scored = 0
        self._drawn = 0.0

    def __enter__(self) -> TuningProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line("")

    def show(self, event: Event | Stage | Sensed | Tuned) -> None:
        """Draw what ``event`` tells, at most ten times a second."""
        from mqf_tui.fidelity.tuning import Stage
        from mqf_tui.reports.text import counted

        match event:
            case Stage(what=what, n_variants=n):
                self._line("")
                sys.stderr.write(f"{what}: {counted(n, 'setting')}\n")
            case Loading(what=what, share=share):
                self._line(what + (f" {share:.0%}" if share is not None else " …"))
            case Estimated(memory=memory, time=expected) if self._on or memory.advice:
                from mqf_tui.fidelity.timing import estimate_words

                self._line("")
                sys.stderr.write(f"{estimate_words(memory, expected)}\n")
            case Started(plans=plans):
                self._planned, self._scored = sum(plan.n_positions for plan in plans), 0
            case StepScored(positions=positions, seconds=seconds):
                self._scored += len(positions)
                now = time.monotonic()
                if now - self._drawn >= REDRAW_SECONDS:
                    self._drawn = now
                    self._line(self._scoring(seconds))
            case _:
                pass

    def _scoring(self, seconds: float) -> str:
        from mqf_tui.reports.text import duration

        left = seconds * (self._planned - self._scored) / self._scored if self._scored else 0.0
        return f"{self._scored / max(1, self._planned):4.0%}  {duration(left)} left"

    def _line(self, text: str) -> None:
        if self._on:
            width = shutil.get_terminal_size().columns
            sys.stderr.write("\r\x1b[2K" + text[: width - 1])
            sys.stderr.flush()
