"""Walking through an answer: what it is coloured by, what the filter keeps, and where a jump leads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mqf_tui.app.exploring.answer import Answer, Beside, beside
from mqf_tui.app.exploring.filters import chosen
from mqf_tui.app.exploring.jumps import following, preceding, ranked
from mqf_tui.app.exploring.measures import ALONE, DIFFERENCE, KL, Colouring, difference, values

Order = Literal["worst", "differing"]


class Walk:
    """One answer or two side by side. Methods that jump give a place, or a sentence why there is none."""

    def __init__(self, answer: Answer, other: Beside | None = None) -> None:
        self.answer, self.beside = answer, other
        self.colouring: Colouring = DIFFERENCE if other is not None else KL
        self.filter = ""
        self.inside: NDArray[np.bool_] = np.ones(len(answer), bool)
        self._ranks: dict[Order, NDArray[np.intp]] = {}
        self._at: dict[Order, int] = {}

    def warm(self) -> None:
        """Work out now, beside the screen, what the first keys will want."""
        self._ranking("differing" if self.beside is not None else "worst")
        _ = self.answer.flips

    @property
    def kept(self) -> int:
        """How many positions the filter keeps."""
        return int(self.inside.sum())

    @property
    def colourings(self) -> Sequence[Colouring]:
        """What there is to colour by."""
        return (DIFFERENCE, *ALONE) if self.beside is not None else ALONE

    @cached_property
    def difference(self) -> NDArray[np.float64]:
        """KL of the other run less that of this one (n,), NaN where it has none."""
        if self.beside is None:
            return np.full(len(self.answer), np.nan)
        return difference(self.answer.positions.kl, self.beside.kl)

    def levels(self) -> NDArray[np.int8]:
        """The level of each place (n,) in the colouring of now."""
        kl = self.beside.kl if self.beside is not None else None
        return self.colouring.levels(values(self.answer.positions, self.colouring, kl))

    def next_colouring(self) -> None:
        """Go on to the next of the colourings."""
        all_of_them = self.colourings
        self.colouring = all_of_them[(all_of_them.index(self.colouring) + 1) % len(all_of_them)]

    def keep(self, words: str) -> None:
        """Filter; raises FilterError, and then the filter stays what it was."""
        self.inside = chosen(words, self.answer)
        self.filter = words.strip()
        self._ranks = {}  # new, after ``inside``: ``warm`` may be at the one before, in its thread
        self._at.clear()

    def with_rival(self, other: Answer | None) -> Walk:
        """The same walk beside another answer, or alone; raises SaveError where the two do not fit."""
        found = Walk(self.answer, beside(self.answer, other) if other is not None else None)
        found.filter, found.inside = self.filter, self.inside
        return found

    def swapped(self) -> Walk:
        """The same two, the other way round; raises FilterError where the other cannot be filtered so."""
        if self.beside is None:
            return self
        found = Walk(self.beside.answer, beside(self.beside.answer, self.answer))
        found.colouring = self.colouring
        found.keep(self.filter)
        return found

    def flip(self, place: int, *, confident: bool = False, back: bool = False) -> int | str:
        """The next flip that the filter keeps, or with ``back`` the one before."""
        name = "confident flip" if confident else "flip"
        wanted = self.inside & (self.answer.flips >= (2 if confident else 1))
        if confident and not self.answer.positions.detailed:
            return "This run is of an older version, which did not keep how sure a flip was."
        found = preceding(wanted, place) if back else following(wanted, place)
        if found is not None:
            return found
        if not wanted.any():
            return f"There is no {name}{self._of_filter()}."
        return f"There is no {name} {'before' if back else 'after'} this one{self._of_filter()}."

    def ranked(self, order: Order, place: int, *, back: bool = False) -> int | str:
        """The worst place, from there the next worst, and so on; with ``back`` the other way."""
        found = self._ranking(order)
        if not len(found):
            return (
                "The filter keeps no position." if not self.kept else "The two runs share no position there."
            )
        rank = self._at.get(order)
        if rank is None or int(found[rank]) != place:
            rank = 0
        else:
            rank += -1 if back else 1
        if not 0 <= rank < len(found):
            return "This is the first of them." if rank < 0 else "This was the last of them."
        self._at[order] = rank
        return int(found[rank])

    def rank(self, order: Order, place: int) -> int | None:
        """How far a walk in that order has come, from 1, where it stands at ``place``."""
        rank = self._at.get(order)
        ranks = self._ranks.get(order)
        return rank + 1 if rank is not None and ranks is not None and int(ranks[rank]) == place else None

    def numbered(self, words: str) -> int | str:
        """The place with a number counted from 1, as it is typed."""
        try:
            number = int(words.replace(",", "").replace(" ", ""))
        except ValueError:
            number = 0
        if not 1 <= number <= len(self.answer):
            return f"Positions are numbered from 1 to {len(self.answer):,}."
        return number - 1

    def _ranking(self, order: Order) -> NDArray[np.intp]:
        ranks = self._ranks
        if order not in ranks:
            measured: NDArray[Any] = self.answer.positions.kl if order == "worst" else np.abs(self.difference)
            ranks[order] = ranked(measured, self.inside)
        return ranks[order]

    def _of_filter(self) -> str:
        return " that the filter keeps" if self.filter else ""
