"""Several runs in one picture: spreads, curves by depth, lines by part. Each run is drawn with its number."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from rich.style import Style
from rich.text import Text
from textual.geometry import Size
from textual.widget import Widget

from mqf_tui.app.comparing_pictures import Curve, PartLine, Point, Spread, seen
from mqf_tui.app.tally import HISTOGRAM_EDGES
from mqf_tui.app.widgets.canvas import Canvas, LinearScale, LogScale, tick_word
from mqf_tui.app.widgets.kl_plots import depth_word
from mqf_tui.app.widgets.pareto_plot import SIGNS
from mqf_tui.app.widgets.signs import unicode_of
from mqf_tui.reports.axes import nice_ticks, tick_words

LEFT = 7  # columns of the ticks of the y axis
BELOW = 2  # rows of the x axis
COLOURS = ("primary", "accent", "secondary", "foreground")  # of the runs, by place
SHADE = ("░", ".")
LEAST = (LEFT + 14, BELOW + 3)  # columns and rows
LONGEST_PART = 24
NARROWEST_PART = 8


class Overlay(Widget):
    """Base: a framed picture with the runs' numbers and names below; the current run lies on top."""

    DEFAULT_CSS = """
    Overlay { width: 1fr; height: 1fr; min-height: 7; border: round $panel; border-title-color: $secondary; }
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._names: tuple[str, ...] = ()
        self._current = 0

    def name_runs(self, names: Sequence[str], current: int) -> None:
        """The runs by place, in plain text, and which is the current one."""
        self._names, self._current = tuple(names), current
        self._legend()
        self.refresh()

    def on_resize(self) -> None:
        """Shorten the names to the new width."""
        self._legend()

    def _legend(self) -> None:
        if not self._names or not self.size.width:
            return
        room = max(6, (self.size.width - 4) // len(self._names) - 5)
        parts: list[Text] = []
        for place, name in enumerate(self._names):
            style = self.style_of(place)
            short = name if len(name) <= room else f"{name[: room - 1]}…"
            parts.append(
                Text(f"{place + 1} {short}", style + Style(bold=True, underline=place == self._current))
            )
        self.border_subtitle = Text("   ").join(parts)

    def style_of(self, place: int) -> Style:
        """The look of a run."""
        colour = self.app.theme_variables[COLOURS[place % len(COLOURS)]]
        return Style(color=colour, bold=place == self._current)

    def sign(self, name: str) -> str:
        """A character of SIGNS."""
        return SIGNS[name][0 if unicode_of(self) else 1]

    def in_order(self, places: Sequence[int]) -> list[int]:
        """What is drawn later lies on top: the current run."""
        return sorted(places, key=lambda place: (place == self._current, -place))

    def axes(self, canvas: Canvas, left: int, bottom: int) -> Style:
        """Both axes; gives their style."""
        style = Style(color=self.app.theme_variables["secondary"])
        for y in range(bottom):
            canvas.put(left, y, self.sign("up"), style)
        canvas.put(left, bottom, self.sign("corner"), style)
        for x in range(left + 1, canvas.width):
            canvas.put(x, bottom, self.sign("along"), style)
        return style

    def x_words(self, canvas: Canvas, ticks: Sequence[tuple[int, str]], bottom: int, style: Style) -> None:
        """Words below the x axis, each at its column, where they do not meet."""
        end = -1
        for x, words in ticks:
            left = min(x - len(words) // 2, canvas.width - len(words))
            if left > end:
                canvas.put(x, bottom, self.sign("cap"), style)
                canvas.write(left, bottom + 1, words, style)
                end = left + len(words)

    def canvas(self) -> Canvas | None:
        """An empty one, or None where there is too little room."""
        width, height = self.content_size
        return Canvas(width, height) if width >= LEAST[0] and height >= LEAST[1] else None


class OverlaidSpreads(Overlay):
    """Shares of positions by KL, on one log axis; the current run's lie on a shade."""

    BORDER_TITLE = "KL of each position (nats), share of positions"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._spreads: tuple[Spread, ...] | None = None
        self._missing = ""

    def show(self, spreads: Sequence[Spread], missing: str = "") -> None:
        """Draw these; ``missing``: a sentence on the runs that have no positions."""
        self._spreads, self._missing = tuple(spreads), missing
        self.refresh()

    def render(self) -> Text:
        """The picture."""
        if self._spreads is None:
            return Text("reading the positions", style="dim")
        canvas = self.canvas()
        if canvas is None or not self._spreads:
            return Text(self._missing or "too small", style="dim")
        first, last = seen(self._spreads)
        bottom, columns = canvas.height - BELOW, canvas.width - LEFT - 1
        highest = float(max(s.shares[first : last + 1].max() for s in self._spreads))
        top = nice_ticks(100 * highest, max(2, bottom // 4))
        style = self.axes(canvas, LEFT, bottom)
        for tick, words in zip(top, tick_words(top), strict=True):
            canvas.write(LEFT - 3 - len(words), _row(tick / top[-1], bottom), f"{words} %", style)
        bins = first + np.arange(columns) * (last + 1 - first) // columns
        by_place = {spread.place: spread for spread in self._spreads}
        for place in self.in_order(list(by_place)):
            look = self.style_of(place)
            shares = by_place[place].shares[bins] * 100 / top[-1]
            for x, share in enumerate(shares.tolist(), LEFT + 1):
                y = _row(share, bottom)
                # Where two runs lie on each other, their numbers take turns.
                if share > 0 and not (canvas.at(x, y).isdigit() and x % 2):
                    canvas.put(x, y, str(place + 1), look)
                for below in range(y + 1, bottom) if place == self._current and share > 0 else ():
                    if canvas.free(x, below, 1):
                        canvas.put(x, below, SHADE[0 if unicode_of(self) else 1], style)
        edges = HISTOGRAM_EDGES
        scale = LinearScale(float(edges[first]), float(edges[last + 1]), columns)
        decades = range(int(np.ceil(edges[first] - 1e-9)), int(edges[last + 1]) + 1)
        ticks = [(LEFT + 1 + scale.at(k), tick_word(10.0**k)) for k in decades]
        self.x_words(canvas, ticks, bottom, style)
        if self._missing:
            canvas.write(LEFT + 2, 0, self._missing[: columns - 2], style)
        return canvas.text()


def _beside(canvas: Canvas, x: int, y: int) -> int:
    """The column, or where another run's number is there already, one beside it."""
    return next((x + by for by in (0, 1, -1, 2) if not canvas.at(x + by, y).isdigit()), x)


def _row(share: float, bottom: int) -> int:
    """The row of a height between 0 and 1."""
    return bottom - 1 - min(int(share * (bottom - 1) + 0.5), bottom - 1)


class OverlaidCurves(Overlay):
    """Mean KL by depth, on a log axis; the current run has its 95 % intervals."""

    BORDER_TITLE = "Mean KL (nats) by depth in the chunk; bars: 95 % of the current run"

    def __init__(self, curves: Sequence[Curve], *, doubling: bool, **options: Any) -> None:
        super().__init__(**options)
        self._curves, self._doubling = tuple(curves), doubling

    def render(self) -> Text:
        """The picture."""
        canvas = self.canvas()
        points = [point for curve in self._curves for point in curve.points]
        if canvas is None or not points:
            return Text("too small" if points else "no run knows its KL by depth", style="dim")
        bottom, columns = canvas.height - BELOW, canvas.width - LEFT - 1
        shown = [p for c in self._curves if c.place == self._current for p in c.points]
        y = LogScale.over([*(p.kl for p in points), *_ends(shown)], bottom)
        depths = [p.x for p in points]
        x = LogScale.over(depths, columns) if self._doubling else LinearScale.over([0.0, *depths], columns)
        style = self.axes(canvas, LEFT, bottom)
        for tick in y.ticks(max(2, bottom // 3)):
            words = tick_word(tick)
            canvas.write(LEFT - 1 - len(words), bottom - 1 - y.at(tick), words, style)
        by_place = {curve.place: curve for curve in self._curves}
        for place in reversed(self.in_order(list(by_place))):
            look = self.style_of(place)
            at = [(LEFT + 1 + x.at(p.x), bottom - 1 - y.at(p.kl)) for p in by_place[place].points]
            if place == self._current:
                self._bars(canvas, by_place[place].points, [column for column, _ in at], y, bottom)
            for column, row in at:
                canvas.put(_beside(canvas, column, row), row, str(place + 1), look)
        for place in reversed(self.in_order(list(by_place))):
            at = [(LEFT + 1 + x.at(p.x), bottom - 1 - y.at(p.kl)) for p in by_place[place].points]
            for start, end in pairwise(at):
                canvas.line(start, end, self.sign("frontier"), self.style_of(place))
        ticks = [t for t in x.ticks(max(2, columns // 12)) if t >= 0]
        self.x_words(canvas, [(LEFT + 1 + x.at(t), depth_word(round(t))) for t in ticks], bottom, style)
        return canvas.text()

    def _bars(
        self, canvas: Canvas, points: Sequence[Point], columns: Sequence[int], y: LogScale, bottom: int
    ) -> None:
        style = Style(color=self.app.theme_variables["secondary"])
        for point, column in zip(points, columns, strict=True):
            if point.ci is not None:
                low, high = (bottom - 1 - y.at(end) for end in point.ci)
                for row in range(high, low + 1):
                    if canvas.free(column, row, 1):
                        canvas.put(column, row, self.sign("bar"), style)


class OverlaidParts(Overlay):
    """Mean KL of each part of the corpus on one log axis, a line for each run with its 95 % interval."""

    DEFAULT_CSS = """
    OverlaidParts { height: auto; }
    """
    BORDER_TITLE = "Mean KL (nats) by part of the corpus; lines: 95 % intervals"

    def __init__(self, lines: Sequence[PartLine], **options: Any) -> None:
        super().__init__(**options)
        self._lines = tuple(lines)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """A line a run, in each part."""
        return max(sum(len(line.means) for line in self._lines) + BELOW, LEAST[1])

    def render(self) -> Text:
        """The picture."""
        canvas = self.canvas()
        points = [point for line in self._lines for point in line.means.values()]
        if canvas is None or not points:
            return Text("too small" if points else "no run knows its KL by part", style="dim")
        longest = max(len(line.name) for line in self._lines)
        left = min(max(longest, NARROWEST_PART), LONGEST_PART, canvas.width // 3) + 1
        scale = LogScale.over([*(p.kl for p in points), *_ends(points)], canvas.width - left - 1)
        bottom = sum(len(line.means) for line in self._lines)
        style = self.axes(canvas, left, bottom)
        row = 0
        for line in self._lines:
            canvas.write(0, row, line.name[: left - 1], Style(bold=True))
            for place, point in sorted(line.means.items()):
                if point.ci is not None:
                    low, high = (left + 1 + scale.at(end) for end in point.ci)
                    for x in range(low, high + 1):
                        canvas.put(x, row, self.sign("along"), style)
                canvas.put(left + 1 + scale.at(point.kl), row, str(place + 1), self.style_of(place))
                row += 1
        ticks = [(left + 1 + scale.at(t), tick_word(t)) for t in scale.ticks(max(2, canvas.width // 12))]
        self.x_words(canvas, ticks, bottom, style)
        return canvas.text()


def _ends(points: Sequence[Point]) -> list[float]:
    """The intervals' ends; those at or below 0 have no place on a log axis."""
    return [end for point in points if point.ci for end in point.ci if end > 0]
