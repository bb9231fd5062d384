"""The chart of mean KL by depth, with a log axis where the buckets double."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mqf_tui.reports.axes import nice_ticks, tick_words
from mqf_tui.reports.chart_parts import Chart, frame, label, line
from mqf_tui.reports.distribution import MARGIN
from mqf_tui.reports.markup import Markup, element, together
from mqf_tui.reports.schema import DepthBucket, Drift, Report
from mqf_tui.reports.text import kl

_PLOT = 150.0
_TOP = 58.0
# An interval over few chunks can be many times its mean; the axis follows the means.
_MOST = 3.0
_ROOM = 44  # px that the number of a depth needs
_DOUBLING = 4  # times as wide as the first bucket the last one is where they double


def depth_curve(report: Report, width: float) -> Chart:
    """Mean KL of each depth bucket with its 95 % interval, and the overall mean."""
    buckets = sorted(report.kl_by_depth, key=lambda bucket: bucket.start)
    if not buckets:
        said = "this report has no depth buckets"
        return Chart(frame("Mean KL by depth", said, width), width, 42.0, f"Mean KL by depth: {said}.")
    plot = _plot_of(report, buckets, width)
    said = _said(report, buckets, plot)
    bottom = _TOP + _PLOT
    parts = [
        *_grid(plot),
        *_bands(plot, buckets),
        *_overall(plot, report.kl.mean),
        *_onset(plot, report.drift),
        *_curve(plot, buckets),
        *_depths(plot, buckets),
    ]
    described = "; ".join(f"{b.start} to {b.end - 1}: {kl(b.kl_mean)}" for b in buckets)
    return Chart(
        together([frame("Mean KL by depth in the chunk (nats)", said, width), *parts]),
        width,
        bottom + 26,
        f"Mean KL by depth. {described}.",
    )


@dataclass(frozen=True)
class _Plot:
    left: float
    right: float
    first: int
    last: int
    ticks: list[float]
    origin: float = 0.0  # of a log axis: what stands at its left, for depth 0 cannot

    def x(self, depth: float) -> float:
        if self.origin:
            share = math.log(max(depth, self.origin) / self.origin) / math.log(self.last / self.origin)
        else:
            share = (depth - self.first) / max(self.last - self.first, 1)
        return self.left + share * (self.right - self.left)

    def middle(self, bucket: DepthBucket) -> float:
        return (self.x(bucket.start) + self.x(bucket.end)) / 2

    def y(self, value: float) -> float:
        """Clipped at the top."""
        return _TOP + _PLOT * (1 - min(value / self.ticks[-1], 1.0))


def _plot_of(report: Report, buckets: Sequence[DepthBucket], width: float) -> _Plot:
    means = [b.kl_mean for b in buckets if math.isfinite(b.kl_mean)]
    means += [report.kl.mean] if math.isfinite(report.kl.mean) else []
    highest = max(means, default=0.0)
    reach = max(
        [highest, *(b.ci_high for b in buckets if b.ci_high is not None and math.isfinite(b.ci_high))]
    )
    ticks = nice_ticks(min(reach, _MOST * highest) if highest else reach, 4)
    return _Plot(MARGIN, width - 16, buckets[0].start, buckets[-1].end, ticks, _origin(buckets))


def _origin(buckets: Sequence[DepthBucket]) -> float:
    """The left end of a log axis: the first bucket is an octave wide where it begins at 0. None (0) where
    buckets are equal parts."""
    first, last = buckets[0], buckets[-1]
    if len(buckets) < 3 or last.end - last.start < _DOUBLING * (first.end - first.start):
        return 0.0
    return max(first.start, first.end / 2)


def _said(report: Report, buckets: Sequence[DepthBucket], plot: _Plot) -> str:
    if all(b.ci_low is None for b in buckets):
        words = "one chunk: no intervals" if report.n_chunks == 1 else "no intervals in this report"
    else:
        words = "shaded: 95 % intervals"
    if any(b.ci_high is not None and b.ci_high > plot.ticks[-1] for b in buckets):
        words += "; ▲ goes on beyond the top"
    words += "; dashed: overall mean"
    if report.drift is not None and report.drift.start is not None:
        words += f"; dotted: drifts from {report.drift.start:,} on"
    return words


def _grid(plot: _Plot) -> Iterator[Markup]:
    for tick, words in zip(plot.ticks, tick_words(plot.ticks), strict=True):
        y = plot.y(tick)
        yield line(plot.left, y, plot.right, y, "grid" if tick else "axis")
        yield label(plot.left - 8, y + 4, words, "end", small=True)


def _bands(plot: _Plot, buckets: Sequence[DepthBucket]) -> Iterator[Markup]:
    for b in buckets:
        if b.ci_low is not None and b.ci_high is not None:
            x, y = plot.x(b.start), plot.y(b.ci_high)
            yield element(
                "rect",
                x=x + 0.5,
                y=y,
                width=max(plot.x(b.end) - x - 1, 1),
                height=max(plot.y(b.ci_low) - y, 1),
                class_="band",
            )
            if b.ci_high > plot.ticks[-1]:
                middle = plot.middle(b)
                yield element("text", "▲", x=middle, y=_TOP - 3, text_anchor="middle", class_="small")


def _overall(plot: _Plot, mean: float) -> Iterator[Markup]:
    if math.isfinite(mean):
        yield line(plot.left, plot.y(mean), plot.right, plot.y(mean), "mark dashed")


def _onset(plot: _Plot, drift: Drift | None) -> Iterator[Markup]:
    """Where KL begins to drift."""
    if drift is not None and drift.start is not None and plot.first < drift.start < plot.last:
        x = plot.x(drift.start)
        yield line(x, _TOP, x, _TOP + _PLOT, "mark dotted")


def _curve(plot: _Plot, buckets: Sequence[DepthBucket]) -> Iterator[Markup]:
    points = [(plot.middle(b), plot.y(b.kl_mean), b) for b in buckets if math.isfinite(b.kl_mean)]
    path = "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y, _ in points)
    if len(points) > 1:
        yield element("path", d=path, class_="curve")
    for x, y, b in points:
        tip = element("title", f"depth {b.start} to {b.end - 1}: {kl(b.kl_mean)} nats")
        yield element("circle", tip, cx=x, cy=y, r=4.5, class_="dot")
    for b in buckets:
        if not math.isfinite(b.kl_mean):
            yield label(plot.middle(b), _TOP + 12, kl(b.kl_mean), "middle", small=True)


def _depths(plot: _Plot, buckets: Sequence[DepthBucket]) -> Iterator[Markup]:
    y, last = _TOP + _PLOT, -math.inf
    for depth in [*(b.start for b in buckets), buckets[-1].end]:
        x = plot.x(depth)
        yield line(x, y, x, y + 5, "axis")
        if x - last >= _ROOM:
            # A long number at the end would run out of the picture.
            long = depth >= 10**4 and x > plot.right - 8
            yield label(x + 14 * long, y + 19, f"{depth:,}", "end" if long else "middle", small=True)
            last = x
