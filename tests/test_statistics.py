from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mqf_tui.fidelity.intervals import clustered_interval, percentile
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.statistics import summarise
from mqf_tui.fidelity.verdict import verdict


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
