from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mqf_tui.fidelity.intervals import change_interval, clustered_interval, percentile
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.statistics import summarise
from mqf_tui.fidelity.verdict import KV_POLICY, confidence, surest, verdict
from mqf_tui.reports.schema import Verdict


def make(kl: np.ndarray, chunk: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> Positions:
    n = len(kl)
    top = rng.integers(0, 4, n)
    prob = rng.random(n)
    return Positions.of(
        {
            "chunk": chunk,
            "depth": depth,
            "part": chunk % 2,
            "token": rng.integers(0, 4, n),
            "kl": kl,
            "nll_ref": rng.exponential(2, n),
            "nll_quant": rng.exponential(2, n),
            "top1_ref": top,
            "top1_quant": np.where(rng.random(n) < 0.1, top + 1, top),
            "prob_ref": prob,
            "prob_quant": rng.random(n),
            "entropy": rng.exponential(2, n),
            "margin": prob * rng.random(n),
            "in_top5": rng.random(n) < 0.9,
            "token_class": rng.integers(0, 6, n),
        },
        ("a", "b"),
    )


def brute_interval(x: list[float], chunk: list[int]) -> tuple[float, float]:
    """The design's formula, spelled out with loops in float64."""
    mean = sum(x) / len(x)
    groups = sorted(set(chunk))
    total = 0.0
    for g in groups:
        residual = sum(v - mean for v, c in zip(x, chunk, strict=True) if c == g)
        total += residual**2
    error = (len(groups) / (len(groups) - 1) * total) ** 0.5 / len(x)
    half = stats.t.ppf(0.975, len(groups) - 1) * error
    return mean - half, mean + half


@pytest.mark.parametrize("sizes", [[5, 5], [1, 9, 4], [3] * 40])
def test_interval_equals_the_formula_spelled_out(sizes: list[int]) -> None:
    rng = np.random.default_rng(len(sizes))
    chunk = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.lognormal(-4, 2, len(chunk))
    assert clustered_interval(x, chunk) == pytest.approx(brute_interval(list(x), list(chunk)), rel=1e-10)


def test_one_chunk_gives_no_interval() -> None:
    assert clustered_interval([1.0, 2.0], [3, 3]) is None


def test_equal_chunks_give_the_textbook_interval_of_chunk_means() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(12, 30))
    low, high = clustered_interval(x.ravel(), np.repeat(np.arange(12), 30)) or (0, 0)
    means = x.mean(axis=1)
    expected = stats.t.interval(0.95, 11, means.mean(), stats.sem(means))
    assert (low, high) == pytest.approx(expected, rel=1e-10)


def test_percentiles_equal_numpy_and_bear_infinity() -> None:
    x = np.random.default_rng(0).lognormal(size=997)
    for share in (0, 0.5, 0.9, 0.99, 1):
        assert percentile(x, share) == pytest.approx(np.quantile(x, share), rel=1e-12)
    assert percentile(np.array([1.0, np.inf, np.inf]), 0.9) == np.inf
    assert percentile(np.array([1.0, 2.0, np.inf]), 0.5) == 2.0


def test_summary_against_plain_numpy() -> None:
    rng = np.random.default_rng(1)
    chunk, depth = np.repeat(np.arange(4), 255), np.tile(np.arange(255), 4)
    p = make(rng.lognormal(-5, 1, 1020), chunk, depth, rng)
    s = summarise(p, 256)
    kl = p.kl.astype(np.float64)
    assert s.kl.mean == pytest.approx(kl.mean(), rel=1e-12)
    assert s.kl.p99 == pytest.approx(np.percentile(kl, 99), rel=1e-12)
    assert s.flip_rate == np.count_nonzero(p.top1_ref != p.top1_quant) / 1020
    assert s.perplexity_ref == pytest.approx(np.exp(p.nll_ref.astype(np.float64).mean()))
    assert s.perplexity_delta == pytest.approx(s.perplexity_quant - s.perplexity_ref)
    assert [b.start for b in s.by_depth] == [0, 32, 64, 96, 128, 159, 191, 223]
    assert sum(b.n_positions for b in s.by_depth) == 1020
    third = (depth >= 64) & (depth < 96)
    assert s.by_depth[2].kl_mean == pytest.approx(kl[third].mean())
    assert [part.name for part in s.by_part] == ["a", "b"]
    assert s.by_part[1].kl_mean == pytest.approx(kl[chunk % 2 == 1].mean())


def test_deployment_buckets_begin_where_scoring_does() -> None:
    rng = np.random.default_rng(2)
    p = make(rng.random(55), np.zeros(55, int), np.arange(200, 255), rng)
    s = summarise(p, 256, 200)
    assert s.by_depth[0].start == 200
    assert s.by_depth[-1].end == 255
    assert sum(b.n_positions for b in s.by_depth) == 55
    assert s.flip_interval is None


@pytest.mark.parametrize(
    ("kl", "p99", "flips", "expected"),
    [
        (0.01, 0.10, 0.01, "good"),
        (0.0101, 0.10, 0.01, "marginal"),
        (0.01, 0.101, 0.01, "marginal"),
        (0.01, 0.10, 0.011, "marginal"),
        (0.10, 1.00, 0.05, "marginal"),
        (0.11, 0.1, 0.0, "bad"),
        (0.0, 1.01, 0.0, "bad"),
        (0.0, 0.0, 0.051, "bad"),
        (float("inf"), 0.0, 0.0, "bad"),
        (float("nan"), 0.0, 0.0, "bad"),
    ],
)
def test_verdict_thresholds(kl: float, p99: float, flips: float, expected: str) -> None:
    assert verdict(kl, p99, flips) == expected


@pytest.mark.parametrize("n_chunks", [2, 3, 4, 8, 40])
def test_chunks_show_no_more_than_the_sign_test(n_chunks: int) -> None:
    assert surest(n_chunks) == pytest.approx(1 - stats.binomtest(0, n_chunks, 0.5).pvalue)


@pytest.mark.parametrize(
    ("observed", "n_chunks", "expected"),
    [
        ("bad", 2, (0, 0.5, 0.5)),
        ("good", 4, (0.875, 0.125, 0)),
        ("marginal", 4, (0.0625, 0.875, 0.0625)),
        ("good", 30, (1, 0, 0)),
    ],
)
def test_replicates_that_all_agree_are_not_certain(
    observed: Verdict, n_chunks: int, expected: tuple[float, ...]
) -> None:
    kl = np.full(1000, {"good": 0.001, "marginal": 0.05, "bad": 5.0}[observed])
    found = confidence(kl, kl, np.zeros(1000), KV_POLICY, n_chunks=n_chunks, observed=observed)
    assert (found.good, found.marginal, found.bad) == pytest.approx(expected, abs=1e-8)


def test_what_the_cap_takes_goes_beside_the_verdict_that_was_observed() -> None:
    kl = np.repeat([0.001, 0.05], [700, 300])
    found = confidence(kl, np.zeros(1000), np.zeros(1000), KV_POLICY, n_chunks=3, observed="good")
    assert (found.good, found.marginal, found.bad) == pytest.approx((0.75 * 0.7, 0.75 * 0.3 + 0.25, 0))


def test_two_chunks_are_not_surer_than_their_interval() -> None:
    """Flips of 8 and 14 in 63 positions: bad by far in both, and yet the interval begins at 0."""
    rng = np.random.default_rng(3)
    chunk, depth = np.repeat([0, 1], 63), np.tile(np.arange(63), 2)
    p = make(rng.lognormal(-6, 0.3, 126), chunk, depth, rng)
    flipped = ((chunk == 0) & (depth < 8)) | ((chunk == 1) & (depth < 14))
    p.top1_quant[:] = np.where(flipped, p.top1_ref + 1, p.top1_ref)
    s = summarise(p, 64)
    assert s.verdict == "bad"
    assert s.flip_interval is not None
    assert s.flip_interval[0] == 0
    assert s.confidence is not None
    assert (s.confidence.good, s.confidence.marginal, s.confidence.bad) == (0, 0.5, 0.5)


def test_a_percentile_lies_in_its_own_interval() -> None:
    """Each replicate of two chunks is one of them, and the p99 of both together may be beyond either's."""
    rng = np.random.default_rng(0)
    beyond = 0
    for _ in range(20):
        p = make(rng.lognormal(-4, 1, 126), np.repeat([0, 1], 63), np.tile(np.arange(63), 2), rng)
        k = summarise(p, 64).kl
        assert k.p99 is not None
        assert k.p99_ci is not None
        assert k.p99_ci[0] <= k.p99 <= k.p99_ci[1]
        of_each = np.percentile(p.kl.astype(np.float64).reshape(2, 63), 99, axis=1)
        beyond += bool(k.p99 < of_each.min() or k.p99 > of_each.max())
    assert beyond


def test_no_token_gained_or_lost_is_not_certainty() -> None:
    nothing, counts = np.zeros(4), np.full(4, 30)
    bound = stats.binomtest(0, 120).proportion_ci(0.95, method="wilson").high
    assert change_interval(nothing, nothing, counts) == pytest.approx((-bound, bound))
    assert change_interval(nothing[:1], nothing[:1], counts[:1]) is None


def test_a_change_that_is_the_same_in_every_chunk_has_a_width() -> None:
    found = change_interval(np.array([3, 3]), np.array([1, 1]), np.array([20, 20]))
    # Newcombe's method 10 of 6/40 and 2/40, worked out by hand from Wilson's limits.
    assert found == pytest.approx((-0.0398, 0.2453), abs=1e-4)


def test_a_change_that_differs_between_chunks_has_the_clustered_interval() -> None:
    gained, lost, counts = np.array([3, 1, 0]), np.array([1, 1, 2]), np.array([20, 30, 10])
    each = [np.repeat([1, -1, 0], [g, w, n - g - w]) for g, w, n in zip(gained, lost, counts, strict=True)]
    expected = brute_interval(np.concatenate(each).tolist(), np.repeat([0, 1, 2], counts).tolist())
    assert change_interval(gained, lost, counts) == pytest.approx(expected)
