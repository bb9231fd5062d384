"""What has to hold of any positions and any logits, on examples that Hypothesis makes up."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mqf_tui.app.tally import Tally
from mqf_tui.fidelity.bootstrap import BINS, ClusterBootstrap
from mqf_tui.fidelity.intervals import Clusters
from mqf_tui.fidelity.metrics import position_metrics
from mqf_tui.fidelity.positions import ARRAYS, Positions
from mqf_tui.fidelity.statistics import Summary, summarise
from mqf_tui.reports.schema import Estimate, Group
from tests.test_oracles import differences, make, mixed, plain

examples = settings(max_examples=40, deadline=None, derandomize=True, database=None)
LENGTH = 65


@st.composite
def positions(draw: st.DrawFn, infinite: bool = True, least_chunks: int = 1) -> Positions:
    """Up to 12 chunks of up to 64 positions: heavy tails, ties, zeros, infinities, flips of all shares."""
    sizes = draw(st.lists(st.integers(1, 64), min_size=least_chunks, max_size=12))
    names = draw(st.permutations(range(50)).map(lambda order: list(order[: len(sizes)])))
    p = make(sizes, draw(st.integers(0, 10_000)), names=names)
    values = [0.0, 1e-7, 0.01, 0.1, 5.0] + ([math.inf] if infinite else [])
    odd = draw(st.lists(st.tuples(st.integers(0, len(p) - 1), st.sampled_from(values)), max_size=30))
    kl = p.kl.copy()
    for where, value in odd:
        kl[where] = value
    share = draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))
    flip = np.random.default_rng(len(p)).random(len(p)) < share
    quant = np.where(flip, (p.top1_ref + 1) % 4, p.top1_ref).astype(np.int32)
    return replace(p, kl=kl, top1_quant=quant)


def summed(p: Positions) -> Summary:
    return summarise(p, LENGTH)


@examples
@given(positions(), st.integers(0, 1000))
def test_the_order_of_positions_does_not_matter(p: Positions, seed: int) -> None:
    """Not for the bootstrap either: chunks are drawn by their names' order."""
    assert differences(plain(summed(mixed(p, seed))), plain(summed(p))) == []


@examples
@given(positions(), st.randoms(use_true_random=False))
def test_the_order_of_whole_chunks_does_not_matter(p: Positions, random: Any) -> None:
    names = sorted(set(p.chunk.tolist()))
    random.shuffle(names)
    shuffled = Positions.concatenate([p.where(p.chunk == name) for name in names])
    assert differences(plain(summed(shuffled)), plain(summed(p))) == []


@examples
@given(positions(least_chunks=2))
def test_the_names_of_chunks_do_not_matter(p: Positions) -> None:
    """As long as their order stays: another order is other draws of the bootstrap."""
    renamed = replace(p, chunk=(p.chunk * 7 - 100).astype(np.int32))
    assert differences(plain(summed(renamed)), plain(summed(p))) == []


@examples
@given(positions(), st.data())
def test_pieces_put_together_equal_the_whole(p: Positions, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(p)), max_size=6)))
    bounds = zip([0, *cuts], [*cuts, len(p)], strict=True)
    pieces = [p.where(np.arange(a, b)) for a, b in bounds]
    whole = Positions.concatenate(pieces)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(whole, name), getattr(p, name))
    s, tally = summed(p), Tally(len(p))
    for piece in pieces:
        tally.add(piece)
    running = tally.running()
    assert running is not None
    n = running.numbers
    interval = None if s.kl.ci_low is None else (s.kl.ci_low, s.kl.ci_high)
    expected = [s.kl.mean, interval, s.kl.p99, s.flip_rate, s.flip_interval]
    expected += [s.perplexity_delta, s.perplexity.delta_ci]
    got = [n.kl_mean, n.kl_interval, n.kl_p99, n.flip_rate, n.flip_interval]
    got += [n.perplexity_delta, n.perplexity_interval]
    assert differences(plain(got), plain(expected)) == []
    assert (running.n, running.verdict) == (s.n_positions, s.verdict)


@examples
@given(positions())
def test_groups_add_up_to_the_whole(p: Positions) -> None:
    s = summed(p)
    for groups in (s.by_depth, s.by_part, s.by_entropy, s.by_token_class):
        n = np.array([g.n_positions for g in groups])
        assert n.sum() == len(p)
        assert n @ [g.kl_mean for g in groups] / len(p) == pytest.approx(s.kl.mean)
        assert n @ [g.flip_rate for g in groups] / len(p) == pytest.approx(s.flip_rate)


@examples
@given(positions())
def test_figures_are_where_they_can_be(p: Positions) -> None:
    s = summed(p)
    figures = [s.kl.median, s.kl.p90, s.kl.p95, s.kl.p99, s.kl.p999, s.kl.max]
    assert figures == sorted(figures, key=float)
    percentiles = list(s.delta_p.percentiles.values())
    assert percentiles == sorted(percentiles)
    assert -1 <= percentiles[0] <= percentiles[-1] <= 1
    assert abs(s.delta_p.mean.value) <= s.delta_p.rms.value * (1 + 1e-12)
    assert s.kl.worst_share is None or 0 < s.kl.worst_share <= 1 + 1e-12
    assert s.flips is not None
    assert s.flips.lost + s.flips.gained + s.flips.changed == np.count_nonzero(p.flip)
    assert s.flips.longest_run <= np.count_nonzero(p.flip)
    assert 0 <= s.flips.mcnemar_p <= 1
    assert max(s.flips.confident.value, s.flips.near_tie.value) <= s.flip_rate
    if s.confidence is not None:
        assert s.confidence.good + s.confidence.marginal + s.confidence.bad == pytest.approx(1)


@examples
@given(positions())
def test_intervals_hold_their_estimates_and_rates_stay_rates(p: Positions) -> None:
    s = summed(p)
    assert s.flips is not None
    rates = [s.flips.confident, s.flips.near_tie, s.flips.top5_agreement]
    rates.append(Estimate(value=s.flip_rate, ci=s.flip_interval))
    groups: list[Group] = [*s.by_depth, *s.by_part, *s.by_entropy, *s.by_token_class]
    rates += [Estimate(value=g.flip_rate, ci=g.flip_ci) for g in groups]
    for rate in rates:
        assert 0 <= rate.value <= 1
        assert rate.ci is None or 0 <= rate.ci[0] <= rate.value <= rate.ci[1] <= 1
    means = [
        s.delta_p.mean,
        s.delta_p.rms,
        s.perplexity.ratio,
        s.perplexity.ln_ratio,
        s.flips.accuracy_change,
    ]
    means.append(Estimate(value=s.perplexity_delta, ci=s.perplexity.delta_ci))
    means += [
        Estimate(value=g.kl_mean, ci=None if g.ci_low is None or g.ci_high is None else (g.ci_low, g.ci_high))
        for g in groups
    ]
    for mean in means:
        if mean.ci is not None:
            room = 1e-9 * max(1, abs(mean.value))
            assert mean.ci[0] - room <= mean.value <= mean.ci[1] + room
    one = s.n_chunks == 1
    assert (s.flip_interval is None) == one
    assert (s.confidence is None) == one
    assert (s.kl.p99_ci is None) == one


@examples
@given(positions(infinite=False), st.floats(0.01, 100))
def test_kl_in_another_unit_is_only_that(p: Positions, factor: float) -> None:
    scaled = summed(replace(p, kl=(p.kl * np.float32(factor))))
    s = summed(p)
    for name in ("mean", "median", "p90", "p99", "p999", "max", "ci_low", "ci_high"):
        one, other = getattr(s.kl, name), getattr(scaled.kl, name)
        assert (one is None and other is None) or other == pytest.approx(one * factor, rel=1e-4, abs=1e-7)
    if s.kl.worst_share is not None and scaled.kl.worst_share is not None:
        assert scaled.kl.worst_share == pytest.approx(s.kl.worst_share, rel=1e-4)


@settings(examples, max_examples=12)
@given(st.integers(2, 12), st.integers(BINS + 1, 12_000), st.integers(0, 100))
def test_bootstrap_of_many_positions_is_within_its_bins(n_chunks: int, n: int, seed: int) -> None:
    """Beyond BINS positions ranks are found to within n/BINS, and in the tail finer."""
    rng = np.random.default_rng(seed)
    chunk = np.sort(rng.integers(0, n_chunks, n))
    values = rng.permutation(n).astype(np.float32)  # each value is its rank
    clusters = Clusters.of(chunk)
    if clusters.n_clusters < 2:
        return
    draws = ClusterBootstrap(clusters, replicates=30, seed=seed)
    found = draws.percentiles(values, [0.5, 0.9, 0.99, 0.999])
    times = np.random.default_rng(seed).multinomial(
        clusters.n_clusters - 1, [1 / clusters.n_clusters] * clusters.n_clusters, 30
    )
    for row, drawn in zip(found, times, strict=True):
        whole = np.concatenate([np.repeat(values[clusters.index == g], k) for g, k in enumerate(drawn)])
        exact = np.quantile(whole, [0.5, 0.9, 0.99, 0.999])
        # One bin of ranks, and what interpolation between neighbours of a drawn sample may add.
        gap = n / BINS + 2 + np.abs(np.diff(np.sort(whole))).max()
        np.testing.assert_allclose(row, exact, rtol=0, atol=gap)


def logits(size: int = 9) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float32, (3, size), elements=st.floats(-40, 40, width=32))


def measured(ref: np.ndarray, quant: np.ndarray, targets: list[int]) -> dict[str, np.ndarray]:
    found = position_metrics(mx.array(ref), mx.array(quant), mx.array(targets))
    return {name: np.array(values) for name, values in found._asdict().items()}


targets = st.lists(st.integers(0, 8), min_size=3, max_size=3)


@examples
@given(logits(), targets)
def test_identical_distributions_give_exactly_nothing(r: np.ndarray, t: list[int]) -> None:
    m = measured(r, r.copy(), t)
    assert not m["kl"].any()
    assert not m["delta_p"].any()
    assert np.array_equal(m["top1_ref"], m["top1_quant"])


@examples
@given(logits(), logits(), targets)
def test_any_logits_give_numbers_in_their_ranges(r: np.ndarray, q: np.ndarray, t: list[int]) -> None:
    m = measured(r, q, t)
    assert (m["kl"] >= 0).all()
    assert (m["entropy"] >= 0).all()
    assert (m["entropy"] <= np.log(9) + 1e-5).all()
    for name in ("prob_ref", "prob_quant"):
        assert ((m[name] >= 1 / 9 - 1e-6) & (m[name] <= 1)).all()
    assert ((m["margin"] >= 0) & (m["margin"] <= m["prob_ref"] + 1e-6)).all()
    assert (np.abs(m["delta_p"]) <= 1).all()
    assert (m["nll_ref"] >= -1e-6).all()
    # Pinsker's inequality: Σ|p - q| ≤ sqrt(2 KL), and one token's part of it is at most half.
    assert (np.abs(m["delta_p"]) <= np.sqrt(m["kl"] / 2) + 1e-3).all()


@examples
@given(logits(), logits(), targets, st.floats(-200, 200, width=16), st.floats(-200, 200, width=16))
def test_a_shift_of_all_logits_changes_nothing(
    r: np.ndarray, q: np.ndarray, t: list[int], up: float, down: float
) -> None:
    # Sums of small multiples of 1/16 are exact in float32, so that ties stay ties.
    r, q = np.round(r * 16) / 16, np.round(q * 16) / 16
    one = measured(r, q, t)
    shifts = np.float32(round(up)), np.float32(round(down))
    other = measured(r + shifts[0], q + shifts[1], t)
    for name, values in one.items():
        np.testing.assert_allclose(other[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


@examples
@given(logits(), logits(), targets, st.permutations(range(9)))
def test_the_order_of_the_vocabulary_changes_nothing(
    r: np.ndarray, q: np.ndarray, t: list[int], order: list[int]
) -> None:
    place = np.argsort(order)
    one, other = measured(r, q, t), measured(r[:, order], q[:, order], place[t].tolist())
    for name in ("kl", "nll_ref", "nll_quant", "entropy", "prob_ref", "prob_quant", "margin", "delta_p"):
        np.testing.assert_allclose(other[name], one[name], rtol=1e-5, atol=1e-5, err_msg=name)
