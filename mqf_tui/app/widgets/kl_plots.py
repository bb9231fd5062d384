"""The plots of KL divergence: its distribution, its course along the text, its mean by depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import plotext
from numpy.typing import NDArray

from mqf_tui.app.tally import HISTOGRAM_EDGES
from mqf_tui.app.widgets.plot import Plot
from mqf_tui.fidelity.verdict import KV_POLICY
from mqf_tui.reports.schema import VERDICTS, Thresholds

MOST_TICKS = 8  # of depths that find room beside each other
ZONES = ("success", "warning", "error")
AXIS = 6  # columns that the axis and its numbers take
HEAD = 1.2  # the height of the histogram's plot: that of its highest bar, and room for words above


def zone(log_kl: float, limits: Thresholds) -> str:
    """Name of the theme's colour for a log10 KL: where it lies against the limits of the mean."""
    value = 10.0**log_kl
    return ZONES[sum(value > limit for limit in limits.kl_mean)]


def power(exponent: int) -> str:
    """A power of ten as a tick's label."""
    return {-2: "0.01", -1: "0.1", 0: "1", 1: "10", 2: "100"}.get(exponent, f"1e{exponent}")


def depth_word(depth: int) -> str:
    """A depth as a tick's label: ``512``, ``64k``."""
    return f"{depth // 1024}k" if depth >= 4096 and depth % 1024 == 0 else str(depth)


class Histogram(Plot):
    """How many positions have which KL, on a log scale; colours are those of the verdict's limits."""

    BORDER_TITLE = "KL of each position (nats)"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._counts: NDArray[np.int64] | None = None
        self._limits = KV_POLICY

    def show(self, counts: NDArray[np.int64], limits: Thresholds = KV_POLICY) -> None:
        """Draw these counts between HISTOGRAM_EDGES."""
        self._counts, self._limits = counts, limits
        self.refresh()

    def plot(self, figure: Any) -> bool:
        """Bars coloured by zone."""
        counts = self._counts
        if counts is None or not counts.any():
            return False
        centres = (HISTOGRAM_EDGES[:-1] + HISTOGRAM_EDGES[1:]) / 2
        filled = np.flatnonzero(counts)
        first, last = min(filled[0], 18), max(filled[-1], 47)
        shown = slice(int(first), int(last) + 1)
        ends = float(HISTOGRAM_EDGES[first]), float(HISTOGRAM_EDGES[last + 1])
        figure.ruler("x").lim(*ends)
        top = int(counts.max())
        figure.ruler("y").lim(0, HEAD * top)
        self._draw_limits(figure, ends, HEAD * top)
        for name in ZONES:
            picked = [
                i for i in range(shown.start, shown.stop) if zone(float(centres[i]), self._limits) == name
            ]
            if picked:
                heights = counts[picked].tolist()
                figure.draw(
                    figure.bar(centres[picked].tolist(), heights, width=1, marker=self.marker("█", name))
                )
        ticks = list(range(math.ceil(ends[0]), math.floor(ends[1]) + 1))
        figure.ruler("x").ticks(
            ticks, [f"≤{power(t)}" if t == HISTOGRAM_EDGES[0] else power(t) for t in ticks]
        )
        figure.ruler("y").ticks([0, top / 2, top], ["0", f"{top / 2:.0f}", str(top)])
        return True

    def _draw_limits(self, figure: Any, ends: tuple[float, float], top: float) -> None:
        """Lines at the most that is still good and still marginal for the mean; words between them."""
        good, marginal = (math.log10(limit) if limit > 0 else -math.inf for limit in self._limits.kl_mean)
        for place in sorted({good, marginal}):
            if ends[0] < place < ends[1]:
                pixel = plotext.pixel(self.colour("secondary"), "default")
                figure.line(place, "v", relative=True, pixel=pixel, style="dotted")
        a_column = (ends[1] - ends[0]) / max(self.content_size.width - AXIS, 1)
        edges = (ends[0], *(min(max(place, ends[0]), ends[1]) for place in (good, marginal)), ends[1])
        for word, colour, start, end in zip(VERDICTS, ZONES, edges[:-1], edges[1:], strict=True):
            if end - start >= (len(word) + 2) * a_column:
                pixel = plotext.pixel(self.colour(colour), "default")
                label = plotext.colorize(word, pixel)
                figure.draw(figure.text((start + end) / 2, top, label, alignment="center"))


class LogSeries(Plot):
    """Base of plots whose y axis is KL on a log scale."""

    def log_axis(self, figure: Any, logs: NDArray[np.float64]) -> None:
        """Ticks at powers of ten around ``logs``."""
        low = max(-8, math.floor(float(logs.min())))
        high = max(low + 1, math.ceil(float(logs.max())))
        step = 1 if high - low <= 4 else 2
        ticks = list(range(low, high + 1, step))
        figure.ruler("y").lim(low, high)
        figure.ruler("y").ticks(ticks, [power(t) for t in ticks])


class Trace(LogSeries):
    """Mean KL of equal stretches of the text, in the order in which it is scored."""

    BORDER_TITLE = "KL along the positions"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._trace: NDArray[np.float64] | None = None
        self._n_planned = 0
        self._limits = KV_POLICY

    def show(self, trace: NDArray[np.float64], n_planned: int, limits: Thresholds = KV_POLICY) -> None:
        """Draw mean KL (bins,), NaN where not scored yet."""
        self._trace, self._n_planned, self._limits = trace, n_planned, limits
        self.refresh()

    def plot(self, figure: Any) -> bool:
        """One dot a stretch, coloured by zone."""
        if self._trace is None:
            return False
        scored = np.flatnonzero(np.isfinite(self._trace))
        if not len(scored):
            return False
        logs = np.log10(np.maximum(self._trace[scored], 1e-8))
        places = (scored + 0.5) * self._n_planned / len(self._trace)
        names = np.array([zone(float(v), self._limits) for v in logs])
        for name in ZONES:
            here = names == name
            if here.any():
                points = places[here].tolist(), logs[here].tolist()
                figure.draw(figure.signal(*points, marker=self.marker("braille", name)))
        n = self._n_planned
        figure.ruler("x").lim(0, n)
        figure.ruler("x").ticks([0, n / 2, n], ["0", f"{n // 2:,}", f"{n:,}"])
        self.log_axis(figure, logs)
        return True


class DepthPart(Protocol):
    """A part of the depths of a chunk, from ``start`` on, and its mean KL in nats."""

    @property
    def start(self) -> int:
        """The first depth."""
        ...

    @property
    def kl_mean(self) -> float:
        """Over all chunks."""
        ...


class Depth(LogSeries):
    """Mean KL by depth in the chunk: equal parts of it, or, in long windows, parts that double."""

    BORDER_TITLE = "KL by depth in the chunk"

    def __init__(
        self, buckets: Sequence[DepthPart] = (), limits: Thresholds = KV_POLICY, **options: Any
    ) -> None:
        super().__init__(**options)
        self._buckets, self._limits = buckets, limits

    def show(self, buckets: Sequence[DepthPart], limits: Thresholds = KV_POLICY) -> None:
        """Draw these."""
        self._buckets, self._limits = buckets, limits
        self.refresh()

    def plot(self, figure: Any) -> bool:
        """One bar a part, coloured by zone."""
        buckets = [b for b in self._buckets if math.isfinite(b.kl_mean)]
        if not buckets:
            return False
        logs = np.log10(np.maximum([b.kl_mean for b in buckets], 1e-8))
        floor = max(-8, math.floor(float(logs.min())))
        for place, value in enumerate(logs.tolist(), 1):
            bar = [place], [floor], [value]
            figure.draw(figure.bar(*bar, width=0.7, marker=self.marker("█", zone(value, self._limits))))
        figure.ruler("x").lim(0.4, len(buckets) + 0.6)
        every = 1 if len(buckets) <= MOST_TICKS else 2
        places = list(range(1, len(buckets) + 1, every))
        figure.ruler("x").ticks(places, [depth_word(b.start) for b in buckets[::every]])
        self.log_axis(figure, logs)
        return True
