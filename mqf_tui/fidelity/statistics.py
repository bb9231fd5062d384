"""Per-position numbers -> summaries and intervals. NumPy only; sums in float64."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.verdict import verdict
from mqf_tui.reports.schema import DepthBucket, KLSummary, PartSummary, Verdict

DEPTH_BUCKETS = 8
Interval = tuple[float, float]


@dataclass(frozen=True)
class Summary:
    """What the positions say. KL and its intervals in nats, rates as shares."""

    n_positions: int
    n_chunks: int
    kl: KLSummary
    flip_rate: float
    flip_interval: Interval | None
    perplexity_ref: float
    perplexity_quant: float
    by_depth: tuple[DepthBucket, ...]
    by_part: tuple[PartSummary, ...]
    verdict: Verdict

    @property
    def perplexity_delta(self) -> float:
        """PPL(Q) - PPL(P)."""
        return self.perplexity_quant - self.perplexity_ref


def clustered_interval(values: ArrayLike, chunk: ArrayLike, level: float = 0.95) -> Interval | None:
    """Interval of the mean of ``values`` (n,), clustered by ``chunk`` (n,); None with one chunk.

    Standard error sqrt(G/(G-1) · Σ_g (Σ_{i∈g} (x_i - x̄))²) / n for G chunks and n positions (the
    usual cluster-robust variance of a mean, e.g. Cameron & Miller 2015, eq. 10, with the G/(G-1)
    correction), Student's t with G-1 degrees of freedom.
    """
    x = np.asarray(values, dtype=np.float64)
    _, group = np.unique(np.asarray(chunk), return_inverse=True)
    return interval_of_sums(np.bincount(group, weights=x), np.bincount(group), level)


def interval_of_sums(sums: NDArray[Any], counts: NDArray[Any], level: float = 0.95) -> Interval | None:
    """``clustered_interval`` from the sum and count of each chunk, both (G,)."""
    n, n_groups = int(counts.sum()), len(sums)
    if n_groups < 2:
        return None
    mean = float(sums.sum() / n)
    if not np.isfinite(mean):
        return None
    residuals = sums - counts * mean
    error = float(np.sqrt(n_groups / (n_groups - 1) * np.sum(residuals**2)) / n)
    half = student_t(0.5 + level / 2, n_groups - 1) * error
    return mean - half, mean + half


def student_t(probability: float, degrees: int) -> float:
    """Quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def percentile(values: NDArray[np.floating], share: float) -> float:
    """Linear-interpolation quantile of ``values`` (n,) that stays +inf, not NaN, among infinities."""
    place = share * (len(values) - 1)
    lower, upper = int(np.floor(place)), int(np.ceil(place))
    ordered = np.partition(values, (lower, upper))
    low, high = float(ordered[lower]), float(ordered[upper])
    weight = place - np.floor(place)
    return float(low if weight == 0 or low == high else low * (1 - weight) + high * weight)


def summarise(positions: Positions, chunk_length: int, first_depth: int = 0) -> Summary:
    """Summarise at least one position of chunks of ``chunk_length`` tokens scored from ``first_depth``."""
    if len(positions) == 0:
        raise ValueError("no positions to summarise")
    kl_interval = within(clustered_interval(positions.kl, positions.chunk), 0.0, np.inf)
    flip_rate = float(positions.flip.mean())
    kl = _kl_summary(positions.kl, kl_interval)
    return Summary(
        n_positions=len(positions),
        n_chunks=len(np.unique(positions.chunk)),
        kl=kl,
        flip_rate=flip_rate,
        flip_interval=within(clustered_interval(positions.flip, positions.chunk), 0.0, 1.0),
        perplexity_ref=perplexity(positions.nll_ref),
        perplexity_quant=perplexity(positions.nll_quant),
        by_depth=by_depth(positions, chunk_length, first_depth),
        by_part=by_part(positions),
        verdict=verdict(kl.mean, kl.p99, flip_rate),
    )


def perplexity(nll: NDArray[np.floating]) -> float:
    """exp(mean NLL); +inf where that overflows."""
    with np.errstate(over="ignore"):
        return float(np.exp(np.mean(nll, dtype=np.float64)))


def by_depth(positions: Positions, chunk_length: int, first_depth: int = 0) -> tuple[DepthBucket, ...]:
    """Eight equal parts of ``first_depth <= depth < chunk_length - 1``; empty ones are left out."""
    edges = np.linspace(first_depth, chunk_length - 1, DEPTH_BUCKETS + 1).round().astype(int)
    buckets = []
    for start, end in pairwise(edges):
        here = (positions.depth >= start) & (positions.depth < end)
        if here.any():
            buckets.append(
                DepthBucket(
                    start=int(start),
                    end=int(end),
                    n_positions=int(here.sum()),
                    kl_mean=_mean(positions.kl[here]),
                    flip_rate=_mean(positions.flip[here]),
                )
            )
    return tuple(buckets)


def by_part(positions: Positions) -> tuple[PartSummary, ...]:
    """One summary for each part of the corpus that has positions."""
    parts = []
    for index, name in enumerate(positions.part_names):
        here = positions.part == index
        if here.any():
            interval = within(clustered_interval(positions.kl[here], positions.chunk[here]), 0.0, np.inf)
            parts.append(
                PartSummary(
                    name=name,
                    n_chunks=len(np.unique(positions.chunk[here])),
                    n_positions=int(here.sum()),
                    kl_mean=_mean(positions.kl[here]),
                    flip_rate=_mean(positions.flip[here]),
                    ci_low=interval[0] if interval else None,
                    ci_high=interval[1] if interval else None,
                )
            )
    return tuple(parts)


def _kl_summary(kl: NDArray[np.floating], interval: Interval | None) -> KLSummary:
    return KLSummary(
        mean=_mean(kl),
        median=percentile(kl, 0.5),
        p90=percentile(kl, 0.90),
        p95=percentile(kl, 0.95),
        p99=percentile(kl, 0.99),
        max=float(kl.max()),
        ci_low=interval[0] if interval else None,
        ci_high=interval[1] if interval else None,
    )


def _mean(values: NDArray[np.floating] | NDArray[np.bool_]) -> float:
    return float(np.mean(values, dtype=np.float64))


def within(interval: Interval | None, low: float, high: float) -> Interval | None:
    """The interval cut to its range: neither KL nor a rate can lie outside, the symmetric interval may."""
    return None if interval is None else (max(interval[0], low), min(interval[1], high))
