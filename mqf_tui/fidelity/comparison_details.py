"""More of the difference of two runs over shared positions: percentiles, confident flips, the widest gap.

A percentile's difference gets its interval from the cluster bootstrap: both runs' percentiles are taken over
the same redrawn chunks, so that what is common to both cancels out, as in a paired difference of means. There
is no p value of it; it is beyond the error where its 95 % interval does not hold 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.bootstrap import ClusterBootstrap, bootstrap_interval
from mqf_tui.fidelity.comparison import paired_difference
from mqf_tui.fidelity.intervals import Clusters, holding, percentile
from mqf_tui.fidelity.pairing import shared_places
from mqf_tui.fidelity.positions import Positions
from mqf_tui.reports.comparison_schema import Difference

PERCENTILES = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
CONFIDENT = 0.5  # of the reference's top-1: as the report's confident flips


class Gap(NamedTuple):
    """Where two runs differ most: indices into both runs' positions, and the second's KL less the first's."""

    first: int
    second: int
    value: float


def details(a: Positions, b: Positions) -> dict[str, Difference]:
    """Differences that ``Pair`` lacks, of shared positions (n,) in the same order: those of PERCENTILES, and
    ``confident`` (flips) and ``top5`` (agreement) where both runs kept what they need."""
    clusters = Clusters.of(a.chunk)
    found = dict(_percentiles(a.kl, b.kl, clusters))
    if a.detailed and b.detailed:
        one, two = (p.flip & (p.prob_ref >= CONFIDENT) for p in (a, b))
        found["confident"] = paired_difference(one, two, clusters)
        found["top5"] = paired_difference(a.in_top5, b.in_top5, clusters)
    return found


def beyond_error(d: Difference) -> bool | None:
    """Whether chance alone would seldom give it; None where no error is known."""
    if d.p is not None:
        return d.beyond_error
    return None if d.ci is None else not d.ci[0] <= 0 <= d.ci[1]


def widest_gap(a: Positions, b: Positions) -> Gap | None:
    """The shared position with the largest difference of KL; None where they differ nowhere.

    Raises UnpairedError where they share no position.
    """
    places = shared_places(a, b)
    gaps = _less(b.kl[places.second].astype(np.float64), a.kl[places.first].astype(np.float64))
    at = int(np.argmax(np.abs(gaps)))
    if gaps[at] == 0:
        return None
    return Gap(int(places.first[at]), int(places.second[at]), float(gaps[at]))


def _percentiles(
    first: NDArray[np.float32], second: NDArray[np.float32], clusters: Clusters
) -> Iterator[tuple[str, Difference]]:
    shares = list(PERCENTILES.values())
    moved: NDArray[np.float64] | None = None
    degrees = np.inf
    if clusters.n_clusters > 1:
        draws = ClusterBootstrap(clusters)
        moved = _less(draws.percentiles(second, shares), draws.percentiles(first, shares))
        degrees = draws.degrees
    for place, (name, share) in enumerate(PERCENTILES.items()):
        x, y = percentile(first, share), percentile(second, share)
        value = 0.0 if x == y else y - x
        known = moved is not None and np.isfinite(value)
        ci = (
            holding(bootstrap_interval(moved[:, place], degrees), value)
            if known and moved is not None
            else None
        )
        yield name, Difference(first=x, second=y, value=value, ci=ci)


def _less(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """``one`` less ``other``; where both are infinite they do not differ."""
    return np.subtract(one, other, where=one != other, out=np.zeros_like(one))
