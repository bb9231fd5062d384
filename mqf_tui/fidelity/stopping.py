"""Stop when sure: confidence sequences over chunk means, valid however often one looks.

The sequence for one mean is the Gaussian-mixture t confidence sequence of Wang & Ramdas 2023 ("Anytime-
valid t-tests and confidence sequences for Gaussian means with unknown variance", arXiv:2310.03722): with
V = Σ (x_i - μ)² and S = Σ (x_i - μ) over n chunk means,

    sqrt(c² / (n + c²)) · ((n + c²) V / ((n + c²) V - S²))^(n/2)

is a non-negative martingale under the true μ, so by Ville's inequality it stays below 1/α at all n together
with probability 1 - α; the sequence is the μ for which it does. It assumes Gaussian chunk means of one
distribution. Chunk means of real runs are skewed, so the error is shown by simulation (docs/statistics.md).

The verdict needs four means: KL, flips, and the rates at which KL passes each p99 limit (p99 is above a
limit where more than 1 % of the positions are). Each gets α/4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.intervals import Interval, within
from mqf_tui.fidelity.positions import Positions
from mqf_tui.reports.schema import VERDICTS, Stopping, Thresholds, Verdict

ALPHA = 0.05
PRIOR = 0.1  # c²: chunk means are expected to lie about 1/c = 3 standard deviations from a limit
LEAST_CHUNKS = 4
TAIL = 0.01  # beyond p99
METHOD = "Gaussian-mixture t confidence sequences over chunk means (arXiv:2310.03722)"


def half_width(n: int, deviation: float, alpha: float) -> float:
    """Half the width of the sequence after n values of the given sample standard deviation."""
    if n < 2:
        return float("inf")
    u = -np.expm1(-2 / n * (0.5 * np.log((n + PRIOR) / PRIOR) - np.log(alpha)))
    room = n - u * (n + PRIOR)
    return float(deviation * np.sqrt(u * (n + PRIOR) * (n - 1) / (n * room))) if room > 0 else float("inf")


class Sureness:
    """Adds up whole chunks and says whether the verdict, or the mean KL, is settled."""

    def __init__(self, policy: Thresholds, precision: float | None = None, alpha: float = ALPHA) -> None:
        self._policy, self._precision, self.alpha = policy, precision, alpha
        self._rows: list[tuple[float, ...]] = []  # KL, flips, past each p99 limit: means of a chunk
        self._n_positions: list[int] = []

    def add(self, chunk: Positions) -> None:
        """Take in all positions of the next chunk."""
        tails = (chunk.kl > limit for limit in self._policy.kl_p99)
        columns = (chunk.kl, chunk.flip, *tails)
        self._rows.append(tuple(float(np.mean(c, dtype=np.float64)) for c in columns))
        self._n_positions.append(len(chunk))

    @property
    def n_chunks(self) -> int:
        """Chunks taken in."""
        return len(self._rows)

    @property
    def settled(self) -> bool:
        """Whether there is no need to go on."""
        if self.n_chunks < LEAST_CHUNKS:
            return False
        if self._precision is None:
            return self.verdict is not None
        low, high = self.kl_interval
        return (high - low) / 2 <= self._precision * self._means[0]

    @property
    def verdict(self) -> Verdict | None:
        """The verdict that is settled, None where two or more are still possible."""
        possible = self.possible
        return possible[0] if len(possible) == 1 else None

    @property
    def possible(self) -> tuple[Verdict, ...]:
        """The verdicts that are not ruled out, best first."""
        least, most = zip(*(self._levels(*row) for row in self._limits()), strict=True)
        return VERDICTS[max(least) : max(most) + 1]

    @property
    def kl_interval(self) -> Interval:
        """The confidence sequence of mean KL as it stands."""
        return self._interval(0, 0.0, np.inf)

    @property
    def flip_interval(self) -> Interval:
        """The confidence sequence of the flip rate as it stands."""
        return self._interval(1, 0.0, 1.0, self._policy.flip_rate[0])

    def stopping(self) -> Stopping:
        """What the report says of it."""
        return Stopping(
            rule="verdict" if self._precision is None else "precision",
            precision=self._precision,
            settled=self.settled,
            alpha=self.alpha,
            n_chunks=self.n_chunks,
            method=METHOD,
        )

    @property
    def _means(self) -> NDArray[np.float64]:
        return np.mean(self._rows, axis=0)

    def _limits(self) -> list[tuple[tuple[int, float], ...]]:
        """For each number of the verdict: the mean (a column) and the limit of good, and of marginal."""
        p = self._policy
        return [
            ((0, p.kl_mean[0]), (0, p.kl_mean[1])),
            ((1, p.flip_rate[0]), (1, p.flip_rate[1])),
            ((2, TAIL), (3, TAIL)),
        ]

    def _levels(self, *limits: tuple[int, float]) -> tuple[int, int]:
        """The best and the worst level that one number may still have."""
        bounds = [(self._interval(c, 0.0, np.inf, limit if c else None), limit) for c, limit in limits]
        least = sum(low > limit for (low, _), limit in bounds)
        most = sum(high > limit for (_, high), limit in bounds)
        return least, most

    def _interval(self, column: int, low: float, high: float, limit: float | None = None) -> Interval:
        """``limit``: a rate's limit; chunks that happen to agree must not look surer than chance allows."""
        values = np.array([row[column] for row in self._rows])
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else np.inf
        if limit is not None:
            deviation = max(deviation, float(np.sqrt(limit * (1 - limit) / np.mean(self._n_positions))))
        alpha = self.alpha / 4 if self._precision is None else self.alpha / 2
        middle, half = float(values.mean()), half_width(len(values), deviation, alpha)
        found = within((middle - half, middle + half), low, high)
        assert found is not None
        return found
