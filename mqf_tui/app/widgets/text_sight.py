"""What is known of a text, looked up in a thread whenever it, or how it is read, is another one."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from textual import work
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static
from textual.worker import get_current_worker

from mqf_tui.app.text_sight import Sight, see

if TYPE_CHECKING:
    from mqf_tui.fidelity.model.facts import ModelFacts
    from mqf_tui.fidelity.settings import KVSettings

SECONDS_TO_TYPE = 0.3  # before what is typed is looked up


class TextSight(Static):
    """Looks; what is shown of it is up to the screen. ``sight``: None while it is looked up."""

    DEFAULT_CSS = """
    TextSight { height: auto; }
    """

    class Seen(Message):
        """It was looked up."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, markup=False)
        self.sight: Sight | None = None
        self._key: Hashable = None
        self._wait: Timer | None = None

    def say(self, problem: str) -> None:
        """There is nothing to look up; ``problem`` says why."""
        self._stop()
        self._key, self.sight = problem, Sight(problem=problem)
        self.post_message(self.Seen())

    def look(
        self, settings: KVSettings, facts: ModelFacts, *, fetch: bool = False, again: bool = False
    ) -> bool:
        """Look up where it is another text or another way to read it, or ``again``; whether that is so."""
        # The settings of a text and a model, and nothing else, decide what is there.
        key = (
            *(settings.corpus, settings.text, settings.chunk_length, settings.first_scored),
            *(facts.folder, facts.content_hash),
        )
        if key == self._key and not (fetch or again):
            return False
        self._stop()
        self._key, self.sight = key, None
        self._wait = self.set_timer(SECONDS_TO_TYPE, lambda: self._see(key, settings, facts, fetch))
        return True

    def _stop(self) -> None:
        if self._wait is not None:
            self._wait.stop()

    @work(thread=True, exclusive=True, group="sight")
    def _see(self, key: Hashable, settings: KVSettings, facts: ModelFacts, fetch: bool) -> None:
        worker = get_current_worker()
        found = see(settings, facts, fetch=fetch)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._have, key, found)

    def _have(self, key: Hashable, found: Sight) -> None:
        if key == self._key and self.is_attached:
            self.sight = found
            self.post_message(self.Seen())
