"""Stop when sure: confidence sequences over chunk means, valid however often one looks.

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

The verdict needs four means: KL, flips, and the rates at which KL passes each p99 limit (p99 is above a
limit where more than 1 % of the positions are). Each gets α/4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mqf_tui.fidelity.intervals import Interval
from mqf_tui.fidelity.positions import Positions
from mqf_tui.reports.schema import VERDICTS, Confidence, Stopping, Thresholds, Verdict

if TYPE_CHECKING:
    from mqf_tui.fidelity.settings import KVSettings

Rule = Literal["verdict", "precision", "both"]
ALPHA = 0.05
# c²: small, so that few chunks are enough where the verdict is clear; a larger one would save about a sixth
# of the chunks where it is close.
PRIOR = 0.1
LEAST_CHUNKS = 4
TAIL = 0.01  # beyond p99
KL, FLIPS, PAST_GOOD, PAST_MARGINAL = range(4)  # the columns: means of a chunk
METHOD = (
    "Gaussian-mixture t confidence sequences over chunk means (arXiv:2310.03722), that of mean KL with its "
    "upper bound on a log scale"
)


def half_width(n: ArrayLike, deviation: ArrayLike, alpha: float) -> NDArray[np.float64]:
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


def possible_levels(
    n: ArrayLike,
    means: NDArray[np.float64],
    deviations: NDArray[np.float64],
    n_positions: ArrayLike,
    policy: Thresholds,
    alpha: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The best and the worst verdict, as indices into VERDICTS, that are not ruled out.

    ``means`` and ``deviations`` (…, 4) are those of the chunks' means of the four columns after ``n`` chunks
    (…). Each sequence is at 1 - ``alpha``.
    """
    least = most = np.zeros(means.shape[:-1], np.int64)
    for columns, limits in (
        ((KL, KL), policy.kl_mean),
        ((FLIPS, FLIPS), policy.flip_rate),
        ((PAST_GOOD, PAST_MARGINAL), (TAIL, TAIL)),
    ):
        passed_low, passed_high = np.zeros_like(least), np.zeros_like(least)
        for column, limit in zip(columns, limits, strict=True):
            mean, deviation = means[..., column], deviations[..., column]
            if column == KL:
                low, high = kl_bounds(n, mean, deviation, alpha)
            else:
                low, high = rate_bounds(n, mean, deviation, alpha, limit, n_positions)
            passed_low, passed_high = passed_low + (low > limit), passed_high + (high > limit)
        least, most = np.maximum(least, passed_low), np.maximum(most, passed_high)
    return least, most


class Sureness:
    """Adds up whole chunks and says whether the verdict, the mean KL, or both are settled.

    ``precision``: mean KL must be known to within that share of itself; with ``both`` the verdict must be
    settled as well, and without ``precision`` it is the verdict alone.
    """

    def __init__(
        self,
        policy: Thresholds,
        precision: float | None = None,
        alpha: float = ALPHA,
        *,
        both: bool = False,
    ) -> None:
        self._policy, self._precision, self.alpha = policy, precision, alpha
        self._rule: Rule = "verdict" if precision is None else "both" if both else "precision"
        self._n, self._n_positions = 0, 0
        self._means, self._squares = np.zeros(4), np.zeros(4)  # squares: of the residuals, summed

    @classmethod
    def of(cls, settings: KVSettings) -> Sureness | None:
        """What ends a measurement with these settings early; None where nothing does."""
        if not settings.stops_early:
            return None
        return cls(settings.policy, settings.precision, both=settings.until_sure)

    def add(self, chunk: Positions) -> None:
        """Take in all positions of the next chunk, by Welford's update: a look costs the same at any time."""
        tails = (chunk.kl > limit for limit in self._policy.kl_p99)
        row = np.array([np.mean(c, dtype=np.float64) for c in (chunk.kl, chunk.flip, *tails)])
        self._n += 1
        self._n_positions += len(chunk)
        with np.errstate(invalid="ignore"):  # +inf less +inf
            before = row - self._means
            means = self._means + before / self._n
            self._means = np.where(np.isinf(row) | np.isinf(self._means), np.inf, means)
            self._squares = self._squares + before * (row - self._means)

    @property
    def n_chunks(self) -> int:
        """Chunks taken in."""
        return self._n

    @property
    def settled(self) -> bool:
        """Whether there is no need to go on."""
        if self._n < LEAST_CHUNKS or (self._rule != "precision" and self.verdict is None):
            return False
        if self._precision is None:
            return True
        found = self.kl_interval
        return found is not None and (found[1] - found[0]) / 2 <= self._precision * float(self._means[KL])

    @property
    def verdict(self) -> Verdict | None:
        """The verdict that is settled, None where two or more are still possible."""
        possible = self.possible
        return possible[0] if len(possible) == 1 else None

    @property
    def possible(self) -> tuple[Verdict, ...]:
        """The verdicts that are not ruled out, best first."""
        if self._n == 0:
            return VERDICTS
        alpha = self.alpha / 4  # whatever the rule: four sequences carry the verdict
        least, most = possible_levels(
            self._n, self._means, self._deviations, self._per_chunk, self._policy, alpha
        )
        return VERDICTS[int(least) : int(most) + 1]

    def confidence(self, verdict: Verdict) -> Confidence | None:
        """How sure a verdict is after all the looking: 1 - α where it is the one that is settled, else None.

        A bootstrap's shares would not do in its place: they do not allow for when one stopped.
        """
        if self._n < LEAST_CHUNKS or self.verdict != verdict:
            return None
        shares: dict[str, Any] = {name: 0.0 for name in VERDICTS} | {verdict: 1 - self.alpha}
        return Confidence(**shares, method="anytime")

    @property
    def kl_interval(self) -> Interval | None:
        """The confidence sequence of mean KL as it stands; None while it has no upper end."""
        if self._n == 0:
            return None
        low, high = kl_bounds(self._n, self._means[KL], self._deviations[KL], self._share)
        return (float(low), float(high)) if high < np.inf else None

    @property
    def flip_interval(self) -> Interval | None:
        """The confidence sequence of the flip rate as it stands; None while it rules nothing out."""
        if self._n == 0:
            return None
        mean, deviation, limit = self._means[FLIPS], self._deviations[FLIPS], self._policy.flip_rate[0]
        low, high = rate_bounds(self._n, mean, deviation, self._share, limit, self._per_chunk)
        return (float(low), float(high)) if low > 0 or high < 1 else None

    def stopping(self) -> Stopping:
        """What the report says of it."""
        return Stopping(
            rule=self._rule,
            precision=self._precision,
            settled=self.settled,
            alpha=self.alpha,
            n_chunks=self.n_chunks,
            method=METHOD,
        )

    @property
    def _deviations(self) -> NDArray[np.float64]:
        """Sample standard deviations of the chunks' means; unknown, and so infinite, with one chunk."""
        if self._n < 2:
            return np.full(4, np.inf)
        return np.where(np.isfinite(self._squares), np.sqrt(self._squares / (self._n - 1)), np.inf)

    @property
    def _per_chunk(self) -> float:
        return self._n_positions / self._n

    @property
    def _share(self) -> float:
        """The α of a reported sequence: one of the verdict's four, or else of the two that are reported."""
        return self.alpha / (2 if self._rule == "precision" else 4)
