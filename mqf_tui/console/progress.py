"""A progress line on standard error, only where that is a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType

from mqf_tui.fidelity.events import Estimated, Event, Loading, Plan, Started, StepScored

REDRAW_SECONDS = 0.1
BAR_WIDTH = 24


class Progress:
    """Draws loading and scoring; running means only, the report has the rest."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._plan: Plan | None = None
        self._drawn = 0.0
        self._kl_sum = 0.0
        self._flips = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line("")

    def show(self, event: Event) -> None:
        """Draw what ``event`` tells, at most ten times a second."""
        match event:
            case Loading(what=what, share=share):
                self._line(what + (f" {share:.0%}" if share is not None else " …"))
            case Estimated(memory=memory, time=expected) if self._on or memory.advice:
                from mqf_tui.fidelity.timing import estimate_words

                self._line("")
                sys.stderr.write(f"{estimate_words(memory, expected)}\n")
            case Started(plan=plan):
                self._plan = plan
                if plan.layers:
                    self._line("")
                    sys.stderr.write(f"{plan.layers}\n")
            case StepScored():
                self._kl_sum += float(event.positions.kl.sum())
                self._flips += int(event.positions.flip.sum())
                now = time.monotonic()
                if now - self._drawn >= REDRAW_SECONDS:
                    self._drawn = now
                    self._line(self._scoring(event))
            case _:
                pass

    def _scoring(self, event: StepScored) -> str:
        from mqf_tui.reports.text import duration, kl, percent

        assert self._plan is not None
        n, total = event.n_positions, self._plan.n_positions
        speed = n / event.seconds if event.seconds else 0.0
        left = (duration((total - n) / speed) if speed else "?") + " left"
        left += " at most" if self._plan.settings.stops_early else ""
        numbers = (
            f"{n / total:4.0%}  KL {kl(self._kl_sum / n)}  flips {percent(self._flips / n)}  "
            f"{speed:,.0f} positions/s  {left}"
        )
        # A narrow terminal loses the bar before it loses a number.
        room = min(BAR_WIDTH, shutil.get_terminal_size().columns - len(numbers) - 2)
        filled = max(0, room) * n // total
        return "█" * filled + "░" * (room - filled) + " " + numbers

    def _line(self, text: str) -> None:
        if self._on:
            width = shutil.get_terminal_size().columns
            sys.stderr.write("\r\x1b[2K" + text[: width - 1])
            sys.stderr.flush()
