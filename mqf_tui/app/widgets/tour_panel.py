"""The tour's words at the bottom of whatever screen one is on."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static


class TourPanel(Static):
    """Three lines above the footer; the screen makes room for them."""

    DEFAULT_CSS = """
    TourPanel {
        dock: bottom; margin-bottom: 1; height: auto; max-height: 8; padding: 0 2;
        background: $panel; color: $foreground; border-top: solid $accent; border-title-color: $accent;
    }
    """

    def say(self, title: str, text: str, leave: str) -> None:
        """Set the words."""
        self.border_title = Text(f"Tour, {title} ({leave})").markup
        self.update(Text(text))
