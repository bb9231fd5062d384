"""Runs side by side as pictures: what is drawn, as data. Runs go by their place; KL in nats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mqf_tui.app.tally import HISTOGRAM_EDGES, histogram
from mqf_tui.fidelity.positions import Positions
from mqf_tui.reports.rows import bounds
from mqf_tui.reports.schema import Bounds, Group, Report
from mqf_tui.reports.text import inert

_DOUBLING = 4  # times as wide as the first bucket the last one is where they double


@dataclass(frozen=True)
class Spread:
    """How the positions of a run are spread: ``shares`` (60,) of all of them lie between HISTOGRAM_EDGES.

    What is beyond an end counts there.
    """

    place: int
    shares: NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """Mean KL and its 95 % interval at ``x``: the middle of a stretch of depths."""

    x: float
    kl: float
    ci: Bounds | None


@dataclass(frozen=True)
class Curve:
    """The mean KL of a run by depth."""

    place: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class PartLine:
    """A part of the corpus: its name, and by the run's place its mean KL and interval."""

    name: str
    means: dict[int, Point]


def spreads(read: Sequence[Positions | None]) -> tuple[Spread, ...]:
    """Those of the runs that have positions."""
    return tuple(
        Spread(place, histogram(p.kl) / len(p)) for place, p in enumerate(read) if p is not None and len(p)
    )


def seen(found: Sequence[Spread]) -> tuple[int, int]:
    """The first and the last bin that hold a thousandth of any run: what is farther out is a line of dots."""
    together = np.max([spread.shares for spread in found], axis=0)
    filled = np.flatnonzero(together >= 0.001)
    return (int(filled[0]), int(filled[-1])) if len(filled) else (0, len(HISTOGRAM_EDGES) - 2)


def curves(reports: Sequence[Report]) -> tuple[Curve, ...]:
    """KL by depth, of the runs that know it."""
    found: list[Curve] = []
    for place, report in enumerate(reports):
        buckets = sorted(report.kl_by_depth, key=lambda bucket: bucket.start)
        middle = _geometric if doubling(report) else _arithmetic
        points = tuple(_point(b, middle(b.start, b.end)) for b in buckets if math.isfinite(b.kl_mean))
        if points:
            found.append(Curve(place, points))
    return tuple(found)


def doubling(report: Report) -> bool:
    """Whether the depth buckets double, so that a log axis shows them evenly."""
    buckets = sorted(report.kl_by_depth, key=lambda bucket: bucket.start)
    if len(buckets) < 3:
        return False
    first, last = buckets[0], buckets[-1]
    return last.end - last.start >= _DOUBLING * (first.end - first.start)


def part_lines(reports: Sequence[Report]) -> tuple[PartLine, ...]:
    """The parts that at least one run has, in the order in which they come first."""
    lines: dict[str, dict[int, Point]] = {}
    for place, report in enumerate(reports):
        for part in report.by_part:
            if not math.isnan(part.kl_mean):
                lines.setdefault(part.name, {})[place] = _point(part, 0.0)
    return tuple(PartLine(inert(name) or "?", means) for name, means in lines.items())


def _point(group: Group, x: float) -> Point:
    return Point(x, group.kl_mean, bounds(group.ci_low, group.ci_high))


def _arithmetic(start: int, end: int) -> float:
    return (start + end) / 2


def _geometric(start: int, end: int) -> float:
    return math.sqrt(max(start, end / 2) * end)
