"""A race drops what is surely bad or surely worse, hardly ever anything else, and says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from mqf_tui.api import sweep_events
from mqf_tui.fidelity.events import ChunkFinished, Dropped, Finished, Started, Swept
from mqf_tui.fidelity.quantizers import LayerQuantizers, Quantizer, parsed
from mqf_tui.fidelity.racing import BAD, SETTLED, Race, shares, words
from mqf_tui.fidelity.recipes import Recipe
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.stopping import ALPHA, LEAST_CHUNKS
from mqf_tui.reports.text import stopping_words
from tests import makers
from tests.simulated import BITS_2, BITS_8, HEAVY, Shape
from tests.simulated_sweep import DEARER, SMOLLM2, Shared, Sweep, truth
from tests.test_stopping import chunk_of, martingale

LENGTH = 200
ALIKE = Shared(within=0.75, between=0.9, flips=0.3)
APART = Shared(within=0, between=0, flips=0)


def settings(*formats: str, **more: Any) -> list[KVSettings]:
    return [KVSettings("a model", kv=parsed(one), **more) for one in formats]


def means(kl: float, flips: float, past: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    return np.array([kl, flips, *past])


def added(race: Race, chunks: np.ndarray, still: Mapping[int, Any] | None = None) -> None:
    """Give a race chunk means (chunks, settings, 4)."""
    for chunk in chunks:
        chosen = range(len(chunk)) if still is None else still
        race.add_means({i: chunk[i] for i in chosen}, dict.fromkeys(chosen, LENGTH))


def drawn(levels: list[tuple[float, float]], n_chunks: int, seed: int = 0) -> np.ndarray:
    """Chunk means of settings of these (mean KL, flip rate): hard chunks are hard for all."""
    rng = np.random.default_rng(seed)
    hard = rng.lognormal(0, 0.2, (n_chunks, 1))
    kl, flips = np.array(levels).T
    own = rng.lognormal(0, 0.05, (n_chunks, len(levels)))
    counted = rng.binomial(LENGTH, np.minimum(flips * hard, 1)) / LENGTH
    return np.stack([kl * hard * own, counted, np.zeros_like(own), np.zeros_like(own)], axis=-1)


# What leaves, and why


def test_positions_and_their_means_are_the_same_race() -> None:
    rng = np.random.default_rng(1)
    races = Race(settings("8g64", "2g64"), [8.5, 2.5]), Race(settings("8g64", "2g64"), [8.5, 2.5])
    for _ in range(12):
        log_kl, flips = rng.normal([[-7], [1]], 1, (2, LENGTH)), rng.random((2, LENGTH)) < [[0.0], [0.6]]
        races[0].add({i: chunk_of(log_kl[i], flips[i]) for i in range(2)})
        kl = np.exp(log_kl).astype(np.float32)
        races[1].add_means(
            {
                i: means(kl[i].mean(), flips[i].mean(), ((kl[i] > 0.1).mean(), (kl[i] > 1).mean()))
                for i in (0, 1)
            },
            {0: LENGTH, 1: LENGTH},
        )
        assert races[0].out() == races[1].out()
    assert races[0].out()[1] == BAD


def test_what_is_surely_bad_leaves() -> None:
    race = Race(settings("8g64", "4g64", "2g64"), [8.5, 4.5, 2.5])
    added(race, drawn([(0.0005, 0.001), (0.03, 0.03), (1.0, 0.5)], 10))
    assert race.out() == {2: BAD}


def test_what_is_dominated_leaves_and_says_by_what() -> None:
    """4-bit keys and 8-bit values take as much as the other way round: worse, though not bad."""
    race = Race(settings("8g64", "k8v4g64", "k4v8g64"), [8.5, 6.5, 6.5])
    added(race, drawn([(0.001, 0.02), (0.02, 0.03), (0.03, 0.03)], 60))
    said = "surely worse than 8-bit keys, 4-bit values, group 64, which takes no more memory"
    assert race.out() == {0: SETTLED, 1: SETTLED, 2: said}


def test_a_setting_that_left_still_counts_against_those_that_are_worse() -> None:
    race = Race(settings("4g64", "k4v8g64"), [4.5, 6.5])
    chunks = drawn([(0.02, 0.03), (0.03, 0.03)], 60)
    added(race, chunks[:40])
    added(race, chunks[40:], {1: ""})
    assert race.out()[1].startswith("surely worse than 4-bit, group 64")
    assert 0 not in race.out()


def test_more_memory_for_a_lower_kl_is_never_worse() -> None:
    race = Race(settings("8g64", "6g64", "4g64"), [8.5, 6.5, 4.5])
    added(race, drawn([(0.002, 0.02), (0.02, 0.03), (0.04, 0.03)], 60))
    assert set(race.out().values()) <= {SETTLED}


def test_a_higher_kl_with_a_better_verdict_stays() -> None:
    """Flips decide the verdict here, and they say the opposite of KL: the cheapest good one is the second."""
    race = Race(settings("k8v4g64", "k4v8g64"), [6.5, 6.5])
    chunks = drawn([(0.001, 0.03), (0.002, 0.0)], 200)
    added(race, chunks)
    assert 1 not in race.out() or race.out()[1] == SETTLED
    # With flips that agree with KL it would have left.
    other = Race(settings("k8v4g64", "k4v8g64"), [6.5, 6.5])
    added(other, drawn([(0.001, 0.0), (0.002, 0.03)], 200))
    assert other.out()[1].startswith("surely worse")


def test_one_quantizer_measured_in_two_ways_is_no_alternative() -> None:
    pair = [*settings("4g64"), *settings("4g64", kernel="emulated")]
    chunks = drawn([(0.03, 0.03), (0.02, 0.03)], 60)
    race, compared = Race(pair, [4.5, 4.5]), Race(settings("4g64", "k4v4g32"), [4.5, 4.5])
    added(race, chunks)
    added(compared, chunks)
    assert compared.out()[0].startswith("surely worse")
    assert set(race.out().values()) <= {SETTLED}


def test_both_are_settled_when_verdicts_and_order_are() -> None:
    apart, close = drawn([(0.002, 0.02), (0.02, 0.02)], 60), drawn([(0.02, 0.02), (0.02, 0.02)], 60)
    for chunks, over in ((apart, True), (close, False)):
        race = Race(settings("8g64", "6g64"), [8.5, 6.5])
        ends = []
        for k in range(len(chunks)):
            added(race, chunks[k : k + 1])
            ends.append(race.out() == {0: SETTLED, 1: SETTLED})
        assert not any(ends[: LEAST_CHUNKS - 1])
        assert ends[-1] == over


def test_what_is_decided_leaves_the_text_to_the_undecided() -> None:
    """The two cheaper ones cannot be told apart, and whether the third is good is on the edge."""
    race = Race(settings("8g64", "6g64", "4g64", "k4v3g64"), [8.5, 6.5, 4.5, 4.0])
    chunks = drawn([(0.0001, 0.001), (0.002, 0.01), (0.03, 0.03), (0.03, 0.03)], 60)
    added(race, chunks[:40])
    assert race.out() == {0: SETTLED}
    added(race, chunks[40:], {1: "", 2: "", 3: ""})
    assert race.out() == {}


@pytest.mark.parametrize(("cheaper", "dearer"), [("5g32", "6g64"), ("4g32", "5g64")])
def test_what_takes_less_in_a_16_bit_cache_is_not_worse_for_nothing(
    tmp_path: Path, cheaper: str, dearer: str
) -> None:
    """As run on a CPU device scales have 4 bytes, and small groups take as much as one more bit or more."""
    folder = makers.model_folder(tmp_path / "tiny-llama")
    base = KVSettings(str(folder), chunk_length=32, max_chunks=1)
    variants = tuple(replace(base, kv=parsed(word)) for word in (cheaper, dearer))
    events = sweep_events(SweepSettings(variants, race=True))
    plans = next(event.plans for event in events if isinstance(event, Started))
    events.close()
    for i, word in enumerate((cheaper, dearer)):
        bits, group = map(int, word.split("g"))
        numbers = makers.LAYERS * makers.KV_HEADS * 2 * makers.HEAD_DIM
        at_2, at_4 = (numbers * (bits / 8 + 2 * n / group) for n in (2, 4))
        assert plans[i].kv_bytes.variant_16bit == at_2
        assert plans[i].kv_bytes.variant in (at_2, at_4)  # on a CPU device the second
    race = Race.of(plans)
    added(race, drawn([(0.03, 0.03), (0.02, 0.03)], 60))
    assert set(race.out().values()) <= {SETTLED}


def test_nothing_is_said_of_nothing_nor_of_an_infinite_mean() -> None:
    race = Race(settings("8g64", "6g64"), [8.5, 6.5])
    assert race.out() == {}
    chunks = drawn([(0.02, 0.02), (0.002, 0.02)], 60)
    chunks[3, 0, 0] = chunks[5, :, 0] = np.inf
    with np.errstate(all="raise"):
        added(race, chunks)
        assert race.out() == {}


# How sure


@pytest.mark.parametrize("ratio", [1.02, 1.2, 2.0])
def test_worse_is_said_when_the_martingale_of_the_differences_says_so(ratio: float) -> None:
    """By the definition: α/2 for comparisons, half of it for KL; the distance by root finding."""
    chunks = drawn([(0.03, 0.03), (0.03 * ratio, 0.03)], 80, seed=3)
    race, said, expected = Race(settings("k8v4g64", "k4v8g64"), [6.5, 6.5]), [], []
    for k in range(80):
        added(race, chunks[k : k + 1])
        said.append(any(why.startswith("surely worse") for why in race.out().values()))
        x, y = chunks[: k + 1, 1, 0], chunks[: k + 1, 0, 0]
        expected.append(k + 1 >= 30 and _above(x, y, ALPHA / 4))
    # Before the 30th chunk it is the verdicts that are not settled yet.
    assert said[29:] == expected[29:]
    assert any(said) == (ratio > 1.1)


def _above(x: np.ndarray, y: np.ndarray, alpha: float) -> bool:
    d = x - y

    def excess(distance: float) -> float:
        return float(np.log(martingale(d, d.mean() - distance)) + np.log(alpha))

    widest = 1e-6
    while excess(widest) < 0:
        widest *= 2
    half = float(optimize.brentq(excess, 0, widest))
    of_y = half * min(1, np.std(y) / np.std(d)) / y.mean()
    return bool(d.mean() > half + y.mean() * (np.exp(of_y) - 1 - of_y))


def test_the_shares_of_alpha_are_those_of_the_module() -> None:
    kernels = ["auto", "auto", "emulated", "auto", "auto"]
    found = shares(kernels, np.array([8.5, 4.5, 4.5, 6.5, 4.5]), 0.03)
    order = [1, 4, 3, 0]  # by memory, equal ones as they were named; without the emulated one
    expected = np.zeros((5, 5))
    for place, i in enumerate(order):
        for k in range(1, place + 1):
            j = order[place - k]
            expected[i, j] = expected[j, i] = 0.01 / k / sum(1 / m for m in range(1, place + 1))
    np.testing.assert_allclose(found, expected)
    assert np.triu(found).sum() == pytest.approx(0.03)
    assert not shares(["auto"], np.array([4.5]), 0.03).any()


def test_settings_in_words() -> None:
    four = Quantizer(4, 32)
    assert [words(one) for one in settings("6g64", "k8v4g32", "mxfp4", "k16v4g64")] == [
        "6-bit, group 64",
        "8-bit keys, 4-bit values, group 32",
        "mxfp4",
        "full-precision keys, 4-bit values, group 64",
    ]
    assert words(KVSettings("m", 4, 64, layers="full-attention")) == "4-bit, group 64, layers full-attention"
    mixed = Recipe((LayerQuantizers(four, four), LayerQuantizers()))
    assert words(KVSettings("m", recipe=mixed)) == "the recipe 0:4g32,1:16"


# A whole sweep


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Any]]:
    """The events of a race of 8, 4 and 2 bits on a tiny model, by variant."""
    folder = makers.model_folder(tmp_path_factory.mktemp("racing") / "tiny-llama")
    corpus = makers.text_file(folder.parent / "notes.txt", 3000)
    base = KVSettings(str(folder), kv_group_size=32, chunk_length=32, corpus=str(corpus), max_chunks=30)
    variants = tuple(replace(base, kv_bits=bits) for bits in (8, 4, 2))
    found: dict[int, list[Any]] = {0: [], 1: [], 2: []}
    for event in sweep_events(SweepSettings(variants, race=True)):
        if isinstance(event, ChunkFinished | Dropped | Finished):
            found[event.variant].append(event)
    return found


def test_what_is_out_is_scored_no_more_and_says_why(raced: dict[int, list[Any]]) -> None:
    chunks = {i: sum(isinstance(event, ChunkFinished) for event in raced[i]) for i in raced}
    assert LEAST_CHUNKS < chunks[2] <= chunks[1] < chunks[0] == 30
    for i in (1, 2):
        *_, dropped, finished = raced[i]
        assert isinstance(dropped, Dropped)
        assert dropped.why == BAD
        report = finished.report
        assert (report.dropped, report.verdict, report.partial) == (BAD, "bad", False)
        assert report.n_chunks == chunks[i] < report.n_chunks_planned == 30
        assert stopping_words(report) == f"left the race after {chunks[i]} of 30 chunks: surely bad"
        assert len(finished.positions) == chunks[i] * 31


def test_the_intervals_of_what_left_bear_being_looked_at(raced: dict[int, list[Any]]) -> None:
    """The usual ones suppose that the number of chunks was fixed; those of a race are the sequences'."""
    for i in (0, 2):
        finished = raced[i][-1]
        report, positions = finished.report, finished.positions
        assert report.stopping is not None
        assert (report.stopping.rule, report.stopping.n_chunks) == ("race", report.n_chunks)
        kl = positions.kl.astype(np.float64).reshape(report.n_chunks, 31).mean(axis=1)
        if report.kl.ci_low:
            assert martingale(kl, report.kl.ci_low) == pytest.approx(2 / ALPHA, rel=1e-6)
        assert report.confidence is None or report.confidence.method == "anytime"
    assert raced[2][-1].report.confidence is not None


@pytest.mark.slow
def test_smollm2_loses_2_bits_after_a_round_and_goes_on_with_the_rest(smollm2: Path) -> None:
    """At the end of the first round of the five parts; from then on there is one pass less."""
    base = KVSettings(str(smollm2), chunk_length=64, max_chunks=15)
    variants = tuple(replace(base, kv_bits=bits) for bits in (8, 2))
    *events, swept = sweep_events(SweepSettings(variants, race=True))
    assert isinstance(swept, Swept)
    assert [event for event in events if isinstance(event, Dropped)] == [Dropped(1, 4, BAD)]
    assert (swept.reference_passes, swept.variant_passes) == (15, 15 + 5)
    reports = {event.variant: event.report for event in events if isinstance(event, Finished)}
    assert [reports[i].n_positions for i in (0, 1)] == [15 * 63, 5 * 63]
    assert reports[1].verdict == "bad"


@pytest.mark.parametrize(
    ("dropped", "settled", "n", "said"),
    [
        ("surely bad", True, 5, "left the race after 5 of 20 chunks: surely bad"),
        (None, True, 5, "verdict and place in the race were settled after 5 of 20 chunks"),
        (None, False, 20, "the verdict was not settled after 20 chunks"),
        (None, True, 20, "stopped after 20 of 20 chunks, when the verdict was settled"),
    ],
)
def test_how_a_race_ended_in_words(dropped: str | None, settled: bool, n: int, said: str) -> None:
    stopping = {"rule": "race", "settled": settled, "alpha": 0.05, "n_chunks": n, "method": "a method"}
    report = makers.report(stopping=stopping, dropped=dropped, n_chunks=n, n_chunks_planned=20)
    assert stopping_words(report) == said


# Simulated sweeps


def shape(kl: float, flips: float, of: Shape = BITS_8) -> Shape:
    return of.with_kl_mean(kl).with_flip_rate(flips)


TWINS = (8.0,) * 6
# Truths that are hard to keep in: nothing is bad, and nothing is worse than another, or hardly anything.
HARD = {
    "equal": Sweep((shape(0.02, 0.03),) * 6, TWINS, ALIKE),
    "equal, heavy": Sweep((shape(0.02, 0.03, HEAVY),) * 6, TWINS, ALIKE),
    "equal, heavy, each its own": Sweep((shape(0.02, 0.03, HEAVY),) * 6, TWINS, APART),
    "equal, some heavy": Sweep((shape(0.02, 0.03, HEAVY), shape(0.02, 0.03, BITS_2)) * 3, TWINS, ALIKE),
    "equal, short chunks": Sweep((shape(0.02, 0.03, HEAVY),) * 6, TWINS, ALIKE, 63),
    "the dearer 2 % better": Sweep(tuple(shape(0.02 / 1.02**k, 0.03) for k in range(6)), TWINS[::-1], ALIKE),
    "KL 5 % under bad": Sweep((shape(0.095, 0.03, BITS_2),) * 6, DEARER, ALIKE),
    "flips 5 % under bad": Sweep((shape(0.02, 0.0475, HEAVY),) * 6, DEARER, ALIKE),
    "p99 5 % under bad": Sweep((HEAVY.with_flip_rate(0.03).with_p99(0.95),) * 6, DEARER, ALIKE),
}


def wrong_share(sweep: Sweep, n_runs: int, n_chunks: int) -> float:
    return float(np.mean([bool(sweep.wrong(sweep.race(run))) for run in sweep.runs(n_runs, n_chunks, 11)]))


def test_what_is_neither_bad_nor_worse_hardly_ever_leaves() -> None:
    """A few sweeps of short chunks; the slow test has all truths."""
    sweep = HARD["equal, short chunks"]
    assert truth(sweep.shapes[0]) == 1
    assert wrong_share(sweep, 40, 40) <= ALPHA


def test_a_sweep_like_smollm2s_saves_positions_and_no_winner() -> None:
    everything = dict.fromkeys(range(6), 40)
    for run in SMOLLM2.runs(12, 40, 2):
        raced = SMOLLM2.race(run, every=5)
        assert not SMOLLM2.wrong(raced)
        assert {raced.why[4], raced.why[5]} == {BAD}
        assert sum(raced.after.values()) < 0.8 * sum(everything.values())
        for least in (0, 1):
            assert SMOLLM2.winner(run, raced.after, least) == SMOLLM2.winner(run, everything, least)


def test_looking_at_usual_intervals_would_drop_what_is_no_worse() -> None:
    """The same sweeps tell a wrong method: 95 % t intervals of the same differences, looked at each chunk."""
    wrong = 0
    for run in HARD["equal, short chunks"].runs(40, 40, 11):
        kl, n = run[..., 0], np.arange(1, 41)[LEAST_CHUNKS:]
        d = kl[:, 0] - kl[:, 1]
        means = np.array([d[:k].mean() for k in n])
        half = [stats.t.ppf(0.975, k - 1) * np.std(d[:k], ddof=1) / np.sqrt(k) for k in n]
        wrong += bool((np.abs(means) > half).any())
    assert wrong / 40 > 2 * ALPHA


@pytest.mark.slow
@pytest.mark.parametrize("name", ["equal, some heavy", "the dearer 2 % better", "p99 5 % under bad"])
def test_of_six_settings_one_leaves_wrongly_in_at_most_5_percent_of_races(name: str) -> None:
    """``benchmarks/racing.py --simulate`` has all of them, and more of each."""
    assert all(truth(one) < 2 for one in HARD[name].shapes)
    assert wrong_share(HARD[name], 60, 50) <= ALPHA
