"""What is known of the token under the cursor: place, numbers, and the likeliest tokens of each side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import TYPE_CHECKING, cast

from rich.cells import cell_len, chop_cells
from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from mqf_tui.app.exploring.answer import Answer
from mqf_tui.app.exploring.tops import SESSION
from mqf_tui.app.exploring.walk import Walk
from mqf_tui.app.exploring.words import context, numbers, own_word, place_words, run_words
from mqf_tui.app.tops import TopsRequest, TopsSnapshot
from mqf_tui.app.widgets.top_tokens import TopList, Tops, TopTokens, as_list
from mqf_tui.fidelity.tops import Likeliest
from mqf_tui.reports.text import inert

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp

SECONDS = 0.2  # between two looks at what is being scored
TOKENS_BEFORE, TOKENS_AFTER = 120, 40
ROOMY = 16  # rows of the details from which on there is room for the context
GAP = "   "


@dataclass
class _Asked:
    """Positions of one chunk that are scored again. ``seen``: what was last said of it."""

    answer: Answer
    request: TopsRequest
    seen: TopsSnapshot


class TokenDetails(VerticalScroll, can_focus=False):
    """Plain data of a walk at a place; asks the MLX thread where the likeliest tokens are not known."""

    DEFAULT_CSS = """
    TokenDetails { padding: 0 2; background: $surface; scrollbar-gutter: stable; }
    TokenDetails Static { height: auto; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._walk: Walk | None = None
        self._place = 0
        self._cursor = Style()
        self._asked: list[_Asked] = []
        self._problems: dict[tuple[str, int], str] = {}
        self._rows = 0  # of words

    def compose(self) -> ComposeResult:
        """Words, then the lists."""
        yield Static("")
        yield TopTokens()

    def on_mount(self) -> None:
        """Look now and then at what is being scored again."""
        self.set_interval(SECONDS, self._look)

    def on_unmount(self) -> None:
        """What was asked for is wanted no more."""
        for asked in self._asked:
            asked.request.cancel()

    def on_resize(self) -> None:
        """The words take the width that there is."""
        self._draw()

    def show(self, walk: Walk, place: int, cursor: Style) -> None:
        """Tell of this place; ``cursor``: what the token under it looks like."""
        self._walk, self._place, self._cursor = walk, place, cursor
        self._draw()
        self.scroll_home(animate=False)

    @property
    def said(self) -> str:
        """All that is told, as lines of text."""
        lists = self.query_one(TopTokens).render().plain
        lines = f"{self.query_one(Static).content}\n{lists}".split("\n")
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def ask(self, places: Sequence[int]) -> None:
        """Score these places, all of one chunk, again where it is not known what was likeliest there."""
        walk = self._walk
        if walk is None:
            return
        sides = [(walk.answer, list(places))]
        if walk.beside is not None:
            there = [int(walk.beside.at[place]) for place in places]
            sides.append((walk.beside.answer, [place for place in there if place >= 0]))
        if not any([self._ask(answer, wanted) for answer, wanted in sides]):  # all are asked for
            self.notify("The likeliest tokens are known already of all that is seen here.")
        self._draw()

    def _ask(self, answer: Answer, places: Sequence[int]) -> bool:
        p = answer.positions
        unknown = [place for place in places if _likeliest(answer, place) is None]
        if not unknown:
            return False
        chunk = int(p.chunk[unknown[0]])
        self._problems.pop((answer.run.id, chunk), None)
        if self._waiting(answer, chunk) is None:
            bridge = cast("MqfTuiApp", self.app).bridge
            request = bridge.tops(answer.run, chunk, [int(p.depth[place]) for place in unknown])
            self._asked.append(_Asked(answer, request, request.snapshot()))
        return True

    def _waiting(self, answer: Answer, chunk: int) -> _Asked | None:
        for asked in self._asked:
            if asked.answer.run.id == answer.run.id and asked.request.chunk == chunk:
                return asked
        return None

    def _look(self) -> None:
        changed = False
        for asked in list(self._asked):
            now = asked.request.snapshot()
            changed |= now != asked.seen
            asked.seen = now
            if now.ended:
                self._asked.remove(asked)
                self._take(asked, now)
        if changed:
            self._draw()

    def _take(self, asked: _Asked, now: TopsSnapshot) -> None:
        if now.tops is not None:
            SESSION.add(asked.answer.run.id, now.tops)
            if now.doubt:
                self.notify(now.doubt, severity="warning", markup=False)
        elif now.problem:
            self._problems[asked.answer.run.id, asked.request.chunk] = now.problem

    def _draw(self) -> None:
        walk = self._walk
        if walk is None or not self.is_attached or not self.query(TopTokens):
            return
        width = self.scrollable_content_region.width
        if width > 0:
            lines = self._words(walk, width).wrap(self.app.console, width)
            self.query_one(Static).update(Text("\n").join(lines), layout=len(lines) != self._rows)
            self._rows = len(lines)
            tops = self._tops(walk)
            said = "\n".join(wrap(inert(tops.said), max(10, width)))
            self.query_one(TopTokens).show(replace(tops, said=said))

    def _words(self, walk: Walk, width: int) -> Text:
        colours = self.app.theme_variables
        place = place_words(walk.answer, self._place)
        if self.size.height >= ROOMY:
            rows = 3 if self.size.height < 2 * ROOMY else 6
            found = in_context(walk, self._place, width, rows, self._cursor)
            found.append("\n\n")
        else:  # the text itself stands right above
            found = Text.assemble((f" {own_word(walk.answer, self._place)} ", self._cursor), "  ")
            place = place.removeprefix("position ")
        found.append(place, style=colours["secondary"])
        found.append("\n")
        at = 0
        for name, value in numbers(walk.answer, self._place, walk.colouring, walk.beside):
            item = cell_len(name) + 1 + cell_len(value)
            if at and at + len(GAP) + item > width:
                found.append("\n")
                at = 0
            found.append(GAP if at else "")
            at += item + (len(GAP) if at else 0)
            found.append(f"{name} ", style=colours["secondary"])
            found.append(value, style="bold")
        return found

    def _tops(self, walk: Walk) -> Tops:
        answer, place = walk.answer, self._place
        p = answer.positions
        found = _likeliest(answer, place)
        lists = list(_lists(answer, place, found, "1" if walk.beside is not None else "variant"))
        texts = _texts(answer, place)
        said = self._said(answer, place) if found is None else ""
        if walk.beside is not None and (at := int(walk.beside.at[place])) >= 0:
            other = walk.beside.answer
            second = _likeliest(other, at)
            lists.append(_lists(other, at, second, "2")[1])
            texts = {**_texts(other, at), **texts}
            said = said or (self._said(other, at) if second is None else "")
        return Tops(tuple(lists), texts, int(p.token[place]), said)

    def _said(self, answer: Answer, place: int) -> str:
        """Why there is no more than the likeliest one."""
        chunk = int(answer.positions.chunk[place])
        asked = self._waiting(answer, chunk)
        if asked is not None:
            return waiting_words(asked.seen, busy=cast("MqfTuiApp", self.app).bridge.busy)
        problem = self._problems.get((answer.run.id, chunk))
        if problem:
            return problem
        return "Of this position only the likeliest token was saved; t scores it again for the top 10."


def _likeliest(answer: Answer, place: int) -> tuple[Likeliest, Likeliest] | None:
    return SESSION.at(answer.run.id, int(answer.order[place]))


def _texts(answer: Answer, place: int) -> Mapping[int, str]:
    """What all ids spell that are shown of a place."""
    p = answer.positions
    here = (int(column[place]) for column in (p.token, p.top1_ref, p.top1_quant))
    of_lists = SESSION.texts(answer.run.id, int(answer.order[place]))
    return {**of_lists, **{token: p.texts[token] for token in here if token in p.texts}}


def _lists(
    answer: Answer, place: int, found: tuple[Likeliest, Likeliest] | None, variant: str
) -> tuple[TopList, TopList]:
    """The list of the reference and that of the variant: all that is known."""
    p = answer.positions
    title = f"{variant}: {run_words(answer.run)}"
    own = [math.exp(-float(nll[place])) for nll in (p.nll_ref, p.nll_quant)]
    if found is None:
        return (
            as_list("reference", [p.top1_ref[place]], [p.prob_ref[place]], own[0]),
            as_list(title, [p.top1_quant[place]], [p.prob_quant[place]], own[1]),
        )
    reference, changed = found
    return as_list("reference", *reference, own[0]), as_list(title, *changed, own[1])


def waiting_words(now: TopsSnapshot, *, busy: bool) -> str:
    """How a request stands, in a sentence."""
    if now.state == "waiting":
        return "Waits for the measurement that runs …" if busy else "Waits for its turn …"
    share = f", {now.share:.0%}".replace("%", " %") if now.share is not None else ""
    doing = now.doing or now.state
    return f"{doing[:1].upper()}{doing[1:]}{share} …"


def in_context(walk: Walk, place: int, width: int, rows: int, style: Style) -> Text:
    """The token with what stands before it, and after it as far as there is room."""
    left, own, right = context(walk.answer, place, TOKENS_BEFORE, TOKENS_AFTER)
    own = f" {own} "
    # A line is often not filled to its end, since words are not broken.
    room = max(0, rows * (width - 6) - cell_len(own))
    after = _cut(right, room // 4, end=True)
    before = _cut(left, room - cell_len(after), end=False)
    found = Text(end="")
    found.append(before)
    found.append(own, style=style)
    found.append(after)
    return found


def _cut(text: str, room: int, *, end: bool) -> str:
    """As much of a text as there is room for: its beginning, or its end."""
    if cell_len(text) <= room:
        return text
    if room <= 1:
        return ""
    if end:
        return chop_cells(text, room - 1)[0] + "…"
    return "…" + chop_cells(text[::-1], room - 1)[0][::-1]
