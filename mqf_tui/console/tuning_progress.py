"""Progress of ``sensitivity`` and ``tune`` on standard error: one line, and a line for each stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqf_tui.console.status_line import StatusLine
from mqf_tui.fidelity.events import Estimated, Event, Loading, Started, StepScored

if TYPE_CHECKING:
    from mqf_tui.fidelity.sensitivity import Sensed
    from mqf_tui.fidelity.tuning import Stage, Tuned


class TuningProgress(StatusLine):
    """Draws what share of a stage is scored and how long the rest takes, only where there is a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._planned = self._scored = 0

    def show(self, event: Event | Stage | Sensed | Tuned) -> None:
        """Draw what ``event`` tells, at most ten times a second."""
        from mqf_tui.fidelity.tuning import Stage
        from mqf_tui.reports.text import counted

        match event:
            case Stage(what=what, n_variants=n):
                self.say(f"{what}: {counted(n, 'setting')}")
            case Loading() | Estimated():
                self.loading(event)
            case Started(plans=plans):
                self._planned, self._scored = sum(plan.n_positions for plan in plans), 0
            case StepScored(positions=positions, seconds=seconds):
                self._scored += len(positions)
                if self.due:
                    self.draw(self._scoring(seconds))
            case _:
                pass

    def _scoring(self, seconds: float) -> str:
        from mqf_tui.reports.text import duration

        left = seconds * (self._planned - self._scored) / self._scored if self._scored else 0.0
        return f"{self._scored / max(1, self._planned):4.0%}  {duration(left)} left"
