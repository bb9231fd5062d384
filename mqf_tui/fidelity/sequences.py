"""Confidence sequences over chunk means: bounds that hold at all looks together, however often one looks.

The sequence for one mean is the Gaussian-mixture t confidence sequence of Wang & Ramdas 2023 ("Anytime-
valid t-tests and confidence sequences for Gaussian means with unknown variance", arXiv:2310.03722): with
V = Σ (x_i - μ)² and S = Σ (x_i - μ) over n chunk means,

    sqrt(c² / (n + c²)) · ((n + c²) V / ((n + c²) V - S²))^(n/2)

is a non-negative martingale under the true μ, so by Ville's inequality it stays below 1/α at all n together
with probability 1 - α; the sequence is the μ for which it does. It assumes Gaussian chunk means of one
distribution. Chunk means of real runs are skewed, so that a truth is missed from below far more often than
from above. Two things answer that, and docs/statistics.md shows by simulation that they are enough: the
upper bound of mean KL is taken on the logarithmic scale (delta method: x̄ · exp(h / x̄) instead of x̄ + h,
which is never less), and the deviation of a rate is at least that of independent positions at its limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mqf_tui.fidelity.positions import Positions
from mqf_tui.reports.schema import Thresholds

# c²: small, so that few chunks are enough where the verdict is clear; a larger one would save about a sixth
# of the chunks where it is close.
PRIOR = 0.1
TAIL = 0.01  # beyond p99
KL, FLIPS, PAST_GOOD, PAST_MARGINAL = range(4)  # the columns: means of a chunk


class Moments:
    """Means and deviations of many streams of chunk means, by Welford's update; shape (…)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.n = np.zeros(shape, np.int64)
        self.means, self._squares = np.zeros(shape), np.zeros(shape)

    def add(self, row: NDArray[np.float64], present: NDArray[np.bool_] | bool = True) -> None:
        """Take in the next chunk's means (…) of the streams that are ``present`` (…)."""
        self.n = self.n + np.asarray(present)
        with np.errstate(invalid="ignore"):  # +inf less +inf
            before = row - self.means
            means = self.means + before / np.maximum(self.n, 1)
            means = np.where(np.isinf(row) | np.isinf(self.means), np.inf, means)
            squares = self._squares + before * (row - means)
        self.means = np.where(present, means, self.means)
        self._squares = np.where(present, squares, self._squares)

    @property
    def deviations(self) -> NDArray[np.float64]:
        """Sample standard deviations; unknown, and so infinite, with one chunk."""
        known = (self.n > 1) & np.isfinite(self._squares)
        return np.where(known, np.sqrt(self._squares / np.maximum(self.n - 1, 1)), np.inf)


def chunk_means(chunk: Positions, policy: Thresholds) -> NDArray[np.float64]:
    """The four means of a chunk that a verdict rests on (4,)."""
    tails = (chunk.kl > limit for limit in policy.kl_p99)
    return np.array([np.mean(c, dtype=np.float64) for c in (chunk.kl, chunk.flip, *tails)])


def half_width(n: ArrayLike, deviation: ArrayLike, alpha: ArrayLike) -> NDArray[np.float64]:
    """Half the width of the sequence after ``n`` values of sample standard deviation ``deviation``.

    It is where the martingale equals 1/α: with u = 1 - (α² c² / (n + c²))^(1/n), the square of the half width
    is deviation² · u (n + c²) (n - 1) / (n (n - u (n + c²))); infinite while that is not positive.
    """
    count = np.asarray(n, np.float64)
    u = -np.expm1(-2 / count * (0.5 * np.log((count + PRIOR) / PRIOR) - np.log(alpha)))
    room = count - u * (count + PRIOR)
    open_ended = (count < 2) | (room <= 0)
    factor = u * (count + PRIOR) * (count - 1) / (count * np.where(open_ended, 1.0, room))
    with np.errstate(invalid="ignore"):
        return np.where(open_ended, np.inf, np.asarray(deviation) * np.sqrt(factor))


def kl_bounds(
    n: ArrayLike, mean: ArrayLike, deviation: ArrayLike, alpha: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sequence of mean KL (nats) after ``n`` chunks; everything is possible where a mean is infinite."""
    centre, half = np.asarray(mean, np.float64), half_width(n, deviation, alpha)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        low, high = centre - half, centre * np.exp(half / centre)
    high = np.where((centre == 0) & (half == 0), 0.0, np.where(np.isnan(high), np.inf, high))
    return np.where(np.isfinite(low), np.maximum(low, 0.0), 0.0), high


def rate_bounds(
    n: ArrayLike, mean: ArrayLike, deviation: ArrayLike, alpha: float, limit: float, n_positions: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sequence of a rate that is compared with ``limit``; ``n_positions`` of a chunk, on average.

    Chunks that happen to agree must not look surer than chance allows: see the module.
    """
    least = np.sqrt(limit * (1 - limit) / np.asarray(n_positions, np.float64))
    half = half_width(n, np.maximum(deviation, least), alpha)
    return np.maximum(np.asarray(mean) - half, 0.0), np.minimum(np.asarray(mean) + half, 1.0)


@dataclass(frozen=True)
class Split:
    """The α of each bound that is compared with a limit: the most that is good, the most that is marginal."""

    lower: tuple[float, float]
    upper: tuple[float, float]

    @classmethod
    def of_verdict(cls, alpha: float, bad: float = 1 / 6) -> Split:
        """At all looks together the true verdict is among the possible ones with probability 1 - ``alpha``.

        ``bad``: the share of α, under 1/3, of each lower bound that can show something bad; the more it has,
        the less has what can show something good.

        A verdict is the worst of three levels (KL, flips, p99), so that a better one than the true one is
        claimed only where the upper bound of *the one* number that makes the verdict fails: no union over
        numbers is needed (intersection-union, Berger 1982). A worse one is claimed where the lower bound of
        *any* of the three fails. So what is true is ruled out, at any look,

        - if it is good, where one of three lower bounds passes the most that is good: 3 · α/3;
        - if it is marginal, where one upper bound falls under that or one of three lower bounds passes the
          most that is marginal: (1 - 3 ``bad``) · α + 3 ``bad`` · α;
        - if it is bad, where one upper bound falls under the most that is marginal: (1 - 3 ``bad``) · α.

        (The last could have α; with α/2, as with a ``bad`` of 1/6, no settled verdict contradicts an interval
        at α/2.)
        """
        good = (1 - 3 * bad) * alpha
        return cls((alpha / 3, bad * alpha), (good, good))


def component_levels(
    n: ArrayLike,
    means: NDArray[np.float64],
    deviations: NDArray[np.float64],
    n_positions: ArrayLike,
    policy: Thresholds,
    split: Split,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The best and the worst level, as indices into VERDICTS, that mean KL, flips and p99 may have (…, 3).

    The verdict is the worst of the three, so their maxima are the best and the worst one not ruled out.
    ``means`` and ``deviations`` (…, 4) are those of the chunks' means of the four columns after ``n`` chunks
    (…).
    """
    least: list[NDArray[Any]] = []
    most: list[NDArray[Any]] = []
    for columns, limits in (
        ((KL, KL), policy.kl_mean),
        ((FLIPS, FLIPS), policy.flip_rate),
        ((PAST_GOOD, PAST_MARGINAL), (TAIL, TAIL)),
    ):
        surely: list[NDArray[Any]] = []
        perhaps: list[NDArray[Any]] = []
        for column, limit, lower, upper in zip(columns, limits, split.lower, split.upper, strict=True):
            mean, deviation = means[..., column], deviations[..., column]
            if column == KL:
                low, _ = kl_bounds(n, mean, deviation, lower)
                _, high = kl_bounds(n, mean, deviation, upper)
            else:
                low, _ = rate_bounds(n, mean, deviation, lower, limit, n_positions)
                _, high = rate_bounds(n, mean, deviation, upper, limit, n_positions)
            surely.append(low > limit)
            perhaps.append(high > limit)
        least.append(np.where(surely[0], np.where(surely[1], 2, 1), 0))
        most.append(np.where(perhaps[1], 2, np.where(perhaps[0], 1, 0)))
    return np.stack(least, axis=-1), np.stack(most, axis=-1)
