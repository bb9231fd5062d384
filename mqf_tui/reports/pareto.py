"""The settings of a sweep: mean KL, on a log axis, against KV bytes per token, with the frontier."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mqf_tui.reports.axes import nice_ticks, power
from mqf_tui.reports.chart_labels import HEIGHT, SIZE, Box, placed
from mqf_tui.reports.chart_parts import Chart, frame, label, line, rect
from mqf_tui.reports.markup import Markup, element, text_width, together
from mqf_tui.reports.schema import Bounds, Verdict
from mqf_tui.reports.sweep_rows import chosen_run, ordered
from mqf_tui.reports.sweep_schema import SweepReport, SweepVariant
from mqf_tui.reports.text import inert, kl

_TOP, _PLOT, _BELOW, _LEFT = 44.0, 320.0, 62.0, 52.0
_ROOM = 0.06  # of the width, beside the outermost points
_MOST_DECADES = 9
_CAP = 4.0
_NARROW = 500.0
_ROOM_FOR_EACH = 26.0  # px of width for each name, if all are to be shown


def pareto(report: SweepReport, width: float) -> Chart:
    """Each setting as a point: its sign is the verdict, the line is the frontier, a ring the answer."""
    points = [
        v
        for v, _ in ordered(report)
        if v.control_of is None and v.kv_bytes is not None and not math.isnan(v.kl.value)
    ]
    heading = "Mean KL against KV bytes per token"
    if not points:
        said = "the KV bytes of these settings are not known"
        return Chart(frame(heading, said, width), width, 42.0, f"{heading}: {said}.")
    plot = _plot_of(report, points, width)
    named = list(_labels(report, points, plot))
    said = "● good ▲ marginal ■ bad; line: frontier"
    said += "; ring: the answer" if chosen_run(report) else ""
    if width > _NARROW:
        said += "; bars: 95 % intervals"
        said += "; the table has the names that found no room" if len(named) < len(points) else ""
    parts = [
        *_zones(report, points, plot),
        *_axes(report, plot),
        *_frontier(points, plot),
        *_bars(points, plot),
        *(m for label_ in named for m in label_),
        *_points(report, points, plot),
    ]
    described = "; ".join(
        f"{inert(v.short_setting)}: {v.kv_bytes:,.0f} bytes, {kl(v.kl.value)} nats, {v.verdict}"
        for v in points
    )
    return Chart(
        together([frame(heading, said, width), *parts]),
        width,
        _TOP + _PLOT + _BELOW,
        f"{heading}. {described}.",
    )


@dataclass(frozen=True)
class _Plot:
    left: float
    right: float
    low_bytes: float
    high_bytes: float
    low: int  # decades
    high: int
    ticks: list[float]

    def x(self, n_bytes: float) -> float:
        share = (n_bytes - self.low_bytes) / (self.high_bytes - self.low_bytes)
        return self.left + share * (self.right - self.left)

    def y(self, value: float) -> float:
        """Cut at the ends: what is 0 lies on the bottom, what is infinite on the top."""
        if value <= 10.0**self.low:
            return _TOP + _PLOT
        if value >= 10.0**self.high:
            return _TOP
        return _TOP + _PLOT * (self.high - math.log10(value)) / (self.high - self.low)

    @property
    def box(self) -> Box:
        return Box(self.left, _TOP, self.right, _TOP + _PLOT)


def _plot_of(report: SweepReport, points: Sequence[SweepVariant], width: float) -> _Plot:
    sizes = [v.kv_bytes for v in points if v.kv_bytes is not None]
    least, most = min(sizes), max(sizes)
    spread = (most - least) or most or 1.0
    step = _step(spread, width)
    first = math.ceil(max(least - _ROOM * spread, 0) / step) * step
    ticks = [first + i * step for i in range(50) if first + i * step <= most + _ROOM * spread]
    values = [w for v in points for w in (v.kl.value, *_ends(v)) if 0 < w < math.inf] or [1.0]
    if report.thresholds is not None:
        values += [v for v in report.thresholds.kl_mean if v > 0]
    high = math.ceil(math.log10(max(values)) - 1e-9)
    low = max(math.floor(math.log10(min(values)) + 1e-9), high - _MOST_DECADES)
    low = min(low, high - 1)
    room = _ROOM * spread
    return _Plot(_LEFT, width - 12, least - room, most + room, low, high, ticks)


def _step(spread: float, width: float) -> float:
    """A round distance of ticks."""
    ticks = nice_ticks(spread * (1 + 2 * _ROOM), 4 if width < _NARROW else 8)
    return ticks[1] - ticks[0]


def _ends(v: SweepVariant) -> Bounds | tuple[()]:
    return v.kl.ci or ()


def _zones(report: SweepReport, points: Sequence[SweepVariant], plot: _Plot) -> Iterator[Markup]:
    """What mean KL by itself would be; the verdict needs p99 and flips too."""
    for name, _, above, below in _bands(report, plot):
        yield rect(plot.left, above, plot.right - plot.left, below - above, f"{name}-zone pale")
    for words, box in _zone_names(report, points, plot):
        yield element("text", words, x=box.left, y=box.bottom - 3, class_="zone")


def _bands(report: SweepReport, plot: _Plot) -> Iterator[tuple[Verdict, str, float, float]]:
    """Name, words, upper and lower edge of each zone that is in sight."""
    if report.thresholds is None:
        return
    good, marginal = report.thresholds.kl_mean
    edges = [_TOP + _PLOT, plot.y(good), plot.y(marginal), _TOP]
    named: tuple[tuple[Verdict, str], ...] = (
        ("good", f"mean KL ≤ {good:g}"),
        ("marginal", f"≤ {marginal:g}"),
        ("bad", f"> {marginal:g}"),
    )
    for (name, words), below, above in zip(named, edges, edges[1:], strict=False):
        if below - above >= 1:
            yield name, f"{name}: {words}", above, below


def _zone_names(
    report: SweepReport, points: Sequence[SweepVariant], plot: _Plot
) -> Iterator[tuple[str, Box]]:
    """The names of the zones, at the right or left where no point is in the way, else nowhere."""
    marks = list(_marks(points, plot))
    for _, words, above, below in _bands(report, plot):
        wide = text_width(words, SIZE)
        for left in (plot.right - 5 - wide, plot.left + 5):
            box = Box(left, above + 2, left + wide, above + 2 + HEIGHT)
            if box.bottom <= below and not any(box.meets(mark) for mark in marks):
                yield words, box
                break


def _marks(points: Sequence[SweepVariant], plot: _Plot) -> Iterator[Box]:
    """What the signs of the points and their error bars cover."""
    for v in points:
        x, y = plot.x(v.kv_bytes or 0.0), plot.y(v.kl.value)
        yield Box(x - 8, y - 8, x + 8, y + 8)
        if v.kl.ci is not None:
            yield Box(x - _CAP, plot.y(v.kl.ci[1]), x + _CAP, plot.y(v.kl.ci[0]))


def _axes(report: SweepReport, plot: _Plot) -> Iterator[Markup]:
    bottom = _TOP + _PLOT
    decades = plot.high - plot.low
    every = 1 if decades <= 6 else 2
    for k in range(plot.low, plot.high + 1):
        y = plot.y(10.0**k)
        yield line(plot.left, y, plot.right, y, "grid" if k > plot.low else "axis")
        if (plot.high - k) % every == 0:
            yield label(plot.left - 7, y + 4, power(k), "end", small=True)
    reference = next((row.kv.reference for row in report.ranking.rows if row.kv), None)
    for tick in plot.ticks:
        x = plot.x(tick)
        yield line(x, bottom, x, bottom + 5, "axis")
        yield label(x, bottom + 18, f"{tick:,.0f}", "middle", small=True)
        if reference and tick:
            yield label(x, bottom + 33, f"{reference / tick:.1f}×", "middle", small=True)
    words = "bytes per token; below: how many times smaller" if reference else "bytes per token"
    yield label((plot.left + plot.right) / 2, bottom + 52, words, "middle", small=True)


def _frontier(points: Sequence[SweepVariant], plot: _Plot) -> Iterator[Markup]:
    on = _corners(points, plot)
    if len(on) > 1:
        yield element("path", d="M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in on), class_="curve")


def _corners(points: Sequence[SweepVariant], plot: _Plot) -> list[tuple[float, float]]:
    on = sorted((v.kv_bytes or 0.0, v.kl.value) for v in points if v.on_frontier)
    return [(plot.x(b), plot.y(value)) for b, value in on]


def _bars(points: Sequence[SweepVariant], plot: _Plot) -> Iterator[Markup]:
    for v in points:
        if v.kl.ci is not None and v.kv_bytes is not None:
            x, low, high = plot.x(v.kv_bytes), plot.y(v.kl.ci[0]), plot.y(v.kl.ci[1])
            yield line(x, low, x, high, "whisker")
            for y in (low, high):
                yield line(x - _CAP, y, x + _CAP, y, "whisker")


def _points(report: SweepReport, points: Sequence[SweepVariant], plot: _Plot) -> Iterator[Markup]:
    chosen = chosen_run(report)
    for v in points:
        x, y = plot.x(v.kv_bytes or 0.0), plot.y(v.kl.value)
        if v.run == chosen:
            yield element("circle", cx=x, cy=y, r=11, class_="mark")
        words = f"{inert(v.setting)}: {kl(v.kl.value)} nats, {v.kv_bytes:,.0f} bytes, {v.verdict}"
        yield sign(v.verdict, x, y, element("title", words))


def sign(verdict: Verdict, x: float, y: float, tip: Markup | None = None) -> Markup:
    """The verdict's own shape: a circle, a triangle, a square."""
    if verdict == "good":
        return element("circle", tip, cx=x, cy=y, r=6, class_="sign v-good")
    if verdict == "marginal":
        d = f"M{x:.2f} {y - 7:.2f}l7 12.5h-14z"
        return element("path", tip, d=d, class_="sign v-marginal")
    return element("rect", tip, x=x - 5.5, y=y - 5.5, width=11, height=11, class_="sign v-bad")


def _labels(report: SweepReport, points: Sequence[SweepVariant], plot: _Plot) -> Iterator[tuple[Markup, ...]]:
    """The names, those on the frontier first, so that they get the best places; of many only these."""
    chosen = chosen_run(report)
    first = sorted(points, key=lambda v: not (v.on_frontier or v.run == chosen))
    if len(first) > (plot.right - plot.left) / _ROOM_FOR_EACH:
        first = [v for v in first if v.on_frontier or v.run == chosen]
    places = [(plot.x(v.kv_bytes or 0.0), plot.y(v.kl.value)) for v in first]
    names = [inert(v.short_setting) for v in first]
    taken = [*_marks(points, plot), *(box for _, box in _zone_names(report, points, plot))]
    taken += _along(_corners(points, plot))
    taken += [
        Box(x - 13, y - 13, x + 13, y + 13)
        for v, (x, y) in zip(first, places, strict=True)
        if v.run == chosen
    ]
    for index, box, led in placed(places, names, taken, plot.box):
        x, y = places[index]
        words = element("text", names[index], x=box.left, y=box.bottom - 3, class_="name halo")
        if led:
            near_x, near_y = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
            yield line(x, y, near_x, near_y, "lead"), words
        else:
            yield (words,)


def _along(corners: Sequence[tuple[float, float]]) -> Iterator[Box]:
    """Small boxes along a line, so that no name covers it."""
    for (x, y), (to_x, to_y) in pairwise(corners):
        n = max(1, int(math.hypot(to_x - x, to_y - y) / 4))
        for i in range(n):
            at_x, at_y = x + (to_x - x) * i / n, y + (to_y - y) * i / n
            yield Box(at_x - 1, at_y - 1, at_x + 1, at_y + 1)
