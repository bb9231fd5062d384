"""What the flips are like: confident, near ties, for or against the text's own token."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.intervals import Clusters, change_interval, rate_interval
from mqf_tui.fidelity.positions import Positions
from mqf_tui.reports.schema import Estimate, Flips

CONFIDENT = 0.5  # the least probability of the reference's top-1
NEAR_TIE = 0.05  # the margin between top 1 and top 2 is under this


def flips_summary(positions: Positions, clusters: Clusters) -> Flips:
    """The flips of at least one position (``positions.detailed``)."""
    flip = positions.flip
    right_ref, right_quant = positions.top1_ref == positions.token, positions.top1_quant == positions.token
    lost, gained = right_ref & ~right_quant, right_quant & ~right_ref
    n_lost, n_gained = int(lost.sum()), int(gained.sum())
    of_chunks = clusters.sums(gained), clusters.sums(lost), clusters.counts
    return Flips(
        confident=_rate(flip & (positions.prob_ref >= CONFIDENT), clusters),
        near_tie=_rate(flip & (positions.margin.astype(np.float64) < NEAR_TIE), clusters),
        lost=n_lost,
        gained=n_gained,
        changed=int((flip & ~right_ref & ~right_quant).sum()),
        accuracy_change=Estimate(value=(n_gained - n_lost) / len(flip), ci=change_interval(*of_chunks)),
        mcnemar_p=mcnemar(n_lost, n_gained),
        top5_agreement=_rate(positions.in_top5, clusters),
        longest_run=longest_run(positions),
    )


def mcnemar(first: int, second: int) -> float:
    """McNemar's exact two-sided p value: were both kinds of discordant position equally likely?

    The binomial test of ``first`` successes in ``first + second`` tries at 1/2; 1 where there are none.
    """
    from scipy.special import bdtr

    n, least = first + second, min(first, second)
    return min(1.0, float(2 * bdtr(least, n, 0.5))) if n else 1.0


def longest_run(positions: Positions) -> int:
    """The most flips at consecutive depths of one chunk."""
    order = np.lexsort((positions.depth, positions.chunk))
    where = order[positions.flip[order]]
    if len(where) == 0:
        return 0
    chunk, depth = positions.chunk[where], positions.depth[where]
    breaks = (np.diff(chunk) != 0) | (np.diff(depth) != 1)
    ends = np.concatenate([[0], np.flatnonzero(breaks) + 1, [len(where)]])
    return int(np.diff(ends).max())


def _rate(hits: NDArray[Any], clusters: Clusters) -> Estimate:
    return Estimate(value=float(hits.mean()), ci=rate_interval(clusters.sums(hits), clusters.counts))
