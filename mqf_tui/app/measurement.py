"""A measurement as the app holds it: the engine's events go in, snapshots and running numbers come out."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from mqf_tui.app.passage import Passage
from mqf_tui.app.snapshots import Snapshot, State, VariantState
from mqf_tui.app.tally import Running, Tally
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import INTERRUPTED, FidelityError, MeasurementError
from mqf_tui.fidelity.events import (
    ChunkFinished,
    Dropped,
    Estimated,
    Event,
    Failed,
    Finished,
    Loading,
    Plan,
    Started,
    StepScored,
    Stopped,
    Swept,
)
from mqf_tui.fidelity.pairing import Subject
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.settings import SweepSettings
from mqf_tui.fidelity.tops import Tops
from mqf_tui.fidelity.watchdog import Reading
from mqf_tui.library.runs import save_run
from mqf_tui.reports.schema import Report, Stopping
from mqf_tui.reports.sweep_schema import SweepReport


class Measurement:
    """A measurement of one or more settings, from its place in the queue to its end.

    ``begin``, ``take``, ``weigh``, ``note`` and ``break_off`` are called in the MLX thread, all else in any
    other.
    """

    def __init__(self, settings: SweepSettings) -> None:
        self.control = Control()
        self.watched = False  # whether its end was shown
        self._snapshot = Snapshot.of(settings)
        self._lock = threading.Lock()
        self._tallies: list[Tally] = []
        self._read: dict[int, tuple[int, Running | None]] = {}
        self._subjects: list[Subject] = []
        self._latest: dict[int, tuple[Positions, int]] = {}

    def snapshot(self) -> Snapshot:
        """How it stands now."""
        with self._lock:
            return replace(self._snapshot, paused=self.control.paused)

    def numbers(self, variant: int = 0) -> Running | None:
        """The running numbers of a variant, computed anew only where positions were added."""
        with self._lock:
            if variant >= len(self._tallies):
                return None
            n, found = self._read.get(variant, (-1, None))
            if n != self._snapshot.variants[variant].n_positions:
                n, found = self._snapshot.variants[variant].n_positions, self._tallies[variant].running()
                self._read[variant] = n, found
            return found

    def passage(self, variant: int = 0) -> Passage | None:
        """The text of a variant's latest step; None before the first, and where its tokens have no texts."""
        with self._lock:
            positions, end = self._latest.get(variant, (None, 0))
        return Passage.of(positions, end) if positions is not None and positions.texts else None

    def stop(self) -> None:
        """One that waits is cancelled at once; one that runs ends after the current step, and is kept."""
        self.control.stop()
        with self._lock:
            if self._snapshot.state == "waiting":
                self._snapshot = self._changed(state="stopped", doing="cancelled", exit_code=INTERRUPTED)

    def begin(self) -> bool:
        """Its turn has come; False where it was cancelled."""
        with self._lock:
            if self._snapshot.state != "waiting":
                return False
            self._snapshot = self._changed(state="loading", doing="starting")
            return True

    def weigh(self, reading: Reading) -> None:
        """Memory now."""
        self._update(memory=reading)

    def take(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case Loading(what=what, share=share):
                self._update(doing=what, share=share)
            case Estimated(memory=memory):
                self._update(memory_limit=memory.limit_bytes)
            case Started(plans=plans):
                self._start(plans)
            case StepScored():
                self._score(event)
            case ChunkFinished(variant=i, stopping=stopping):
                self._finish_chunk(i, stopping)
            case Dropped(variant=i, why=why):
                self._change(i, out=why)
            case Finished(report=report, positions=positions, variant=i, tops=tops):
                self._end(i, "finished", report, positions, tops)
            case Stopped(report=report, positions=positions, variant=i, tops=tops):
                self._end(i, "stopped", report, positions, tops)
            case Failed(error=error, report=report, positions=positions, variant=i, tops=tops):
                self._end(i, "failed", report, positions, tops, error)
            case Swept():
                self._finish(event)

    def note(self, error: FidelityError) -> None:
        """Something went wrong beside the measurement; what went wrong first is said."""
        if not self._snapshot.problem:
            self._update(problem=str(error), exit_code=error.exit_code)

    def break_off(self, error: Exception) -> None:
        """It cannot begin, or a mistake of ours ended it."""
        known = isinstance(error, FidelityError)
        why = error if known else MeasurementError(f"{type(error).__name__}: {error}; please report this.")
        self._update(state="failed", doing="failed", problem=str(why), exit_code=why.exit_code)

    def _start(self, plans: tuple[Plan, ...]) -> None:
        race = self._snapshot.settings.race and self._snapshot.several
        tallies = [Tally.of_plan(plan, race=race) for plan in plans]
        with self._lock:
            self._tallies = tallies
        variants = tuple(replace(one, state="scoring") for one in self._snapshot.variants)
        self._update(state="scoring", plans=plans, variants=variants, doing="scoring")

    def _score(self, event: StepScored) -> None:
        with self._lock:
            self._tallies[event.variant].add(event.positions)
            self._latest[event.variant] = event.positions, event.n_positions
        self._change(event.variant, n_positions=event.n_positions)
        self._update(chunk=event.chunk, seconds=event.seconds)

    def _finish_chunk(self, variant: int, stopping: Stopping | None) -> None:
        # The lock is held only to publish: resampling must not hold up a frame.
        self._tallies[variant].finish_chunk(stopping)
        with self._lock:
            self._read.pop(variant, None)
        self._update()

    def _end(
        self,
        variant: int,
        state: State,
        report: Report | None,
        positions: Positions | None,
        tops: Tops | None,
        error: FidelityError | None = None,
    ) -> None:
        """The last of a variant: its run is saved where there is one."""
        problem, saved = str(error) if error is not None else None, None
        if error is not None and not self._snapshot.problem:
            self._update(problem=self._named(variant, problem), exit_code=error.exit_code)
        if report is not None and positions is not None:
            self._update(doing="saving")
            try:
                saved = save_run(report, positions, tops=tops)
            except FidelityError as unsaved:
                self.note(unsaved)
            name = saved.id if saved is not None else f"{report.short_setting} (not saved)"
            self._subjects.append(Subject(name, report, lambda: positions))
        self._change(variant, state=state, report=report, saved=saved, problem=problem)

    def _named(self, variant: int, problem: str | None) -> str | None:
        """What went wrong, with the setting where it was one of several."""
        if not (self._snapshot.several and self._snapshot.plans):
            return problem
        return f"{self._snapshot.variants[variant].settings.word}: {problem}"

    def _finish(self, ended: Swept) -> None:
        """The last of all: the ranking, and how it ended."""
        if ended.error is not None:
            self._update(problem=str(ended.error), exit_code=ended.error.exit_code)
        report = self._summary(ended) if self._snapshot.several else None
        self._subjects = []
        failed = ended.error is not None or not self._snapshot.reports
        state: State = "stopped" if ended.stopped else "failed" if failed else "finished"
        code = INTERRUPTED if ended.stopped else self._snapshot.exit_code
        self._update(state=state, doing=state, sweep=report, exit_code=code)

    def _summary(self, ended: Swept) -> SweepReport | None:
        from mqf_tui.fidelity.sweep_summary import sweep_summary
        from mqf_tui.library.sweeps import save_sweep

        if not self._subjects:
            return None
        self._update(doing="ranking the settings")
        report = None
        try:
            report = sweep_summary(self._subjects, ended=ended)
            if self._snapshot.saved:
                save_sweep(report)
        except FidelityError as error:
            self.note(error)
        return report

    def _change(self, variant: int, **changes: Any) -> None:
        before: tuple[VariantState, ...] = self._snapshot.variants
        changed = replace(before[variant], **changes)
        self._update(variants=(*before[:variant], changed, *before[variant + 1 :]))

    def _update(self, **changes: Any) -> None:
        with self._lock:
            self._snapshot = self._changed(**changes)

    def _changed(self, **changes: Any) -> Snapshot:
        return replace(self._snapshot, version=self._snapshot.version + 1, **changes)
