"""Stop when sure: the verdict by confidence sequences over chunk means (see ``sequences``).

The verdict needs four means: KL, flips, and the rates at which KL passes each p99 limit (p99 is above a
limit where more than 1 % of the positions are). ``sequences.Split`` says how they share α. The intervals of
mean KL and flips that are reported get α/2 each: the verdict holds with probability 1 - α, and so do the two
intervals together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mqf_tui.fidelity.intervals import Interval
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.sequences import (
    FLIPS,
    KL,
    Moments,
    Split,
    chunk_means,
    component_levels,
    kl_bounds,
    rate_bounds,
)
from mqf_tui.reports.schema import VERDICTS, Confidence, Stopping, Thresholds, Verdict

if TYPE_CHECKING:
    from mqf_tui.fidelity.settings import KVSettings

Rule = Literal["verdict", "precision", "both", "race"]
ALPHA = 0.05
LEAST_CHUNKS = 4
METHOD = (
    "Gaussian-mixture t confidence sequences over chunk means (arXiv:2310.03722), that of mean KL with its "
    "upper bound on a log scale; alpha for the verdict, alpha for both intervals together"
)


class Sureness:
    """Adds up whole chunks and says whether the verdict, the mean KL, or both are settled.

    ``precision``: mean KL must be known to within that share of itself; with ``both`` the verdict must be
    settled as well, and without ``precision`` it is the verdict alone. ``race``: nothing of that was asked
    for, but a race looks at it and ends it.
    """

    def __init__(
        self,
        policy: Thresholds,
        precision: float | None = None,
        alpha: float = ALPHA,
        *,
        both: bool = False,
        race: bool = False,
    ) -> None:
        self._policy, self._precision, self.alpha = policy, precision, alpha
        alone: Rule = "race" if race else "verdict"
        self._rule: Rule = alone if precision is None else "both" if both else "precision"
        self._n, self._n_positions = 0, 0
        self._moments = Moments((4,))

    @classmethod
    def of(cls, settings: KVSettings, *, race: bool = False) -> Sureness | None:
        """What ends a measurement with these settings early, maybe in a race; None where nothing does."""
        if not settings.stops_early:
            return cls(settings.policy, race=True) if race else None
        return cls(settings.policy, settings.precision, both=settings.until_sure)

    def add(self, chunk: Positions) -> None:
        """Take in all positions of the next chunk; a look costs the same at any time."""
        self._moments.add(chunk_means(chunk, self._policy))
        self._n += 1
        self._n_positions += len(chunk)

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
        mean = float(self._moments.means[KL])
        return found is not None and (found[1] - found[0]) / 2 <= self._precision * mean

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
        split = Split.of_verdict(self.alpha)
        least, most = component_levels(
            self._n, self._moments.means, self._moments.deviations, self._per_chunk, self._policy, split
        )
        return VERDICTS[int(least.max()) : int(most.max()) + 1]

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
        low, high = kl_bounds(self._n, self._moments.means[KL], self._moments.deviations[KL], self._share)
        return (float(low), float(high)) if high < np.inf else None

    @property
    def flip_interval(self) -> Interval | None:
        """The confidence sequence of the flip rate as it stands; None while it rules nothing out."""
        if self._n == 0:
            return None
        found, limit = self._moments, self._policy.flip_rate[0]
        mean, deviation = found.means[FLIPS], found.deviations[FLIPS]
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
    def _per_chunk(self) -> float:
        return self._n_positions / self._n

    @property
    def _share(self) -> float:
        """The α of each of the two intervals that are reported."""
        return self.alpha / 2
