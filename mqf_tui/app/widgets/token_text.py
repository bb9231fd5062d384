"""The text of a run with a colour for each token, and a cursor that walks through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual import events
from textual.binding import BindingType
from textual.cache import LRUCache
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mqf_tui.app.actions import bindings
from mqf_tui.app.capabilities import mark
from mqf_tui.app.exploring.layout import TextLayout
from mqf_tui.app.exploring.spelling import Spelling
from mqf_tui.app.widgets.heat import Heat

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp

GUTTER = 2  # columns on the left, with a mark at the cursor's row
LINES_KEPT = 512


@dataclass(frozen=True)
class Shown:
    """What is drawn. ``starts`` (g,): the place that each chunk begins with; ``rules``: what stands there.
    ``levels``, ``flips``, ``inside`` (n,): of each place its level of heat, 0 to 2 for no flip, a flip or a
    confident one, and whether the filter keeps it."""

    spelling: Spelling
    starts: NDArray[np.int64]
    rules: tuple[str, ...]
    levels: NDArray[np.int8]
    flips: NDArray[np.int8]
    inside: NDArray[np.bool_]


class TokenText(ScrollView, can_focus=True, inherit_bindings=False):
    """Draws the rows that can be seen and no others. All movement changes ``cursor``, a place."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("tokens")
    DEFAULT_CSS = """
    TokenText { height: 1fr; background: $background; overflow-x: hidden; overflow-y: scroll; }
    """

    class Moved(Message):
        """The cursor stands at another place."""

        def __init__(self, place: int) -> None:
            super().__init__()
            self.place = place

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cursor = 0
        self._shown: Shown | None = None
        self._layout_found: TextLayout | None = None
        self._heat: Heat | None = None
        self._column = 0  # to which up and down go back after a short line
        self._rows: LRUCache[int, Strip] = LRUCache(LINES_KEPT)

    @property
    def shown(self) -> Shown | None:
        """What is drawn."""
        return self._shown

    def show(self, shown: Shown, cursor: int | None = None) -> None:
        """Draw this, the cursor at ``cursor`` or where it is."""
        before, self._shown = self._shown, shown
        if before is None or before.spelling is not shown.spelling or before.starts is not shown.starts:
            self._layout_found = None
        self._rows.clear()
        self._lay_out()
        self.go(self.cursor if cursor is None else cursor, centre=before is None)
        self.refresh()

    def show_theme(self) -> None:
        """Take the colours of the theme of now."""
        self._heat = None
        self._rows.clear()
        self.refresh()

    def go(self, place: int, *, centre: bool = False, keep_column: bool = False) -> None:
        """Put the cursor at a place, the nearest that there is, and have it seen."""
        if self._shown is None:
            return
        place = min(max(0, place), len(self._shown.levels) - 1)
        moved = place != self.cursor
        left, self.cursor = self.cursor, place
        layout = self._layout_found
        if layout is not None:
            row, column = layout.where(place)
            if not keep_column:
                self._column = column
            if moved:
                self._redraw(layout, left)
            self._redraw(layout, place)
            self._have_seen(layout, row, centre=centre)
        if moved:
            self.post_message(self.Moved(place))

    def seen(self) -> tuple[int, int]:
        """The places of which something can be seen, as a half-open range."""
        if self._layout_found is None:
            return 0, 0
        top = self.scroll_offset.y
        return self._layout_found.places(top, min(top + self.size.height, self._layout_found.n_rows) - 1)

    @property
    def heat(self) -> Heat:
        """The styles of the theme of now."""
        if self._heat is None:
            self._heat = Heat(self.app.theme_variables, cast("MqfTuiApp", self.app).capabilities.colour)
        return self._heat

    def on_resize(self) -> None:
        """Lay out for the new width; the cursor stays in sight."""
        self._lay_out()
        self.go(self.cursor)

    def on_click(self, event: events.Click) -> None:
        """To the token under the mouse."""
        layout = self._layout_found
        if layout is None:
            return
        place = layout.place_at(event.y + self.scroll_offset.y, event.x - GUTTER)
        if place is not None:
            self.go(place)

    def render_line(self, y: int) -> Strip:
        """One row, or nothing below the last."""
        row, width = y + self.scroll_offset.y, self.size.width
        shown, layout = self._shown, self._layout_found
        if shown is None or layout is None or row >= layout.n_rows:
            return Strip.blank(width, self.heat.style(0))
        at, _ = layout.where(self.cursor)
        mine = at <= row <= layout.last_row(self.cursor)
        if not mine and (kept := self._rows.get(row)) is not None:
            return kept
        strip = self._row(shown, layout, row, at).extend_cell_length(width, self.heat.style(0)).crop(0, width)
        if not mine:
            self._rows[row] = strip
        return strip

    def _row(self, shown: Shown, layout: TextLayout, row: int, at: int) -> Strip:
        chunk = layout.chunk_ruled(row)
        if chunk is not None:
            return Strip([self._rule(shown.rules[chunk], layout.width)])
        sign = mark("running", self._unicode) if row == at else " "
        segments = [Segment(sign.ljust(GUTTER), self.heat.style(0, cursor=False))]
        for piece in layout.pieces(row):
            place = piece.place
            style = self.heat.style(
                int(shown.levels[place]),
                int(shown.flips[place]),
                inside=bool(shown.inside[place]),
                cursor=place == self.cursor,
            )
            segments.append(Segment(piece.text, style))
        return Strip(segments)

    def _rule(self, words: str, width: int) -> Segment:
        line = mark("line", self._unicode)
        text = f"{line * 2} {words} "
        room = width + GUTTER
        text = set_cell_size(text, room) if cell_len(text) > room else text + line * (room - cell_len(text))
        return Segment(text, self.heat.style(0, inside=False))

    @property
    def _unicode(self) -> bool:
        return cast("MqfTuiApp", self.app).capabilities.unicode

    def _lay_out(self) -> None:
        width = self.scrollable_content_region.width - GUTTER
        if self._shown is None or self.size.width == 0:
            return
        if self._layout_found is None or self._layout_found.width != max(width, 1):
            self._layout_found = TextLayout(self._shown.spelling, self._shown.starts, width)
            self._rows.clear()
            self.virtual_size = Size(self.size.width, self._layout_found.n_rows)

    def _redraw(self, layout: TextLayout, place: int) -> None:
        first, last = layout.where(place)[0], layout.last_row(place)
        self.refresh_lines(first, last - first + 1)

    def _have_seen(self, layout: TextLayout, row: int, *, centre: bool) -> None:
        height, top = self.size.height, self.scroll_offset.y
        margin = min(2, max(0, (height - 1) // 3))
        if centre or row < top - height or row > top + 2 * height:
            wanted = row - height // 2
        elif row < top + margin:
            wanted = row - margin
        elif row > top + height - 1 - margin:
            wanted = row - height + 1 + margin
        else:
            return
        wanted = min(max(0, wanted), max(0, layout.n_rows - height))
        self.scroll_to(y=wanted, animate=False, immediate=True, force=True)

    def action_left(self) -> None:
        """To the token before."""
        self.go(self.cursor - 1)

    def action_right(self) -> None:
        """To the next token."""
        self.go(self.cursor + 1)

    def action_up(self) -> None:
        """To the line above."""
        self._by_rows(-1)

    def action_down(self) -> None:
        """To the line below."""
        self._by_rows(1)

    def action_page_up(self) -> None:
        """As many lines up as can be seen."""
        self._by_rows(-max(1, self.size.height - 2))

    def action_page_down(self) -> None:
        """As many lines down as can be seen."""
        self._by_rows(max(1, self.size.height - 2))

    def action_first(self) -> None:
        """To the first token."""
        self.go(0)

    def action_last(self) -> None:
        """To the last token."""
        if self._shown is not None:
            self.go(len(self._shown.levels) - 1)

    def action_chunk_before(self) -> None:
        """To the beginning of the chunk; from there to that of the one before."""
        if self._shown is not None:
            at = int(np.searchsorted(self._shown.starts, self.cursor)) - 1
            self.go(int(self._shown.starts[max(0, at)]))

    def action_chunk_after(self) -> None:
        """To the beginning of the next chunk."""
        if self._shown is not None:
            at = int(np.searchsorted(self._shown.starts, self.cursor, "right"))
            if at < len(self._shown.starts):
                self.go(int(self._shown.starts[at]))

    def _by_rows(self, rows: int) -> None:
        layout = self._layout_found
        if layout is None:
            return
        row, _ = layout.where(self.cursor)
        if rows > 0:
            row = layout.last_row(self.cursor)
        there = min(max(0, row + rows), layout.n_rows - 1)
        place = layout.place_at(there, self._column)
        while place is None or (place == self.cursor and 0 < there < layout.n_rows - 1):
            there += 1 if rows > 0 else -1
            if not 0 <= there < layout.n_rows:
                return
            place = layout.place_at(there, self._column)
        self.go(place, keep_column=True)
