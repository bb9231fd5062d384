"""The chart of how KL is distributed: histogram or percentile marks, and the verdict's thresholds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise, product
from typing import TYPE_CHECKING, NamedTuple

from mqf_tui.reports.axes import SIDE, LogAxis, nice_ticks, tick_words
from mqf_tui.reports.chart_parts import Chart, frame, label, level, line, rect
from mqf_tui.reports.deciding import mean_interval
from mqf_tui.reports.markup import Markup, element, text_width, together
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import counted, kl, percent

if TYPE_CHECKING:
    from mqf_tui.fidelity.positions import Positions

MARGIN = 56.0
_PLOT = 170.0
_STRIP = 24.0
_ROW = 17.0


def distribution(report: Report, positions: Positions | None, width: float) -> Chart:
    """KL of all positions on a logarithmic axis; without positions, the percentiles that are known."""
    chosen = positions if positions is not None and len(positions) else None
    axis = _axis(report, chosen, width)
    top = 46.0
    marks = _Marks(report, axis, width)
    plot_top = top + (marks.height if chosen is not None else 0)
    parts: list[Markup] = []
    if chosen is not None:
        plot_bottom = plot_top + _PLOT
        below = bool(((chosen.kl > 0) & (chosen.kl < 10.0**axis.low)).any())
        parts += _histogram(chosen, axis, plot_top, plot_bottom)
        parts += marks.draw(top, plot_bottom)
        said = _said(chosen)
    else:
        below = False
        rows = list(_percentiles(report))
        plot_bottom = plot_top + 10 + 24.0 * len(rows)
        parts += _percentile_rows(rows, axis, plot_top, plot_bottom, width)
        said = "no positions kept: percentiles in place of the histogram"
    parts += _x_axis(axis, plot_bottom, below=below)
    bottom = plot_bottom + 40
    rulers = list(_rulers(report))
    strips = [_strip(axis, bottom + i * (_STRIP + 8), ruler) for i, ruler in enumerate(rulers)]
    height = bottom + len(rulers) * (_STRIP + 8) + 2
    heading = frame("KL per position (nats)", said, width)
    description = (
        f"Distribution of KL: mean {kl(report.kl.mean)}, median {kl(report.kl.median)}, "
        f"p99 {kl(report.kl.p99)} nats. {said}."
    )
    return Chart(together([heading, *parts, *strips]), width, height, description)


def _axis(report: Report, positions: Positions | None, width: float) -> LogAxis:
    summary, limits = report.kl, report.thresholds
    known = [summary.mean, summary.median, summary.p90, summary.p95, summary.p99, summary.p999, summary.max]
    values = [float(v) for v in known if v is not None]
    # Room for the good zone below the lowest limit, and for the bad one above the highest.
    values += [f * v for f in (0.5, 2.0) for v in (*limits.kl_mean, *limits.kl_p99) if v > 0]
    if positions is not None:
        import numpy as np

        positive = positions.kl[positions.kl > 0]
        # The lowest thousandth is rounding noise that would squeeze the rest; it goes to the 0 column.
        values += (
            [float(v) for v in np.quantile(positive, (0.001, 1), method="lower")] if len(positive) else []
        )
        values += [math.inf] if np.isinf(positions.kl).any() else []
        zero = bool((positions.kl == 0).any())
    else:
        zero = False
    return LogAxis.over(values, MARGIN, width - 16, zero=zero)


def _said(positions: Positions) -> str:
    n = len(positions)
    zeros = int((positions.kl == 0).sum())
    infinite = int((positions.kl == math.inf).sum())
    words = f"{counted(n, 'position')}; exactly 0: {_of(zeros, n)}"
    return words + (f"; +inf: {_of(infinite, n)}" if infinite else "")


def _of(count: int, n: int) -> str:
    return f"{count:,} ({percent(count / n)})" if count else "none"


def _histogram(positions: Positions, axis: LogAxis, top: float, bottom: float) -> Iterator[Markup]:
    import numpy as np

    n = len(positions)
    finite = positions.kl[np.isfinite(positions.kl) & (positions.kl >= 10.0**axis.low)].astype(np.float64)
    n_bins = _bins(axis)
    counts, _ = np.histogram(np.log10(finite), bins=n_bins, range=(axis.low, axis.high))
    under = int((positions.kl < 10.0**axis.low).sum())
    infinite = int((positions.kl == math.inf).sum())
    # The columns at the sides may be far higher than any bar; they are cut then, and say their share.
    shares = [int(c) / n for c in counts]
    highest = max(shares) or 1.0
    ticks = nice_ticks(100 * highest, 4)
    scale = (bottom - top) / (ticks[-1] / 100)
    for tick, words in zip(ticks, tick_words(ticks), strict=True):
        y = bottom - scale * tick / 100
        yield line(axis.left, y, axis.right, y, "grid")
        yield label(axis.left - 8, y + 4, f"{words} %", "end", small=True)
    step = (axis.end - axis.start) / n_bins
    for i, share in enumerate(shares):
        if share:
            h = max(scale * share, 1.0)
            yield rect(axis.start + i * step + 0.5, bottom - h, max(step - 1, 1), h, "bar")
    if axis.zero:
        yield from _side_column(axis.left, under / n, scale, top, bottom)
    if axis.infinite:
        yield from _side_column(axis.right - SIDE, infinite / n, scale, top, bottom)


def _bins(axis: LogAxis) -> int:
    """A whole number of bins a decade, each 8 px or wider."""
    decades = axis.high - axis.low
    per_decade = max(2, min(12, int((axis.end - axis.start) / decades / 8)))
    return decades * per_decade


def _side_column(left: float, share: float, scale: float, top: float, bottom: float) -> Iterator[Markup]:
    """The column for 0 or +inf; one higher than the plot is cut, and its share stands beside it."""
    if not share:
        return
    cut = scale * share > bottom - top
    height = min(max(scale * share, 1.0), bottom - top)
    yield rect(left + 3, bottom - height, SIDE - 6, height, "side")
    words = f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"
    if cut:
        yield element("path", d=_slash(left, top + 14), class_="gap")
        yield element("text", words, x=left + SIDE + 3, y=top + 14, class_="halo")
    else:
        yield label(left + SIDE / 2, bottom - height - 5, words, "middle", small=True)


def _slash(left: float, y: float) -> str:
    """A slanted gap across a column that is cut."""
    return f"M{left:.1f} {y + 6:.1f}l{SIDE:.0f} -8v5l-{SIDE:.0f} 8z"


def _x_axis(axis: LogAxis, y: float, *, below: bool) -> Iterator[Markup]:
    yield line(axis.start, y, axis.end, y, "axis")
    for x, words in axis.ticks(46):
        yield line(x, y, x, y + 5, "axis")
        yield label(x, y + 19, words, "middle", small=True)
    if axis.zero:
        yield line(axis.left, y, axis.left + SIDE, y, "axis")
        yield label(axis.left + SIDE / 2, y + 19, "below" if below else "0", "middle", small=True)
    if axis.infinite:
        yield line(axis.right - SIDE, y, axis.right, y, "axis")
        yield label(axis.right - SIDE / 2, y + 19, "inf", "middle", small=True)


class _Marks:
    """Mean, median and p99 as lines through the plot, their labels in rows that do not collide."""

    def __init__(self, report: Report, axis: LogAxis, width: float) -> None:
        known = (
            ("median", report.kl.median, "mark dashed"),
            ("mean", report.kl.mean, "mark"),
            ("p99", report.kl.p99, "mark dotted"),
        )
        placed = sorted((axis.at(v), f"{name} {kl(v)}", style) for name, v, style in known if v is not None)
        ends: list[float] = []
        self._placed: list[tuple[float, float, str, str, int]] = []
        for x, words, style in placed:
            half = text_width(words, 13) / 2 + 6
            middle = min(max(x, MARGIN + half), width - 8 - half)
            row = next((i for i, end in enumerate(ends) if middle - half >= end), len(ends))
            ends[row : row + 1] = [middle + half]
            self._placed.append((x, middle, words, style, row))
        self._rows = len(ends)

    @property
    def height(self) -> float:
        return self._rows * _ROW + 6

    def draw(self, top: float, bottom: float) -> Iterator[Markup]:
        for x, _, _, style, row in self._placed:
            y = top + _ROW * (row + 1) - 4
            yield line(x, y + 5, x, bottom, style)
        for _, middle, words, _, row in self._placed:
            y = top + _ROW * (row + 1) - 4
            yield element("text", words, x=middle, y=y, text_anchor="middle", class_="halo")


def _percentiles(report: Report) -> Iterator[tuple[str, float, tuple[float, float] | None]]:
    k = report.kl
    for name, value, ci in (
        ("median", k.median, k.median_ci),
        ("mean", k.mean, mean_interval(report)),
        ("p90", k.p90, k.p90_ci),
        ("p95", k.p95, k.p95_ci),
        ("p99", k.p99, k.p99_ci),
        ("p99.9", k.p999, k.p999_ci),
        ("max", k.max, None),
    ):
        if value is not None:
            yield name, value, ci


def _percentile_rows(
    rows: list[tuple[str, float, tuple[float, float] | None]],
    axis: LogAxis,
    top: float,
    bottom: float,
    width: float,
) -> Iterator[Markup]:
    for x, _ in axis.ticks(46):
        yield line(x, top, x, bottom, "grid")
    for i, (name, value, ci) in enumerate(rows):
        y = top + 16 + 24 * i
        x = axis.at(value)
        yield label(axis.left - 8, y + 4, name, "end", small=True)
        if ci is not None:
            yield line(axis.at(ci[0]), y, axis.at(ci[1]), y, "curve")
        yield element("circle", cx=x, cy=y, r=5, class_="dot")
        words = kl(value)
        reach = max(x, axis.at(ci[1]) if ci else x) + 10
        fits = reach + text_width(words, 13) < width - 8
        left = min(x, axis.at(ci[0]) if ci else x) - 10
        yield label(reach if fits else left, y + 4.5, words, "start" if fits else "end")


class _Ruler(NamedTuple):
    name: str
    value: float
    ci: tuple[float, float] | None
    limits: tuple[float, float]


def _rulers(report: Report) -> Iterator[_Ruler]:
    k, limits = report.kl, report.thresholds
    yield _Ruler("mean", k.mean, mean_interval(report), limits.kl_mean)
    if k.p99 is not None:
        yield _Ruler("p99", k.p99, k.p99_ci, limits.kl_p99)


def _strip(axis: LogAxis, y: float, ruler: _Ruler) -> Markup:
    """Where good, marginal and bad begin for one figure, and where it lies, on the axis of the plot."""
    x, middle = axis.at(ruler.value), y + _STRIP / 2
    parts = [label(axis.left - 8, y + 16, ruler.name, "end", small=True), *_zones(axis, y, ruler)]
    if ruler.ci is not None:
        low, high = axis.at(ruler.ci[0]), axis.at(ruler.ci[1])
        parts.append(line(low, middle, high, middle, "mark"))
        parts += [line(end, middle - 4, end, middle + 4, "mark") for end in (low, high)]
    tip = element("title", f"{ruler.name} {kl(ruler.value)}: {level(ruler.value, ruler.limits)}")
    diamond = f"M{x:.2f} {middle - 7:.2f}l6 7l-6 7l-6 -7z"
    return together([*parts, element("path", tip, d=diamond, class_="dot")])


def _zones(axis: LogAxis, y: float, ruler: _Ruler) -> Iterator[Markup]:
    """The three zones, each with its name and limit where those keep clear of the figure's own mark."""
    good, marginal = ruler.limits
    edges = [axis.left, axis.at(good), axis.at(marginal), axis.right]
    taken = [axis.at(v) for v in (ruler.value, *(ruler.ci or ()))]
    taken_from, taken_to = min(taken) - 9, max(taken) + 9
    named = (("good", f"good ≤ {good:g}"), ("marginal", f"marginal ≤ {marginal:g}"), ("bad", "bad"))
    for (name, whole), (left, right) in zip(named, pairwise(edges), strict=True):
        if right - left < 1:
            continue
        yield rect(left, y, right - left, _STRIP, f"{name}-zone")
        for text, anchor in product((whole, name), ("end", "start")):
            wide = text_width(text, 12)
            start = right - 6 - wide if anchor == "end" else left + 6
            fits = wide + 10 <= right - left
            if fits and (start + wide <= taken_from or start >= taken_to):
                x = right - 6 if anchor == "end" else left + 6
                yield element("text", text, x=x, y=y + 16, text_anchor=anchor, class_="zone")
                break
