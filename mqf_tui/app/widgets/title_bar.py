"""The line at the top: where one is, and what is being measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

from mqf_tui.app.capabilities import mark
from mqf_tui.reports.text import inert

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp
    from mqf_tui.app.snapshots import Snapshot

SECONDS = 0.5
PADDING = 2
SHORTEST_STATUS = len("▶ 100 % demo")


class TitleBar(Widget):
    """The way to this screen, each step of it to be clicked; on the right what runs: measurement, download.

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
        stack = [screen for screen in app.screen_stack if getattr(screen, "TITLE", None)]
        way = stack[: stack.index(self.screen) + 1] if self.screen in stack else stack
        status, width = self._status(), self.size.width - 2 * PADDING
        least = SHORTEST_STATUS + 2 if status else 0
        line = self._way(way, 0)
        for left_out in range(1, len(way)):
            if line.cell_length + least <= width:
                break
            line = self._way(way, left_out)
        room = width - line.cell_length - 2
        if cell_len(status) > room:
            status = set_cell_size(status, room).rstrip() if room >= SHORTEST_STATUS else ""
        if not status:
            return line
        gap = " " * (room + 2 - cell_len(status))
        way = "app.live()" if self._measuring() else "app.hub()"
        return Content.assemble(line, gap, Content.styled(status, f"@click={way}"))

    def _way(self, way: Sequence[Screen[Any]], left_out: int) -> Content:
        """The screens up to this one, without so many of the first."""
        unicode = cast("MqfTuiApp", self.app).capabilities.unicode
        arrow = Content.styled("  ›  " if unicode else " > ", "dim")
        parts = [Content.styled("mqf-tui", "bold")]
        if left_out:
            parts += [arrow, Content.styled(mark("ellipsis", unicode), f"@click=app.back_to({left_out - 1})")]
        for number, screen in enumerate(way[left_out:], left_out):
            name = str(screen.TITLE)
            here = number == len(way) - 1
            parts += [arrow, Content(name) if here else Content.styled(name, f"@click=app.back_to({number})")]
        return Content("").join(parts)

    def _status(self) -> str:
        unicode = cast("MqfTuiApp", self.app).capabilities.unicode
        return "  ".join(part for part in (self._measuring(), self._downloading(unicode)) if part)

    def _measuring(self) -> str:
        app = cast("MqfTuiApp", self.app)
        current = app.bridge.current
        return status_words(current.snapshot(), unicode=app.capabilities.unicode) if current else ""

    def _downloading(self, unicode: bool) -> str:
        downloads = cast("MqfTuiApp", self.app).downloads
        going = [s for s in (one.standing() for one in downloads.all) if not s.ended]
        if not going:
            return ""
        from mqf_tui.app.hub_words import status_words

        return status_words(going, unicode)


def status_words(s: Snapshot, *, unicode: bool) -> str:
    """The running measurement in a few words: ``▶ 43 % demo, 4-bit KV cache``; empty where none runs."""
    from mqf_tui.app.words import measured_words

    if not s.running:
        return ""
    sign = ("‖" if s.paused else "▶") if unicode else ("=" if s.paused else ">")
    share = f"{s.n_positions / s.n_planned:.0%}".replace("%", " %") if s.n_planned else inert(s.doing)
    name = inert(s.settings.first.model.rstrip("/").rsplit("/", 1)[-1])
    return f"{sign} {share} {name}, {measured_words(s.settings)}"
