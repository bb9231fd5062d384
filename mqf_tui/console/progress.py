"""A progress line on standard error, only where that is a terminal."""

from __future__ import annotations

import shutil

from mqf_tui.console.status_line import StatusLine
from mqf_tui.fidelity.events import Estimated, Event, Loading, Plan, Started, StepScored

BAR_WIDTH = 24


class Progress(StatusLine):
    """Draws loading and scoring; running means only, the report has the rest."""

    def __init__(self) -> None:
        super().__init__()
        self._plan: Plan | None = None
        self._kl_sum = 0.0
        self._flips = 0

    def show(self, event: Event) -> None:
        """Draw what ``event`` tells, at most ten times a second."""
        match event:
            case Loading() | Estimated():
                self.loading(event)
            case Started(plan=plan):
                self._plan = plan
                if plan.layers:
                    self.say(plan.layers)
            case StepScored():
                self._kl_sum += float(event.positions.kl.sum())
                self._flips += int(event.positions.flip.sum())
                if self.due:
                    self.draw(self._scoring(event))
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
