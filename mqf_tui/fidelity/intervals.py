"""Means and rates with intervals clustered by chunk, and percentiles. NumPy and SciPy; sums in float64."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]
LEVEL = 0.95


@dataclass(frozen=True)
class Clusters:
    """Which chunk each of n positions belongs to: ``index`` (n,) counts from 0 to G-1."""

    index: NDArray[np.intp]
    n_clusters: int

    @classmethod
    def of(cls, chunk: ArrayLike) -> Clusters:
        """Clusters of chunk numbers (n,), whatever they are."""
        names, index = np.unique(np.asarray(chunk), return_inverse=True)
        return cls(index.reshape(-1), len(names))

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Positions of each cluster (G,)."""
        return np.bincount(self.index, minlength=self.n_clusters)

    def sums(self, values: ArrayLike) -> NDArray[np.float64]:
        """The sum of ``values`` (n,) over each cluster (G,)."""
        found = np.bincount(self.index, np.asarray(values, np.float64), self.n_clusters)
        return found.astype(np.float64, copy=False)

    def interval(self, values: ArrayLike, level: float = LEVEL) -> Interval | None:
        """The interval of the mean of ``values`` (n,): see ``interval_of_sums``."""
        return interval_of_sums(self.sums(values), self.counts, level)


def clustered_interval(values: ArrayLike, chunk: ArrayLike, level: float = LEVEL) -> Interval | None:
    """Interval of the mean of ``values`` (n,), clustered by ``chunk`` (n,); None with one chunk."""
    return Clusters.of(chunk).interval(values, level)


def interval_of_sums(sums: NDArray[Any], counts: NDArray[Any], level: float = LEVEL) -> Interval | None:
    """The interval of a mean from the sum and count of each chunk, both (G,).

    Standard error sqrt(G/(G-1) · Σ_g (Σ_{i∈g} (x_i - x̄))²) / n for G chunks and n positions (the
    usual cluster-robust variance of a mean, e.g. Cameron & Miller 2015, eq. 10, with the G/(G-1)
    correction), Student's t with G-1 degrees of freedom. None with one chunk or an infinite mean.
    """
    error = standard_error(sums, counts)
    if error is None:
        return None
    mean = float(sums.sum() / counts.sum())
    half = student_t(0.5 + level / 2, len(sums) - 1) * error
    return mean - half, mean + half


def standard_error(sums: NDArray[Any], counts: NDArray[Any]) -> float | None:
    """The clustered standard error of a mean; None with one chunk or an infinite mean."""
    n, n_groups = int(counts.sum()), len(sums)
    if n_groups < 2:
        return None
    mean = float(sums.sum() / n)
    if not np.isfinite(mean):
        return None
    residuals = sums - counts * mean
    return float(np.sqrt(n_groups / (n_groups - 1) * np.sum(residuals**2)) / n)


def rate_interval(sums: NDArray[Any], counts: NDArray[Any], level: float = LEVEL) -> Interval | None:
    """The interval of a rate from the hits and the count of each chunk, both (G,); within 0 and 1.

    ``interval_of_sums``, except where the rate is the same in every chunk (no hit at all, say): that
    interval would have no width, and Wilson's (1927) is given for n positions instead.
    """
    hits, n = float(sums.sum()), int(counts.sum())
    found = interval_of_sums(sums, counts, level)
    if found is None or not np.array_equal(sums * n, counts * hits):
        return within(found, 0.0, 1.0)
    return wilson(hits, n, level)


def change_interval(
    gained: NDArray[Any], lost: NDArray[Any], counts: NDArray[Any], level: float = LEVEL
) -> Interval | None:
    """The interval of (gained - lost)/n from the gained, the lost and the positions of each chunk, all (G,).

    ``interval_of_sums``, except where the change is the same in every chunk (nothing gained or lost, say):
    that interval would have no width. Wilson's intervals of both rates are then put together by square and
    add (Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10),
    so that no hit in n positions gives ± Wilson's bound of such a rate. None with one chunk; within -1 and 1.
    """
    change = np.asarray(gained, np.float64) - lost
    found = interval_of_sums(change, counts, level)
    n = int(counts.sum())
    if found is None or not np.array_equal(change * n, counts * change.sum()):
        return within(found, -1.0, 1.0)
    up, down = float(gained.sum()), float(lost.sum())
    (up_low, up_high), (down_low, down_high) = wilson(up, n, level), wilson(down, n, level)
    below = float(np.hypot(up / n - up_low, down_high - down / n))
    above = float(np.hypot(up_high - up / n, down / n - down_low))
    return within(((up - down) / n - below, (up - down) / n + above), -1.0, 1.0)


def wilson(hits: float, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a rate, from ``n`` independent positions (Wilson 1927)."""
    z2 = normal_quantile(0.5 + level / 2) ** 2
    middle = (hits + z2 / 2) / (n + z2)
    half = float(np.sqrt(z2 * (hits * (n - hits) / n + z2 / 4))) / (n + z2)
    # At the ends the formula is exact on paper and off by a rounding here.
    return 0.0 if hits == 0 else middle - half, 1.0 if hits == n else middle + half


def p_value(estimate: float, error: float | None, degrees: float) -> float | None:
    """Two-sided p value of ``estimate`` = 0 by Student's t; 1 where both are 0, None without an error."""
    if error is None or not np.isfinite(estimate):
        return None
    if error == 0:
        return 1.0 if estimate == 0 else 0.0
    from scipy.special import stdtr

    return float(2 * stdtr(degrees, -abs(estimate) / error))


def student_t(probability: float, degrees: float) -> float:
    """Quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def normal_quantile(probability: float) -> float:
    """Quantile of the standard normal distribution."""
    from scipy.special import ndtri

    return float(ndtri(probability))


def percentile(values: NDArray[np.floating], share: float) -> float:
    """Linear-interpolation quantile of ``values`` (n,) that stays +inf, not NaN, among infinities."""
    place = share * (len(values) - 1)
    lower, upper = int(np.floor(place)), int(np.ceil(place))
    ordered = np.partition(values, (lower, upper))
    return between(float(ordered[lower]), float(ordered[upper]), place - np.floor(place))


def between(low: float, high: float, weight: float) -> float:
    """Linear interpolation that bears infinities."""
    return float(low if weight == 0 or low == high else low * (1 - weight) + high * weight)


def holding(interval: Interval, value: float) -> Interval:
    """The interval widened to its own figure: a percentile may lie outside what few chunks redrawn give."""
    return min(interval[0], value), max(interval[1], value)


def within(interval: Interval | None, low: float, high: float) -> Interval | None:
    """The interval cut to its range: neither KL nor a rate can lie outside, the symmetric interval may."""
    return None if interval is None else (max(interval[0], low), min(interval[1], high))
