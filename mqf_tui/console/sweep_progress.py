"""A sweep's progress on standard error, only where that is a terminal: one line for all variants."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType

from mqf_tui.fidelity.events import (
    ChunkFinished,
    Dropped,
    Estimated,
    Event,
    Loading,
    Plan,
    Started,
    StepScored,
)
from mqf_tui.fidelity.settings import SweepSettings

REDRAW_SECONDS = 0.1


class SweepProgress:
    """Draws loading and scoring; what is out of the race is said in a line of its own."""

    def __init__(self, settings: SweepSettings) -> None:
        self._on = sys.stderr.isatty()
        self._words = [variant.word for variant in settings.variants]
        self._plans: tuple[Plan, ...] = ()
        self._scored = [0] * len(self._words)
        self._kl = [0.0] * len(self._words)
        self._finished = [0] * len(self._words)
        self._out: set[int] = set()
        self._drawn = 0.0

    def __enter__(self) -> SweepProgress:
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

                self._say(estimate_words(memory, expected))
            case Started(plans=plans):
                self._plans = plans
                if plans[0].layers:
                    self._say(plans[0].layers)
            case StepScored(variant=i, positions=positions):
                self._scored[i] += len(positions)
                self._kl[i] += float(positions.kl.sum())
                now = time.monotonic()
                if now - self._drawn >= REDRAW_SECONDS:
                    self._drawn = now
                    self._line(self._scoring(event))
            case ChunkFinished(variant=i):
                self._finished[i] += 1
            case Dropped(variant=i, why=why):
                self._out.add(i)
                self._say(f"{self._words[i]}: {why}, after {self._finished[i]} chunks")
            case _:
                pass

    def _scoring(self, event: StepScored) -> str:
        from mqf_tui.reports.text import duration, kl

        wanted = [plan.n_positions for plan in self._plans]
        left = sum(
            w - n for i, (w, n) in enumerate(zip(wanted, self._scored, strict=True)) if i not in self._out
        )
        done = sum(self._scored)
        speed = done / event.seconds if event.seconds else 0.0
        words = f"{done / (done + left):4.0%}  {duration(left / speed) if speed else '?'} left  "
        means = (
            f"{word} {kl(total / n)}"
            for word, total, n in zip(self._words, self._kl, self._scored, strict=True)
            if n
        )
        return words + "  ".join(means)

    def _say(self, text: str) -> None:
        if self._on:
            sys.stderr.write("\r\x1b[2K")
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def _line(self, text: str) -> None:
        if self._on:
            width = shutil.get_terminal_size().columns
            sys.stderr.write("\r\x1b[2K" + text[: width - 1])
            sys.stderr.flush()
