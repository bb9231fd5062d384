"""A sweep's progress on standard error, only where that is a terminal: one line for all variants."""

from __future__ import annotations

import shutil

from mqf_tui.console.status_line import StatusLine
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


class SweepProgress(StatusLine):
    """Draws loading and scoring; what is out of the race is said in a line of its own."""

    def __init__(self, settings: SweepSettings) -> None:
        super().__init__()
        self._words = [variant.word for variant in settings.variants]
        self._plans: tuple[Plan, ...] = ()
        self._scored = [0] * len(self._words)
        self._kl = [0.0] * len(self._words)
        self._finished = [0] * len(self._words)
        self._out: set[int] = set()

    def show(self, event: Event) -> None:
        """Draw what ``event`` tells, at most ten times a second."""
        match event:
            case Loading() | Estimated():
                self.loading(event)
            case Started(plans=plans):
                self._plans = plans
                if plans[0].layers:
                    self.say(plans[0].layers)
            case StepScored(variant=i, positions=positions):
                self._scored[i] += len(positions)
                self._kl[i] += float(positions.kl.sum())
                if self.due:
                    self.draw(self._scoring(event))
            case ChunkFinished(variant=i):
                self._finished[i] += 1
            case Dropped(variant=i, why=why):
                self._out.add(i)
                self.say(f"{self._words[i]}: {why}, after {self._finished[i]} chunks")
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
        room = shutil.get_terminal_size().columns - 1
        for word, total, n in zip(self._words, self._kl, self._scored, strict=True):
            field = f"{word} {kl(total / n)}  " if n else ""
            if len(words) + len(field) > room:
                return words[: room - 1] + "…"
            words += field
        return words
