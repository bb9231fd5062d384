"""What becomes of a sweep's events: chunks into the spool, runs onto the disk, subjects for its report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mqf_tui.fidelity.errors import FidelityError, SaveError
from mqf_tui.fidelity.events import (
    Estimated,
    Event,
    Failed,
    Finished,
    Plan,
    Started,
    Stopped,
    Swept,
)
from mqf_tui.fidelity.pairing import Subject
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.settings import SweepSettings
from mqf_tui.library.spooling import Spooling
from mqf_tui.reports.text import counted, size

if TYPE_CHECKING:
    from mqf_tui.fidelity.choosing import Limits
    from mqf_tui.fidelity.planning import MemoryPlan
    from mqf_tui.fidelity.tops import Tops
    from mqf_tui.library.spool import Spool
    from mqf_tui.reports.schema import Report
    from mqf_tui.reports.sweep_schema import SweepReport


class Delivery:
    """Takes a sweep's events in on their way to whoever draws them.

    ``spool`` None: nothing is saved. ``keeps`` False: whole chunks come to ``keep`` from elsewhere. A full
    disk ends no sweep: ``problem`` is the first thing that could not be written, for the end.
    """

    def __init__(self, settings: SweepSettings, spool: Spool | None, *, keeps: bool = True) -> None:
        self.settings, self.spool = settings, spool
        self._spooling = Spooling(spool, len(settings.variants), keeps=keeps) if spool is not None else None
        self._unsaved: SaveError | None = None
        self._twice = len({one.kernel for one in settings.variants}) > 1
        self.subjects: list[Subject] = []
        self.failures: list[tuple[str, FidelityError]] = []
        self.saved: list[str] = []
        self.ended: Swept | None = None
        self.plans: tuple[Plan, ...] = ()
        self._memory = ""

    @property
    def problem(self) -> SaveError | None:
        """The first thing that could not be written."""
        return (self._spooling.problem if self._spooling else None) or self._unsaved

    def keep(self, chunk: int, whole: Mapping[int, Positions]) -> None:
        """Put a whole chunk by that comes from elsewhere, to resume from."""
        if self._spooling is not None:
            self._spooling.keep(chunk, whole)

    def kept(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events as they come, each taken in first."""
        for event in events:
            self._take(event)
            yield event

    def report(self, limits: Limits, *, budget: str, command: str) -> SweepReport:
        """The sweep's own report; there must be at least one subject. For the words see ``sweep_summary``."""
        from mqf_tui.fidelity.sweep_summary import sweep_summary

        assert self.ended is not None
        return sweep_summary(
            self.subjects,
            ended=self.ended,
            limits=limits,
            budget=budget,
            command=command,
            memory=self._memory,
        )

    def _take(self, event: Event) -> None:
        if self._spooling is not None:
            self._spooling.take(event)
        match event:
            case Estimated(memory=memory):
                self._memory = memory_words(memory)
            case Started(plans=plans):
                self.plans = plans
            case Finished(report=report, positions=positions, tops=tops):
                self._save(report, positions, tops)
            case Stopped(report=report, positions=positions, tops=tops):
                if report is not None:
                    self._save(report, positions, tops)
            case Failed():
                self._failed(event)
            case Swept():
                self.ended = event
            case _:
                pass

    def _failed(self, event: Failed) -> None:
        if event.report is not None and event.positions is not None:
            self._save(event.report, event.positions, event.tops)
        elif self.plans:
            self.failures.append((self.settings.variants[event.variant].word, event.error))

    def _save(self, report: Report, positions: Positions, tops: Tops | None) -> None:
        run_id = ""
        if self.spool is not None:
            from mqf_tui.library.runs import save_run

            try:
                run_id = save_run(report, positions, tops=tops).id
                kernel = f" {report.kernel}" if self._twice else ""
                self.saved.append(f"{report.short_setting}{kernel}: {run_id}")
            except SaveError as error:
                self._unsaved = self._unsaved or error
        names = [subject.run for subject in self.subjects]
        self.subjects.append(Subject(run_id or unsaved_name(report, names), report, lambda: positions))


def unsaved_name(report: Report, taken: Sequence[str]) -> str:
    """What stands for a run's id where it was not saved: like no other of the sweep."""
    name = report.short_setting
    while name in taken:
        name += "'"
    return name


def memory_words(plan: MemoryPlan) -> str:
    """The plan for memory in a sentence of the report."""
    beside = plan.variants_per_pass
    return (
        f"planned for {size(plan.need_bytes)} of memory: {counted(beside, 'setting')} beside a pass of the "
        f"reference, {plan.step} positions a step"
    )
