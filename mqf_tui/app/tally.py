"""Running numbers of a measurement, cheap enough to be read ten times a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.intervals import Interval, interval_of_sums, percentile, rate_interval, within
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.statistics import perplexity
from mqf_tui.fidelity.verdict import verdict
from mqf_tui.reports.schema import Verdict

TRACE_BINS = 400
HISTOGRAM_EDGES = np.linspace(-8.0, 2.0, 61)  # log10 of nats


class Numbers(NamedTuple):
    """What is shown in large. KL and its interval in nats, rates as shares."""

    kl_mean: float
    kl_interval: Interval | None
    kl_median: float
    kl_p99: float
    flip_rate: float
    flip_interval: Interval | None
    perplexity_ref: float
    perplexity_quant: float


@dataclass(frozen=True)
class Running:
    """The numbers so far. ``histogram`` counts log10 KL between HISTOGRAM_EDGES (60,); ``trace`` is the
    mean KL of equal stretches of the planned positions, NaN where not scored yet."""

    n: int
    numbers: Numbers
    histogram: NDArray[np.int64]
    trace: NDArray[np.float64]
    verdict: Verdict


class Tally:
    """Adds up the positions of ``n_planned`` as they come; one writer, any number of readers."""

    def __init__(self, n_planned: int) -> None:
        self._n = 0
        self._kl = np.empty(n_planned, np.float32)
        self._by_chunk: dict[int, tuple[int, float, int]] = {}  # positions, sum of KL, flips
        self._nll = np.zeros(2)
        self._histogram = np.zeros(len(HISTOGRAM_EDGES) - 1, np.int64)
        bins = min(TRACE_BINS, n_planned)
        self._sums, self._counts = np.zeros(bins), np.zeros(bins, np.int64)

    def add(self, positions: Positions) -> None:
        """Take in the next positions, in order."""
        first, last = self._n, self._n + len(positions)
        self._kl[first:last] = positions.kl
        flips = positions.flip
        for chunk in np.unique(positions.chunk).tolist():
            here = positions.chunk == chunk
            n, kl, flipped = self._by_chunk.get(chunk, (0, 0.0, 0))
            kl += float(positions.kl[here].sum(dtype=np.float64))
            self._by_chunk[chunk] = n + int(here.sum()), kl, flipped + int(flips[here].sum())
        self._nll += positions.nll_ref.sum(dtype=np.float64), positions.nll_quant.sum(dtype=np.float64)
        with np.errstate(divide="ignore"):
            logs = np.clip(np.log10(positions.kl), HISTOGRAM_EDGES[0], HISTOGRAM_EDGES[-1])
        self._histogram += np.histogram(logs, HISTOGRAM_EDGES)[0]
        where = np.arange(first, last) * len(self._sums) // len(self._kl)
        np.add.at(self._sums, where, positions.kl)
        np.add.at(self._counts, where, 1)
        self._n = last

    def running(self) -> Running | None:
        """The numbers so far, or None before the first position."""
        n = self._n
        if n == 0:
            return None
        kl = self._kl[:n]
        counts, sums, flips = np.array(list(self._by_chunk.values()), np.float64).T
        mean, p99, flip_rate = float(sums.sum() / n), percentile(kl, 0.99), float(flips.sum() / n)
        with np.errstate(invalid="ignore"):
            trace = np.where(self._counts > 0, self._sums / np.maximum(self._counts, 1), np.nan)
        numbers = Numbers(
            kl_mean=mean,
            kl_interval=within(interval_of_sums(sums, counts), 0.0, np.inf),
            kl_median=percentile(kl, 0.5),
            kl_p99=p99,
            flip_rate=flip_rate,
            flip_interval=rate_interval(flips, counts),
            perplexity_ref=perplexity(np.array([self._nll[0] / n])),
            perplexity_quant=perplexity(np.array([self._nll[1] / n])),
        )
        return Running(n, numbers, self._histogram.copy(), trace, verdict(mean, p99, flip_rate))


def tally_of(positions: Positions) -> Tally:
    """A tally of finished positions."""
    tally = Tally(max(1, len(positions)))
    tally.add(positions)
    return tally
