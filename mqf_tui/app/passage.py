"""The text that was just scored, as words to show with the flips in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rich.cells import cell_len

from mqf_tui.fidelity.flips import CONFIDENT
from mqf_tui.fidelity.positions import Positions
from mqf_tui.reports.token_text import shown

SAME, FLIP, CONFIDENT_FLIP, NOTE = range(4)  # what a word is; a note is ours and stands in no text
WIDEST = 40  # columns of a word


class Word(NamedTuple):
    """A token of the text, harmless to show, and what became of it: SAME, FLIP, CONFIDENT_FLIP or NOTE."""

    text: str
    kind: int = SAME


@dataclass(frozen=True)
class Passage:
    """The words of consecutive positions of one chunk. ``first`` and ``end`` count the variant's positions
    in the order scored."""

    first: int
    end: int
    chunk: int
    words: tuple[Word, ...]

    @classmethod
    def of(cls, positions: Positions, end: int) -> Passage:
        """The words of a step's positions, the last of which is number ``end`` - 1."""
        texts = shown(positions.token.tolist(), positions.texts)
        flips = positions.flip
        kinds = np.where(flips, np.where(positions.prob_ref >= CONFIDENT, CONFIDENT_FLIP, FLIP), SAME)
        words = tuple(
            Word(piece, kind)
            for text, kind in zip(texts, kinds.tolist(), strict=True)
            for piece in _pieces(_flat(text))
        )
        return cls(end - len(positions), end, int(positions.chunk[-1]), words)


def wrapped(words: Iterable[Word], width: int) -> list[list[Word]]:
    """The words in lines of at most ``width`` columns, without blanks at their beginning. Lines break before
    words that begin with a blank; where there is none, between any two; one that is wider has its own."""
    lines: list[list[Word]] = []
    room = 0
    for group in _groups(words):
        if (taken := _columns(group)) > room:
            group[0] = group[0]._replace(text=group[0].text.lstrip(" "))
            lines.append([])
            taken, room = _columns(group), width
        if taken <= room:
            lines[-1].extend(group)
            room -= taken
            continue
        for word in group:
            if (taken := cell_len(word.text)) > room and lines[-1]:
                lines.append([])
                room = width
            lines[-1].append(word)
            room -= taken
    return lines


def _groups(words: Iterable[Word]) -> Iterator[list[Word]]:
    """Words that belong to one word of the text."""
    group: list[Word] = []
    for word in words:
        if group and (word.text.startswith(" ") or NOTE in (word.kind, group[-1].kind)):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _columns(words: Iterable[Word]) -> int:
    return sum(cell_len(word.text) for word in words)


def _pieces(text: str) -> Iterator[str]:
    """A word in pieces that fit any line."""
    while text:
        end, room = 0, WIDEST
        while end < len(text) and (room := room - cell_len(text[end])) >= 0:
            end += 1
        yield text[:end]
        text = text[end:]


def _flat(text: str) -> str:
    """On one line, without wide gaps: a sign stands in place of each break."""
    return re.sub(r"[ \n\t]{3,}", "  ", text.replace("\n", " ").replace("\t", " "))
