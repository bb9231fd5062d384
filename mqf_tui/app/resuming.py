"""What a sweep of the app leaves on its way, so that ``mqf-tui sweep --resume`` can go on with it."""

from __future__ import annotations

from mqf_tui.app.measurement import Measurement
from mqf_tui.fidelity.errors import SaveError
from mqf_tui.fidelity.events import SKIPPED, Event, Swept
from mqf_tui.fidelity.settings import SweepSettings
from mqf_tui.library.commands import sweep_words
from mqf_tui.library.spool import Spool
from mqf_tui.library.spooling import Spooling


def begun(settings: SweepSettings) -> Kept | None:
    """A spool for a sweep; None for a single setting and for one that no command can say.

    Raises SaveError where it cannot be written.
    """
    words = sweep_words(settings) if len(settings.variants) > 1 else None
    if words is None:
        return None
    spool = Spool.create(settings.sweep_id, words)
    spool.hold()
    return Kept(spool, len(settings.variants))


class Kept:
    """The spool of a running sweep; all is called in the MLX thread."""

    def __init__(self, spool: Spool, n_variants: int) -> None:
        self._spool, self._n = spool, n_variants
        self._spooling: Spooling | None = Spooling(spool, n_variants)

    def take(self, event: Event, job: Measurement) -> None:
        """Put whole chunks by; after the last event leave the spool only where there is more to do."""
        if self._spooling is None:
            return
        try:
            self._spooling.take(event)
        except SaveError as error:
            job.note(error)
            self._spool.remove()
            self._spooling = None
            return
        if isinstance(event, Swept):
            self.leave(job, whole=event.error is None and not event.stopped)

    def leave(self, job: Measurement, *, whole: bool = False) -> None:
        """The sweep is over: remove the spool where there is no more to do, or nothing to go on from."""
        s = job.snapshot()
        done = sum(one.saved is not None or one.out == SKIPPED for one in s.variants)
        if (whole and done == self._n) or not (s.reports or self._spool.known(self._n)):
            self._spool.remove()
            return
        self._spool.release()
        if self._spooling is not None and self._spooling.problem is not None:
            job.note(self._spooling.problem)
