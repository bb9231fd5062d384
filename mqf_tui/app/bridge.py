"""The border between the app and the one thread that MLX lives in.

The thread iterates the engine's events, adds them up and saves the runs; the app asks for a snapshot
whenever it wants to draw. Nothing is posted to the app, so no speed of scoring can flood it.
"""

from __future__ import annotations

import queue
import sys
import threading
from contextlib import suppress
from dataclasses import replace

from mqf_tui import api
from mqf_tui.app.measurement import Measurement
from mqf_tui.app.resuming import begun
from mqf_tui.fidelity import device as devices
from mqf_tui.fidelity.device import Device
from mqf_tui.fidelity.errors import SaveError
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.timing import measured_flops
from mqf_tui.library.spool import new_sweep_id

# While nothing else is to be done, the device's speed is looked at so many times: the app itself is in the
# way when it starts, and another program may be at any time.
LOOKS = 6
SECONDS_TO_LOOK = 0.3


class Bridge:
    """The long-lived MLX thread. ``close`` must be called before the process ends: MLX aborts otherwise."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[Measurement | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="mlx", daemon=False)
        self.current: Measurement | None = None
        self.device: Device | None = None  # not known at first
        self.flops: float | None = None  # see timing.measured_flops
        self.looked = False  # whether the two will not change any more
        self._thread.start()

    def start(self, settings: KVSettings | SweepSettings) -> Measurement:
        """Begin a measurement after whatever the thread still does; several settings get a sweep's id."""
        sweep = SweepSettings((settings,)) if isinstance(settings, KVSettings) else settings
        if len(sweep.variants) > 1 and not sweep.sweep_id:
            sweep = replace(sweep, sweep_id=new_sweep_id())
        self.current = Measurement(sweep)
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
        looks, wait = 0, 0.0
        while True:
            try:
                job = self._jobs.get(timeout=wait if looks < LOOKS else None)
            except queue.Empty:
                looks, wait = looks + 1, SECONDS_TO_LOOK
                self._look()
                self.looked = looks >= LOOKS
                continue
            if job is None:
                break
            try:
                _measure(job)
            except Exception as error:
                # The thread must outlive any mistake of ours: nothing else can end it in order.
                job.break_off(error)
        _leave_mlx()

    def _look(self) -> None:
        """What the device is and how fast, for estimates. What is wrong with it, a measurement will say."""
        with suppress(Exception):
            self.device = self.device or devices.prepare()
            self.flops = max(self.flops or 0.0, measured_flops())


def _measure(job: Measurement) -> None:
    """All of one measurement, in the MLX thread; may raise anything."""
    settings = job.snapshot().settings
    try:
        kept = begun(settings)
    except SaveError as error:
        job.break_off(error)
        return
    try:
        for event in api.sweep_events(settings, job.control):
            if kept is not None:
                # Before the app hears of the end: it asks then whether the sweep can go on.
                kept.take(event, job)
            job.take(event)
    except Exception:
        if kept is not None:
            kept.leave(job)
        raise


def _leave_mlx() -> None:
    """End this thread's streams. Without this the process aborts when it ends, joined or not."""
    if "mlx.core" in sys.modules:
        sys.modules["mlx.core"].clear_streams()
