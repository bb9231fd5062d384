"""plotext 6 in a Textual widget: one figure, built to the widget's size, in the theme's colours."""

from __future__ import annotations

import re
from typing import Any

import plotext
from rich.text import Text
from textual.color import Color
from textual.widget import Widget

from mqf_tui.app.capabilities import has_unicode
from mqf_tui.app.filters import plain

Rgb = tuple[int, int, int]
# plotext paints a background of its own behind everything; the theme's shall be seen.
_BACKGROUND = re.compile(r"\x1b\[48;[\d;]*m")
# plotext's names of finer signs, which need more than ASCII.
PLAIN = {"braille": "*", "hd": "*", "fhd": "*"}


class Plot(Widget):
    """Base of the plots: subclasses say what is drawn, this draws it where and how large."""

    DEFAULT_CSS = """
    Plot { width: 1fr; height: 1fr; min-height: 5; border: round $panel; border-title-color: $secondary; }
    """

    def plot(self, figure: Any) -> bool:
        """Draw onto an empty plotext figure; False where there is nothing to draw."""
        raise NotImplementedError

    def render(self) -> Text:
        """The figure as text."""
        width, height = self.content_size
        if width < 12 or height < 4:
            return Text("too small", style="dim")
        # The module has one master figure; cleared before each use it is as good as a new one.
        figure = plotext.figure
        figure.clear()
        plotext.terminal.limit(False, False)
        figure.plot_size(width, height)
        axis = plotext.pixel(self.colour("secondary"), "default")
        figure.axes(True, pixel=axis)
        figure.axes(False, axis=["x"], side=["upper"])
        figure.axes(False, axis=["y"], side=["right"])
        for name in ("x", "y"):
            figure.ruler(name).pixel(axis)
        if not self.plot(figure):
            return Text("waiting for the first numbers", style="dim")
        drawn = _BACKGROUND.sub("", str(figure.build().string()))
        return Text.from_ansi(drawn if has_unicode(self.app) else plain(drawn), no_wrap=True, end="")

    def colour(self, name: str) -> Rgb:
        """A colour of the current theme."""
        return Color.parse(self.app.theme_variables[name]).rgb

    def marker(self, symbol: str, name: str) -> Any:
        """A plotext marker in a colour of the theme; a plain one where the terminal has no others."""
        if not has_unicode(self.app):
            symbol = PLAIN.get(symbol, symbol if symbol.isascii() else "#")
        return plotext.marker(symbol, plotext.pixel(self.colour(name), "default"))
