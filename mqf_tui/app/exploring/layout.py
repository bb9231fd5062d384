"""Text as lines of a given width: where each position stands, and what stands where.

All lines of all paragraphs are found at once: a paragraph (from a line's end in the text, or a chunk's
beginning, to the next) can be laid out without the others, so the first lines of all come first, then the
second ones. That takes as many steps as the longest paragraph has lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.app.exploring.spelling import LONGEST, Spelling

LEAST_WIDTH = LONGEST


@dataclass(frozen=True)
class Piece:
    """A stretch of one row: the position it is of, what is shown, and from which column."""

    place: int
    text: str
    column: int


class TextLayout:
    """Positions in reading order as rows of at most ``width`` cells, with a row that rules off each chunk.

    ``starts`` (g,): the place each of the chunks begins with, the first being 0.
    """

    def __init__(self, spelling: Spelling, starts: NDArray[Any], width: int) -> None:
        self.width = max(LEAST_WIDTH, width)
        self._spelling = spelling
        s, index = spelling, spelling.index
        counts = np.diff(s.first)[index] if len(index) else np.zeros(0, np.int32)
        # Of position i the pieces from _begin[i] to _begin[i + 1].
        self._begin = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        self._owner = np.repeat(np.arange(len(index), dtype=np.int32), counts)
        within = np.arange(len(self._owner)) - self._begin[self._owner]
        self._piece = (s.first[:-1][index][self._owner] + within).astype(np.int32)
        self._cells = np.concatenate(([0], np.cumsum(s.cells[self._piece], dtype=np.int64)))
        chunks = self._begin[starts]
        self._lines = self._broken(chunks)
        self._first = np.searchsorted(self._lines, chunks)
        # Chunk c's rule stands before its first line, after the rules of the c chunks before it.
        self._rules = self._first + np.arange(len(self._first))

    @property
    def n_rows(self) -> int:
        """How many rows there are, rules included."""
        return len(self._lines) + len(self._rules)

    def where(self, place: int) -> tuple[int, int]:
        """The row and the column at which a position begins."""
        piece = int(self._begin[place])
        line = int(np.searchsorted(self._lines, piece, "right")) - 1
        return self._row(line), int(self._cells[piece] - self._cells[self._lines[line]])

    def last_row(self, place: int) -> int:
        """The row at which a position ends."""
        return self._row(int(np.searchsorted(self._lines, self._begin[place + 1] - 1, "right")) - 1)

    def place_at(self, row: int, column: int) -> int | None:
        """The position at a cell; right of a line's end its last one. None where a chunk is ruled off."""
        line = self._line(row)
        if line is None:
            return None
        start, end = self._span(line)
        piece = int(np.searchsorted(self._cells, self._cells[start] + max(0, column), "right")) - 1
        return int(self._owner[min(max(piece, start), end - 1)])

    def chunk_ruled(self, row: int) -> int | None:
        """Which of the chunks a row rules off; None where it has text."""
        chunk = int(np.searchsorted(self._rules, row, "right")) - 1
        return chunk if chunk >= 0 and int(self._rules[chunk]) == row else None

    def rule_row(self, chunk: int) -> int:
        """The row that rules off one of the chunks."""
        return int(self._rules[chunk])

    def pieces(self, row: int) -> list[Piece]:
        """What stands in a row, from left to right; nothing in a rule."""
        line = self._line(row)
        if line is None:
            return []
        start, end = self._span(line)
        columns = (self._cells[start:end] - self._cells[start]).tolist()
        owners, pieces = self._owner[start:end].tolist(), self._piece[start:end].tolist()
        return [
            Piece(owner, self._spelling.pieces[piece], column)
            for owner, piece, column in zip(owners, pieces, columns, strict=True)
        ]

    def places(self, first_row: int, last_row: int) -> tuple[int, int]:
        """The positions of which something stands in the rows first to last, as a half-open range."""
        n = len(self._begin) - 1
        low = self.place_at(first_row, 0)
        if low is None:
            low = self.place_at(first_row + 1, 0)
        high = self.place_at(last_row, self.width)
        if high is None:
            high = self.place_at(last_row - 1, self.width)
        return low or 0, n if high is None else high + 1

    def _row(self, line: int) -> int:
        return line + int(np.searchsorted(self._first, line, "right"))

    def _line(self, row: int) -> int | None:
        if not 0 <= row < self.n_rows:
            return None
        chunk = int(np.searchsorted(self._rules, row, "right")) - 1
        return None if int(self._rules[chunk]) == row else row - chunk - 1

    def _span(self, line: int) -> tuple[int, int]:
        end = self._lines[line + 1] if line + 1 < len(self._lines) else len(self._piece)
        return int(self._lines[line]), int(end)

    def _broken(self, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The pieces that lines begin with, in order."""
        s, n = self._spelling, len(self._piece)
        after_end = np.flatnonzero(s.hard[self._piece]) + 1
        at = np.union1d(after_end[after_end < n], chunks)
        ends = np.append(at[1:], n)
        breakable = s.opens[self._piece]
        breakable[1:] |= s.closes[self._piece[:-1]]
        # The last piece up to each one before which a line may be broken; 0 where there is none.
        last = np.maximum.accumulate(np.where(breakable, np.arange(n), 0)) if n else np.zeros(0, np.int64)
        found = [at]
        while len(at):
            fits = np.searchsorted(self._cells, self._cells[at] + self.width, "right") - 1
            goes_on = fits < ends
            at, fits, ends = at[goes_on], fits[goes_on], ends[goes_on]
            nice = last[fits]
            at = np.where(nice > at, nice, np.maximum(fits, at + 1))
            found.append(at)
        return np.sort(np.concatenate(found))
