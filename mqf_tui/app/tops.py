"""A wish to see the likeliest tokens of some positions of a saved run, which the MLX thread scores again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import FidelityError, MeasurementError
from mqf_tui.library.runs import SavedRun

DIFFERS = (
    "KL is not what it was here when the run was measured: another version or machine computes it, so these "
    "lists may differ from what the run saw."
)
TopsState = Literal["waiting", "loading", "scoring", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class TopsSnapshot:
    """A request at one moment. ``doing``: in words, while it loads or scores; ``share`` of that, None where
    not known. ``tops``: what was found, once the state is ``done``; ``doubt``: why that may not be what was
    measured, in a sentence. ``problem``: why it failed."""

    state: TopsState = "waiting"
    doing: str = ""
    share: float | None = None
    tops: Any = None
    doubt: str = ""
    problem: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will change."""
        return self.state in ("done", "failed", "cancelled")


class TopsRequest:
    """The ``k`` likeliest tokens of reference and variant at these ``depths`` of a chunk of ``run``.

    ``take``, ``begin`` and ``fail`` are called in the MLX thread, all else in any other.
    """

    def __init__(self, run: SavedRun, chunk: int, depths: Sequence[int], k: int) -> None:
        self.run, self.chunk, self.depths, self.k = run, chunk, tuple(depths), k
        self.control = Control()
        self._snapshot = TopsSnapshot()
        self._lock = threading.Lock()

    def snapshot(self) -> TopsSnapshot:
        """How it stands now."""
        with self._lock:
            return self._snapshot

    def cancel(self) -> None:
        """It is wanted no more: one that waits never begins, one that runs ends after the current step."""
        self.control.stop()
        with self._lock:
            if self._snapshot.state == "waiting":
                self._snapshot = TopsSnapshot("cancelled")

    def begin(self) -> bool:
        """Its turn has come; False where it is wanted no more."""
        with self._lock:
            if self._snapshot.state != "waiting":
                return False
            self._snapshot = TopsSnapshot("loading", "loading the model")
            return True

    def take(self, event: Any) -> None:
        """Take in one event of ``api.rescore``; the one that carries ``tops`` is the last."""
        tops = getattr(event, "tops", None)
        error = getattr(event, "error", None)
        if tops is not None:
            agrees = getattr(event, "agrees", None)
            doubt = "" if agrees is None or agrees() else DIFFERS
            self._update(state="done", tops=tops, doubt=doubt, doing="", share=None)
        elif error is not None:
            self.fail(error)
        elif (what := getattr(event, "what", None)) is not None:
            state = "scoring" if what.startswith("scoring") else "loading"
            self._update(state=state, doing=what, share=getattr(event, "share", None))
        else:
            self._update(state="scoring", doing="scoring the chunk again", share=None)

    def fail(self, error: Exception) -> None:
        """It cannot be done; a mistake of ours asks to be reported."""
        known = isinstance(error, FidelityError)
        why = error if known else MeasurementError(f"{type(error).__name__}: {error}; please report this.")
        self._update(state="failed", problem=str(why), doing="", share=None)

    def end(self) -> None:
        """No more events come: without tops by now there will be none."""
        if not self.snapshot().ended:
            if self.control.stopped:
                self._update(state="cancelled", doing="", share=None)
            else:
                self.fail(MeasurementError("scoring again ended without a result; try again."))

    def _update(self, **changes: Any) -> None:
        with self._lock:
            self._snapshot = replace(self._snapshot, **changes)
