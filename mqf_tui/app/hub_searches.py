"""Searches on the hub as they are typed: a thread asks for what was typed last, screens look for answers."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mqf_tui.app.hub_downloads import mistake
from mqf_tui.fidelity.errors import FidelityError

if TYPE_CHECKING:
    from mqf_tui.library.hub.search import HubModel

MOST = 50  # models that are asked for


@dataclass(frozen=True)
class Query:
    """What is searched for; ``author`` None: models of anyone."""

    text: str
    author: str | None


@dataclass(frozen=True)
class Answer:
    """What the hub said to a query; ``problem``: why it said nothing, in a sentence."""

    query: Query
    models: tuple[HubModel, ...] = ()
    problem: str = ""


class Searches:
    """Never more than one question at a time: what is typed meanwhile takes its place.

    The thread is a daemon, since a hub that does not answer must not hold up the end of the app.
    """

    def __init__(self) -> None:
        self._work = threading.Condition()
        self._wanted: Query | None = None
        self._answer: Answer | None = None
        self._asking = self._closed = False
        self._waiting = ""
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether an answer is to come."""
        with self._work:
            return self._asking or self._wanted is not None

    @property
    def waiting(self) -> str:
        """What the question that is asked waits for, as a clause; "" where for nothing but the answer."""
        with self._work:
            return self._waiting if self._asking else ""

    @property
    def answer(self) -> Answer | None:
        """The last one."""
        with self._work:
            return self._answer

    def ask(self, query: Query) -> None:
        """Search for this, and no longer for what was asked before."""
        with self._work:
            self._wanted = query
            self._work.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="hub-search", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ask no more; the thread ends by itself."""
        with self._work:
            self._closed = True
            self._work.notify()

    def _run(self) -> None:
        while (query := self._next()) is not None:
            answer = self._asked(query)
            with self._work:
                if self._wanted is None:
                    self._answer = answer
                self._asking, self._waiting = False, ""

    def _next(self) -> Query | None:
        with self._work:
            while self._wanted is None and not self._closed:
                self._work.wait()
            query, self._wanted = self._wanted, None
            self._asking = query is not None and not self._closed
            return query if self._asking else None

    def _asked(self, query: Query) -> Answer:
        """What the hub says; a question that another one has taken the place of is given up."""
        try:
            from mqf_tui.library.hub.search import search_hub

            found = search_hub(
                *(query.text, query.author, MOST), on_waiting=self._waits, cancelled=self._given_up
            )
            return Answer(query, found)
        except FidelityError as error:
            return Answer(query, problem=str(error))
        except Exception as error:
            return Answer(query, problem=mistake(error))

    def _waits(self, words: str) -> None:
        with self._work:
            self._waiting = words

    def _given_up(self) -> bool:
        with self._work:
            return self._closed or self._wanted is not None
