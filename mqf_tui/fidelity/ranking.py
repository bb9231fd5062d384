"""Runs of one model in order of mean KL, with ties and the Pareto frontier of KL against bytes.

**Ties.** Runs are sorted by mean KL. The first leads a group; each next one joins the group as long as its
difference from the group's *leader* is within the error (paired where they share positions, else Welch's;
two-sided p ≥ 0.05), and the first one beyond it leads the next group. Being within the error is not
transitive; comparing with the leader alone keeps a chain of small steps from tying the best with the worst.

**Dominance.** See ``comparison_schema.Cost``. Where no error is known the figures alone decide. Each
dominance goes to fewer bytes, or to as many and a lower KL, so that there are no cycles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity import choosing
from mqf_tui.fidelity.choosing import Limits
from mqf_tui.fidelity.comparison import (
    FEW_CHUNKS,
    Figure,
    ended_early,
    figures,
    more_bits_worse,
    paired_difference,
    side,
    welch,
)
from mqf_tui.fidelity.costs import KVBytesOf, kv_basis, kv_bytes, weight_bytes
from mqf_tui.fidelity.intervals import Clusters
from mqf_tui.fidelity.pairing import (
    Subject,
    UnpairedError,
    check_reference,
    check_streams,
    differences,
    doubts,
    keys,
    shared_places,
)
from mqf_tui.fidelity.rejudging import Judged, judged_alike
from mqf_tui.fidelity.rejudging import limits as limits_of
from mqf_tui.reports.comparison_schema import Cost, Difference, Domination, LeftOut, Ranking, Row
from mqf_tui.reports.schema import VERDICTS, Report, Thresholds
from mqf_tui.reports.text import inert


@dataclass(frozen=True)
class _Sample:
    """What ranking needs of a run's positions, all (n,): 16 bytes a position."""

    chunk: NDArray[np.int32]
    depth: NDArray[np.int32]
    token: NDArray[np.int32]
    kl: NDArray[np.float32]


class _Field:
    """The runs to rank, and the difference of mean KL of any two of them."""

    def __init__(self, subjects: Sequence[Subject]) -> None:
        self.subjects = list(subjects)
        self.reports = [subject.report for subject in subjects]
        self.unpaired: set[str] = set()
        self.fewest: int | None = None  # shared chunks
        self.group: dict[int, int] = {}  # of ranks, by run
        self._samples: list[_Sample | None] = []
        self._figures: list[Figure] = []
        self._found: dict[tuple[int, int], Difference] = {}
        for subject in subjects:
            p = subject.load()
            self._samples.append(None if p is None else _Sample(p.chunk, p.depth, p.token, p.kl))
            self._figures.append(figures(subject.report, p)["kl"])

    def __len__(self) -> int:
        return len(self.subjects)

    def difference(self, first: int, second: int) -> Difference:
        """Mean KL of the second less that of the first."""
        if first > second:
            d = self.difference(second, first)
            turned = None if d.ci is None else (-d.ci[1], -d.ci[0])
            return Difference(first=d.second, second=d.first, value=-d.value, ci=turned, p=d.p)
        if (first, second) not in self._found:
            try:
                found = self._paired(first, second)
            except UnpairedError as why:
                self.unpaired.add(str(why))
                found = welch(self._figures[first], self._figures[second])
            self._found[first, second] = found
        return self._found[first, second]

    def _paired(self, first: int, second: int) -> Difference:
        check_streams(self.reports[first], self.reports[second])
        a, b = self._samples[first], self._samples[second]
        if a is None or b is None:
            raise UnpairedError("an imported run has no positions")
        places = shared_places(a, b)
        clusters = Clusters.of(a.chunk[places.first])
        self.fewest = min(self.fewest or clusters.n_clusters, clusters.n_clusters)
        return paired_difference(a.kl[places.first], b.kl[places.second], clusters)

    def order(self) -> tuple[list[int], int | None]:
        """The runs by mean KL over what all of them share, and how many positions that is where it is less
        than what some of them have; by what the reports say where they share nothing."""
        means = [figure.value for figure in self._figures]
        samples = [sample for sample in self._samples if sample is not None]
        common = None
        if len(samples) == len(self) > 1 and self._pairable(samples):
            places = [keys(sample) for sample in samples]
            shared: NDArray[Any] = reduce(np.intersect1d, places)
            if len(shared) and any(len(place) != len(shared) for place in places):
                common = len(shared)
                chosen = [s.kl[np.isin(k, shared)] for s, k in zip(samples, places, strict=True)]
                means = [float(np.mean(kl, dtype=np.float64)) for kl in chosen]
        return sorted(range(len(self)), key=lambda i: (means[i], self.subjects[i].run)), common

    def _pairable(self, samples: Sequence[_Sample]) -> bool:
        try:
            for report, sample in zip(self.reports[1:], samples[1:], strict=True):
                check_streams(self.reports[0], report)
                shared_places(samples[0], sample)
        except UnpairedError:
            return False
        return True


def tied(d: Difference) -> bool:
    """Whether the difference is within the error, or none at all."""
    return d.value == 0 if d.p is None else not d.beyond_error


def rank(
    subjects: Sequence[Subject],
    limits: Limits | None = None,
    left_out: Sequence[LeftOut] = (),
    *,
    group: str | None = None,
    own: Thresholds | None = None,
) -> Ranking:
    """Rank runs (one or more) of one model that fit ``limits``.

    ``left_out``: what was not even tried; ``group``: which runs these are, in words; ``own``: the user's
    thresholds, for runs that were judged by different ones (``judged_alike``).
    Raises BadSettingError where the reference models differ, SaveError where positions are damaged.
    """
    limits = limits or Limits()
    for other in subjects[1:]:
        check_reference(subjects[0].report, other.report)
    judged = judged_alike([subject.report for subject in subjects], own)
    subjects = [replace(s, report=r) for s, r in zip(subjects, judged.reports, strict=True)]
    basis = kv_basis(judged.reports)
    bytes_of = kv_bytes(basis)
    kept, filtered = choosing.fitting(subjects, limits, bytes_of)
    field = _Field(kept)
    order, common = field.order()
    rows = _rows(field, order, bytes_of)
    thresholds = {limits_of(report.thresholds) for report in judged.reports}
    found = choosing.decide(rows, {s.run: s.report for s in kept}, limits, len(subjects))
    return Ranking(
        model=subjects[0].report.model,
        group=group,
        kv_basis=basis,
        rows=rows,
        left_out=[*left_out, *filtered],
        thresholds=judged.reports[0].thresholds if len(thresholds) == 1 else None,
        warnings=[*_warnings(field, order, common), *_judging(judged)],
        **found,
    )


def _rows(field: _Field, order: Sequence[int], bytes_of: KVBytesOf) -> list[Row]:
    kv = [bytes_of(report) for report in field.reports]
    weights = [weight_bytes(report) for report in field.reports]
    rows: list[Row] = []
    groups = list(_groups(field, order))
    field.group = {i: place for place, (members, _) in enumerate(groups) for i in members}
    for members, errors in groups:
        for i, known in zip(members, errors, strict=True):
            first = len(rows) - members.index(i) + 1
            rows.append(
                Row(
                    side=side(field.subjects[i], bytes_of),
                    rank_first=first,
                    rank_last=first + len(members) - 1,
                    error_known=known,
                    kv=_cost(field, kv, i),
                    weights=_cost(field, weights, i),
                    near=choosing.is_near(field.reports[i]),
                )
            )
    return rows


def _groups(field: _Field, order: Sequence[int]) -> Iterator[tuple[list[int], list[bool]]]:
    """Each group of ties, best first, and of each member whether an error is known."""
    group: list[int] = []
    known: list[bool] = []
    for i in order:
        # The first one's rank stands on its difference from the second.
        other = group[0] if group else next((j for j in order if j != i), None)
        d = field.difference(other, i) if other is not None else None
        if group and d is not None and not (tied(d) or d.value < 0):
            yield group, known
            group, known = [], []
        tested = d is None or d.p is not None or d.value == 0
        group, known = [*group, i], [*known, tested]
    if group:
        yield group, known


def _cost(field: _Field, costs: Sequence[tuple[float, float | None] | None], i: int) -> Cost | None:
    here = costs[i]
    if here is None:
        return None
    found = [j for j in range(len(field)) if j != i and _dominates(field, costs, j, i)]
    if not found:
        return Cost(bytes=here[0], reference=here[1])

    def rank_of(j: int) -> tuple[bool, float, float]:
        other = costs[j]
        assert other is not None
        beaten = any(_dominates(field, costs, k, j) for k in range(len(field)) if k != j)
        return beaten, other[0], field.reports[j].kl.mean

    best = min(found, key=rank_of)
    by = Domination(
        run=field.subjects[best].run,
        setting=field.reports[best].setting,
        tie=tied(field.difference(i, best)),
    )
    return Cost(bytes=here[0], reference=here[1], dominated_by=by)


def _dominates(
    field: _Field, costs: Sequence[tuple[float, float | None] | None], first: int, second: int
) -> bool:
    a, b = costs[first], costs[second]
    levels = [VERDICTS.index(report.verdict) for report in field.reports]
    if a is None or b is None or a[0] > b[0]:
        return False
    d = field.difference(second, first)
    if a[0] == b[0]:
        return d.value < 0 and d.beyond_error
    # With few chunks nearly everything is within the error; that must not let a bad setting beat a good one.
    no_worse = levels[first] <= levels[second]
    return d.value <= 0 or (tied(d) and no_worse and field.group[first] <= field.group[second])


def _judging(judged: Judged) -> Iterator[str]:
    for policy in judged.policies:
        yield (
            f"the runs were judged by different thresholds; all are judged by {inert(policy.policy)} here, "
            "and for those that had others nothing is said of how sure that is"
        )
    if not judged.policies and len({report.kind for report in judged.reports}) > 1:
        yield "KV caches and weights are judged by different thresholds"


def _warnings(field: _Field, order: Sequence[int], common: int | None) -> Iterator[str]:
    reports: list[Report] = [field.reports[i] for i in order]
    pairs = [(i, j) for k, i in enumerate(order) for j in order[k + 1 :]]
    for i, j in pairs:
        yield from more_bits_worse(field.reports[i], field.reports[j], field.difference(i, j))
    if any(field.difference(i, j).p is None and field.difference(i, j).value for i, j in pairs):
        yield "of some of these no error is known, so their ranks are only the order of the figures"
    if common is not None:
        yield f"the runs scored different positions; they are ordered by the {common:,} that all of them have"
    if len(reports) > 1 and any(map(ended_early, reports)):
        yield (
            "some of these stopped early, when what they measured was sure; the intervals and p values of "
            "differences, and so ties and ranks, take the number of chunks as fixed beforehand"
        )
    for why in sorted(field.unpaired):
        yield f"some of these are compared unpaired: {why}"
    if field.fewest is not None and field.fewest < FEW_CHUNKS:
        yield f"only {field.fewest} shared chunk{'s' * (field.fewest > 1)}: what is a tie is rough"
    yield from doubts(reports, not field.unpaired)
    if others := sorted({what.split(":")[0] for r in reports[1:] for what in differences(reports[0], r)}):
        yield f"more than the setting differs between the runs: {', '.join(others)}; compare like with like"
