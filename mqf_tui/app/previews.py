"""What is shown of a report's text: made harmless, cut where it is long, Markdown in pieces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

MOST_SOURCE = 20_000  # characters; more would hold up the screen, and nobody reads on
MOST_MARKDOWN = 60_000
PIECE = 3_000  # of Markdown that is put up at once
_DETAILS = re.compile(r"^<details>\n<summary>(.*)</summary>$", re.MULTILINE)


def harmless(text: str) -> str:
    """``text`` with its lines, without signs that could drive a terminal or turn the direction of reading."""
    spaced = text.replace("\r\n", "\n").replace("\t", "    ")
    return "".join(c for c in spaced if c == "\n" or unicodedata.category(c)[0] != "C")


def cut(text: str, most: int) -> tuple[str, str]:
    """The beginning of ``text``, at most ``most`` characters, at a line's end where there is one near; and
    what was left out in words ("": nothing)."""
    if len(text) <= most:
        return text, ""
    end = text.rfind("\n", most // 2, most)
    shown = text[: end if end > 0 else most]
    return shown, f"the first {len(shown):,} of {len(text):,} characters; copies and files have all"


def readable_markdown(text: str) -> str:
    """A Markdown report as Textual's widget shows it: folds open, and a card's metadata as code."""
    if text.startswith("---\n"):
        head, _, rest = text[4:].partition("\n---\n")
        text = f"```yaml\n{head}\n```\n{rest}"
    return _DETAILS.sub(r"\n#### \1\n", text).replace("\n</details>", "\n")


def pieces(markdown: str, most: int = PIECE) -> Iterator[str]:
    """``markdown`` in pieces of about ``most`` characters, none of which cuts through a block."""
    piece: list[str] = []
    length = 0
    for block in _blocks(markdown):
        if piece and length + len(block) > most:
            yield "\n".join(piece)
            piece, length = [], 0
        piece.append(block)
        length += len(block)
    if piece:
        yield "\n".join(piece)


def _blocks(markdown: str) -> Iterator[str]:
    """What stands between empty lines; code with empty lines in it is one block."""
    lines: list[str] = []
    fence = ""
    for line in markdown.split("\n"):
        ticks = re.match(r"`{3,}", line)
        if not fence and ticks:
            fence = ticks[0]
        elif fence and line.strip() == fence:
            fence = ""
        lines.append(line)
        if not line and not fence:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)
