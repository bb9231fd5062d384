"""A table of coloured cells: keys by values, or layers by sides. The cursor goes from cell to cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rich.style import Style
from rich.text import Text
from textual import events
from textual.actions import SkipAction
from textual.binding import BindingType
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget

from mqf_tui.app.actions import bindings
from mqf_tui.app.capabilities import Capabilities, mark
from mqf_tui.app.widgets.canvas import Canvas
from mqf_tui.app.widgets.heat import Heat
from mqf_tui.app.widgets.signs import unicode_of

WIDEST = 22  # columns of a cell
SHADES = (" ░░▒▒▓▓██", " .:-=+*#@")  # by level, where there are no colours: Unicode, ASCII
BRACKETS = (("⟦", "⟧"), ("[", "]"))


@dataclass(frozen=True)
class HeatCell:
    """``level`` 0 (best) to 8; ``lines`` of words, those that fit are shown; ``framed``: stands out."""

    level: int
    lines: tuple[str, ...] = ()
    framed: bool = False


class _Place(NamedTuple):
    """Where a cell is drawn."""

    x: int
    y: int
    width: int


class HeatGrid(Widget, can_focus=True):
    """Arrows go from cell to cell, Enter takes one, a click does both. Many columns stand in bands."""

    DEFAULT_CSS = """
    HeatGrid { width: 1fr; height: auto; border: round $panel; border-title-color: $secondary;
               border-subtitle-color: $foreground; padding: 0 1; }
    HeatGrid:focus { border: round $accent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("heat")

    class Highlighted(Message):
        """The cursor has come to another cell."""

        def __init__(self, grid: HeatGrid, row: int, column: int) -> None:
            super().__init__()
            self.grid, self.row, self.column = grid, row, column

        @property
        def control(self) -> HeatGrid:
            """The grid."""
            return self.grid

    class Selected(Highlighted):
        """Enter, or a click on the cell under the cursor."""

    def __init__(self, *, cell_height: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self._cell_height = cell_height
        self._rows: tuple[str, ...] = ()
        self._columns: tuple[str, ...] = ()
        self._cells: Mapping[tuple[int, int], HeatCell] = {}
        self._empty: Mapping[tuple[int, int], str] = {}
        self._cursor: tuple[int, int] | None = None

    def show(
        self,
        rows: Sequence[str],
        columns: Sequence[str],
        cells: Mapping[tuple[int, int], HeatCell],
        *,
        empty: Mapping[tuple[int, int], str] | None = None,
    ) -> None:
        """Draw these cells, by row and column; ``empty``: words for places that have none.

        The cursor comes to the first framed cell, else to the first of all.
        """
        self._rows, self._columns, self._cells = tuple(rows), tuple(columns), dict(cells)
        self._empty = empty or {}
        framed = (place for place in sorted(cells) if cells[place].framed)
        self._cursor = next(framed, min(cells, default=None))
        self.refresh(layout=True)

    @property
    def cursor(self) -> tuple[int, int] | None:
        """Row and column under the cursor; None where there is no cell."""
        return self._cursor

    def go_to(self, row: int, column: int) -> None:
        """Bring the cursor to a cell; a place that has none is left out."""
        if (row, column) in self._cells and (row, column) != self._cursor:
            self._cursor = (row, column)
            self.refresh()

    def action_move(self, down: int, right: int) -> None:
        """To the next cell that way, over places that have none; at the edge the page scrolls."""
        if self._cursor is None:
            raise SkipAction
        row, column = self._cursor
        while 0 <= (row := row + down) < len(self._rows) and 0 <= (column := column + right) < len(
            self._columns
        ):
            if (row, column) in self._cells:
                self._go((row, column))
                return
        raise SkipAction

    def action_first(self) -> None:
        """To the first cell of the row."""
        self._end(min)

    def action_last(self) -> None:
        """To the last cell of the row."""
        self._end(max)

    def action_select(self) -> None:
        """Take the cell under the cursor."""
        if self._cursor is not None:
            self.post_message(self.Selected(self, *self._cursor))

    def on_click(self, event: events.Click) -> None:
        """Come to the cell, or take it where the cursor is on it already."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        for cell, place in self._places():
            inside = place.x <= offset.x < place.x + place.width
            if inside and place.y <= offset.y < place.y + self._cell_height and cell in self._cells:
                self.action_select() if cell == self._cursor else self._go(cell)
                return

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """All bands, whatever the room."""
        del container, viewport
        return len(self._bands(width)) * self._band_height

    def render(self) -> Text:
        """The picture, as large as the widget."""
        width, height = self.content_size
        canvas = Canvas(width, max(1, height))
        quiet = Style(color=self.app.theme_variables["secondary"])
        left = self._left
        for number, band in enumerate(self._bands(width)):
            top = number * self._band_height
            for i, name in enumerate(self._rows):
                y = top + 1 + i * self._cell_height + (self._cell_height - 1) // 2
                canvas.write(0, y, name.rjust(left - 1), quiet)
            self._draw_heads(canvas, band, top, self._wide(width), quiet)
        heat = self._heat()
        for place, at in self._places(width):
            self._draw_cell(canvas, heat, place, at, quiet)
        return canvas.text()

    def _draw_heads(self, canvas: Canvas, band: range, top: int, wide: int, style: Style) -> None:
        end = -1
        for j in band:
            x = self._left + (j - band.start) * wide
            name = self._columns[j] if len(self._columns[j]) < wide else self._columns[j].split(" (")[0]
            at = x + max(0, (wide - 1 - len(name)) // 2)
            if at > end and at + len(name) <= canvas.width:
                canvas.write(at, top, name, style)
                end = at + len(name)

    def _draw_cell(
        self, canvas: Canvas, heat: Heat, place: tuple[int, int], at: _Place, quiet: Style
    ) -> None:
        cell = self._cells.get(place)
        if cell is None:
            words = self._empty.get(place, "")
            if len(words) <= at.width:
                canvas.write(at.x, at.y + self._cell_height // 2, words.center(at.width), quiet)
            return
        # Levels above 8 and below 0 would be outside the colours.
        level = min(8, max(0, cell.level))
        here = place == self._cursor and self.has_focus
        style = shading = heat.style(level, cursor=here)
        unicode = unicode_of(self)
        shade = SHADES[not unicode][level] if self._colourless else " "
        if self._colourless:
            shading = Style(color=self.app.theme_variables["foreground"], reverse=here)
        opens, closes = BRACKETS[not unicode]
        for k in range(self._cell_height):
            words = cell.lines[k] if k < len(cell.lines) else ""
            if cell.framed and k == 0 and len(words) + 2 <= at.width:
                words = f"{opens}{words}{closes}"
            words = words if len(words) <= at.width else ""
            if place == self._cursor and k == 0:
                # The cursor's colour may be one of the heat's: a sign tells it in any case.
                sign = mark("running" if words else "marked", unicode)
                words = f"{sign}{words}" if len(words) < at.width else words
            fill = words.center(at.width) if words else shade * at.width
            used = style if words else shading
            canvas.write(at.x, at.y + k, fill, used + Style(bold=True) if cell.framed else used)

    def _places(self, width: int | None = None) -> Iterator[tuple[tuple[int, int], _Place]]:
        """Every place of the table, and where it is drawn."""
        width = self.content_size.width if width is None else width
        wide = self._wide(width)
        for number, band in enumerate(self._bands(width)):
            for i in range(len(self._rows)):
                y = number * self._band_height + 1 + i * self._cell_height
                for j in band:
                    gap = 1 if wide > 2 else 0
                    yield (i, j), _Place(self._left + (j - band.start) * wide, y, wide - gap)

    @property
    def _left(self) -> int:
        return max((len(name) for name in self._rows), default=0) + 1

    @property
    def _band_height(self) -> int:
        return 1 + len(self._rows) * self._cell_height

    def _wide(self, width: int) -> int:
        """Columns of the terminal for each cell."""
        room = max(1, width - self._left)
        longest = max((len(line) for cell in self._cells.values() for line in cell.lines), default=0)
        return max(1, min(WIDEST, max(longest + 5, 3), room // max(1, len(self._columns))))

    def _bands(self, width: int) -> list[range]:
        """The columns that stand beside each other, band by band."""
        n = max(1, (width - self._left) // self._wide(width))
        return [range(i, min(i + n, len(self._columns))) for i in range(0, len(self._columns), n)]

    @property
    def _colourless(self) -> bool:
        return getattr(self.app, "capabilities", Capabilities()).colour in ("none", "16")

    def _heat(self) -> Heat:
        found = getattr(self.app, "capabilities", Capabilities())
        return Heat(self.app.theme_variables, found.colour)

    def _end(self, which: Any) -> None:
        if self._cursor is not None:
            row = self._cursor[0]
            self._go(which(place for place in self._cells if place[0] == row))

    def _go(self, place: tuple[int, int]) -> None:
        if place != self._cursor:
            self._cursor = place
            self.post_message(self.Highlighted(self, *place))
            self.refresh()
