"""The text as it is scored, scrolling by at a speed that can be read, with the flips marked in it."""

from __future__ import annotations

import time
from collections import deque

from rich.style import Style
from rich.text import Text
from textual.widget import Widget

from mqf_tui.app.passage import CONFIDENT_FLIP, FLIP, NOTE, Passage, Word, wrapped

SECONDS_A_LINE = 0.4
MOST_WORDS = 4000  # held, of steps that are long; more is never read


class TextFlow(Widget):
    """A few lines of the text. The engine is often faster than the eye: then words are left out, which shows.

    Flips are underlined, confident ones stand out reversed; both also without colours.
    """

    DEFAULT_CSS = """
    TextFlow { height: 2; padding: 0 2; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._words: deque[Word] = deque(maxlen=MOST_WORDS)
        self._moved = time.monotonic()
        self._known: Passage | None = None  # the newest that was taken over
        self._newest: Passage | None = None

    def feed(self, passage: Passage | None) -> None:
        """Show this next, unless a newer one comes before there is room."""
        self._newest = passage
        if self._known is None:
            self._take_over()

    def restart(self) -> None:
        """Begin again with another text."""
        self._words.clear()
        self._known = self._newest = None
        self.refresh()

    def go_on(self) -> None:
        """One line further, where more than what is seen is there; else what came meanwhile. Not too fast."""
        now = time.monotonic()
        if now - self._moved < SECONDS_A_LINE:
            return
        self._moved = now
        lines = self._lines()
        if len(lines) > self.size.height > 0:
            for _ in lines[0]:
                self._words.popleft()
            self.refresh()
        else:
            self._take_over()

    def _take_over(self) -> None:
        newest, known = self._newest, self._known
        if newest is None or (known is not None and newest.end <= known.end):
            return
        if known is None or newest.chunk != known.chunk:
            self._words.append(Word(f" ¶{newest.chunk + 1} ", NOTE))
        elif newest.first != known.end:
            self._words.append(Word(" … ", NOTE))
        self._words.extend(newest.words)
        self._known = newest
        self.refresh()

    def _lines(self) -> list[list[Word]]:
        width = self.content_size.width
        return wrapped(self._words, width) if width > 0 else []

    def render(self) -> Text:
        """As many lines as there is room for."""
        styles = self._styles_of_kinds()
        text = Text(no_wrap=True, end="")
        for number, line in enumerate(self._lines()[: self.content_size.height]):
            text.append("\n" if number else "")
            for word in line:
                bare = word.text.lstrip(" ")
                text.append(" " * (len(word.text) - len(bare)))
                text.append(bare, styles.get(word.kind))
        return text

    def _styles_of_kinds(self) -> dict[int, Style]:
        colours = self.app.theme_variables
        return {
            FLIP: Style(color=colours["warning"], underline=True),
            CONFIDENT_FLIP: Style(color=colours["error"], bold=True, reverse=True),
            NOTE: Style(color=colours["secondary"]),
        }
