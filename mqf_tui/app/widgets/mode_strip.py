"""A small picture of a chunk: which positions run with a full-precision cache, which with a quantized one."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from mqf_tui.app.capabilities import mark
from mqf_tui.app.widgets.setting_line import INDENT

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp

STRIP = 24  # columns


class ModeStrip(Widget):
    """One line; ``start`` and ``length`` in tokens."""

    DEFAULT_CSS = """
    ModeStrip { height: 1; padding: 0 1; }
    """
    start: reactive[int] = reactive(0)
    length: reactive[int] = reactive(512)

    def render(self) -> Text:
        """The strip and what it means."""
        app = cast("MqfTuiApp", self.app)
        full, empty = mark("full", app.capabilities.unicode), mark("empty", app.capabilities.unicode)
        early, late, words = strip(self.start, self.length, STRIP)
        colours = app.theme_variables
        return Text.assemble(
            " " * (INDENT + 1),
            (empty * early, colours["secondary"]),
            (full * late, colours["primary"]),
            (f" {words}", colours["secondary"]),
            no_wrap=True,
            overflow="ellipsis",
        )


def strip(start: int, length: int, width: int) -> tuple[int, int, str]:
    """Columns before and after the cache is quantized, and words; one at least of each that there is."""
    if start <= 0:
        return 0, width, "all quantized, all scored"
    if start > length - 2:
        return width, 0, "nothing left to score"
    early = max(1, min(width - 1, round(width * start / length)))
    return early, width - early, f"full up to {start:,}; then quantized, scored"
