"""The cluster bootstrap: chunks are drawn again with replacement. NumPy; seeded and vectorised.

G - 1 of G chunks are drawn each time, which makes the bootstrap's variance of a mean the unbiased one
(McCarthy & Snowden 1985; Rao & Wu 1988); with G draws it would be too small by (G-1)/G, which few chunks
would feel. Memory is bounded: at most MAX_CLUSTERS chunks (beyond that neighbours are drawn together)
times some 4,000 bins of values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mqf_tui.fidelity.intervals import LEVEL, Clusters, Interval, student_t

REPLICATES = 1000
SEED = 20261125
MAX_CLUSTERS = 1024
BINS = 2048
BATCH = 128


class ClusterBootstrap:
    """The same draws of chunks for every statistic, so that statistics can be judged jointly."""

    def __init__(self, clusters: Clusters, replicates: int = REPLICATES, seed: int = SEED) -> None:
        if clusters.n_clusters < 2:
            raise ValueError("one chunk cannot be resampled")
        n = min(clusters.n_clusters, MAX_CLUSTERS)
        self._clusters = Clusters(clusters.index * n // clusters.n_clusters, n)
        rng = np.random.default_rng(seed)
        self._drawn = rng.multinomial(n - 1, np.full(n, 1 / n), replicates).astype(np.float64)
        self._totals = self._drawn @ self._clusters.counts

    @property
    def degrees(self) -> int:
        """One less than the clusters drawn from: the degrees of freedom of an interval."""
        return self._clusters.n_clusters - 1

    def means(self, values: ArrayLike) -> NDArray[np.float64]:
        """The mean of ``values`` (n,) in each replicate (B,)."""
        sums = self._clusters.sums(values)
        finite = np.isfinite(sums)
        found = self._drawn[:, finite] @ sums[finite] / self._totals
        # 0 times +inf is NaN: a replicate is infinite only where it drew an infinite chunk.
        return np.where(self._drawn[:, ~finite].any(axis=1), np.inf, found)

    def percentiles(self, values: NDArray[np.floating], shares: Sequence[float]) -> NDArray[np.float64]:
        """Linear-interpolation quantiles of ``values`` (n,) in each replicate (B, number of shares).

        Exact up to BINS values; above that a replicate's order statistics are found to within a bin of
        ranks, which is 1/BINS of all values, and in the tail below 1 % of what lies above it.
        """
        order = np.argsort(values, kind="stable")
        ranked = values[order].astype(np.float64)
        edges = _edges(len(values))
        n_bins, n = len(edges) - 1, self._clusters.n_clusters
        bins = np.repeat(np.arange(n_bins), np.diff(edges))
        cells = self._clusters.index[order] * n_bins + bins
        counts = np.bincount(cells, minlength=n * n_bins).reshape(n, n_bins).astype(np.float64)
        found = np.empty((len(self._drawn), len(shares)))
        for start in range(0, len(self._drawn), BATCH):
            sums = np.cumsum(self._drawn[start : start + BATCH] @ counts, axis=1)
            found[start : start + BATCH] = _quantiles(ranked, edges, sums, np.asarray(shares))
        return found


def _edges(n: int) -> NDArray[np.int64]:
    """Bins of ranks 0..n: every rank alone where there are few, else even ones and finer ones on top."""
    if n <= BINS:
        return np.arange(n + 1)
    even = np.linspace(0, n, BINS + 1).round()
    top = n - np.geomspace(1, n, BINS + 1).round()
    return np.unique(np.concatenate([even, top])).astype(np.int64)


def _quantiles(
    ranked: NDArray[np.float64],
    edges: NDArray[np.int64],
    cumulative: NDArray[np.float64],
    shares: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The quantiles of replicates (b, number of shares) from how many values each has up to each bin's end,
    ``cumulative`` (b, bins)."""
    places = shares * (cumulative[:, -1:] - 1)
    asked = np.concatenate([np.floor(places), np.ceil(places)], axis=1)
    # One search for all rows: each row is lifted above the one before it (whole numbers, so exactly).
    n_rows, n_bins = cumulative.shape
    lift = (np.arange(n_rows) * (cumulative[:, -1].max() + 1))[:, None]
    found = np.searchsorted((cumulative + lift).ravel(), (asked + lift).ravel(), side="right")
    bins = found.reshape(asked.shape) - n_bins * np.arange(n_rows)[:, None]
    before = np.where(bins > 0, np.take_along_axis(cumulative, np.maximum(bins - 1, 0), axis=1), 0.0)
    share = (asked - before) / (np.take_along_axis(cumulative, bins, axis=1) - before)
    ranks = edges[bins] + (share * (edges[bins + 1] - edges[bins])).astype(np.int64)
    low, high = np.split(ranked[ranks], 2, axis=1)
    weights = places - np.floor(places)
    with np.errstate(invalid="ignore"):  # 0 times +inf
        return np.where((weights == 0) | (low == high), low, low * (1 - weights) + high * weights)


def bootstrap_interval(
    replicates: NDArray[np.float64], degrees: float = np.inf, level: float = LEVEL
) -> Interval:
    """The percentile interval of one statistic's replicates (B,); bears infinities.

    ``degrees``: one less than the chunks drawn from. The percentiles are then taken as far out as Student's
    t is for the normal distribution (the expanded percentile interval of Hesterberg 2015, "What Teachers
    Should Know About the Bootstrap", section 5.3, without its factor n/(n-1), which drawing G-1 chunks
    already answers); the plain ones are too narrow for few chunks.
    """
    from scipy.special import ndtr

    tail = 0.5 - level / 2 if np.isinf(degrees) else float(ndtr(-student_t(0.5 + level / 2, degrees)))
    tail = round(tail, 12)  # 0.025 and not a rounding more, which would be another rank
    low, high = np.quantile(replicates, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)
