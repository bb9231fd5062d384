"""A table that draws only the rows that are seen, so that thousands of them open at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size, clamp
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

HEADER = 1  # lines
Cell = tuple[str, str]  # plain words, and the name of a style: "", good, marginal, bad, quiet, strong


@dataclass(frozen=True)
class Column:
    """A column from left to right; ``gap``: blanks behind it."""

    name: str
    title: str
    width: int
    right: bool = False
    gap: int = 2


class RowList(ScrollView, can_focus=True):
    """Rows under a header, with a cursor. Whoever shows it says what stands in a row when it is drawn."""

    DEFAULT_CSS = """
    RowList {
        height: 1fr; background: $background; overflow-x: hidden; scrollbar-size-vertical: 1;
        & > .row-list--header { background: $panel; color: $foreground; text-style: bold; }
        & > .row-list--cursor {
            background: $block-cursor-blurred-background; color: $block-cursor-blurred-foreground;
        }
        &:focus > .row-list--cursor {
            background: $block-cursor-background; color: $block-cursor-foreground;
            text-style: $block-cursor-text-style;
        }
        & > .row-list--odd { background: $surface 50%; }
        & > .row-list--good { color: $success; text-style: bold; }
        & > .row-list--marginal { color: $warning; text-style: bold; }
        & > .row-list--bad { color: $error; text-style: bold; }
        & > .row-list--quiet { color: $secondary; }
        & > .row-list--strong { color: $accent; text-style: bold; }
    }
    """
    STYLES: ClassVar[tuple[str, ...]] = ("good", "marginal", "bad", "quiet", "strong")
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"row-list--{name}"
        for name in ("header", "cursor", "odd", "good", "marginal", "bad", "quiet", "strong")
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "first", "First", show=False),
        Binding("end", "last", "Last", show=False),
    ]

    cursor_row: reactive[int] = reactive(0)

    class Moved(Message):
        """The cursor is on another row, or the rows are others."""

    class Chosen(Message):
        """The row under the cursor was clicked."""

    class HeaderClicked(Message):
        """A column's title was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._columns: tuple[Column, ...] = ()
        self._n = 0
        self._cells: Callable[[int], Sequence[Cell]] = lambda _: ()

    @property
    def row_count(self) -> int:
        """The number of rows."""
        return self._n

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self._columns)

    def show(
        self, columns: Sequence[Column], n: int, cells: Callable[[int], Sequence[Cell]], cursor: int = 0
    ) -> None:
        """Show ``n`` rows. ``cells`` gives those of a row: one a column, or fewer, the last of which then
        takes the rest of the line."""
        self._columns, self._n, self._cells = tuple(columns), n, cells
        self.virtual_size = Size(0, n + HEADER)
        self.set_reactive(RowList.cursor_row, clamp(cursor, 0, max(0, n - 1)))
        self._reveal()
        self.refresh()
        self.post_message(self.Moved())

    def render_line(self, y: int) -> Strip:
        """The header, or a row."""
        width = self.size.width
        row = y - HEADER + round(self.scroll_offset.y)
        if y < HEADER and self._columns:
            style = self.get_component_rich_style("row-list--header")
            titles = [(column.title, "") for column in self._columns]
            return self._line(titles, style, width, coloured=False)
        if not 0 <= row < self._n:
            return Strip.blank(width, self.rich_style)
        cursor = row == self.cursor_row
        name = "cursor" if cursor else "odd" if row % 2 else ""
        style = self.get_component_rich_style(f"row-list--{name}") if name else self.rich_style
        return self._line(self._cells(row), style, width, coloured=not cursor)

    def _line(self, cells: Sequence[Cell], base: Style, width: int, *, coloured: bool) -> Strip:
        segments = [Segment(" ", base)]
        used = 1
        for place, (words, name) in enumerate(cells):
            column = self._columns[place]
            rest = place == len(cells) - 1 and len(cells) < len(self._columns)
            room = width - used if rest else column.width
            style = base
            if name and coloured:
                style += self.get_component_rich_style(f"row-list--{name}", partial=True)
            said = set_cell_size(words.rjust(room) if column.right else words, room)
            segments += [Segment(said, style), Segment(" " * column.gap, base)]
            used += room + column.gap
        return Strip(segments).adjust_cell_length(width, base)

    def validate_cursor_row(self, row: int) -> int:
        """Within the rows."""
        return clamp(row, 0, max(0, self._n - 1))

    def watch_cursor_row(self, before: int, now: int) -> None:
        """Draw both rows anew, and tell."""
        if before != now:
            self._reveal()
            self.refresh()
            self.post_message(self.Moved())

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self._reveal()

    @property
    def _room(self) -> int:
        return max(1, self.size.height - HEADER)

    def _reveal(self) -> None:
        top = round(self.scroll_offset.y)
        if self.cursor_row < top:
            self.scroll_to(y=self.cursor_row, animate=False)
        elif self.cursor_row >= top + self._room:
            self.scroll_to(y=self.cursor_row - self._room + 1, animate=False)

    def action_move(self, rows: int) -> None:
        """To another row."""
        self.cursor_row += rows

    def action_page(self, pages: int) -> None:
        """As many rows as are seen."""
        self.cursor_row += pages * self._room

    def action_first(self) -> None:
        """To the first row."""
        self.cursor_row = 0

    def action_last(self) -> None:
        """To the last row."""
        self.cursor_row = self._n - 1

    def on_click(self, event: events.Click) -> None:
        """Go to the row; where the cursor is there already, choose it. A title tells its column."""
        event.stop()
        if event.y < HEADER:
            start = 1
            for column in self._columns:
                if start <= event.x < start + column.width + column.gap:
                    self.post_message(self.HeaderClicked(column.name))
                start += column.width + column.gap
            return
        row = event.y - HEADER + round(self.scroll_offset.y)
        if row >= self._n:
            return
        if row == self.cursor_row:
            self.post_message(self.Chosen())
        else:
            self.cursor_row = row
