"""What a terminal shows of each position, cut into pieces that never break; worked out for distinct texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.cells import get_character_cell_size

from mqf_tui.fidelity.positions import Positions
from mqf_tui.reports.token_text import shown

LONGEST = 20  # cells of a piece; a longer token may be broken, and no line is narrower than this
MOST_IDS = 1 << 22  # beyond that the table of ids would be larger than the sorting of them takes
NOTHING = "·"  # the token only begins a character
GAP = " … "  # in place of tokens that were not scored
TAB = "   "
# Terminals disagree on how they join characters; the grid needs each to keep its own cells.
_JOINING = dict.fromkeys(map(ord, "\u200c\u200d\ufe0e\ufe0f"))
_BASE = "◌"  # carries a combining mark that has no letter before it in its token


@dataclass(frozen=True)
class Spelling:
    """``texts``: the distinct texts, newlines in them; ``index`` (n,): which of them each position has.

    Of the pieces of text ``s``, those from ``first[s]`` to ``first[s + 1]``: ``pieces`` what is shown,
    ``cells`` how wide, ``hard`` whether the line ends after it, ``opens`` and ``closes`` whether a line may
    be broken before and after it.
    """

    texts: tuple[str, ...]
    index: NDArray[np.int32]
    pieces: tuple[str, ...]
    first: NDArray[np.int32]
    cells: NDArray[np.int16]
    hard: NDArray[np.bool_]
    opens: NDArray[np.bool_]
    closes: NDArray[np.bool_]

    def text(self, start: int, end: int) -> str:
        """What positions ``start`` to ``end`` read, newlines in it."""
        return "".join(self.texts[i] for i in self.index[start:end].tolist())

    @cached_property
    def folded(self) -> tuple[str, NDArray[np.int64]]:
        """The whole text, small letters where they are as long, and where each position begins (n + 1,)."""
        small = [low if len(low := text.lower()) == len(text) else text for text in self.texts]
        lengths = np.array([len(text) for text in small] or [0], np.int64)[self.index]
        return "".join([small[i] for i in self.index.tolist()]), np.concatenate(([0], np.cumsum(lengths)))


def spelled(positions: Positions) -> Spelling:
    """The spelling of positions in reading order."""
    return _cut(*_texts(positions))


def _texts(positions: Positions) -> tuple[list[str], NDArray[np.int32]]:
    """The distinct texts and which of them each position has; characters cut between tokens put together."""
    ids, index = _distinct(positions.token)
    known = [int(i) for i in ids]
    split = np.array([_is_split(positions.texts.get(i, "")) for i in known], bool)
    texts = shown(
        known, {i: "" if s else positions.texts.get(i, "") for i, s in zip(known, split, strict=True)}
    )
    where = np.flatnonzero(split[index]) if len(index) else index
    if len(where):
        # Only tokens with stray bytes can share a character, and only with their neighbours.
        index, numbers = index.copy(), {}
        breaks = (np.diff(where) != 1) | (np.diff(positions.chunk[where]) != 0)
        for run in np.split(where, np.flatnonzero(breaks) + 1):
            for place, text in zip(
                run.tolist(), shown(positions.token[run].tolist(), positions.texts), strict=True
            ):
                number = numbers.get(text)
                if number is None:
                    number = numbers[text] = len(texts)
                    texts.append(text)
                index[place] = number
    return texts, _with_gaps(positions, texts, index)


def _with_gaps(positions: Positions, texts: list[str], index: NDArray[np.int32]) -> NDArray[np.int32]:
    """Which of the texts each position has, those behind tokens that were not scored begun with GAP."""
    same, step = np.diff(positions.chunk) == 0, np.diff(positions.depth)
    behind = np.flatnonzero(same & (step != 1)) + 1
    if not len(behind):
        return index
    index, numbers = index.copy(), dict[int, int]()
    for place in behind.tolist():
        text = int(index[place])
        if text not in numbers:
            numbers[text] = len(texts)
            texts.append(GAP + texts[text])
        index[place] = numbers[text]
    return index


def _distinct(token: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """The ids that occur, and which of them each is; without sorting where the ids are a vocabulary's."""
    if len(token) == 0 or int(token.max()) > MOST_IDS:
        ids, index = np.unique(token, return_inverse=True)
        return ids, index.astype(np.int32)
    there = np.zeros(int(token.max()) + 1, bool)
    there[token] = True
    numbers = np.cumsum(there, dtype=np.int32) - 1
    return np.flatnonzero(there), numbers[token]


def _is_split(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)


def _cut(texts: Sequence[str], index: NDArray[np.int32]) -> Spelling:
    pieces: list[str] = []
    first, cells, hard, opens, closes = [0], list[int](), list[bool](), list[bool](), list[bool]()
    for text in texts:
        for line, ends in _lines(fitted(text)):
            for number, (piece, width) in enumerate(_bounded(line)):
                pieces.append(piece)
                cells.append(width)
                hard.append(False)
                opens.append(piece[0] == " " or (number == 0 and _is_wide(piece[0])))
                closes.append(piece[-1] == " " or _is_wide(piece[-1]))
            hard[-1] = ends
        first.append(len(pieces))
    return Spelling(
        tuple(texts),
        index,
        tuple(pieces),
        np.array(first, np.int32),
        np.array(cells, np.int16),
        np.array(hard, bool),
        np.array(opens, bool),
        np.array(closes, bool),
    )


def fitted(text: str) -> str:
    """A text whose characters each keep their own cells; it has at least one cell, and so has each line."""
    text = text.replace("\t", TAB).translate(_JOINING)
    if not text:
        text = NOTHING
    elif not text.isascii():
        lines = text.split("\n")
        text = "\n".join(_BASE + line if line and _width(line[0]) == 0 else line for line in lines)
    return text


def _lines(text: str) -> list[tuple[str, bool]]:
    """The lines of a text that has a cell, and whether each is ended."""
    *ended, last = text.split("\n")
    found = [(line or " ", True) for line in ended]
    return [*found, (last, False)] if last else found


def _bounded(line: str) -> list[tuple[str, int]]:
    """A line in pieces of at most LONGEST cells, and how wide each is; marks stay with their letter."""
    if line.isascii() and len(line) <= LONGEST:
        return [(line, len(line))]
    found: list[tuple[str, int]] = []
    piece, width = "", 0
    for character in line:
        cells = _width(character)
        if width + cells > LONGEST:
            found.append((piece, width))
            piece, width = "", 0
        piece, width = piece + character, width + cells
    return [*found, (piece, width)]


def _width(character: str) -> int:
    return get_character_cell_size(character)


def _is_wide(character: str) -> bool:
    return character > "\u10ff" and _width(character) == 2
