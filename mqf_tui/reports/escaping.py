"""Words from outside in Markdown: plain ones stand bare, any other stands in a code span.

Code spans are the one place where neither Markdown nor what GitHub adds to it (mentions, issue numbers,
emoji names, links made of addresses) finds anything to do.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from mqf_tui.reports.text import inert

# Letters and digits, with inner signs that mean nothing to Markdown, between brackets, quotes and stops.
_PLAIN = re.compile(
    r"[('\"‘“]*[-+−±≤≥]{0,2}[^\W_](?:[-\w.,/+%='’–×²:]*[^\W_:.])?[%×]?[)'\"’”.,;:!?…%]*|[-−+=±≤≥·→—–×]|%[)'\"’”.,;:!?…]*"
)
_LINKS = re.compile(r"www\.|://|mailto:|xmpp:|\bgh-\d|:[-+\w]*[a-z_][-+\w]*:", re.IGNORECASE)


def said(text: str) -> str:
    """``text`` for a paragraph, a heading or a table's cell, never at the beginning of a line."""
    return " ".join(
        " ".join(words) if plain else code(" ".join(words)) for plain, words in _runs(inert(text).split())
    )


def code(text: str) -> str:
    """``text`` as a code span; a cell's border in it is put between two spans, since none can hold it."""
    return "&#124;".join(_span(piece) for piece in inert(text).split("|"))


def fenced(text: str, language: str) -> str:
    """One line of ``text`` as a block of code."""
    fence = "`" * max(3, _longest_ticks(text) + 1)
    return f"{fence}{language}\n{inert(text)}\n{fence}"


def _runs(words: Iterable[str]) -> Iterator[tuple[bool, list[str]]]:
    """Neighbouring words of a kind: plain ones, and others."""
    run: list[str] = []
    kind = True
    words = list(words)
    for word, after in itertools.zip_longest(words, words[1:]):
        plain = bool(_PLAIN.fullmatch(word)) and not _LINKS.search(word)
        # A lone "<" before a space begins no tag; at the very end, one does not know what follows.
        plain = plain or (word == "<" and after is not None)
        if run and plain != kind:
            yield kind, run
            run = []
        kind = plain
        run.append(word)
    if run:
        yield kind, run


def _span(text: str) -> str:
    if not text.strip():
        return ""
    ticks = "`" * (_longest_ticks(text) + 1)
    # One space at both ends is taken away again where there are two.
    pad = " " if "`" in (text[0], text[-1]) or text[0] == text[-1] == " " else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _longest_ticks(text: str) -> int:
    return max(map(len, re.findall(r"`+", text)), default=0)
