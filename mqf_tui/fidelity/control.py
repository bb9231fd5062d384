"""The flags that a listener may set while a measurement runs; safe from any thread."""

from __future__ import annotations

import threading
import time


class Control:
    """Stop, pause, and settings of a sweep to go on without; looked at between steps."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._skipped: frozenset[int] = frozenset()
        self._lock = threading.Lock()
        self._go = threading.Event()
        self._go.set()
        self.waited = 0.0  # seconds spent held, all pauses together

    def stop(self) -> None:
        """Ask for an end after the current step; also wakes a paused measurement."""
        self._stop.set()
        self._go.set()

    def pause(self) -> None:
        """Hold before the next step."""
        if not self._stop.is_set():
            self._go.clear()

    def resume(self) -> None:
        """Go on after a pause."""
        self._go.set()

    def skip(self, variant: int) -> None:
        """Go on without a variant (an index into the sweep's) from the next step on; what it has is kept.

        With ranks from the next chunk on. A measurement that is held does so when it goes on.
        """
        with self._lock:
            self._skipped |= {variant}

    @property
    def skipped(self) -> frozenset[int]:
        """The variants that skip() was called for."""
        return self._skipped

    @property
    def stopped(self) -> bool:
        """Whether stop() was called."""
        return self._stop.is_set()

    @property
    def paused(self) -> bool:
        """Whether the measurement is, or is about to be, held."""
        return not self._go.is_set()

    def wait(self) -> None:
        """Block while paused."""
        if not self._go.is_set():
            began = time.perf_counter()
            self._go.wait()
            self.waited += time.perf_counter() - began
