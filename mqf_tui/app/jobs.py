"""What the MLX thread does: measurements, and positions that are scored again."""

from __future__ import annotations

import functools
import gc
import time
from contextlib import suppress

from mqf_tui import api
from mqf_tui.app.measurement import Measurement
from mqf_tui.app.resuming import begun
from mqf_tui.app.tops import TopsRequest
from mqf_tui.fidelity import device as devices
from mqf_tui.fidelity.device import Device
from mqf_tui.fidelity.errors import SaveError
from mqf_tui.fidelity.events import Loading, StepScored
from mqf_tui.fidelity.libraries import imported
from mqf_tui.fidelity.rescoring import Rescorer
from mqf_tui.fidelity.timing import measured_flops
from mqf_tui.fidelity.watchdog import read_memory

SECONDS_TO_WEIGH = 0.5  # between two looks at memory while something is scored


class Worker:
    """Does one job after the other, all in the MLX thread. What was loaded to score positions again stays for
    the next such job, until a measurement needs the room."""

    def __init__(self) -> None:
        self._rescorer = Rescorer()

    def do(self, job: Measurement | TopsRequest) -> None:
        """One job. The thread must outlive any mistake of ours: nothing else can end it in order."""
        try:
            imported()  # a text may be looked at beside this
            if isinstance(job, TopsRequest):
                wanted = job.run, job.chunk, job.depths, job.k, job.control
                for event in api.rescore(*wanted, rescorer=self._rescorer):
                    job.take(event)
                job.end()
            else:
                self._rescorer.close()
                self._measure(job)
        except Exception as error:
            if isinstance(job, TopsRequest):
                job.fail(error)
            else:
                job.break_off(error)

    def close(self) -> None:
        """Let go of what is held."""
        self._rescorer.close()

    def _measure(self, job: Measurement) -> None:
        """All of one measurement; may raise anything."""
        settings = job.snapshot().settings
        try:
            kept = begun(settings)
        except SaveError as error:
            job.break_off(error)
            return
        weighed = 0.0
        try:
            for event in api.sweep_events(settings, job.control):
                if kept is not None:
                    # Before the app hears of the end: it asks then whether the sweep can go on.
                    kept.take(event, job)
                job.take(event)
                if isinstance(event, Loading) and event.share is not None:
                    settle()
                if isinstance(event, StepScored) and time.monotonic() - weighed >= SECONDS_TO_WEIGH:
                    weighed = time.monotonic()
                    job.weigh(read_memory())
        except Exception:
            if kept is not None:
                kept.leave(job)
            raise


@functools.cache
def settle() -> None:
    """Once, before the first weights: take what was imported out of the garbage collector's sight.

    Going through it takes some 40 ms, in which no key is answered, again and again while a run is scored.
    """
    import mlx_lm.utils as last_large_import

    del last_large_import
    gc.collect()
    gc.freeze()


def look(device: Device | None, flops: float | None) -> tuple[Device | None, float | None]:
    """What the device is and how fast, for estimates. What is wrong with it, a measurement will say."""
    with suppress(Exception):
        device = device or devices.prepare()
        flops = max(flops or 0.0, measured_flops())
    return device, flops
