"""Running numbers of a measurement, cheap enough to be read ten times a second."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.bootstrap import ClusterBootstrap, bootstrap_interval
from mqf_tui.fidelity.depth import depth_edges
from mqf_tui.fidelity.events import Plan
from mqf_tui.fidelity.flips import CONFIDENT
from mqf_tui.fidelity.intervals import (
    Clusters,
    Interval,
    holding,
    interval_of_sums,
    percentile,
    rate_interval,
    within,
)
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.statistics import perplexity
from mqf_tui.fidelity.stopping import Sureness
from mqf_tui.fidelity.verdict import KV_POLICY, confidence, verdict
from mqf_tui.reports.schema import Confidence, Stopping, Thresholds, Verdict

TRACE_BINS = 400
HISTOGRAM_EDGES = np.linspace(-8.0, 2.0, 61)  # log10 of nats
REPLICATES = 200  # enough for a number that moves; the report draws more
GROWTH = 1.1  # the chunks are resampled when there are so many times more than the last time
# From so many positions on, the quantiles are looked up when there are so many times more than the last time.
MANY, SLOW_GROWTH = 50_000, 1.01


class Numbers(NamedTuple):
    """What is shown in large. KL and its intervals in nats, rates as shares; NaN where not known."""

    kl_mean: float
    kl_interval: Interval | None
    kl_p99: float
    p99_interval: Interval | None
    flip_rate: float
    flip_interval: Interval | None
    perplexity_delta: float
    perplexity_interval: Interval | None
    kl_median: float = math.nan
    confident_rate: float = math.nan
    confident_interval: Interval | None = None


class DepthMean(NamedTuple):
    """Mean KL, in nats, of the positions ``start <= depth < end`` of all chunks."""

    start: int
    end: int
    kl_mean: float


@dataclass(frozen=True)
class Looked:
    """What the stopping rule says after a whole chunk.

    ``possible``: the verdicts that are not ruled out, best first. ``half_width``: that of mean KL's
    confidence sequence as a share of mean KL; ``wanted``: the share at which to stop, None where the
    verdict alone decides; ``both``: the verdict must be settled as well.
    """

    settled: bool
    possible: tuple[Verdict, ...]
    half_width: float
    wanted: float | None
    both: bool = False


@dataclass(frozen=True)
class Running:
    """The numbers so far. ``histogram`` counts log10 KL between HISTOGRAM_EDGES (60,); ``trace`` is the
    mean KL of equal stretches of the planned positions, NaN where not scored yet. ``chunks``: mean KL of each
    chunk in the order scored, the last one perhaps not whole. ``depths``: those that have positions.
    ``confidence`` is as of the last time the chunks were resampled, ``n_resampled`` of them; None before the
    second one's end."""

    n: int
    numbers: Numbers
    histogram: NDArray[np.int64]
    trace: NDArray[np.float64]
    verdict: Verdict
    confidence: Confidence | None = None
    n_resampled: int = 0
    looked: Looked | None = None
    stopping: Stopping | None = None
    chunks: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    depths: tuple[DepthMean, ...] = ()


class Tally:
    """Adds up the positions of ``n_planned`` as they come; one writer, any number of readers.

    ``edges`` are those of the depth buckets (K + 1,). ``add`` and ``running`` must not overlap;
    ``finish_chunk`` may be called by the writer beside ``running``.
    """

    def __init__(
        self,
        n_planned: int,
        policy: Thresholds = KV_POLICY,
        sureness: Sureness | None = None,
        edges: NDArray[np.int64] | None = None,
    ) -> None:
        self._policy, self._sureness = policy, sureness
        self._n = 0
        self._kl = np.empty(n_planned, np.float32)
        self._flip = np.empty(n_planned, np.bool_)
        self._chunk = np.empty(n_planned, np.int32)
        # Of each chunk: positions, sum of KL, flips, sums of both NLLs, confident flips.
        self._by_chunk: dict[int, NDArray[np.float64]] = {}
        self._histogram = np.zeros(len(HISTOGRAM_EDGES) - 1, np.int64)
        self._edges = np.zeros(1, np.int64) if edges is None else edges
        self._depth_sums = np.zeros((2, max(len(self._edges) - 1, 0)))  # KL, positions
        self._quantiled, self._quantiles = 0, (math.nan, math.nan)  # of how many positions; median and p99
        bins = min(TRACE_BINS, n_planned)
        self._sums, self._counts = np.zeros(bins), np.zeros(bins, np.int64)
        self._open: list[Positions] = []  # the steps of the chunk under way, for the stopping rule
        self._resampled = 0
        self._drawn: tuple[Interval, Confidence] | None = None
        self._looked: Looked | None = None
        self._stopping: Stopping | None = sureness.stopping() if sureness else None
        self._sequences: tuple[Interval | None, Interval | None] = None, None

    @classmethod
    def of_plan(cls, plan: Plan, *, race: bool = False) -> Tally:
        """A tally of what is planned. In a race one looks after every chunk, as where it may stop early."""
        rule, settings = Sureness.of(plan.settings, race=race), plan.settings
        edges = depth_edges(settings.chunk_length, settings.first_scored)
        return cls(plan.n_positions, settings.policy, rule, edges)

    def add(self, positions: Positions) -> None:
        """Take in the next positions, in order."""
        first, last = self._n, self._n + len(positions)
        flips = positions.flip
        self._kl[first:last] = positions.kl
        self._flip[first:last] = flips
        self._chunk[first:last] = positions.chunk
        confident = flips & (positions.prob_ref >= CONFIDENT)
        nlls = positions.nll_ref, positions.nll_quant
        columns = (np.ones(len(positions)), positions.kl, flips, *nlls, confident)
        for chunk in np.unique(positions.chunk).tolist():
            here = positions.chunk == chunk
            sums = np.array([column[here].sum(dtype=np.float64) for column in columns])
            self._by_chunk[chunk] = self._by_chunk.get(chunk, 0.0) + sums
        self._histogram += histogram(positions.kl)
        where = np.arange(first, last) * len(self._sums) // len(self._kl)
        np.add.at(self._sums, where, positions.kl)
        np.add.at(self._counts, where, 1)
        self._add_depths(positions)
        self._n = last
        if self._sureness is not None:
            self._open.append(positions)

    def _add_depths(self, positions: Positions) -> None:
        label = np.searchsorted(self._edges, positions.depth, side="right") - 1
        here = (label >= 0) & (label < self._depth_sums.shape[1])
        for sums, values in zip(self._depth_sums, (positions.kl[here], None), strict=True):
            sums += np.bincount(label[here], values, minlength=len(sums))

    def finish_chunk(self, stopping: Stopping | None = None) -> None:
        """A chunk has all its positions: look what they rule out, and resample where enough are new.

        ``stopping``: what the engine's rule says now; None: what ours does.

        The number of chunks grows by a share between two resamplings, so that all of them together cost no
        more than a fixed number of the last one.
        """
        if self._sureness is not None and self._open:
            self._sureness.add(Positions.concatenate(self._open))
            self._open = []
            self._look(self._sureness, stopping)
        n_chunks = len(self._by_chunk)
        if n_chunks > 1 and n_chunks >= GROWTH * self._resampled:
            self._resampled = n_chunks
            self._drawn = self._resample()

    def _resample(self) -> tuple[Interval, Confidence]:
        kl, flips = self._kl[: self._n], self._flip[: self._n]
        draws = ClusterBootstrap(Clusters.of(self._chunk[: self._n]), REPLICATES)
        p99s = draws.percentiles(kl, [0.99])[:, 0]
        means = float(kl.mean(dtype=np.float64)), percentile(kl, 0.99), float(flips.mean())
        sure = confidence(
            *(draws.means(kl), p99s, draws.means(flips), self._policy),
            n_chunks=len(self._by_chunk),
            observed=verdict(*means, self._policy),
        )
        found = holding(bootstrap_interval(p99s, draws.degrees), means[1])
        return found, sure.model_copy(update={"replicates": REPLICATES})

    def _look(self, sureness: Sureness, stopping: Stopping | None) -> None:
        low, high = sureness.kl_interval or (0.0, np.inf)
        with np.errstate(invalid="ignore", divide="ignore"):
            half = float(np.float64(high - low) / 2 / self._kl[: self._n].mean(dtype=np.float64))
        s = self._stopping = stopping or sureness.stopping()
        self._looked = Looked(s.settled, sureness.possible, half, s.precision, s.rule == "both")
        self._sequences = sureness.kl_interval, sureness.flip_interval

    def running(self) -> Running | None:
        """The numbers so far, or None before the first position."""
        n = self._n
        if n == 0:
            return None
        table = np.array(list(self._by_chunk.values()))
        numbers = self._numbers(table.T)
        with np.errstate(invalid="ignore"):
            trace = np.where(self._counts > 0, self._sums / np.maximum(self._counts, 1), np.nan)
        return Running(
            n,
            numbers,
            self._histogram.copy(),
            trace,
            verdict(numbers.kl_mean, numbers.kl_p99, numbers.flip_rate, self._policy),
            self._drawn[1] if self._drawn else None,
            self._resampled,
            self._looked,
            self._stopping,
            table[:, 1] / table[:, 0],
            self._depths(),
        )

    def _depths(self) -> tuple[DepthMean, ...]:
        (sums, counts), edges = self._depth_sums, self._edges.tolist()
        rows = zip(edges[:-1], edges[1:], sums.tolist(), counts.tolist(), strict=True)
        return tuple(DepthMean(start, end, kl / n) for start, end, kl, n in rows if n)

    def _numbers(self, by_chunk: NDArray[np.float64]) -> Numbers:
        n = self._n
        counts, kl, flips, nll_ref, nll_quant, confident = by_chunk
        if self._sureness is None:
            kl_interval = within(interval_of_sums(kl, counts), 0.0, np.inf)
            flip_interval, confident_interval = rate_interval(flips, counts), rate_interval(confident, counts)
        else:
            # Where intervals decide when to stop, only those hold that bear being looked at.
            kl_interval, flip_interval = self._sequences
            confident_interval = None
        delta, delta_interval = perplexity_change(nll_ref, nll_quant, counts)
        if n < MANY or n >= SLOW_GROWTH * self._quantiled:
            self._quantiled = n
            self._quantiles = percentile(self._kl[:n], 0.5), percentile(self._kl[:n], 0.99)
        return Numbers(
            kl_mean=float(kl.sum() / n),
            kl_interval=kl_interval,
            kl_p99=self._quantiles[1],
            p99_interval=self._drawn[0] if self._drawn else None,
            flip_rate=float(flips.sum() / n),
            flip_interval=flip_interval,
            perplexity_delta=delta,
            perplexity_interval=delta_interval,
            kl_median=self._quantiles[0],
            confident_rate=float(confident.sum() / n),
            confident_interval=confident_interval,
        )


def perplexity_change(
    nll_ref: NDArray[np.float64], nll_quant: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[float, Interval | None]:
    """PPL(Q) - PPL(P) and its interval from the NLL sums and the positions of each chunk, all (G,).

    The delta method, as in ``fidelity.statistics``: near its mean the difference is linear in the NLLs.
    """
    n = counts.sum()
    p, q = (perplexity(np.array([sums.sum() / n])) for sums in (nll_ref, nll_quant))
    with np.errstate(invalid="ignore", over="ignore"):
        linear = q * nll_quant - p * nll_ref
        slope = interval_of_sums(linear, counts)
        delta = q - p
        shift = delta - float(linear.sum() / n)
    return delta, None if slope is None else (slope[0] + shift, slope[1] + shift)


def histogram(kl: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many of these KLs (n,), in nats, lie between HISTOGRAM_EDGES (60,); what is beyond an end counts
    there."""
    with np.errstate(divide="ignore"):
        logs = np.clip(np.log10(kl), HISTOGRAM_EDGES[0], HISTOGRAM_EDGES[-1])
    return np.histogram(logs, HISTOGRAM_EDGES)[0]
