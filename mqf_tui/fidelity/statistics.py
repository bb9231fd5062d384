"""Per-position numbers -> summaries. NumPy only; sums in float64. docs/statistics.md defines each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.bootstrap import ClusterBootstrap, bootstrap_interval
from mqf_tui.fidelity.depth import depth_edges, drift
from mqf_tui.fidelity.flips import flips_summary
from mqf_tui.fidelity.intervals import (
    Clusters,
    Interval,
    holding,
    interval_of_sums,
    percentile,
    rate_interval,
    within,
)
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.verdict import KV_POLICY, confidence, verdict
from mqf_tui.fidelity.vocabulary import TOKEN_CLASSES
from mqf_tui.reports.schema import (
    Confidence,
    DeltaP,
    DepthBucket,
    Drift,
    EntropyClass,
    Estimate,
    Flips,
    KLSummary,
    PartSummary,
    Perplexity,
    Thresholds,
    TokenClass,
    Verdict,
)

T = TypeVar("T")
ENTROPY_CLASSES = 4
KL_SHARES = {"median": 0.5, "p90": 0.90, "p95": 0.95, "p99": 0.99, "p999": 0.999}
DELTA_SHARES = (0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9)  # per cent
WORST = 0.01


@dataclass(frozen=True)
class Summary:
    """What the positions say. KL and its intervals in nats, rates as shares.

    ``flips``, ``by_entropy`` need columns that runs of version 1 lack; ``confidence`` needs two chunks,
    ``drift`` a long window.
    """

    n_positions: int
    n_chunks: int
    kl: KLSummary
    flip_rate: float
    flip_interval: Interval | None
    flips: Flips | None
    delta_p: DeltaP
    perplexity_ref: float
    perplexity_quant: float
    perplexity: Perplexity
    by_depth: tuple[DepthBucket, ...]
    by_part: tuple[PartSummary, ...]
    by_entropy: tuple[EntropyClass, ...]
    by_token_class: tuple[TokenClass, ...]
    verdict: Verdict
    confidence: Confidence | None
    drift: Drift | None = None

    @property
    def perplexity_delta(self) -> float:
        """PPL(Q) - PPL(P)."""
        return self.perplexity_quant - self.perplexity_ref


def summarise(
    positions: Positions, chunk_length: int, first_depth: int = 0, policy: Thresholds = KV_POLICY
) -> Summary:
    """Summarise at least one position of chunks of ``chunk_length`` tokens scored from ``first_depth``."""
    if len(positions) == 0:
        raise ValueError("no positions to summarise")
    clusters = Clusters.of(positions.chunk)
    draws = ClusterBootstrap(clusters) if clusters.n_clusters > 1 else None
    kl, p99s = _kl_summary(positions.kl, clusters, draws)
    assert kl.p99 is not None
    flips = positions.flip
    rate = mean(flips)
    said, sure = verdict(kl.mean, kl.p99, rate, policy), None
    if draws is not None:
        means = draws.means(positions.kl), p99s, draws.means(flips)
        sure = confidence(*means, policy, n_chunks=clusters.n_clusters, observed=said)
    return Summary(
        n_positions=len(positions),
        n_chunks=clusters.n_clusters,
        kl=kl,
        flip_rate=rate,
        flip_interval=rate_interval(clusters.sums(flips), clusters.counts),
        flips=flips_summary(positions, clusters) if positions.detailed else None,
        delta_p=_delta_p(positions.delta_p, clusters, draws),
        perplexity_ref=perplexity(positions.nll_ref),
        perplexity_quant=perplexity(positions.nll_quant),
        perplexity=_perplexity(positions, clusters),
        by_depth=by_depth(positions, clusters, chunk_length, first_depth),
        by_part=by_part(positions, clusters),
        by_entropy=by_entropy(positions, clusters) if positions.detailed else (),
        by_token_class=by_token_class(positions, clusters),
        verdict=said,
        confidence=sure,
        drift=drift(positions.kl, clusters.index, positions.depth, chunk_length, first_depth),
    )


def mean(values: NDArray[Any]) -> float:
    """The mean in float64."""
    return float(np.mean(values, dtype=np.float64))


def perplexity(nll: NDArray[np.floating]) -> float:
    """exp(mean NLL); +inf where that overflows."""
    return _exp(mean(nll))


def by_depth(
    positions: Positions, clusters: Clusters, chunk_length: int, first_depth: int = 0
) -> tuple[DepthBucket, ...]:
    """The buckets of ``depth_edges`` over ``first_depth <= depth < chunk_length - 1``, without empty ones."""
    edges = depth_edges(chunk_length, first_depth)
    label = np.searchsorted(edges, positions.depth, side="right") - 1
    return _groups(
        positions,
        clusters,
        label,
        len(edges) - 1,
        lambda k, found: DepthBucket(start=int(edges[k]), end=int(edges[k + 1]), **found),
    )


def by_part(positions: Positions, clusters: Clusters) -> tuple[PartSummary, ...]:
    """One summary for each part of the corpus that has positions."""
    names = positions.part_names
    return _groups(
        positions,
        clusters,
        positions.part,
        len(names),
        lambda k, found: PartSummary(name=names[k], **found),
    )


def by_entropy(positions: Positions, clusters: Clusters) -> tuple[EntropyClass, ...]:
    """Four classes between the quartiles of the reference's entropy; equal entropies stay together."""
    entropy = positions.entropy.astype(np.float64)
    edges = np.quantile(entropy, np.linspace(0, 1, ENTROPY_CLASSES + 1), method="lower")
    label = np.clip(np.searchsorted(edges, entropy, side="right") - 1, 0, ENTROPY_CLASSES - 1)
    return _groups(
        positions,
        clusters,
        label,
        ENTROPY_CLASSES,
        lambda k, found: EntropyClass(low=float(edges[k]), high=float(edges[k + 1]), **found),
    )


def by_token_class(positions: Positions, clusters: Clusters) -> tuple[TokenClass, ...]:
    """One summary for each class of predicted token that occurs; none where classes are not known."""
    return _groups(
        positions,
        clusters,
        positions.token_class,
        len(TOKEN_CLASSES),
        lambda k, found: TokenClass(name=TOKEN_CLASSES[k], **found),
    )


def _groups(
    positions: Positions,
    clusters: Clusters,
    label: NDArray[Any],
    n_labels: int,
    make: Callable[[int, dict[str, Any]], T],
) -> tuple[T, ...]:
    """``make(label, its figures)`` for each label 0..n_labels-1 that occurs; others are left out."""
    n = clusters.n_clusters
    here = (label >= 0) & (label < n_labels)
    cells = label[here].astype(np.int64) * n + clusters.index[here]

    def table(values: NDArray[Any] | None) -> NDArray[np.float64]:
        weights = None if values is None else values[here].astype(np.float64)
        found = np.bincount(cells, weights, n_labels * n).astype(np.float64, copy=False)
        return found.reshape(n_labels, n)

    counts, kl, flips = table(None), table(positions.kl), table(positions.flip)
    found: list[T] = []
    for k in range(n_labels):
        chunks = counts[k] > 0
        if chunks.any():
            found.append(make(k, _group(counts[k, chunks], kl[k, chunks], flips[k, chunks])))
    return tuple(found)


def _group(counts: NDArray[Any], kl: NDArray[Any], flips: NDArray[Any]) -> dict[str, Any]:
    low, high = within(interval_of_sums(kl, counts), 0.0, np.inf) or (None, None)
    n = counts.sum()
    return {
        "n_positions": int(n),
        "n_chunks": len(counts),
        "kl_mean": float(kl.sum() / n),
        "flip_rate": float(flips.sum() / n),
        "ci_low": low,
        "ci_high": high,
        "flip_ci": rate_interval(flips, counts),
    }


def _kl_summary(
    kl: NDArray[np.float32], clusters: Clusters, draws: ClusterBootstrap | None
) -> tuple[KLSummary, NDArray[np.float64]]:
    """The summary, and the p99 of each bootstrap replicate (none with one chunk)."""
    figures: dict[str, Any] = {name: percentile(kl, share) for name, share in KL_SHARES.items()}
    intervals: dict[str, Any] = {}
    p99s = np.empty(0)
    if draws is not None:
        found = draws.percentiles(kl, list(KL_SHARES.values()))
        for name, column in zip(KL_SHARES, found.T, strict=True):
            intervals[f"{name}_ci"] = holding(bootstrap_interval(column, draws.degrees), figures[name])
        p99s = found[:, list(KL_SHARES).index("p99")]
    low, high = within(clusters.interval(kl), 0.0, np.inf) or (None, None)
    summary = KLSummary(
        mean=mean(kl),
        max=float(kl.max()),
        ci_low=low,
        ci_high=high,
        worst_share=_worst_share(kl),
        **(dict.fromkeys([f"{name}_ci" for name in KL_SHARES]) | figures | intervals),
    )
    return summary, p99s


def _worst_share(kl: NDArray[np.float32]) -> float | None:
    n_worst = int(np.ceil(WORST * len(kl)))
    worst = float(np.partition(kl, len(kl) - n_worst)[len(kl) - n_worst :].sum(dtype=np.float64))
    total = float(kl.sum(dtype=np.float64))
    return worst / total if 0 < total < np.inf else None


def _delta_p(delta: NDArray[np.float32], clusters: Clusters, draws: ClusterBootstrap | None) -> DeltaP:
    squares = delta.astype(np.float64) ** 2
    low, high = within(clusters.interval(squares), 0.0, 1.0) or (None, None)
    shares = {f"{share:g}": percentile(delta, share / 100) for share in DELTA_SHARES}
    cis: dict[str, Interval] = {}
    if draws is not None:
        found = draws.percentiles(delta, [share / 100 for share in DELTA_SHARES])
        for (name, value), column in zip(shares.items(), found.T, strict=True):
            cis[name] = holding(bootstrap_interval(column, draws.degrees), value)
    return DeltaP(
        mean=Estimate(value=mean(delta), ci=clusters.interval(delta)),
        rms=Estimate(
            value=float(np.sqrt(squares.mean())),
            ci=None if low is None or high is None else (float(np.sqrt(low)), float(np.sqrt(high))),
        ),
        percentiles={"min": float(delta.min()), **shares, "max": float(delta.max())},
        percentile_cis=cis,
    )


def _perplexity(positions: Positions, clusters: Clusters) -> Perplexity:
    """Intervals of perplexities are those of the mean NLLs, exponentiated; of their difference, by the
    delta method (the difference is linear in exp(x̄)·x near its mean)."""
    ref, quant = positions.nll_ref.astype(np.float64), positions.nll_quant.astype(np.float64)
    p, q = perplexity(ref), perplexity(quant)
    with np.errstate(invalid="ignore", over="ignore"):
        log_ratio = quant - ref
        slope = clusters.interval(q * quant - p * ref)
        shift = q - p - mean(q * quant - p * ref)
    ratio = clusters.interval(log_ratio)
    return Perplexity(
        ref_ci=_exp_interval(clusters.interval(ref)),
        quant_ci=_exp_interval(clusters.interval(quant)),
        delta_ci=None if slope is None else (slope[0] + shift, slope[1] + shift),
        ratio=Estimate(value=_exp(mean(log_ratio)), ci=_exp_interval(ratio)),
        ln_ratio=Estimate(value=mean(log_ratio), ci=ratio),
        nll_correlation=correlation(ref, quant),
    )


def correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    """Pearson's correlation; None where one of the two does not vary or is not finite."""
    if len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()) or not (np.ptp(x) and np.ptp(y)):
        return None
    return float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))


def _exp_interval(interval: Interval | None) -> Interval | None:
    return None if interval is None else (_exp(interval[0]), _exp(interval[1]))


def _exp(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(value))
