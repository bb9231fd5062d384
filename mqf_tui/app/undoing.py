"""What can be taken back: removals and changes of labels, the last one first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mqf_tui.fidelity.errors import FidelityError

MOST = 100


@dataclass
class Undoing:
    """A stack of what was done; each entry knows how it is taken back."""

    _done: list[tuple[str, Callable[[], object]]] = field(
        default_factory=list[tuple[str, Callable[[], object]]]
    )

    def did(self, words: str, back: Callable[[], object]) -> None:
        """Remember a deed. ``words``: said when it was taken back; ``back`` may raise FidelityError."""
        self._done = [*self._done, (words, back)][-MOST:]

    def take_back(self) -> str | None:
        """Take the last deed back and say so; None where there is none. Raises what the way back raises."""
        if not self._done:
            return None
        words, back = self._done.pop()
        back()
        return words


def taken_back(undoing: Undoing) -> tuple[str, bool]:
    """Take the last deed back: what to say of it, and whether it went well."""
    try:
        words = undoing.take_back()
    except FidelityError as error:
        return f"It could not be taken back: {error}", False
    return words or "There is nothing to take back.", words is not None
