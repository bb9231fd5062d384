"""What else the machine did while a measurement ran: others' processor time, and memory swapped out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

LEAST_SECONDS = 1.0  # processor seconds; counters tick in hundredths


@dataclass(frozen=True)
class Counters:
    """Since the machine began: seconds of all processors that were ``busy`` and in ``total``.

    ``own``: seconds that this process took, all threads. ``swapped``: bytes written to swap.
    """

    busy: float
    total: float
    own: float
    swapped: int = 0


class Load:
    """Adds up the spans between ``begin`` and ``end``; a ``begin`` without an ``end`` counts nothing."""

    def __init__(self, read: Callable[[], Counters | None] | None = None) -> None:
        self._read = read or read_counters
        self._began: Counters | None = None
        self._others = self._total = 0.0
        self.swapped_bytes = 0

    def begin(self) -> None:
        """A span begins."""
        self._began = self._read()

    def end(self) -> None:
        """The span ends."""
        before, now, self._began = self._began, self._read(), None
        if before is None or now is None:
            return
        self._others += (now.busy - before.busy) - (now.own - before.own)
        self._total += now.total - before.total
        self.swapped_bytes += max(0, now.swapped - before.swapped)

    @property
    def others(self) -> float | None:
        """The share of all processors' time that others took; None where too little was seen."""
        return min(1.0, max(0.0, self._others / self._total)) if self._total >= LEAST_SECONDS else None


def read_counters() -> Counters | None:
    """The counters now; None where the system does not tell."""
    import psutil

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spent, swapped = psutil.cpu_times()._asdict(), psutil.swap_memory().sout
    except (OSError, RuntimeError, psutil.Error):
        return None
    # Linux counts guests' time among users' already.
    idle = sum(spent.get(name, 0.0) for name in ("idle", "iowait"))
    busy = sum(spent.values()) - idle - spent.get("guest", 0.0) - spent.get("guest_nice", 0.0)
    return Counters(busy, busy + idle, time.process_time(), int(swapped))
