"""The difference of two runs: position by position where they share positions, else Welch's.

Paired: d_i = second less first at each shared position; its mean, and an interval and p value clustered by
chunk (``fidelity/intervals.py``; Student's t with G - 1 degrees of freedom). Unpaired: the difference of two
means with standard errors s₁, s₂ and degrees of freedom ν₁, ν₂ has the standard error √(s₁² + s₂²) and, by
Welch and Satterthwaite, (s₁² + s₂²)² / (s₁⁴/ν₁ + s₂⁴/ν₂) degrees of freedom (Welch 1947).
docs/statistics.md defines each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.costs import KVBytesOf, kv_basis, kv_bytes
from mqf_tui.fidelity.events import SKIPPED
from mqf_tui.fidelity.flips import mcnemar
from mqf_tui.fidelity.intervals import (
    LEVEL,
    Clusters,
    Interval,
    change_interval,
    interval_of_sums,
    normal_quantile,
    p_value,
    rate_interval,
    standard_error,
    student_t,
)
from mqf_tui.fidelity.pairing import (
    Subject,
    UnpairedError,
    check_reference,
    check_streams,
    differences,
    doubts,
    shared_places,
)
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.quantizers import LayerQuantizers, Quantizer
from mqf_tui.fidelity.rejudging import limits
from mqf_tui.fidelity.statistics import correlation
from mqf_tui.fidelity.sweep_grid import quantized_spans, quantizers_of
from mqf_tui.reports.comparison_schema import Comparison, Difference, OneSidedFlips, Pair, Side
from mqf_tui.reports.schema import Estimate, Report
from mqf_tui.reports.text import inert, unsettled

FEW_CHUNKS = 5
TAIL = 0.5 + LEVEL / 2


@dataclass(frozen=True)
class Figure:
    """A mean with its standard error (None: not known) and degrees of freedom (inf: normal)."""

    value: float
    error: float | None = None
    degrees: float = float("inf")


def compare(subjects: Sequence[Subject]) -> Comparison:
    """Each of the subjects (two or more) against the first.

    Raises BadSettingError where their reference models differ, SaveError where positions are damaged.
    """
    first, *others = subjects
    for other in others:
        check_reference(first.report, other.report)
    positions = first.load()
    basis = kv_basis(subject.report for subject in subjects)
    bytes_of = kv_bytes(basis)
    return Comparison(
        kv_basis=basis,
        baseline=side(first, bytes_of),
        pairs=[_pair(first, positions, other, other.load(), bytes_of) for other in others],
    )


def side(subject: Subject, bytes_of: KVBytesOf) -> Side:
    """One run as a comparison and a ranking show it."""
    r = subject.report
    settled = not unsettled(r) if r.stopping else None
    cost = bytes_of(r)
    return Side(
        run=subject.run,
        model=r.model,
        setting=r.setting,
        short_setting=r.short_setting,
        created=r.created,
        imported=r.origin is not None,
        partial=r.partial,
        n_positions=r.n_positions,
        n_chunks=r.n_chunks,
        kl_mean=r.kl.mean,
        kl_ci=_bounds(r.kl.ci_low, r.kl.ci_high),
        flip_rate=r.flip_rate,
        flip_ci=_bounds(r.flip_ci_low, r.flip_ci_high),
        verdict=r.verdict,
        # Reports of older versions have one although their rule did not settle.
        sure=r.confidence.of(r.verdict) if r.confidence and settled is not False else None,
        settled=settled,
        dropped=r.dropped,
        kv_bytes=cost[0] if cost else None,
        kv_reference=cost[1] if cost else None,
    )


def _pair(
    first: Subject, a: Positions | None, second: Subject, b: Positions | None, bytes_of: KVBytesOf
) -> Pair:
    x, y = first.report, second.report
    known = {"other": side(second, bytes_of), "differs": list(differences(x, y)), "warnings": []}
    try:
        check_streams(x, y)
        pair = Pair(**known, **_paired(*shared(first, a, second, b)))
    except UnpairedError as why:
        pair = Pair(**known, **_unpaired(x, a, y, b), paired=False, why_unpaired=str(why))
    if first.run == second.run:
        return pair.model_copy(update={"same": True, "same_run": True})
    return pair.model_copy(update={"warnings": list(_warnings(x, y, pair))})


def shared(
    first: Subject, a: Positions | None, second: Subject, b: Positions | None
) -> tuple[Positions, Positions]:
    """The positions that both have, in the same order; raises UnpairedError."""
    for subject, positions in ((first, a), (second, b)):
        if positions is None:
            why = "was imported and has" if subject.report.origin else "has"
            raise UnpairedError(f"run {subject.run} {why} no positions")
    assert a is not None
    assert b is not None
    found = shared_places(a, b)
    return a.where(found.first), b.where(found.second)


def _paired(a: Positions, b: Positions) -> dict[str, Any]:
    clusters = Clusters.of(a.chunk)
    right_a, right_b = a.top1_quant == a.token, b.top1_quant == b.token
    only_a, only_b = int((a.flip & ~b.flip).sum()), int((b.flip & ~a.flip).sum())
    return {
        "paired": True,
        "same": all(
            np.array_equal(getattr(a, name), getattr(b, name))
            for name in ("kl", "nll_ref", "nll_quant", "top1_ref", "top1_quant")
        ),
        "n_positions": len(a),
        "n_chunks": clusters.n_clusters,
        "kl": paired_difference(a.kl, b.kl, clusters),
        "flips": paired_difference(a.flip, b.flip, clusters),
        "nll": paired_difference(a.nll_quant, b.nll_quant, clusters),
        "accuracy": paired_difference(right_a, right_b, clusters),
        "delta_p": paired_difference(a.delta_p, b.delta_p, clusters),
        "one_sided_flips": OneSidedFlips(
            first_only=only_a,
            second_only=only_b,
            both=int((a.flip & b.flip).sum()),
            mcnemar_p=mcnemar(only_a, only_b),
        ),
        "kl_correlation": correlation(a.kl.astype(np.float64), b.kl.astype(np.float64)),
    }


def paired_difference(first: NDArray[Any], second: NDArray[Any], clusters: Clusters) -> Difference:
    """``second`` less ``first``, both (n,), clustered. Where both are infinite they do not differ; where one
    is, there is no interval.

    Of rates (boolean arrays) the interval is ``change_interval``'s, which has a width where nothing differs.
    """
    x, y = first.astype(np.float64), second.astype(np.float64)
    moved = np.subtract(y, x, where=x != y, out=np.zeros_like(x))  # not +inf less +inf
    sums, value = clusters.sums(moved), float(moved.mean())
    if first.dtype == np.bool_:
        gained, lost = clusters.sums(moved > 0), clusters.sums(moved < 0)
        ci = change_interval(gained, lost, clusters.counts)
    else:
        ci = interval_of_sums(sums, clusters.counts)
    error = standard_error(sums, clusters.counts)
    p = p_value(value, error, clusters.n_clusters - 1)
    return Difference(first=float(x.mean()), second=float(y.mean()), value=value, ci=ci, p=p)


def _unpaired(a: Report, x: Positions | None, b: Report, y: Positions | None) -> dict[str, Any]:
    one, two = figures(a, x), figures(b, y)
    # Imports have NaN for what their tool does not give.
    known = [n for n in one if n in two and not np.isnan([one[n].value, two[n].value]).any()]
    return {name: welch(one[name], two[name]) for name in {"kl", *known}}


def welch(first: Figure, second: Figure) -> Difference:
    """The difference of two figures from different positions; without an error where either has none."""
    value = second.value - first.value
    found = Difference(first=first.value, second=second.value, value=value)
    if first.error is None or second.error is None or not np.isfinite(value):
        return found
    u, v = first.error**2, second.error**2
    error = float(np.sqrt(u + v))
    if error == 0:  # figures that do not vary, or are printed as 0: that is no certainty
        return found
    share = u * u / first.degrees + v * v / second.degrees
    degrees = (u + v) ** 2 / share if share else float("inf")
    half = _quantile(degrees) * error
    return found.model_copy(update={"ci": (value - half, value + half), "p": _p(value / error, degrees)})


def figures(report: Report, positions: Positions | None) -> dict[str, Figure]:
    """What can be compared without pairing, by the names of ``Pair``: from the positions, or the report."""
    if positions is None or len(positions) == 0:
        return _reported(report)
    clusters = Clusters.of(positions.chunk)
    added = positions.nll_quant.astype(np.float64) - positions.nll_ref
    right_ref, right = positions.top1_ref == positions.token, positions.top1_quant == positions.token
    columns = {"kl": positions.kl, "flips": positions.flip, "nll": added}
    columns |= {"accuracy": right.astype(np.float64) - right_ref, "delta_p": positions.delta_p}
    gained, lost = clusters.sums(right & ~right_ref), clusters.sums(right_ref & ~right)
    # Where a rate is the same in every chunk its standard error is 0, and its interval is not.
    of_rates = {
        "flips": rate_interval(clusters.sums(positions.flip), clusters.counts),
        "accuracy": change_interval(gained, lost, clusters.counts),
    }
    found: dict[str, Figure] = {}
    for name, values in columns.items():
        error = standard_error(clusters.sums(values), clusters.counts)
        degrees = clusters.n_clusters - 1 if error is not None else float("inf")
        mean = float(np.mean(values, dtype=np.float64))
        ci = of_rates.get(name)
        found[name] = _of_interval(mean, ci, degrees) if error == 0 and ci else Figure(mean, error, degrees)
    return found


def _reported(r: Report) -> dict[str, Figure]:
    """The standard error is that of the wider half of the interval: bounds cut at 0 or 1 are too near."""
    # How another tool came to its interval is not known: taken for normal.
    degrees = r.n_chunks - 1 if r.n_chunks > 1 and r.origin is None else float("inf")

    def of(estimate: Estimate) -> Figure:
        return _of_interval(estimate.value, estimate.ci, degrees)

    found = {
        "kl": _of_interval(r.kl.mean, _bounds(r.kl.ci_low, r.kl.ci_high), degrees),
        "flips": _of_interval(r.flip_rate, _bounds(r.flip_ci_low, r.flip_ci_high), degrees),
    }
    if r.perplexity is not None:
        found["nll"] = of(r.perplexity.ln_ratio)
    elif 0 < r.perplexity_ref < np.inf and 0 < r.perplexity_quant < np.inf:
        found["nll"] = Figure(float(np.log(r.perplexity_quant / r.perplexity_ref)))
    if r.flips is not None:
        found["accuracy"] = of(r.flips.accuracy_change)
    if r.delta_p is not None:
        found["delta_p"] = of(r.delta_p.mean)
    return found


def _of_interval(value: float, ci: Interval | None, degrees: float) -> Figure:
    """An interval without a width is none: older versions and other tools have such where nothing varied."""
    if ci is None or ci[0] == ci[1] or not np.isfinite([value, *ci]).all():
        return Figure(value)
    half = max(ci[1] - value, value - ci[0])
    return Figure(value, half / _quantile(degrees), degrees)


def _quantile(degrees: float) -> float:
    return normal_quantile(TAIL) if np.isinf(degrees) else student_t(TAIL, degrees)


def _p(t: float, degrees: float) -> float:
    from scipy.special import ndtr, stdtr

    return float(2 * (ndtr(-abs(t)) if np.isinf(degrees) else stdtr(degrees, -abs(t))))


def _bounds(low: float | None, high: float | None) -> Interval | None:
    return None if low is None or high is None else (low, high)


def _warnings(a: Report, b: Report, pair: Pair) -> Iterator[str]:
    if pair.paired:
        if pair.n_chunks == 1:
            yield "only one shared chunk: no interval can be given, nor a p value"
        elif pair.n_chunks < FEW_CHUNKS and not pair.same:
            yield f"only {pair.n_chunks} shared chunks: intervals and p values are rough"
        if pair.n_positions < max(a.n_positions, b.n_positions):
            yield "a run has positions that the other has not; only those that both have are compared"
    else:
        if pair.kl.p is None:
            yield "an error is not known for both runs, so the difference has none and may be chance"
        if a.corpus.content_hash and a.corpus.content_hash == b.corpus.content_hash:
            yield "both scored the same text: unpaired, the error comes out rather too large than too small"
    if np.isinf([pair.kl.first, pair.kl.second]).any():
        yield "mean KL is infinite in " + ("both runs" if pair.kl.first == pair.kl.second else "one run")
    if any(map(ended_early, (a, b))) and not pair.same:
        yield "a run stopped when it was sure; p values take the number of chunks as fixed beforehand"
    if a.kind == b.kind and limits(a.thresholds) != limits(b.thresholds):
        one, two = (inert(r.thresholds.policy) for r in (a, b))
        yield f"the verdicts were taken from different thresholds ({one} against {two})"
    yield from doubts((a, b), pair.paired)
    yield from more_bits_worse(a, b, pair.kl)


def ended_early(r: Report) -> bool:
    """Whether what it measured said when to stop: by a rule, or in a race."""
    s = r.stopping
    if r.dropped == SKIPPED:
        return False
    if r.dropped or s is None or not s.settled:
        return bool(r.dropped)
    return s.rule != "race" or s.n_chunks < r.n_chunks_planned


def more_bits_worse(a: Report, b: Report, kl: Difference) -> Iterator[str]:
    """A warning where the KL difference of two runs says, beyond the error, what can hardly be."""
    x, y = quantizers_of(a), quantizers_of(b)
    if x is None or y is None or not kl.beyond_error:
        return
    if a.layers and b.layers and quantized_spans(a) != quantized_spans(b):
        return
    more, fewer = (b, a) if kl.value > 0 else (a, b)
    if _finer(y, x) if kl.value > 0 else _finer(x, y):
        yield (
            f"{more.short_setting} measures worse than {fewer.short_setting}, beyond the error; such results "
            "have turned out to be bugs of the software that measures, so check versions before believing it"
        )


def _finer(more: LayerQuantizers, fewer: LayerQuantizers) -> bool:
    """Whether keys and values have at least as many bits, one of them more, and larger groups do not tell."""
    sides = ((more.keys, fewer.keys), (more.values, fewer.values))
    return more != fewer and all(one == other or _more_bits(one, other) for one, other in sides)


def _more_bits(more: Quantizer | None, fewer: Quantizer | None) -> bool:
    """Of affine groups: more by over a bit for each doubling of the group, which can cost about as much."""
    if more is None or fewer is None:
        return more is None and fewer is not None
    if more.mode != "affine" or fewer.mode != "affine":
        return False
    doublings = max(0.0, float(np.log2(more.group_size / fewer.group_size)))
    return more.bits - fewer.bits > doublings
