"""The line at the top: where one is."""

from __future__ import annotations

from rich.text import Text
from textual.widget import Widget


class TitleBar(Widget):
    """The app's name and the screen's. (Textual's own header breaks where a screen is replaced at once.)"""

    DEFAULT_CSS = "TitleBar { dock: top; height: 1; background: $panel; padding: 0 2; }"

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def render(self) -> Text:
        """One line."""
        return Text.assemble(("mqf-tui", "bold"), ("  ›  ", "dim"), self._title, no_wrap=True)
