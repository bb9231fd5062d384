"""The line at the top: where one is, and what is being measured."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.widget import Widget

from mqf_tui.reports.text import inert

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp
    from mqf_tui.app.snapshots import Snapshot

SECONDS = 0.5
PADDING = 2


class TitleBar(Widget):
    """The way to this screen, each step of it to be clicked; on the right the running measurement.

    (Textual's own header breaks where a screen is replaced at once.)
    """

    DEFAULT_CSS = """
    TitleBar {
        dock: top; height: 1; background: $panel; padding: 0 2;
        link-style: none; link-color: $foreground; link-background-hover: $primary;
    }
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def on_mount(self) -> None:
        """Look at the measurement now and then."""
        self._shown = ""
        self.set_interval(SECONDS, self._look)

    def _look(self) -> None:
        words = self._status()
        if words != self._shown:
            self._shown = words
            self.refresh()

    def render(self) -> Content:
        """One line."""
        app = cast("MqfTuiApp", self.app)
        arrow = "  ›  " if app.capabilities.unicode else " > "
        stack = [screen for screen in app.screen_stack if getattr(screen, "TITLE", None)]
        parts = [Content.styled("mqf-tui", "bold")]
        for number, (screen, after) in enumerate(pairwise([*stack, None])):
            parts.append(Content.styled(arrow, "dim"))
            name = str(screen.TITLE) if screen is not None else ""
            if after is None or screen is self.screen:
                parts.append(Content(name))
                break
            parts.append(Content.styled(name, f"@click=app.back_to({number})"))
        line = Content("").join(parts)
        room = self.size.width - 2 * PADDING - line.cell_length - 2
        status = self._status()
        if cell_len(status) > room:
            status = set_cell_size(status, room).rstrip() if room >= len("100 %") + 4 else ""
        if not status:
            return line
        gap = " " * (room + 2 - cell_len(status))
        return Content.assemble(line, gap, Content.styled(status, "@click=app.live()"))

    def _status(self) -> str:
        app = cast("MqfTuiApp", self.app)
        current = app.bridge.current
        return status_words(current.snapshot(), unicode=app.capabilities.unicode) if current else ""


def status_words(s: Snapshot, *, unicode: bool) -> str:
    """The running measurement in a few words: ``▶ 43 % demo, 4-bit KV cache``; empty where none runs."""
    from mqf_tui.app.words import measured_words

    if not s.running:
        return ""
    sign = ("‖" if s.paused else "▶") if unicode else ("=" if s.paused else ">")
    share = f"{s.n_positions / s.n_planned:.0%}".replace("%", " %") if s.n_planned else inert(s.doing)
    name = inert(s.settings.first.model.rstrip("/").rsplit("/", 1)[-1])
    return f"{sign} {share} {name}, {measured_words(s.settings)}"
