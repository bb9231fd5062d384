"""The border between the app and the one thread that MLX lives in.

The thread iterates the engine's events, adds them up and saves the run; the app asks for a snapshot
whenever it wants to draw. Nothing is posted to the app, so no speed of scoring can flood it.
"""

from __future__ import annotations

import queue
import sys
import threading
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mqf_tui import api
from mqf_tui.app.tally import Running, Tally
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import INTERRUPTED, FidelityError, MeasurementError
from mqf_tui.fidelity.events import (
    ChunkFinished,
    Event,
    Failed,
    Finished,
    Loading,
    Plan,
    Started,
    StepScored,
    Stopped,
)
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.library.runs import SavedRun, save_run
from mqf_tui.reports.schema import Report

State = Literal["loading", "scoring", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Snapshot:
    """One measurement at one moment. ``version`` grows with every change."""

    settings: KVSettings
    state: State = "loading"
    version: int = 0
    doing: str = "starting"
    share: float | None = None
    plan: Plan | None = None
    n_positions: int = 0
    chunk: int = 0
    seconds: float = 0.0
    report: Report | None = None
    saved: SavedRun | None = None
    problem: str | None = None
    exit_code: int = 0
    paused: bool = False

    @property
    def running(self) -> bool:
        """Whether the thread still works on it."""
        return self.state in ("loading", "scoring")


@dataclass
class Measurement:
    """A running or ended measurement as the app holds it."""

    control: Control
    _snapshot: Snapshot
    _tally: Tally | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _read: tuple[int, Running | None] = (-1, None)

    def snapshot(self) -> Snapshot:
        """How it stands now."""
        with self._lock:
            return replace(self._snapshot, paused=self.control.paused)

    def numbers(self) -> Running | None:
        """The running numbers, computed anew only where positions were added."""
        with self._lock:
            if self._tally is None:
                return None
            if self._read[0] != self._snapshot.n_positions:
                self._read = self._snapshot.n_positions, self._tally.running()
            return self._read[1]

    def take(self, event: Event) -> None:
        """Take in one event (called in the MLX thread)."""
        match event:
            case Loading(what=what, share=share):
                self._update(doing=what, share=share)
            case Started(plan=plan):
                self._tally = Tally.of_plan(plan)
                self._update(state="scoring", plan=plan, doing="scoring")
            case StepScored():
                with self._lock:
                    if self._tally is not None:
                        self._tally.add(event.positions)
                self._update(n_positions=event.n_positions, chunk=event.chunk, seconds=event.seconds)
            case ChunkFinished():
                self._finish_chunk()
            case Finished(report=report, positions=positions):
                self._end("finished", report, positions)
            case Stopped(report=report, positions=positions):
                self._end("stopped", report, positions, exit_code=INTERRUPTED)
            case Failed(error=error, report=report, positions=positions):
                self._end("failed", report, positions, problem=str(error), exit_code=error.exit_code)

    def _finish_chunk(self) -> None:
        # The lock is held only to publish: resampling must not hold up a frame.
        if self._tally is None:
            return
        self._tally.finish_chunk()
        with self._lock:
            self._read = -1, None
        self._update()

    def _end(
        self,
        state: State,
        report: Report | None,
        positions: Positions | None,
        problem: str | None = None,
        exit_code: int = 0,
    ) -> None:
        saved = None
        if report is not None and positions is not None:
            self._update(doing="saving")
            try:
                saved = save_run(report, positions)
            except FidelityError as error:
                problem, exit_code = problem or str(error), exit_code or error.exit_code
        self._update(
            state=state, report=report, saved=saved, problem=problem, exit_code=exit_code, doing=state
        )

    def _update(self, **changes: Any) -> None:
        with self._lock:
            self._snapshot = replace(self._snapshot, version=self._snapshot.version + 1, **changes)


class Bridge:
    """The long-lived MLX thread. ``close`` must be called before the process ends: MLX aborts otherwise."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[Measurement | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="mlx", daemon=False)
        self._thread.start()
        self.current: Measurement | None = None

    def start(self, settings: KVSettings) -> Measurement:
        """Begin a measurement after whatever the thread still does."""
        self.current = Measurement(Control(), Snapshot(settings))
        self._jobs.put(self.current)
        return self.current

    @property
    def busy(self) -> bool:
        """Whether a measurement is running."""
        return self.current is not None and self.current.snapshot().running

    def close(self) -> None:
        """Stop what runs and wait for the thread's end (at most one step of scoring)."""
        if self.current is not None:
            self.current.control.stop()
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                for event in api.events(job.snapshot().settings, job.control):
                    job.take(event)
            except Exception as error:
                # The thread must outlive any mistake of ours: nothing else can end it in order.
                job.take(Failed(MeasurementError(f"{type(error).__name__}: {error}; please report this.")))
        _leave_mlx()


def _leave_mlx() -> None:
    """End this thread's streams. Without this the process aborts when it ends, joined or not."""
    if "mlx.core" in sys.modules:
        sys.modules["mlx.core"].clear_streams()
