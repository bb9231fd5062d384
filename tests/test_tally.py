"""Running numbers against the finished summary of the same positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

from mqf_tui.app.tally import HISTOGRAM_EDGES, Tally, histogram
from mqf_tui.fidelity.intervals import Clusters
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.statistics import summarise
from mqf_tui.fidelity.stopping import Sureness
from mqf_tui.fidelity.verdict import KV_POLICY
from mqf_tui.reports.schema import Thresholds
from tests import makers


def pieces(positions: Positions, size: int) -> list[Positions]:
    from dataclasses import replace

    from mqf_tui.fidelity.positions import ARRAYS

    return [
        replace(positions, **{name: getattr(positions, name)[a : a + size] for name in ARRAYS})
        for a in range(0, len(positions), size)
    ]


def fed(positions: Positions, size: int, **options: Any) -> Tally:
    """A tally that was fed in steps that end with each chunk, as the engine feeds it."""
    tally = Tally(len(positions), **options)
    for chunk in np.unique(positions.chunk):
        for piece in pieces(positions.where(positions.chunk == chunk), size):
            tally.add(piece)
        tally.finish_chunk()
    return tally


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_steps_add_up_to_the_whole(size: int) -> None:
    positions = makers.positions(n_chunks=4, per_chunk=100)
    tally = Tally(len(positions))
    assert tally.running() is None
    for piece in pieces(positions, size):
        tally.add(piece)
    n = tally.running()
    assert n is not None
    kl = positions.kl.astype(np.float64)
    assert n.n == 400
    assert n.numbers.kl_mean == pytest.approx(kl.mean())
    assert n.numbers.kl_p99 == pytest.approx(np.quantile(kl, 0.99))
    assert n.numbers.flip_rate == pytest.approx(np.mean(positions.top1_ref != positions.top1_quant))
    of_both = [np.exp(nll.astype(np.float64).mean()) for nll in (positions.nll_ref, positions.nll_quant)]
    assert n.numbers.perplexity_delta == pytest.approx(of_both[1] - of_both[0])
    assert n.histogram.sum() == 400
    logs = np.clip(np.log10(np.maximum(kl, 1e-300)), HISTOGRAM_EDGES[0], HISTOGRAM_EDGES[-1])
    np.testing.assert_array_equal(n.histogram, np.histogram(logs, HISTOGRAM_EDGES)[0])
    assert np.nanmean(n.trace) == pytest.approx(kl.mean(), rel=1e-5)


@pytest.mark.parametrize("size", [1, 64, 1000])
def test_intervals_are_those_of_the_finished_summary(size: int) -> None:
    positions = makers.positions(n_chunks=12, per_chunk=90)
    n = fed(positions, size).running()
    assert n is not None
    s = summarise(positions, 91)
    assert s.perplexity.delta_ci is not None
    assert n.numbers.kl_interval == pytest.approx((s.kl.ci_low, s.kl.ci_high))
    assert n.numbers.flip_interval == pytest.approx(s.flip_interval)
    assert n.numbers.perplexity_interval == pytest.approx(s.perplexity.delta_ci)
    assert n.verdict == s.verdict


def test_p99_interval_is_near_one_from_many_plain_draws() -> None:
    positions = makers.positions(n_chunks=10, per_chunk=90)
    n = fed(positions, 64).running()
    assert n is not None
    assert n.numbers.p99_interval is not None
    by_chunk = positions.kl.reshape(10, 90).astype(np.float64)
    rng = np.random.default_rng(8)
    found = [np.quantile(by_chunk[rng.integers(0, 10, 9)], 0.99) for _ in range(4000)]
    # As far out as Student's t with 9 degrees of freedom is for the normal distribution; 200 draws place
    # an end within some ranks of that.
    tail = scipy.stats.norm.cdf(scipy.stats.t.ppf(0.025, 9))
    low, high = n.numbers.p99_interval
    assert np.quantile(found, tail / 4) <= low <= np.quantile(found, 3 * tail)
    assert np.quantile(found, 1 - 3 * tail) <= high <= np.quantile(found, 1 - tail / 4)


def test_confidence_is_the_share_of_plain_draws_of_whole_chunks() -> None:
    positions = makers.positions(n_chunks=10, per_chunk=90)
    kl = positions.kl.reshape(10, 90).astype(np.float64)
    limit = float(kl.mean())  # as likely above as below
    policy = Thresholds(policy="mine", kl_mean=(limit, 9), kl_p99=(9, 9), flip_rate=(1, 1))
    n = fed(positions, 64, policy=policy).running()
    assert n is not None
    assert n.confidence is not None
    rng = np.random.default_rng(8)
    good = np.mean([kl[rng.integers(0, 10, 9)].mean() <= limit for _ in range(4000)])
    assert n.confidence.good == pytest.approx(good, abs=0.12)
    assert n.confidence.good + n.confidence.marginal == pytest.approx(1)


def test_confidence_is_no_more_than_the_chunks_allow() -> None:
    positions = makers.positions(n_chunks=3, per_chunk=90)
    strict = Thresholds(policy="mine", kl_mean=(1e-9, 1e-8), kl_p99=(9, 9), flip_rate=(1, 1))
    n = fed(positions, 64, policy=strict).running()
    assert n is not None
    assert n.confidence is not None
    assert (n.confidence.good, n.confidence.marginal, n.confidence.bad) == (0, 0.25, 0.75)


def test_nothing_is_said_of_an_interval_that_there_is_not() -> None:
    n = fed(makers.positions(n_chunks=2, per_chunk=90), 64, sureness=Sureness(KV_POLICY)).running()
    assert n is not None
    assert (n.numbers.kl_interval, n.numbers.flip_interval) == (None, None)
    assert n.looked is not None
    assert n.looked.half_width == np.inf


def test_there_is_no_confidence_before_two_chunks_ended() -> None:
    positions = makers.positions(n_chunks=1, per_chunk=90)
    n = fed(positions, 64).running()
    assert n is not None
    assert n.confidence is None
    assert n.numbers.p99_interval is None


def test_resampling_grows_rare_with_the_number_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    real = Clusters.of
    monkeypatch.setattr(Clusters, "of", lambda chunk: drawn.append(len(chunk)) or real(chunk))
    fed(makers.positions(n_chunks=200, per_chunk=3), 64)
    # A geometric series: all of it is about eleven times the last, however many chunks there are.
    assert sum(drawn) <= 13 * 600
    assert drawn[:3] == [6, 9, 12]
    assert drawn[-1] >= 600 / 1.11


def test_the_stopping_rule_is_asked_and_its_intervals_are_shown() -> None:
    positions = makers.positions(n_chunks=12, per_chunk=90)
    rule, same = Sureness(KV_POLICY), Sureness(KV_POLICY)
    n = fed(positions, 7, sureness=rule).running()
    for chunk in range(12):
        same.add(positions.where(positions.chunk == chunk))
    assert n is not None
    assert n.looked is not None
    assert n.looked.possible == same.possible
    assert n.looked.settled == same.settled
    assert n.numbers.kl_interval == pytest.approx(same.kl_interval)
    assert n.numbers.flip_interval == pytest.approx(same.flip_interval)
    assert n.stopping == same.stopping()
    assert same.kl_interval is not None
    low, high = same.kl_interval
    assert n.looked.half_width == pytest.approx((high - low) / 2 / positions.kl.mean(), rel=1e-5)


def test_half_way_leaves_the_rest_of_the_trace_open() -> None:
    positions = makers.positions(n_chunks=2, per_chunk=100)
    tally = Tally(200)
    tally.add(pieces(positions, 100)[0])
    n = tally.running()
    assert n is not None
    assert np.isfinite(n.trace[: len(n.trace) // 2]).all()
    assert np.isnan(n.trace[len(n.trace) // 2 :]).all()
    assert n.numbers.kl_interval is None  # one chunk


def test_zero_and_infinite_kl_are_counted_at_the_ends() -> None:
    from dataclasses import replace

    positions = makers.positions(n_chunks=1, per_chunk=4)
    positions = replace(positions, kl=np.array([0, np.inf, 1e-12, 1e9], np.float32))
    tally = Tally(4)
    tally.add(positions)
    n = tally.running()
    assert n is not None
    for counts in (n.histogram, histogram(positions.kl)):
        assert counts[0] == 2
        assert counts[-1] == 2
    assert n.verdict == "bad"


@pytest.mark.parametrize("size", [1, 64, 1000])
def test_median_confident_flips_chunks_and_depths(size: int) -> None:
    positions = makers.positions(n_chunks=12, per_chunk=90)
    n = fed(positions, size, edges=np.array([0, 30, 80, 90, 300])).running()
    assert n is not None
    s = summarise(positions, 91)
    kl = positions.kl.astype(np.float64).reshape(12, 90)
    assert n.numbers.kl_median == pytest.approx(np.median(kl))
    assert s.flips is not None
    assert n.numbers.confident_rate == pytest.approx(s.flips.confident.value)
    assert 0 < n.numbers.confident_rate < n.numbers.flip_rate
    assert n.numbers.confident_interval == pytest.approx(s.flips.confident.ci)
    np.testing.assert_allclose(n.chunks, kl.mean(axis=1))
    assert [(d.start, d.end) for d in n.depths] == [(0, 30), (30, 80), (80, 90)]
    for bucket in n.depths:
        assert bucket.kl_mean == pytest.approx(kl[:, bucket.start : bucket.end].mean())


def test_no_interval_of_confident_flips_where_one_looks_again_and_again() -> None:
    positions = makers.positions(n_chunks=12, per_chunk=90)
    n = fed(positions, 64, sureness=Sureness(KV_POLICY)).running()
    assert n is not None
    assert n.numbers.confident_interval is None
    assert n.depths == ()  # no edges were given


def test_of_many_positions_the_quantiles_are_looked_up_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mqf_tui.app.tally.MANY", 1000)
    positions = makers.positions(n_chunks=20, per_chunk=100)
    tally = Tally(2000)
    looked = [995]  # of how many positions; then whenever there are a hundredth more
    for n_scored in range(1000, 2001, 5):
        if n_scored >= 1.01 * looked[-1]:
            looked.append(n_scored)
    for end, piece in enumerate(pieces(positions, 5), 1):
        tally.add(piece)
        n = tally.running()
        assert n is not None
        kl = positions.kl[: 5 * end].astype(np.float64)
        exact = np.quantile(kl, 0.99), np.median(kl)
        if 5 * end < 1000:
            assert (n.numbers.kl_p99, n.numbers.kl_median) == pytest.approx(exact, rel=1e-5)
        else:
            of = max(m for m in looked if m <= 5 * end)
            known = np.quantile(positions.kl[:of].astype(np.float64), 0.99)
            assert n.numbers.kl_p99 == pytest.approx(known, rel=1e-5)
