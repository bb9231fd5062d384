"""Stopping when sure: the bound is the stated martingale's, and looking after each chunk does not cheat."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from mqf_tui.api import events
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.events import ChunkFinished, Finished, Stopped
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.sequences import (
    PRIOR,
    Moments,
    Split,
    component_levels,
    half_width,
    kl_bounds,
    rate_bounds,
)
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.fidelity.stopping import ALPHA, LEAST_CHUNKS, Sureness
from mqf_tui.fidelity.verdict import KV_POLICY, levels
from mqf_tui.reports.csv_report import to_csv
from mqf_tui.reports.html import to_html
from mqf_tui.reports.markdown import to_markdown
from mqf_tui.reports.text import verdict_words
from tests import makers
from tests.simulated import BITS_2, BITS_8, HEAVY, LENGTH, Shape, batches, draw

RUNS, MOST = 1000, 200


# The bound


def martingale(x: np.ndarray, mu: float, c2: float = PRIOR) -> float:
    n, s, v = len(x), np.sum(x - mu), np.sum((x - mu) ** 2)
    return float(np.sqrt(c2 / (n + c2)) * ((n + c2) * v / ((n + c2) * v - s**2)) ** (n / 2))


def test_the_martingale_is_the_mixture_integrated_numerically() -> None:
    """Normal likelihoods over the effect size (normal, variance 1/c²) and the scale (right Haar, dσ/σ)."""
    for seed, n in ((0, 3), (2, 12)):
        x, mu = np.random.default_rng(seed).normal(0.6, 1.3, n), 0.1

        def likelihood(log_sigma: float, effect: float, x: np.ndarray = x, mu: float = mu) -> float:
            z = (x - mu) / np.exp(log_sigma) - effect
            return float(np.exp(-0.5 * (z @ z) - len(x) * (log_sigma + 0.5 * np.log(2 * np.pi))))

        def weighted(log_sigma: float, effect: float, x: np.ndarray = x, mu: float = mu) -> float:
            prior = np.sqrt(PRIOR / (2 * np.pi)) * np.exp(-PRIOR * effect**2 / 2)
            return likelihood(log_sigma, effect, x, mu) * float(prior)

        mixed = integrate.dblquad(weighted, -15, 15, -5, 6, epsabs=0, epsrel=1e-6)[0]
        plain = integrate.quad(likelihood, -6, 6, args=(0.0,), epsabs=0, epsrel=1e-10)[0]
        assert martingale(x, mu) == pytest.approx(mixed / plain, rel=1e-4)


@pytest.mark.parametrize("n", [4, 5, 9, 40, 200])
@pytest.mark.parametrize("alpha", [0.05, 0.0125])
def test_half_width_is_where_the_martingale_reaches_one_over_alpha(n: int, alpha: float) -> None:
    x = np.random.default_rng(n).lognormal(-3, 0.5, n)
    half = float(half_width(n, np.std(x, ddof=1), alpha))

    def excess(distance: float) -> float:
        return np.log(martingale(x, x.mean() + distance)) + np.log(alpha)

    widest = 1.0
    while excess(widest) < 0:
        widest *= 2
    assert half == pytest.approx(optimize.brentq(excess, 0, widest, xtol=1e-14), rel=1e-6)


def test_the_martingale_keeps_its_promise_for_gaussian_chunks() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(2.0, 0.7, (2000, 200))
    n = np.arange(1, 201)
    means = np.cumsum(x, axis=1) / n
    deviations = np.array(
        [[np.std(row[: k + 1], ddof=1) if k else 1.0 for k in range(40)] for row in x[:500]]
    )
    missed = np.abs(means[:500, :40] - 2) > half_width(n[:40], deviations, ALPHA)
    assert missed.any(axis=1).mean() <= ALPHA


def test_bounds_bear_the_ends() -> None:
    assert np.isinf(half_width(1, 0.1, 0.05))
    assert np.isinf(half_width(2, 0.1, 0.05))  # two values say too little at this prior
    assert [float(b) for b in kl_bounds(9, 0.0, 0.0, 0.05)] == [0.0, 0.0]
    assert [float(b) for b in kl_bounds(9, np.inf, np.inf, 0.05)] == [0.0, np.inf]
    assert [float(b) for b in kl_bounds(1, 0.1, np.inf, 0.05)] == [0.0, np.inf]
    low, high = kl_bounds(50, 0.1, 0.02, 0.05)
    half = half_width(50, 0.02, 0.05)
    assert float(low) == pytest.approx(0.1 - half)
    assert float(high) == pytest.approx(0.1 * np.exp(half / 0.1))
    low, high = rate_bounds(100, 0.0, 0.0, 0.05, 0.01, 511)
    assert float(low) == 0.0
    assert float(high) == pytest.approx(float(half_width(100, np.sqrt(0.01 * 0.99 / 511), 0.05)))


def test_moments_are_those_of_the_rows_that_each_stream_had() -> None:
    rng = np.random.default_rng(6)
    rows, there = rng.lognormal(-3, 1, (40, 3, 2)), rng.random((40, 3)) < [0.2, 0.6, 1.0]
    rows[7, 1, 0], there[7, 1] = np.inf, True
    moments = Moments((3, 2))
    for row, present in zip(rows, there, strict=True):
        moments.add(row, present[:, None])
    for i in range(3):
        had = rows[there[:, i], i]
        assert moments.n[i].tolist() == [len(had)] * 2
        np.testing.assert_allclose(moments.means[i], had.mean(axis=0))
        for column in range(2):
            finite = np.isfinite(had[:, column]).all()
            expected = np.std(had[:, column], ddof=1) if finite else np.inf
            assert moments.deviations[i, column] == pytest.approx(expected)


@pytest.mark.parametrize("bad", [1 / 6, 1 / 4])
def test_alpha_is_enough_for_each_verdict_that_may_be_true(bad: float) -> None:
    """The union over all sequences whose failure rules it out: three lower bounds and the upper one of the
    number that makes the verdict."""
    split = Split.of_verdict(0.05, bad)
    good, marginal, worst = 3 * split.lower[0], split.upper[0] + 3 * split.lower[1], split.upper[1]
    assert max(good, marginal, worst) == pytest.approx(0.05)
    assert split.lower[1] <= split.lower[0]


def test_the_worst_of_the_three_numbers_makes_the_verdict() -> None:
    """By hand, from chunks without variation: bounds are the means, but for the floor of a rate."""
    split = Split.of_verdict(ALPHA)
    cases = {
        (0.001, 0.0, 0.0, 0.0): [0, 0, 0],
        (0.05, 0.0, 0.0, 0.0): [1, 0, 0],
        (0.5, 0.03, 0.0, 0.0): [2, 1, 0],
        (0.001, 0.2, 0.05, 0.0): [0, 2, 1],
        (0.001, 0.0, 0.05, 0.03): [0, 0, 2],
    }
    for means, expected in cases.items():
        found = np.array(means)
        least, most = component_levels(2000, found, 1e-9 * found, 511, KV_POLICY, split)
        assert least.tolist() == most.tolist() == expected


# The rule on positions


def chunk_of(log_kl: np.ndarray, flips: np.ndarray) -> Positions:
    positions = makers.positions(n_chunks=1, per_chunk=len(log_kl))
    top = np.zeros(len(log_kl), np.int32)
    return Positions.of(
        {
            **{n: getattr(positions, n) for n in ("chunk", "depth", "part", "token", "nll_ref", "nll_quant")},
            "kl": np.exp(log_kl).astype(np.float32),
            "top1_ref": top,
            "top1_quant": top + flips,
        }
    )


def test_the_rule_says_what_the_simulated_looks_say() -> None:
    """Sureness over positions, chunk by chunk, and the vectorised looks of the simulations below agree."""
    shape = HEAVY.with_flip_rate(0.03).with_kl_mean(0.05)
    chunks = draw(shape, 60, np.random.default_rng(9))
    rule = Sureness(KV_POLICY)
    looks = Looks(shape, rows_of(shape, chunks)[None])
    seen = []
    for k in range(60):
        rule.add(chunk_of(chunks.log_kl[:, k] + shape.centre, chunks.level[:, k] < shape.flip_level))
        least, most = int(looks.least[0, k]), int(looks.most[0, k])
        assert rule.possible == ("good", "marginal", "bad")[least : most + 1]
        assert rule.settled == bool(looks.settled[0, k])
        low, high = (float(b[0, k]) for b in looks.kl_bounds)
        assert rule.kl_interval == (pytest.approx((low, high), rel=1e-4) if high < np.inf else None)
        seen.append(len(rule.possible))
    assert len(set(seen)) > 1


def test_nothing_is_settled_before_chunks_are_added_nor_by_three() -> None:
    rule = Sureness(KV_POLICY)
    assert (rule.settled, rule.verdict, rule.kl_interval) == (False, None, None)
    for _ in range(LEAST_CHUNKS - 1):
        rule.add(chunk_of(np.full(511, 1.0), np.ones(511, bool)))
        assert not rule.settled
        assert rule.confidence("bad") is None
    rule.add(chunk_of(np.full(511, 1.0), np.ones(511, bool)))
    assert rule.settled
    assert rule.verdict == "bad"
    assert rule.confidence("marginal") is None
    sure = rule.confidence("bad")
    assert sure is not None
    assert (sure.good, sure.marginal, sure.bad, sure.method) == (0, 0, 1 - ALPHA, "anytime")


def test_infinite_kl_leaves_mean_kl_open_and_breaks_nothing() -> None:
    rule = Sureness(KV_POLICY, precision=0.1)
    for k in range(12):
        kl = np.full(100, -6.0)
        kl[0] = np.inf if k in (2, 5) else 0.0
        rule.add(chunk_of(kl, np.zeros(100, bool)))
    assert rule.kl_interval is None
    assert not rule.settled
    assert rule.flip_interval is not None
    assert np.isfinite(rule.flip_interval).all()


def test_chunks_that_agree_are_not_taken_for_certainty() -> None:
    """Four chunks without a flip do not show that fewer than 1 % flip."""
    rule = Sureness(KV_POLICY)
    for _ in range(4):
        rule.add(chunk_of(np.full(63, -9.0), np.zeros(63, bool)))
    assert rule.possible == ("good", "marginal", "bad")
    assert rule.flip_interval is not None
    assert rule.flip_interval[1] > 0.05


def test_a_sequence_that_rules_nothing_out_is_no_interval() -> None:
    rule = Sureness(KV_POLICY)
    for k in range(40):
        rule.add(chunk_of(np.full(63, -5.0 - k % 3), np.arange(63) < 3 + k % 3))
        if k < 2:  # two values say too little at this prior
            assert (rule.kl_interval, rule.flip_interval) == (None, None)
    assert rule.kl_interval is not None
    assert rule.flip_interval is not None
    assert 0 < rule.kl_interval[0] < rule.kl_interval[1] < np.inf
    assert rule.flip_interval[1] < 1


def test_both_waits_for_the_verdict_and_for_the_precision() -> None:
    """The looser of the two is reached first, and either may be that."""
    clear, close = BITS_2, BITS_8.with_flip_rate(0.004).with_kl_mean(0.0085)
    firsts = []
    for shape, precision in ((clear, 0.10), (close, 0.45)):
        chunks = draw(shape, 150, np.random.default_rng(5))
        rules = {
            "verdict": Sureness(KV_POLICY),
            "precision": Sureness(KV_POLICY, precision),
            "both": Sureness(KV_POLICY, precision, both=True),
        }
        first = dict.fromkeys(rules, 0)
        for k in range(150):
            positions = chunk_of(chunks.log_kl[:, k] + shape.centre, chunks.level[:, k] < shape.flip_level)
            for name, rule in rules.items():
                rule.add(positions)
                first[name] = first[name] or (k + 1) * rule.settled
        assert 0 < first["both"] == max(first["verdict"], first["precision"])
        assert rules["both"].kl_interval == rules["verdict"].kl_interval == rules["precision"].kl_interval
        assert (rules["both"].stopping().rule, rules["both"].stopping().precision) == ("both", precision)
        firsts.append(first["verdict"] < first["precision"])
    assert firsts == [True, False]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({}, None),
        ({"until_sure": True}, "verdict"),
        ({"precision": 0.1}, "precision"),
        ({"until_sure": True, "precision": 0.1}, "both"),
    ],
)
def test_the_rule_that_the_settings_ask_for(options: dict[str, Any], rule: str | None) -> None:
    made = Sureness.of(KVSettings("a model", **options))
    assert (made and made.stopping().rule) == rule


def test_precision_stops_at_the_half_width_asked_for() -> None:
    chunks = draw(BITS_8, 150, np.random.default_rng(2))
    rule = Sureness(KV_POLICY, precision=0.15)
    kl = []
    for k in range(150):
        rule.add(chunk_of(chunks.log_kl[:, k] + BITS_8.centre, chunks.level[:, k] < BITS_8.flip_level))
        kl.append(np.exp(chunks.log_kl[:, k].astype(float) + BITS_8.centre).mean())
        low, high = rule.kl_interval or (0.0, np.inf)
        assert rule.settled == (k + 1 >= LEAST_CHUNKS and (high - low) / 2 <= 0.15 * np.mean(kl))
        if rule.settled:
            break
    assert 4 < rule.n_chunks < 150
    assert rule.stopping().rule == "precision"


# Simulated runs


def rows_of(shape: Shape, chunks: object) -> np.ndarray:
    """The four means of each chunk (chunks, 4)."""
    tails = [chunks.past(shape, limit) for limit in KV_POLICY.kl_p99]  # type: ignore[attr-defined]
    return np.column_stack([chunks.sums(shape), *tails]) / LENGTH  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Looks:
    """What is said after each chunk of each run; ``rows`` (runs, chunks, 4)."""

    shape: Shape
    rows: np.ndarray

    @cached_property
    def n(self) -> np.ndarray:
        return np.arange(1, self.rows.shape[1] + 1)

    @cached_property
    def means(self) -> np.ndarray:
        return np.cumsum(self.rows, axis=1) / self.n[:, None]

    @cached_property
    def deviations(self) -> np.ndarray:
        squares = np.cumsum(self.rows**2, axis=1) / self.n[:, None] - self.means**2
        factor = self.n / np.maximum(self.n - 1, 1)
        return np.where(self.n[:, None] > 1, np.sqrt(np.maximum(squares * factor[:, None], 0)), np.inf)

    @cached_property
    def kl_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return kl_bounds(self.n, self.means[..., 0], self.deviations[..., 0], ALPHA / 2)

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        split = Split.of_verdict(ALPHA)
        found = component_levels(self.n, self.means, self.deviations, LENGTH, KV_POLICY, split)
        return found[0].max(axis=-1), found[1].max(axis=-1)

    @property
    def least(self) -> np.ndarray:
        return self.bounds[0]

    @property
    def most(self) -> np.ndarray:
        return self.bounds[1]

    @property
    def settled(self) -> np.ndarray:
        return (self.least == self.most) & (self.n >= LEAST_CHUNKS)

    @property
    def truth(self) -> int:
        three = np.array([[self.shape.kl_mean], [self.shape.kl_quantile(0.99)], [self.shape.flip_rate]])
        return int(levels(*three, KV_POLICY)[0])

    def wrong(self, settled: np.ndarray, said: np.ndarray) -> tuple[float, float, float]:
        """Of all runs: the share that stop on a wrong verdict, that stop, and the median chunks of these."""
        stops = settled.any(axis=1)
        first = settled.argmax(axis=1)
        wrong = stops & (said[np.arange(len(first)), first] != self.truth)
        return (
            float(wrong.mean()),
            float(stops.mean()),
            float(np.median(first[stops] + 1)) if stops.any() else 0.0,
        )

    def wrong_when_sure(self) -> tuple[float, float, float]:
        return self.wrong(self.settled, self.least)

    def wrong_by_fixed_intervals(self) -> tuple[float, float, float]:
        """As above, had the usual 95 % t intervals been looked at after each chunk."""
        half = stats.t.ppf(0.975, np.maximum(self.n - 1, 1)) / np.sqrt(self.n)
        least = most = np.zeros(self.means.shape[:2], np.int64)
        limits = (KV_POLICY.kl_mean, KV_POLICY.flip_rate, (0.01, 0.01))
        for columns, pair in zip(((0, 0), (1, 1), (2, 3)), limits, strict=True):
            low = high = np.zeros_like(least)
            for column, limit in zip(columns, pair, strict=True):
                least_deviation = 0.0 if column == 0 else np.sqrt(limit * (1 - limit) / LENGTH)
                reach = half * np.maximum(self.deviations[..., column], least_deviation)
                low = low + (self.means[..., column] - reach > limit)
                high = high + (self.means[..., column] + reach > limit)
            least, most = np.maximum(least, low), np.maximum(most, high)
        return self.wrong((least == most) & (self.n >= LEAST_CHUNKS), least)


@cache
def truths(shape: Shape) -> dict[str, Shape]:
    """The shape as it is, and with one number 5 % to either side of each limit of the verdict."""
    good, marginal = shape.with_flip_rate(0.004), shape.with_flip_rate(0.03)
    quiet = shape.with_kl_mean(0.0005)
    found = {"as fitted": shape}
    for share, side in ((0.95, "under"), (1.05, "over")):
        found[f"mean KL {side} 0.01"] = good.with_kl_mean(0.01 * share)
        found[f"mean KL {side} 0.10"] = marginal.with_kl_mean(0.10 * share)
        found[f"p99 {side} 0.1"] = good.with_p99(0.1 * share)
        found[f"p99 {side} 1"] = marginal.with_p99(1.0 * share)
        found[f"flips {side} 1 %"] = quiet.with_flip_rate(0.01 * share)
        found[f"flips {side} 5 %"] = quiet.with_flip_rate(0.05 * share)
    return found


@cache
def _rows(shape: Shape) -> dict[str, np.ndarray]:
    wanted = truths(shape)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    for chunks in batches(shape, RUNS * MOST, seed=7):
        for name, truth in wanted.items():
            rows[name].append(rows_of(truth, chunks).astype(np.float32))
    return {name: np.concatenate(found) for name, found in rows.items()}


def simulated(shape: Shape, name: str = "as fitted") -> Looks:
    """RUNS runs of MOST chunks; those of one shape are the same draws, and differ in levels only."""
    return Looks(truths(shape)[name], _rows(shape)[name].astype(np.float64).reshape(RUNS, MOST, 4))


SHAPES = pytest.mark.parametrize("shape", [BITS_8, HEAVY, BITS_2], ids=["8-bit", "heavy", "2-bit"])


@pytest.mark.slow
@SHAPES
@pytest.mark.parametrize("name", list(truths(BITS_8)))
def test_a_settled_verdict_is_wrong_in_at_most_5_percent_of_runs(shape: Shape, name: str) -> None:
    assert simulated(shape, name).wrong_when_sure()[0] <= ALPHA


@pytest.mark.slow
def test_clear_runs_are_settled_early_and_close_ones_late() -> None:
    _, stopped, chunks = simulated(BITS_2).wrong_when_sure()
    assert stopped == 1
    assert chunks == LEAST_CHUNKS
    _, stopped, chunks = simulated(BITS_8).wrong_when_sure()
    assert stopped > 0.7
    assert 40 < chunks < 150


@pytest.mark.slow
def test_looking_at_fixed_intervals_after_each_chunk_would_cheat() -> None:
    """The same runs tell a wrong method: it stops on a wrong verdict in far more than 5 % of them."""
    for name in ("p99 over 0.1", "flips over 1 %", "flips over 5 %"):
        assert simulated(HEAVY, name).wrong_by_fixed_intervals()[0] > 2 * ALPHA
    assert simulated(BITS_8, "mean KL over 0.10").wrong_by_fixed_intervals()[0] > ALPHA


@pytest.mark.slow
@SHAPES
def test_the_sequence_of_mean_kl_holds_the_truth_at_all_looks_together(shape: Shape) -> None:
    """At α/2, the share of each of the two intervals in a report."""
    looks = simulated(shape)
    low, high = kl_bounds(looks.n, looks.means[..., 0], looks.deviations[..., 0], ALPHA / 2)
    held = ((low <= shape.kl_mean) & (shape.kl_mean <= high)).all(axis=1)
    assert held.mean() >= 1 - ALPHA
    half = stats.t.ppf(0.975, np.maximum(looks.n - 1, 1)) / np.sqrt(looks.n) * looks.deviations[..., 0]
    fixed = (np.abs(looks.means[..., 0] - shape.kl_mean) <= half)[:, LEAST_CHUNKS - 1 :].all(axis=1)
    assert fixed.mean() < 0.7


@pytest.mark.slow
@SHAPES
@pytest.mark.parametrize("precision", [0.15, 0.25])
def test_the_interval_at_the_precision_asked_for_holds_the_truth(shape: Shape, precision: float) -> None:
    looks = simulated(shape)
    low, high = kl_bounds(looks.n, looks.means[..., 0], looks.deviations[..., 0], ALPHA / 2)
    done = ((high - low) / 2 <= precision * looks.means[..., 0]) & (looks.n >= LEAST_CHUNKS)
    stops, first = done.any(axis=1), done.argmax(axis=1)
    every = np.arange(RUNS)
    held = (low[every, first] <= shape.kl_mean) & (shape.kl_mean <= high[every, first])
    assert stops.mean() > 0.5
    assert held[stops].mean() >= 1 - ALPHA


@pytest.mark.slow
def test_chunks_of_64_tokens_are_skewed_and_still_held() -> None:
    rows = np.concatenate([c.sums(HEAVY)[:, 0] for c in batches(HEAVY, RUNS * MOST, seed=8, length=63)]) / 63
    looks = Looks(HEAVY, np.repeat(rows.reshape(RUNS, MOST, 1), 4, axis=2))
    low, high = kl_bounds(looks.n, looks.means[..., 0], looks.deviations[..., 0], ALPHA / 2)
    assert ((low <= HEAVY.kl_mean) & (HEAVY.kl_mean <= high)).all(axis=1).mean() >= 1 - ALPHA
    symmetric = looks.means[..., 0] + half_width(looks.n, looks.deviations[..., 0], ALPHA / 2)
    assert (HEAVY.kl_mean <= symmetric).all(axis=1).mean() < 1 - ALPHA  # why the bound is on a log scale


# A whole measurement


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A model and a text of which 8 bits make something good, or nearly."""
    folder = makers.model_folder(tmp_path_factory.mktemp("stopping") / "tiny-llama")
    corpus = makers.text_file(folder.parent / "notes.txt", 3000)
    return {"model": str(folder), "kv_bits": 8, "chunk_length": 32, "corpus": str(corpus)}


@pytest.mark.parametrize("n_chunks", [1, 2, 3, 5])
@pytest.mark.parametrize("more", [{"until_sure": True}, {"precision": 0.001}])
def test_what_was_not_settled_claims_nothing(
    tiny: dict[str, Any], more: dict[str, Any], n_chunks: int
) -> None:
    *_, last = events(KVSettings(**tiny, max_chunks=n_chunks, **more))
    assert isinstance(last, Finished)
    r = last.report
    assert r.stopping is not None
    assert not r.stopping.settled
    assert r.confidence is None
    assert verdict_words(r) == f"{r.verdict}, not settled"
    assert any(f"only {'one' if n_chunks == 1 else n_chunks} chunk" in doubt for doubt in r.warnings)
    shown = "".join((to_markdown(r), to_html(r, None), to_csv([r])))
    assert not re.search(r"\binf\b", shown)
    if n_chunks <= 2:
        assert (r.kl.ci_low, r.kl.ci_high, r.flip_ci_low, r.flip_ci_high) == (None,) * 4
        assert "no interval yet" in to_markdown(r)


def test_what_was_stopped_before_it_was_settled_claims_nothing(tiny: dict[str, Any]) -> None:
    control = Control()
    for event in events(KVSettings(**tiny, until_sure=True), control):
        if isinstance(event, ChunkFinished) and event.chunk == 2:
            control.stop()
        if isinstance(event, Stopped):
            report = event.report
    assert report is not None
    assert report.partial
    assert report.n_chunks >= 3
    assert report.confidence is None
    assert verdict_words(report).endswith(", not settled")


@pytest.mark.slow
def test_a_measurement_until_sure_ends_and_reports_by_the_rule(demo_model: Path) -> None:
    """8 bits on the demo model: good, at the end of a round of the five parts, bounds by the martingale."""
    looks: list[bool] = []
    finished: Finished | None = None
    for event in events(KVSettings(str(demo_model), kv_bits=8, max_chunks=35, until_sure=True)):
        if isinstance(event, ChunkFinished):
            assert event.stopping is not None
            looks.append(event.stopping.settled)
        if isinstance(event, Finished):
            finished = event
    assert finished is not None
    report, positions = finished.report, finished.positions
    assert report.stopping is not None
    assert report.verdict == "good"
    assert report.stopping.settled
    assert looks[-1]
    assert not any(looks[4:-1:5])  # it would have ended at an earlier round
    assert len(looks) == report.n_chunks < report.n_chunks_planned
    assert report.n_chunks % 5 == 0
    assert report.confidence is not None
    assert (report.confidence.good, report.confidence.method) == (0.95, "anytime")
    kl = positions.kl.astype(np.float64).reshape(report.n_chunks, LENGTH).mean(axis=1)
    assert report.kl.ci_low is not None
    assert report.kl.ci_high is not None
    # The lower bound is where the martingale reaches 2/α, the upper one that distance on a log scale.
    assert martingale(kl, report.kl.ci_low) == pytest.approx(2 / ALPHA, rel=1e-6)
    half = kl.mean() - report.kl.ci_low
    assert report.kl.ci_high == pytest.approx(kl.mean() * np.exp(half / kl.mean()), rel=1e-9)
    assert report.flip_ci_low is not None
    assert report.flip_ci_high is not None
    assert report.flip_ci_low <= report.flip_rate <= report.flip_ci_high <= 0.01
