"""The table of a comparison laid out for a width: cells of one line where they find room, else of more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from rich.cells import cell_len

from mqf_tui.app.comparing import UNTESTED, WITHIN, Cell, Row, Sign

PADDING = 2  # of a cell, both sides together
LONGEST_NAME = 22  # of a row, in wide tables
SHORT_NAME = 12  # of a row, in narrow ones
WIDEST = 44  # of a column: what is wider is hard to read across
BRIEF = {WITHIN: "within", UNTESTED: "no test", " pp": ""}
# (Unicode, ASCII)
SIGNS: dict[Sign, tuple[str, str]] = {
    "": ("", ""),
    "beyond": ("≠", "!"),
    "within": ("≈", "~"),
    "same": ("=", "="),
    "untested": ("?", "?"),
}


@dataclass(frozen=True)
class Lines:
    """A laid-out row: its name and its cells, each with line feeds; ``height`` in lines of text."""

    row: Row
    name: str
    cells: tuple[str, ...]
    height: int


@dataclass(frozen=True)
class Layout:
    """``width`` of each run's column without its padding, and the rows."""

    width: int
    name_width: int
    rows: tuple[Lines, ...]


def laid_out(rows: Sequence[Row], order: Sequence[int], room: int, *, unicode: bool) -> Layout:
    """The rows for ``room`` columns of text; ``order``: the places of the runs from left to right."""
    longest = max((cell_len(row.name) + 2 for row in rows), default=0)
    for name_width in (min(longest, LONGEST_NAME), min(longest, SHORT_NAME)):
        width = min(WIDEST, (room - name_width - PADDING) // max(len(order), 1) - PADDING)
        one_line = _aligned(rows, order, unicode)
        if all(cell_len(words) <= width for cells in one_line for words in cells):
            break
    width = max(width, 8)
    return Layout(
        width,
        name_width,
        tuple(
            _lines(row, cells, order, width, name_width, unicode)
            for row, cells in zip(rows, one_line, strict=True)
        ),
    )


def moved(cell: Cell, unicode: bool) -> str:
    """The difference with what it means: ``-0.0223 ≠ less``; empty where there is none."""
    return " ".join(part for part in (cell.difference, SIGNS[cell.sign][not unicode], cell.word) if part)


def brief(difference: str) -> str:
    """The same in fewer letters; the line below the table has all of them."""
    for words, fewer in BRIEF.items():
        difference = difference.replace(words, fewer)
    return difference


def _aligned(rows: Sequence[Row], order: Sequence[int], unicode: bool) -> list[tuple[str, ...]]:
    """Each cell in one line; in a column, values and differences each begin at one place."""
    figures = [row for row in rows if any(cell.difference or cell.word for cell in row.cells)]
    values = {p: max((cell_len(r.cells[p].value) for r in figures), default=0) for p in order}
    found: list[tuple[str, ...]] = []
    for row in rows:
        cells: list[str] = []
        for place in order:
            cell = row.cells[place]
            difference = moved(cell, unicode)
            gap = " " * (values[place] - cell_len(cell.value) + 2)
            cells.append(f"{cell.value}{gap}{difference}" if difference else cell.value)
        found.append(tuple(cells))
    return found


def _lines(
    row: Row, one_line: Sequence[str], order: Sequence[int], width: int, name_width: int, unicode: bool
) -> Lines:
    mark = f"{SIGNS['beyond'][not unicode]} " if row.differs else ""
    name = _wrapped(mark + row.name, name_width)
    cells: list[str] = []
    for words, place in zip(one_line, order, strict=True):
        if cell_len(words) <= width:
            cells.append(words)
            continue
        cell = row.cells[place]
        difference = moved(cell, unicode)
        if cell_len(difference) > width:
            difference = brief(difference)
        parts = [_wrapped(cell.value, width), _wrapped(difference, width)]
        cells.append("\n".join(part for part in parts if part))
    height = max(part.count("\n") for part in (name, *cells)) + 1
    return Lines(row, name, tuple(cells), height)


def _wrapped(words: str, width: int) -> str:
    """In lines of at most ``width``; a word that is longer is broken."""
    return "\n".join(wrap(words, max(width, 1)))
