"""A number large enough to be read across a desk, with what it is and how sure it is."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Digits, Label

from mqf_tui.app.capabilities import has_unicode


class PlainDigits(Digits):
    """Digits of one line, for terminals that cannot draw the large ones."""

    def render(self) -> Text:
        """The number in the middle."""
        return Text(f"\n{self.value}", style="bold")


class Tile(Vertical):
    """Title, large digits, a note underneath."""

    DEFAULT_CSS = """
    Tile { height: 5; width: 1fr; padding: 0 1; border-left: thick $panel; }
    Tile .title { width: 100%; color: $secondary; }
    Tile Digits { height: 3; width: 100%; color: $primary; }
    Tile .note { width: 100%; color: $secondary; }
    Tile.good Digits { color: $success; }
    Tile.marginal Digits { color: $warning; }
    Tile.bad Digits { color: $error; }
    """

    def __init__(self, title: str, id: str | None = None) -> None:
        super().__init__(id=id)
        self._title = title

    def compose(self) -> ComposeResult:
        """Title, number, note."""
        yield Label(self._title, classes="title", markup=False)
        yield Digits("–") if has_unicode(self.app) else PlainDigits("-")
        yield Label("", classes="note", markup=False)

    def show(self, title: str, value: str, note: str = "", level: str = "") -> None:
        """Set title, number, note and level (good, marginal, bad or none)."""
        self._say(".title", title)
        digits = self.query_one(Digits)
        if digits.value != value:
            digits.update(value)
        self._say(".note", note)
        self.set_class(level == "good", "good")
        self.set_class(level == "marginal", "marginal")
        self.set_class(level == "bad", "bad")

    def _say(self, place: str, words: str) -> None:
        """Without a new layout, which would be of the whole screen, for a line that keeps its place."""
        label = self.query_one(place, Label)
        if label.content != words:
            label.update(words, layout=False)
