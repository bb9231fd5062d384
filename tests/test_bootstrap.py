"""The cluster bootstrap against draws spelled out, and against what is known of its spread."""

from __future__ import annotations

import numpy as np
import pytest

from mqf_tui.fidelity.bootstrap import (
    BINS,
    MAX_CLUSTERS,
    REPLICATES,
    SEED,
    ClusterBootstrap,
    bootstrap_interval,
)
from mqf_tui.fidelity.intervals import Clusters
from tests import oracle

SHARES = [0.5, 0.9, 0.95, 0.99, 0.999]


def drawn(chunk: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
    """The values of each replicate, chunk after chunk."""
    pieces = [values[chunk == name] for name in np.unique(chunk)]
    return [
        np.concatenate([p for p, k in zip(pieces, t, strict=True) for _ in range(k)])
        for t in oracle.draws(len(pieces))
    ]


def test_the_oracle_draws_as_documented() -> None:
    assert (oracle.SEED, oracle.REPLICATES) == (SEED, REPLICATES)
    assert (oracle.draws(7).sum(axis=1) == 6).all()


@pytest.mark.parametrize("sizes", [[4, 4], [1, 200, 3], [17] * 30])
def test_means_and_percentiles_of_the_drawn_chunks(sizes: list[int]) -> None:
    rng = np.random.default_rng(len(sizes))
    chunk = np.repeat(rng.permutation(len(sizes)) * 3, sizes)
    values = np.round(rng.lognormal(-4, 2, len(chunk)), 4)
    values[rng.random(len(chunk)) < 0.1] = 0
    draws, replicates = ClusterBootstrap(Clusters.of(chunk)), drawn(chunk, values)
    np.testing.assert_allclose(draws.means(values), [r.mean() for r in replicates], rtol=1e-12)
    expected = [[oracle.quantile(r, share) for share in SHARES] for r in replicates]
    np.testing.assert_allclose(draws.percentiles(values, SHARES), expected, rtol=1e-9)


def test_infinite_where_an_infinite_chunk_was_drawn() -> None:
    chunk = np.repeat(np.arange(6), 10)
    values = np.full(60, 0.5)
    values[25] = np.inf
    draws, replicates = ClusterBootstrap(Clusters.of(chunk)), drawn(chunk, values)
    means = draws.means(values)
    assert not np.isnan(means).any()
    np.testing.assert_array_equal(np.isinf(means), [np.isinf(r).any() for r in replicates])
    assert 0 < np.isinf(means).mean() < 1
    high = draws.percentiles(values, [0.99])[:, 0]
    assert not np.isnan(high).any()
    np.testing.assert_array_equal(high, [oracle.quantile(r, 0.99) for r in replicates])


@pytest.mark.parametrize("n_chunks", [3, 5, 20, 3 * MAX_CLUSTERS + 7])
def test_the_spread_of_means_is_the_clustered_standard_error(n_chunks: int) -> None:
    """G - 1 draws of G give the unbiased variance; beyond MAX_CLUSTERS neighbours are drawn together."""
    rng = np.random.default_rng(n_chunks)
    values = rng.normal(rng.normal(0, 1, n_chunks)[:, None], 1, (n_chunks, 4)).ravel()
    chunk = np.repeat(np.arange(n_chunks), 4)
    low, high = oracle.interval(values.tolist(), chunk.tolist()) or (0, 0)
    error = (high - low) / 2 / oracle.stats.t.ppf(0.975, n_chunks - 1)
    spread = np.std(ClusterBootstrap(Clusters.of(chunk), replicates=20_000).means(values))
    assert spread == pytest.approx(error, rel=0.02 if n_chunks < MAX_CLUSTERS else 0.1)


def test_beyond_many_chunks_neighbours_are_drawn_together() -> None:
    """Neighbours are alike (one text follows the other); drawn apart they would look surer than they are."""
    n_chunks = 2 * MAX_CLUSTERS + 11
    values = np.repeat(np.sin(np.arange(n_chunks) / 50), 3)
    chunk = np.repeat(np.arange(n_chunks), 3)
    found = ClusterBootstrap(Clusters.of(chunk)).means(values)
    together = np.array([g * MAX_CLUSTERS // n_chunks for g in chunk.tolist()])
    np.testing.assert_allclose(found, [r.mean() for r in drawn(together, values)], atol=1e-12)


def test_ranks_of_many_positions_are_exact_to_a_bin_and_finer_in_the_tail() -> None:
    n = 100 * BINS
    values = np.arange(n, dtype=np.float32)  # each value is its rank
    chunk = np.arange(n) // 20 % 8  # so a bin of the middle holds stretches of five chunks
    found = ClusterBootstrap(Clusters.of(chunk)).percentiles(values, [0.5, 0.999])[:60]
    exact = np.array([np.quantile(r, [0.5, 0.999]) for r in drawn(chunk, values)[:60]])
    off = found - exact
    assert (np.abs(off[:, 0]) <= n / BINS).all()
    assert abs(off[:, 0].mean()) <= n / BINS / 5
    assert (np.abs(off[:, 1]) <= 0.01 * (n - exact[:, 1]) + 1).all()


def test_draws_are_the_same_for_every_statistic_and_every_time() -> None:
    chunk = np.repeat(np.arange(9), 5)
    values = np.random.default_rng(0).random(45)
    one, other = ClusterBootstrap(Clusters.of(chunk)), ClusterBootstrap(Clusters.of(chunk))
    np.testing.assert_array_equal(one.means(values), other.means(values))
    np.testing.assert_allclose(one.means(values) * 2 + 1, one.means(values * 2 + 1))
    assert (one.means(values) != ClusterBootstrap(Clusters.of(chunk), seed=1).means(values)).any()


def test_percentiles_of_many_tied_values() -> None:
    """Most positions of an 8-bit cache can have a KL of 0; ties have no rank of their own."""
    rng = np.random.default_rng(8)
    chunk = np.repeat(np.arange(10), 2 * BINS)
    values = np.where(rng.random(len(chunk)) < 0.8, 0, np.round(rng.lognormal(-6, 1, len(chunk)), 3))
    found = ClusterBootstrap(Clusters.of(chunk)).percentiles(values, SHARES)
    assert (found[:, 0] == 0).all()
    assert (np.diff(found, axis=1) >= 0).all()
    exact = [[oracle.quantile(r, share) for share in (0.9, 0.99)] for r in drawn(chunk, values)[:50]]
    np.testing.assert_allclose(found[:50, [1, 3]], exact, atol=0.001001)


def test_the_percentile_interval_takes_whole_ranks() -> None:
    assert bootstrap_interval(np.arange(1.0, 1001)[::-1]) == (25, 975)
    assert bootstrap_interval(np.array([1.0] * 990 + [np.inf] * 10)) == (1, 1)
    assert bootstrap_interval(np.array([1.0] * 900 + [np.inf] * 100)) == (1, np.inf)


@pytest.mark.parametrize("degrees", [1, 4, 19, 500])
def test_few_chunks_take_ranks_further_out(degrees: int) -> None:
    """As far out as Student's t lies beyond the normal distribution's 1.96."""
    tail = oracle.stats.norm.cdf(-oracle.stats.t.ppf(0.975, degrees))
    rank = int(np.ceil(tail * 100_000))
    low, high = bootstrap_interval(np.arange(1.0, 100_001), degrees)
    assert low == max(rank, 1)
    assert high == pytest.approx(100_001 - rank, abs=1)


def test_one_chunk_cannot_be_drawn_from() -> None:
    with pytest.raises(ValueError, match="one chunk"):
        ClusterBootstrap(Clusters.of([4, 4, 4]))
