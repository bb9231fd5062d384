"""The table of a comparison: a column a run, a row a setting or a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.style import Style
from rich.text import Text
from textual.coordinate import Coordinate
from textual.message import Message
from textual.widgets import DataTable

from mqf_tui.app.capabilities import mark
from mqf_tui.app.comparing import Compared, Row
from mqf_tui.app.comparing_cells import Layout, Lines, laid_out
from mqf_tui.app.verdict_colours import COLOURS
from mqf_tui.app.widgets.signs import unicode_of
from mqf_tui.reports.schema import Report

SCROLLBAR = 2
FIRST = "KL mean"  # the row that the cursor is on first
TONES = {"bad": "error", "good": "success", "plain": "foreground"}


class CompareTable(DataTable[Text]):
    """The cursor is on a cell: its column is the current run, its row says what is told of it below."""

    DEFAULT_CSS = """
    CompareTable { height: 1fr; width: 1fr; background: $background; }
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(zebra_stripes=True, header_height=2, cursor_type="cell", cell_padding=1, **options)
        self._rows: tuple[Lines, ...] = ()
        self._shown: tuple[Compared, Sequence[Row], tuple[int, ...], int] | None = None
        self._width = 0  # that it was laid out for

    class LaidOut(Message):
        """It was filled anew, so that the row under the cursor may be another."""

    def show(self, compared: Compared, rows: Sequence[Row], order: Sequence[int], at: int) -> None:
        """Fill it anew; ``order``: the places of the runs from left to right, ``at``: the current column."""
        self._shown = compared, rows, tuple(order), at
        self._width = self.outer_size.width
        if not self._width:
            return  # not laid out yet, or hidden
        unicode = unicode_of(self)
        rows = [_marked(row, compared, unicode) if row.name == "verdict" else row for row in rows]
        found = laid_out(rows, order, self._width - SCROLLBAR, unicode=unicode)
        kept = self.row_at(self.cursor_row)
        top = self.scroll_y
        self._rows = found.rows
        with self.prevent(DataTable.CellHighlighted):
            self.clear(columns=True)
            for place in order:
                self.add_column(self._head(compared, place, found), width=found.width, key=str(place))
            for lines in found.rows:
                cells = [
                    self._cell(compared, lines, place, words)
                    for place, words in zip(order, lines.cells, strict=True)
                ]
                label = Text(lines.name.ljust(found.name_width), Style(bold=lines.row.differs))
                self.add_row(*cells, label=label, height=lines.height)
            # Textual learns of labels when it is idle; a line drawn before that would stay without its own.
            self._labelled_row_exists = bool(found.rows)
            self._label_column.content_width = found.name_width
            names = [lines.row.name for lines in found.rows]
            wanted = kept.name if kept is not None and kept.name in names else FIRST
            at_row = names.index(wanted) if wanted in names else 0
            self.move_cursor(row=at_row, column=at, animate=False)
        self.scroll_to(y=top, animate=False, force=True)
        self.post_message(self.LaidOut())

    def on_resize(self) -> None:
        """Lay it out for the new width."""
        if self._shown is not None and self.outer_size.width != self._width:
            compared, rows, order, _ = self._shown
            at = min(self.cursor_column, len(order) - 1) if self._rows else self._shown[-1]
            self.show(compared, rows, order, at)

    def row_at(self, number: int) -> Row | None:
        """The row of that number from the top, from 0."""
        return self._rows[number].row if 0 <= number < len(self._rows) else None

    def choose(self, column: int) -> None:
        """Put the cursor into that column, from 0."""
        self.cursor_coordinate = Coordinate(self.cursor_row, column)
        if self._shown is not None:
            self._shown = (*self._shown[:3], column)

    def _head(self, compared: Compared, place: int, found: Layout) -> Text:
        report = compared.reports[place]
        words = f"{place + 1} baseline" if place == compared.baseline else str(place + 1)
        line = f"{words}{_notes(report)}"
        return Text(f"{line[: found.width]}\n{_short(report.short_setting, found.width)}")

    def _cell(self, compared: Compared, lines: Lines, place: int, words: str) -> Text:
        colours, cell = self.app.theme_variables, lines.row.cells[place]
        if lines.row.name == "verdict":
            side = compared.side(place)
            verdict = compared.reports[place].verdict if side is None else side.verdict
            return Text(words, Style(color=colours[COLOURS[verdict]], bold=True))
        if lines.row.differs:
            other = cell.value != lines.row.cells[compared.baseline].value
            return Text(words, Style(color=colours["accent" if other else "foreground"], bold=True))
        text = Text(words)
        if cell.sign == "beyond":
            text.stylize(Style(color=colours[TONES[cell.tone]], bold=True), len(cell.value))
        elif cell.sign:
            text.stylize(Style(color=colours["secondary"]), len(cell.value))
        return text


def _marked(row: Row, compared: Compared, unicode: bool) -> Row:
    """The verdicts with their marks."""
    cells = list(row.cells)
    for place, cell in enumerate(cells):
        verdict = cell.value.split(",")[0]
        cells[place] = type(cell)(f"{mark(verdict, unicode)} {cell.value}")
    return Row(row.name, tuple(cells), row.differs)


def _notes(report: Report) -> str:
    notes = [
        word for word, on in (("partial", report.partial), ("imported", report.origin is not None)) if on
    ]
    return f" ({', '.join(notes)})" if notes else ""


def _short(words: str, longest: int) -> str:
    return words if len(words) <= longest else f"{words[: longest - 1]}…"
