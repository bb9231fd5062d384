"""Settings as points: mean KL, on a log axis, against bytes, with intervals and the frontier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.widget import Widget

from mqf_tui.app.actions import bindings
from mqf_tui.app.capabilities import mark
from mqf_tui.app.verdict_colours import COLOURS
from mqf_tui.app.widgets.canvas import Canvas, LinearScale, LogScale, tick_word
from mqf_tui.app.widgets.signs import unicode_of
from mqf_tui.reports.comparison_report import shortened
from mqf_tui.reports.schema import VERDICTS, Bounds, Verdict
from mqf_tui.reports.text import inert, kl

LEFT = 7  # columns of the ticks of the y axis
BELOW = 2  # rows of the x axis
ROOM_FOR_UNIT = 60  # columns
NEAR = 3  # cells between a click and the point that it means


# (Unicode, ASCII)
SIGNS = {
    "bar": ("│", "|"),
    "cap": ("┬", "+"),
    "frontier": ("·", "."),
    "limit": ("┈", "-"),
    "up": ("│", "|"),
    "corner": ("└", "+"),
    "along": ("─", "-"),
    "opens": ("⟦", "["),
    "closes": ("⟧", "]"),
}


@dataclass(frozen=True)
class ParetoPoint:
    """One setting. ``bytes`` per token or of the weights; ``kl`` and its 95 % interval ``ci`` in nats.

    ``frontier``: no other setting dominates it. ``marked``: stands out, as what the user chose.
    """

    name: str
    bytes: float
    kl: float
    ci: Bounds | None
    verdict: Verdict
    frontier: bool = False
    marked: bool = False


@dataclass(frozen=True)
class _Frame:
    x: LinearScale
    y: LogScale

    def place(self, n_bytes: float, value: float) -> tuple[int, int]:
        return LEFT + 1 + self.x.at(n_bytes), self.row(value)

    def row(self, value: float) -> int:
        return self.y.cells - 1 - self.y.at(value)


class ParetoPlot(Widget, can_focus=True):
    """Left and right go from point to point, Enter takes the one under the cursor. A click does both."""

    DEFAULT_CSS = """
    ParetoPlot { width: 1fr; height: 1fr; min-height: 8; border: round $panel; border-title-color: $secondary;
                 border-subtitle-color: $foreground; }
    ParetoPlot:focus { border: round $accent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("pareto")

    class OfPoint(Message):
        """Something about a point. ``index``: of the points given."""

        def __init__(self, plot: ParetoPlot, index: int) -> None:
            super().__init__()
            self.plot, self.index = plot, index

        @property
        def control(self) -> ParetoPlot:
            """The plot."""
            return self.plot

    class Selected(OfPoint):
        """Enter, or a click on the point under the cursor."""

    class Highlighted(OfPoint):
        """The cursor has come to another point."""

    def __init__(self, *, empty: str = "no setting with known bytes", **options: Any) -> None:
        super().__init__(**options)
        self._empty = empty
        self._unit = "bytes per token"
        self._points: tuple[ParetoPoint, ...] = ()
        self._order: list[int] = []  # of the points, from the fewest bytes on
        self._cursor: int | None = None  # a place in the order
        self._limits: tuple[float, float] | None = None

    def show(
        self,
        points: Sequence[ParetoPoint],
        *,
        limits: tuple[float, float] | None = None,
        unit: str = "bytes per token",
    ) -> None:
        """Draw these; ``limits``: the mean KL that is still good, and that is still marginal (nats).

        The cursor comes to the first marked point. Points whose KL or bytes are no number are left out.
        """
        self._points, self._limits, self._unit = tuple(points), limits, unit
        self.border_title = f"Mean KL (nats) against {unit}"
        there = [i for i, p in enumerate(self._points) if math.isfinite(p.bytes) and not math.isnan(p.kl)]
        self._order = sorted(there, key=lambda i: (self._points[i].bytes, self._points[i].kl))
        marked = (place for place, i in enumerate(self._order) if self._points[i].marked)
        self._cursor = next(marked, 0) if self._order else None
        self._say()

    @property
    def index(self) -> int | None:
        """The point under the cursor, as an index of those given."""
        return None if self._cursor is None else self._order[self._cursor]

    def go_to(self, index: int) -> None:
        """Bring the cursor to a point, by its index among those given; one that is not drawn is left out."""
        if index in self._order and index != self.index:
            self._cursor = self._order.index(index)
            self._say()

    def action_previous(self) -> None:
        """To the point with fewer bytes."""
        self._move(-1)

    def action_next(self) -> None:
        """To the point with more bytes."""
        self._move(1)

    def action_first(self) -> None:
        """To the point with the fewest bytes."""
        self._move(-len(self._order))

    def action_last(self) -> None:
        """To the point with the most bytes."""
        self._move(len(self._order))

    def action_select(self) -> None:
        """Take the point under the cursor."""
        if self.index is not None:
            self.post_message(self.Selected(self, self.index))

    def on_click(self, event: events.Click) -> None:
        """Come to the point that is meant, or take it where the cursor is on it already."""
        offset, frame = event.get_content_offset(self), self._frame()
        if offset is None or frame is None:
            return
        gaps = [
            (math.hypot(x - offset.x, 2 * (y - offset.y)), place)
            for place, i in enumerate(self._order)
            for x, y in [frame.place(self._points[i].bytes, self._points[i].kl)]
        ]
        gap, place = min(gaps)
        if gap > NEAR:
            return
        if place == self._cursor:
            self.action_select()
        elif self._cursor is not None:
            self._move(place - self._cursor)

    def _move(self, by: int) -> None:
        if self._cursor is None:
            return
        place = min(max(self._cursor + by, 0), len(self._order) - 1)
        if place != self._cursor:
            self._cursor = place
            self._say()
            self.post_message(self.Highlighted(self, self._order[place]))

    def _say(self) -> None:
        """The point under the cursor in words, below the picture."""
        words = "" if self.index is None else point_words(self._points[self.index], self._unit)
        if self.index is not None and len(words) > self.size.width:
            words = brief_words(self._points[self.index], self.size.width - 4)
        self.border_subtitle = Text(words, style=Style(bold=True)) if words else ""
        self.refresh()

    def on_resize(self) -> None:
        """Say as much as has room now."""
        self._say()

    def render(self) -> Text:
        """The picture, as large as the widget."""
        width, height = self.content_size
        frame = self._frame()
        if frame is None:
            return Text(self._empty if not self._order else "too small", style="dim")
        canvas = Canvas(width, height)
        self._draw_points(canvas, frame)
        self._draw_names(canvas, frame)
        self._draw_frontier(canvas, frame)
        self._draw_limits(canvas, frame)
        self._draw_axes(canvas, frame)
        return canvas.text()

    def _frame(self) -> _Frame | None:
        width, height = self.content_size
        if not self._order or width < LEFT + 14 or height < BELOW + 4:
            return None
        points = [self._points[i] for i in self._order]
        values = [v for p in points for v in (p.kl, *(p.ci or ()))]
        # Both ends of a limit are drawn where it is anywhere near the points, not at any price.
        values += [v for v in self._limits or () if min(p.kl for p in points) / 3 <= v]
        x = LinearScale.over([p.bytes for p in points], width - LEFT - 1)
        return _Frame(x, LogScale.over(values, height - BELOW))

    def _sign(self, name: str) -> str:
        return SIGNS[name][0 if unicode_of(self) else 1]

    def _style(self, name: str, *, bold: bool = False, reverse: bool = False) -> Style:
        return Style(color=self.app.theme_variables[name], bold=bold, reverse=reverse)

    def _draw_points(self, canvas: Canvas, frame: _Frame) -> None:
        unicode = unicode_of(self)
        for i in self._order:
            self._draw_bar(canvas, frame, self._points[i])
        # What is marked and what is under the cursor lie on top of what is in the same cell.
        on_top = sorted(self._order, key=lambda i: (i == self.index, self._points[i].marked))
        for i in on_top:
            point = self._points[i]
            x, y = frame.place(point.bytes, point.kl)
            here = i == self.index
            style = self._style(COLOURS[point.verdict], bold=True, reverse=here)
            canvas.put(x, y, mark(point.verdict, unicode), style)
            if point.marked:
                ring = self._style("accent", bold=True)
                canvas.put(x - 1, y, self._sign("opens"), ring)
                canvas.put(x + 1, y, self._sign("closes"), ring)

    def _draw_bar(self, canvas: Canvas, frame: _Frame, point: ParetoPoint) -> None:
        if point.ci is None:
            return
        x, middle = frame.place(point.bytes, point.kl)
        low, high = (frame.row(end) for end in point.ci)
        style = self._style("secondary")
        for y in range(high, low + 1):
            if y != middle:
                canvas.put(x, y, self._sign("bar"), style)

    def _draw_names(self, canvas: Canvas, frame: _Frame) -> None:
        """Beside their points where there is room, the important ones first; the cursor tells the others."""

        def importance(i: int) -> tuple[bool, bool, bool]:
            return i != self.index, not self._points[i].marked, not self._points[i].frontier

        for i in sorted(self._order, key=importance):
            point = self._points[i]
            name, (x, y) = inert(point.name), frame.place(point.bytes, point.kl)
            gap = 3 if point.marked else 2
            style = self._style("foreground", bold=point.marked or i == self.index)
            for left, row in (
                (x + gap, y),
                (x - gap - len(name) + 1, y),
                (x + 2, y - 1),
                (x - 1 - len(name), y - 1),
                (x + 2, y + 1),
                (x - 1 - len(name), y + 1),
            ):
                if left > LEFT and row < frame.y.cells and canvas.free(left - 1, row, len(name) + 1):
                    canvas.write(left, row, name, style)
                    break

    def _draw_frontier(self, canvas: Canvas, frame: _Frame) -> None:
        on = [self._points[i] for i in self._order if self._points[i].frontier]
        places = [frame.place(p.bytes, p.kl) for p in on]
        for start, end in pairwise(places):
            canvas.line(start, end, self._sign("frontier"), self._style("accent"))

    def _draw_limits(self, canvas: Canvas, frame: _Frame) -> None:
        for name, value in zip(("good", "marginal"), self._limits or (), strict=False):
            if not frame.y.low < value < frame.y.high:
                continue
            y, words = frame.row(value), f"{name} up to {value:g}"
            style = self._style("secondary")
            for left in (canvas.width - len(words), LEFT + 2):
                if canvas.free(left - 1, y, len(words) + 1):
                    canvas.write(left, y, words, style)
                    break
            canvas.line((LEFT + 1, y), (canvas.width - 1, y), self._sign("limit"), style)

    def _draw_axes(self, canvas: Canvas, frame: _Frame) -> None:
        style, bottom = self._style("secondary"), frame.y.cells
        for y in range(bottom):
            canvas.put(LEFT, y, self._sign("up"), style)
        for tick in frame.y.ticks(max(2, bottom // 3)):
            words = tick_word(tick)
            canvas.write(LEFT - 1 - len(words), frame.row(tick), words, style)
        canvas.put(LEFT, bottom, self._sign("corner"), style)
        for x in range(LEFT + 1, canvas.width):
            canvas.put(x, bottom, self._sign("along"), style)
        # In a narrow picture the numbers need the room; the line below it says the unit.
        unit_at = canvas.width - (len(self._unit) if canvas.width >= ROOM_FOR_UNIT else 0)
        canvas.write(unit_at, bottom + 1, self._unit, style)
        end = LEFT
        for tick in frame.x.ticks(max(3, frame.x.cells // 12)):
            words, middle = f"{tick:,.0f}", LEFT + 1 + frame.x.at(tick)
            left = middle - len(words) // 2
            if left > end and left + len(words) <= unit_at:
                canvas.put(middle, bottom, self._sign("cap"), style)
                canvas.write(left, bottom + 1, words, style)
                end = left + len(words)


def point_words(point: ParetoPoint, unit: str) -> str:
    """A point in words: ``4-bit g64: 0.0234 nats (0.02 to 0.027), 144 bytes per token, marginal``."""
    ends = f" ({kl(point.ci[0])} to {kl(point.ci[1])})" if point.ci else ""
    return f"{inert(point.name)}: {kl(point.kl)} nats{ends}, {point.bytes:,.0f} {unit}, {point.verdict}"


def brief_words(point: ParetoPoint, room: int) -> str:
    """The same without interval and units, and the name cut to ``room`` columns in all."""
    figures = f": {kl(point.kl)}, {point.bytes:,.0f} bytes, {point.verdict}"
    return shortened(inert(point.name), max(room - len(figures), 6)) + figures


def legend(*, unicode: bool) -> str:
    """What the signs mean."""
    verdicts = "  ".join(f"{mark(verdict, unicode)} {verdict}" for verdict in VERDICTS)
    bar, dot, opens, closes = (SIGNS[name][not unicode] for name in ("bar", "frontier", "opens", "closes"))
    return f"{verdicts}  {bar} 95 % interval  {dot * 3} frontier  {opens}{closes} marked"
