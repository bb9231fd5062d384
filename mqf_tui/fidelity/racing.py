"""A race of settings: those that are surely bad or surely worse leave, and so does what is decided.

X leaves as **surely bad** when the sequences of its own mean KL, flips or tail allow no better verdict. It
leaves as **surely worse** than Y, which takes no more memory, when its mean KL is surely higher and none of
the three numbers of the verdict can be on a better level than Y's (flips also count as no better where they
are surely more): then X is dominated, and a choice of the cheapest setting of some verdict cannot fall on it.
A dearer setting does not leave because a cheaper one is surely good: how much better it is remains worth
knowing. X leaves as **settled** when its verdict is, and so is whether its mean KL is higher or lower than
that of its neighbours in memory. What remains of the text goes to the others.

X and Y are compared chunk by chunk: what makes a chunk hard is hard for both, so that the differences vary
far less than the means. Their sequence is that of ``sequences``, x̄ - ȳ ± h, with two guards. Chunk means are
skewed, so that where X only seems worse, chunks that are rare and hard for Y have not come yet: what is Y's
of h, at most g = s_Y h / s, counts on a log scale, and x̄ - ȳ must be above h + ȳ (exp(g / ȳ) - 1 - g / ȳ),
which is never less than h. And the deviation of a difference of flips is at least that of independent
positions at the limit of the flip rate.

**Guarantee.** With probability 1 - α *nothing* that leaves is not bad, not worse, or of another verdict or
order than was settled: not with α for each setting but for all of them together, whenever one looks and
however long each stays. Each of the N settings gets α/(2 N), split as in ``Split.of_verdict``, more than
usual to what shows that it is bad. Its proof also covers the levels of "no better": where X's verdict is
better than Y's after all, either the upper bound of the one number that makes Y's verdict has failed, or a
lower bound of X at the limit of X's verdict. Of the other α/2 each setting but the cheapest has the same
share, divided among its comparisons with those that take no more, by 1/k with the k-th nearest in memory
(which does most of the dropping), half for KL and half for flips; a comparison is two-sided. All that is
fixed before the first chunk. It supposes what the sequences suppose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.sequences import FLIPS, KL, Moments, Split, chunk_means, component_levels, half_width
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.fidelity.stopping import ALPHA, LEAST_CHUNKS
from mqf_tui.reports.schema import VERDICTS
from mqf_tui.reports.text import kv_format_words

if TYPE_CHECKING:
    from mqf_tui.fidelity.events import Plan

BAD = "surely bad"
SETTLED = "settled"
COMPARED = [KL, FLIPS]


class Race:
    """Adds up whole chunks of several settings and says which of them should leave.

    ``kv_bytes``: what each takes, in any unit that they share. Only settings with the same kernel are
    compared: of a quantizer that is measured in two ways, one is not an alternative to the other.
    """

    def __init__(
        self, settings: Sequence[KVSettings], kv_bytes: Sequence[float], alpha: float = ALPHA
    ) -> None:
        self._settings, self._policy = tuple(settings), settings[0].policy
        self._bytes = np.asarray(kv_bytes, np.float64)
        self.alpha = alpha
        n = len(self._settings)
        self._split = Split.of_verdict(alpha / (2 * n), bad=1 / 4)
        self._shares = shares([one.kernel for one in settings], self._bytes, alpha / 2)
        self._own, self._pairs = Moments((n, 4)), Moments((n, n, len(COMPARED)))
        self._n_positions = np.zeros(n, np.int64)
        self._in = np.zeros(n, np.bool_)
        self._settled = set[int]()

    @classmethod
    def of(cls, plans: Sequence[Plan]) -> Race:
        """A race of what is planned, over the bytes by which the report ranks: those of a 16-bit cache.

        As run on a CPU device the scales of groups take twice as much, and the order may be another.
        """
        known = [plan.kv_bytes for plan in plans]
        cost = [b.variant_16bit for b in known if b.variant_16bit is not None]
        if len(cost) < len(known):
            cost = [b.variant for b in known]
        return cls([plan.settings for plan in plans], cost)

    def add(self, chunk: Mapping[int, Positions]) -> None:
        """Take in a whole chunk of each setting that is still in, by its index."""
        means = {i: chunk_means(positions, self._policy) for i, positions in chunk.items()}
        self.add_means(means, {i: len(positions) for i, positions in chunk.items()})

    def add_means(self, means: Mapping[int, NDArray[np.float64]], n_positions: Mapping[int, int]) -> None:
        """The same from a chunk's four means (4,) of each setting (``sequences.chunk_means``)."""
        rows, self._in = np.zeros((len(self._settings), 4)), np.zeros(len(self._settings), np.bool_)
        for i, row in means.items():
            rows[i], self._in[i] = row, True
            self._n_positions[i] += n_positions[i]
        self._own.add(rows, self._in[:, None])
        both = self._in[:, None] & self._in[None, :]
        compared = rows[:, COMPARED]
        with np.errstate(invalid="ignore"):  # +inf less +inf
            self._pairs.add(compared[:, None] - compared[None, :], both[..., None])

    def out(self) -> Mapping[int, str]:
        """Those of the last chunk that should leave now, and why."""
        if not self._in.any() or self._own.n[self._in].min() < LEAST_CHUNKS:
            return {}
        least, most = self._levels()
        worse = self._higher[..., KL] & self._no_better(least, most) & self._takes_no_less
        present = [int(i) for i in np.flatnonzero(self._in)]
        leaving = {i: why for i in present if (why := self._why(i, least, worse[i]))}
        decided = self._decided([i for i in present if i not in leaving], least, most)
        self._settled = (self._settled - set(present)) | set(decided)
        return leaving | dict.fromkeys(decided, SETTLED)

    def _levels(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The best and worst level that each setting's mean KL, flips and p99 may have (N, 3)."""
        n = np.maximum(self._own.n[:, KL], 1)
        means, deviations = self._own.means, self._own.deviations
        per_chunk = np.maximum(self._n_positions, 1) / n
        return component_levels(n, means, deviations, per_chunk, self._policy, self._split)

    @property
    def _takes_no_less(self) -> NDArray[np.bool_]:
        """Where a setting (row) takes no less memory than another (column)."""
        return self._bytes[:, None] >= self._bytes[None, :]

    @property
    def _higher(self) -> NDArray[np.bool_]:
        """Where mean KL and flips of a setting (row) are surely higher than another's (column) (N, N, 2)."""
        n, difference = self._pairs.n, self._pairs.means
        per_chunk = np.maximum(self._n_positions, 1) / np.maximum(self._own.n[:, KL], 1)
        rate = np.maximum(self._policy.flip_rate[0], 1 / per_chunk)
        floor = np.stack([np.zeros_like(rate), np.sqrt(rate * (1 - rate) / per_chunk)], axis=-1)
        deviation = np.maximum(self._pairs.deviations, floor[:, None])
        share = self._shares[..., None] / len(COMPARED)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            half = half_width(np.maximum(n, 1), deviation, np.where(share > 0, share, 0.5))
            other, own = self._own.means[None, :, KL], self._own.deviations[None, :, KL]
            of_other = half[..., 0] * np.minimum(own / deviation[..., 0], 1.0) / other
            half[..., 0] += other * (np.expm1(of_other) - of_other)
            return (difference > half) & (share > 0) & np.isfinite(difference)

    def _no_better(self, least: NDArray[np.int64], most: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Where no number of a setting (row) can be on a better level than another's (column)."""
        found = least[:, None] >= most[None, :]
        found[..., FLIPS] |= self._higher[..., FLIPS]
        return np.logical_and.reduce(found, axis=-1)

    def _why(self, i: int, least: NDArray[np.int64], worse: NDArray[np.bool_]) -> str:
        """Why a setting should leave; empty where it should not. ``worse`` (N,): than which ones it is."""
        if least[i].max() == len(VERDICTS) - 1:
            return BAD
        than = np.flatnonzero(worse)
        if not len(than):
            return ""
        best = int(min(than, key=lambda j: self._own.means[j, KL]))
        return f"surely worse than {words(self._settings[best])}, which takes no more memory"

    def _decided(self, left: Sequence[int], least: NDArray[np.int64], most: NDArray[np.int64]) -> list[int]:
        """Those of which there is nothing to be learnt any more."""
        higher = self._higher[..., KL]
        known = {i for i in left if least[i].max() == most[i].max()}
        for i, j in self._neighbours([*left, *self._settled.difference(left)]):
            if not (higher[i, j] or higher[j, i]):
                known -= {i, j}
        return sorted(known)

    def _neighbours(self, left: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Pairs that are next to each other in memory, of those that can be compared."""
        for kernel in {self._settings[i].kernel for i in left}:
            alike = [i for i in left if self._settings[i].kernel == kernel]
            alike.sort(key=lambda i: (self._bytes[i], i))
            yield from pairwise(alike)


def shares(kernels: Sequence[str], kv_bytes: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """How much of ``alpha`` each comparison gets, symmetric (N, N); 0 where there is none: see the module."""
    found = np.zeros((len(kernels), len(kernels)))
    order = np.argsort(kv_bytes, kind="stable")
    for place, i in enumerate(order):
        nearest = [j for j in order[:place][::-1] if kernels[j] == kernels[i]]
        for k, j in enumerate(nearest, 1):
            found[i, j] = found[j, i] = 1 / k / sum(1 / m for m in range(1, len(nearest) + 1))
    twice = found.sum()  # a comparison is there from both sides
    return found * (2 * alpha / twice) if twice else found


def words(settings: KVSettings) -> str:
    """A setting among others, in words: ``6-bit, group 64``, ``8-bit keys, 4-bit values, group 64``."""
    if settings.recipe is not None:
        return f"the recipe {settings.recipe.sets}"
    found = kv_format_words(settings.quantizers.word).replace(" KV cache", "")
    return found + (f", layers {settings.layers}" if settings.layers else "")
