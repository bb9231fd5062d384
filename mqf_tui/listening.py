"""A measurement exhausted for what it finds, with a listener on the way."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar

from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.events import Failed

E = TypeVar("E")
R = TypeVar("R")


def result_of(
    events: Generator[E], on_event: Callable[[E], None] | None, pick: Callable[[E], R | None], what: str
) -> R:
    """The first that ``pick`` makes of an event; ``on_event`` is called with each before.

    ``what`` is measured, in words. Raises the error of a Failed event, FidelityError where nothing comes, and
    whatever ``on_event`` raises.
    """
    # Closed at once where a listener raises: a traceback would keep the measurement, and all that it holds.
    with closing(events) as running:
        for event in running:
            if on_event is not None:
                on_event(event)
            if isinstance(event, Failed):
                raise event.error
            found = pick(event)
            if found is not None:
                return found
    raise FidelityError(f"the {what} ended without a result; run it again.")
