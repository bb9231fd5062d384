"""The border between the app and the one thread that MLX lives in.

The thread iterates the engine's events, adds them up and saves the runs; the app asks for a snapshot
whenever it wants to draw. Nothing is posted to the app, so no speed of scoring can flood it.

What is asked for waits in a queue. Positions that a user looks at are scored again before the next
measurement begins, never in the middle of one.
"""

from __future__ import annotations

import itertools
import queue
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mqf_tui.app.jobs import Worker
    from mqf_tui.app.measurement import Measurement
    from mqf_tui.app.tops import TopsRequest
    from mqf_tui.fidelity.device import Device
    from mqf_tui.fidelity.settings import KVSettings, SweepSettings
    from mqf_tui.library.runs import SavedRun

    Job = Measurement | TopsRequest | None

# While nothing else is to be done, the device's speed is looked at so many times: the app itself is in the
# way when it starts, and another program may be at any time.
LOOKS = 6
SECONDS_TO_LOOK = 0.3
SECONDS_TO_START = 1.5  # before the first look: until then the app draws its first screen
LEAVE, TOPS, MEASURE = range(3)  # what comes first


class Bridge:
    """The long-lived MLX thread. ``close`` must be called before the process ends: MLX aborts otherwise.

    All methods and properties are for one thread, the app's.
    """

    def __init__(self) -> None:
        self._jobs: queue.PriorityQueue[tuple[int, int, Job]] = queue.PriorityQueue()
        self._number = itertools.count()
        self._measurements: list[Measurement] = []
        self._requests: list[TopsRequest] = []
        self._thread = threading.Thread(target=self._work, name="mlx", daemon=False)
        self.device: Device | None = None  # not known at first
        self.flops: float | None = None  # see timing.measured_flops
        self.looked = False  # whether the two will not change any more
        self._thread.start()

    def start(self, settings: KVSettings | SweepSettings) -> Measurement:
        """A measurement after whatever the thread still does; several settings get a sweep's id."""
        from mqf_tui.app.measurement import Measurement
        from mqf_tui.fidelity.settings import KVSettings, SweepSettings
        from mqf_tui.library.spool import new_sweep_id

        sweep = SweepSettings((settings,)) if isinstance(settings, KVSettings) else settings
        if len(sweep.variants) > 1 and not sweep.sweep_id:
            sweep = replace(sweep, sweep_id=new_sweep_id())
        measurement = Measurement(sweep)
        self._measurements.append(measurement)
        self._put(MEASURE, measurement)
        return measurement

    def tops(self, run: SavedRun, chunk: int, depths: Sequence[int], k: int = 10) -> TopsRequest:
        """Score positions of a run again for their likeliest tokens, before the next measurement begins."""
        from mqf_tui.app.tops import TopsRequest

        self._requests = [one for one in self._requests if not one.snapshot().ended]
        request = TopsRequest(run, chunk, depths, k)
        self._requests.append(request)
        self._put(TOPS, request)
        return request

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """All that were asked for since the app began, in that order."""
        return tuple(self._measurements)

    @property
    def current(self) -> Measurement | None:
        """The one that runs; else the next that waits; else the newest."""
        states = [(one, one.snapshot().state) for one in self._measurements]
        for wanted in (("loading", "scoring"), ("waiting",)):
            for one, state in states:
                if state in wanted:
                    return one
        return self._measurements[-1] if self._measurements else None

    @property
    def waiting(self) -> tuple[Measurement, ...]:
        """Those whose turn has not come, the next one first."""
        return tuple(one for one in self._measurements if one.snapshot().state == "waiting")

    @property
    def busy(self) -> bool:
        """Whether a measurement is running or waits for its turn."""
        return any(one.snapshot().running for one in self._measurements)

    def stop(self) -> None:
        """Stop what runs after the current step; what waits never begins."""
        for one in reversed(self._measurements):  # so that none of them begins in between
            one.stop()
        for request in self._requests:
            request.cancel()

    def close(self) -> None:
        """Stop everything and wait for the thread's end (at most one step of scoring)."""
        self.stop()
        self._put(LEAVE, None)
        self._thread.join()

    def _put(self, turn: int, job: Job) -> None:
        self._jobs.put((turn, next(self._number), job))

    def _work(self) -> None:
        looks, wait = 0, SECONDS_TO_START
        worker: Worker | None = None
        while True:
            try:
                _, _, job = self._jobs.get(timeout=wait if looks < LOOKS else None)
            except queue.Empty:
                if looks == 0:
                    read_ahead()
                looks, wait = looks + 1, SECONDS_TO_LOOK
                self.device, self.flops = look(self.device, self.flops)
                self.looked = looks >= LOOKS
                continue
            if job is None:
                break
            if job.begin():
                if worker is None:
                    worker = new_worker()
                worker.do(job)
        if worker is not None:
            worker.close()
        _leave_mlx()


def new_worker() -> Worker:
    """What does the jobs; it imports the engine, which the app's first screen need not wait for."""
    from mqf_tui.app.jobs import Worker

    return Worker()


def read_ahead() -> None:
    """Import what the screens that are opened most often need, so that the first of each opens at once."""
    from mqf_tui.app.screens import compare, explore, live, result, runs, setup

    del compare, explore, live, result, runs, setup


def look(device: Device | None, flops: float | None) -> tuple[Device | None, float | None]:
    """See ``jobs.look``."""
    from mqf_tui.app import jobs

    return jobs.look(device, flops)


def _leave_mlx() -> None:
    """End this thread's streams. Without this the process aborts when it ends, joined or not."""
    if "mlx.core" in sys.modules:
        sys.modules["mlx.core"].clear_streams()
