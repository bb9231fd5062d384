"""The likeliest tokens of the reference and of one or two variants, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.widget import Widget

from mqf_tui.app.capabilities import bar, mark
from mqf_tui.reports.token_text import named

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp

GAP = 2  # columns between two lists
RANK, MARK, NUMBER, LEAST_BAR, LONGEST_BAR = 3, 2, 7, 4, 24
NARROW = 24  # columns of a list under which a probability has one decimal
LEAST_NAME, LONGEST_NAME = 6, 22


@dataclass(frozen=True)
class TopList:
    """One side: its token ids, the likeliest first, and the probability of each (NaN: not known); ``own``:
    that of the text's own next token."""

    title: str
    ids: tuple[int, ...]
    probabilities: tuple[float, ...]
    own: float


@dataclass(frozen=True)
class Tops:
    """What is drawn: two lists or three, what the ids spell, the id of the text's own next token, and what
    there is to say below."""

    lists: tuple[TopList, ...]
    texts: Mapping[int, str]
    own: int
    said: str = ""


class TopTokens(Widget):
    """A row for each rank: the token, its probability, and a bar of it."""

    DEFAULT_CSS = "TopTokens { height: auto; width: 1fr; }"

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: Tops | None = None

    def show(self, tops: Tops | None) -> None:
        """Draw these."""
        if tops != self._shown:
            # Laying out anew is most of what a key costs; most lists are as long as the ones before.
            longer = tops is None or self._shown is None or rows(tops) != rows(self._shown)
            self._shown = tops
            self.refresh(layout=longer)

    def render(self) -> Text:
        """The lists."""
        if self._shown is None:
            return Text()
        colours = self.app.theme_variables
        unicode = cast("MqfTuiApp", self.app).capabilities.unicode
        return drawn(self._shown, self.content_size.width or self.size.width, colours, unicode=unicode)


def rows(tops: Tops) -> int:
    """How many rows they take: the titles, the ranks, one for the text's own token where it is not among the
    likeliest, and the sentence."""
    ranks = max(len(side.ids) for side in tops.lists)
    below = any(tops.own not in side.ids for side in tops.lists)
    return 1 + ranks + below + (tops.said.count("\n") + 1 if tops.said else 0)


def drawn(tops: Tops, width: int, colours: Mapping[str, str], *, unicode: bool) -> Text:
    """The lists side by side in ``width`` columns: as many as there are, the first being the reference."""
    n = len(tops.lists)
    room = (width - GAP * (n - 1)) // n
    ranks = rows(replace(tops, said="")) - 1
    found = Text(no_wrap=True, end="")
    for number, side in enumerate(tops.lists):
        found.append(_fit(side.title, room, unicode), style=f"bold {colours['secondary']}")
        found.append(" " * GAP if number < n - 1 else "")
    for rank in range(ranks):
        found.append("\n")
        for number in range(n):
            found.append_text(_cell(tops, number, rank, room, colours, unicode))
            found.append(" " * GAP if number < n - 1 else "")
    if tops.said:
        found.append("\n")
        found.append(tops.said, style=colours["secondary"])
    return found


def _cell(tops: Tops, number: int, rank: int, room: int, colours: Mapping[str, str], unicode: bool) -> Text:
    side = tops.lists[number]
    below = rank >= max(len(one.ids) for one in tops.lists) and tops.own not in side.ids
    if below:
        token, probability, number_word = tops.own, side.own, ""
    elif rank < len(side.ids):
        token, probability, number_word = side.ids[rank], side.probabilities[rank], str(rank + 1)
    else:
        return Text(" " * room)
    own, common = token == tops.own, _is_common(tops.lists, number, token)
    name_room, bar_room = _shares(room)
    # The text's own token and tokens of both sides are told by a sign as well as by the colour.
    sign = mark("marked", unicode) if own else "=" if common else " "
    colour = colours["accent"] if own else colours["foreground"] if common else colours["secondary"]
    style = f"bold {colour}" if own else colour
    found = Text(f"{number_word:>{RANK - 1}} ", style=colours["secondary"])
    found.append(f"{sign} ".ljust(MARK), style=style)
    found.append(_fit(named(token, tops.texts), name_room, unicode), style=style)
    found.append(_probability(probability, room), style=style)
    if bar_room and probability == probability:
        found.append(" " + bar(probability, bar_room, unicode), style=style)
    found.truncate(room, pad=True)
    return found


def _shares(room: int) -> tuple[int, int]:
    """How many columns of ``room`` the token's name gets, and how many its bar (0: too little room)."""
    left = room - RANK - MARK - NUMBER + (room < NARROW)
    long_bar = min(LONGEST_BAR, max(LEAST_BAR, left // 2 - 1))
    name = left - long_bar - 1
    if name < LEAST_NAME:
        return max(1, left), 0
    if name > LONGEST_NAME:
        return LONGEST_NAME, min(LONGEST_BAR, left - LONGEST_NAME - 1)
    return name, long_bar


def _is_common(lists: Sequence[TopList], number: int, token: int) -> bool:
    """Whether the reference has a variant's token, or some variant one of the reference's."""
    others = lists[1:] if number == 0 else lists[:1]
    return any(token in side.ids for side in others)


def _probability(value: float, room: int) -> str:
    digits = 1 if room < NARROW else 2
    word = "?" if value != value else f"{100 * value:.{digits}f}%" if value < 0.9995 else "100%"
    return word.rjust(NUMBER + digits - 2)


def _fit(text: str, room: int, unicode: bool) -> str:
    """``text`` in exactly ``room`` columns."""
    if cell_len(text) > room and room > 1:
        return set_cell_size(text, room - 1) + mark("ellipsis", unicode)
    return set_cell_size(text, room)


def as_list(title: str, ids: Iterable[Any], probabilities: Iterable[Any], own: float) -> TopList:
    """A list of any numbers."""
    return TopList(title, tuple(int(i) for i in ids), tuple(float(p) for p in probabilities), own)
