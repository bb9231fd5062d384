"""Ranks, ties, the Pareto frontier and the choice, against brute force with SciPy's tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mqf_tui.fidelity.choosing import Limits
from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.pairing import Subject
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.ranking import rank
from mqf_tui.library.runs import SavedRun, list_runs, save_run
from mqf_tui.library.shortlist import named, newest
from mqf_tui.reports.comparison_schema import Ranking, Row
from mqf_tui.reports.ranking_report import rank_words, to_markdown
from mqf_tui.reports.schema import Stopping, Thresholds
from tests import makers

N_CHUNKS, PER_CHUNK = 6, 25


def kv(bytes_: float) -> dict[str, Any]:
    return {"reference": 1024.0, "variant": bytes_, "reference_16bit": 1000.0, "variant_16bit": bytes_}


def confidence(good: float, marginal: float) -> dict[str, Any]:
    return {"good": good, "marginal": marginal, "bad": 1 - good - marginal, "replicates": 1000}


def variant(kl: np.ndarray) -> Positions:
    return replace(makers.positions(N_CHUNKS, PER_CHUNK, seed=1), kl=kl.astype(np.float32))


def subject(name: str, positions: Positions | None, **changes: Any) -> Subject:
    if positions is not None:
        changes = {
            "kl": {"mean": float(positions.kl.mean(dtype=float))},
            "n_positions": len(positions),
        } | changes
    return Subject(name, makers.report(**changes), lambda: positions)


def by_run(ranking: Ranking) -> dict[str, Row]:
    return {row.side.run: row for row in ranking.rows}


class Brute:
    """The documented rules over runs of equal chunks, with SciPy's paired t test of the chunks' means."""

    def __init__(self, runs: Sequence[tuple[float, Positions]]) -> None:
        self.bytes = [cost for cost, _ in runs]
        self.chunks = [p.kl.astype(float).reshape(N_CHUNKS, PER_CHUNK).mean(axis=1) for _, p in runs]
        self.means = [chunks.mean() for chunks in self.chunks]

    def apart(self, i: int, j: int) -> bool:
        if np.array_equal(self.chunks[i], self.chunks[j]):
            return False
        return bool(stats.ttest_rel(self.chunks[i], self.chunks[j]).pvalue < 0.05)

    def ranks(self) -> dict[int, tuple[int, int]]:
        groups: list[list[int]] = []
        for i in sorted(range(len(self.means)), key=lambda i: (self.means[i], i)):
            if groups and not self.apart(groups[-1][0], i):
                groups[-1].append(i)
            else:
                groups.append([i])
        found: dict[int, tuple[int, int]] = {}
        for group in groups:
            first = len(found) + 1
            found |= dict.fromkeys(group, (first, first + len(group) - 1))
        return found

    def dominators(self, i: int) -> set[int]:
        found, ranks = set(), self.ranks()
        for j in range(len(self.means)):
            cheaper = self.bytes[j] < self.bytes[i]
            lower, apart = self.means[j] < self.means[i], self.apart(i, j)
            tie = not apart and ranks[j][0] <= ranks[i][0]
            if j != i and (
                (cheaper and (lower or tie)) or (self.bytes[j] == self.bytes[i] and lower and apart)
            ):
                found.add(j)
        return found


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**31),
    st.lists(
        st.tuples(st.sampled_from([100.0, 200.0, 300.0, 400.0]), st.integers(0, 6)), min_size=1, max_size=7
    ),
)
def test_ranks_and_frontier_equal_brute_force(seed: int, drawn: list[tuple[float, int]]) -> None:
    rng = np.random.default_rng(seed)
    n = N_CHUNKS * PER_CHUNK
    shared = rng.lognormal(-4, 1, n)
    chunk_effects = np.repeat(rng.normal(0, 0.15, (len(drawn), N_CHUNKS)), PER_CHUNK, axis=1)
    runs = [
        (cost, variant(shared * (1 + 0.1 * level) * np.exp(effect) + rng.exponential(0.0005, n)))
        for (cost, level), effect in zip(drawn, chunk_effects, strict=True)
    ]
    brute = Brute(runs)
    found = by_run(
        rank([subject(str(i), p, kv_bytes_per_token=kv(cost)) for i, (cost, p) in enumerate(runs)])
    )
    assert {int(run): (row.rank_first, row.rank_last) for run, row in found.items()} == brute.ranks()
    for i, (cost, _) in enumerate(runs):
        row = found[str(i)]
        by = row.kv.dominated_by
        assert row.kv.bytes == cost
        assert (by is None) == (not brute.dominators(i))
        if by is not None:
            assert int(by.run) in brute.dominators(i)
            assert by.tie == (not brute.apart(i, int(by.run)))


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(5)))
def test_the_order_of_the_runs_does_not_matter(order: list[int]) -> None:
    rng = np.random.default_rng(3)
    shared = rng.lognormal(-4, 1, N_CHUNKS * PER_CHUNK)
    runs = [
        subject(str(i), variant(shared * scale + 1e-4 * i), kv_bytes_per_token=kv(100.0 * i + 100))
        for i, scale in enumerate((3.0, 2.0, 2.0, 1.0, 1.0))
    ]
    there, here = rank(runs), rank([runs[i] for i in order])
    assert here.model_dump() == there.model_dump()


def test_a_chain_of_small_steps_does_not_tie_best_and_worst() -> None:
    """Neighbours are within the error of each other; the ends are not."""
    rng = np.random.default_rng(5)
    steps = [0.010, 0.0107, 0.0114, 0.0121]
    noise = rng.normal(0, 0.0008, (4, N_CHUNKS))
    noise -= noise.mean(axis=1, keepdims=True)
    runs = [
        variant(np.repeat(np.full(N_CHUNKS, step) + e, PER_CHUNK))
        for step, e in zip(steps, noise, strict=True)
    ]
    brute = Brute([(1.0, run) for run in runs])
    assert not any(brute.apart(i, i + 1) for i in range(3))
    assert brute.apart(0, 3)
    rows = rank([subject(str(i), run) for i, run in enumerate(runs)]).rows
    assert rows[0].rank_first == 1
    assert rows[3].rank_first > rows[0].rank_last


def test_runs_of_several_lengths_are_ordered_by_what_they_share() -> None:
    """The longer run met harder text later; over the shared part it is the better one."""
    long = makers.positions(8, 20, seed=2)
    hard = replace(long, kl=np.where(long.chunk < 4, long.kl, long.kl + 5).astype(np.float32))
    short = long.where(long.chunk < 4)
    worse = replace(short, kl=short.kl * 2)
    found = rank([subject("long", hard), subject("short", worse)])
    assert [row.side.run for row in found.rows] == ["long", "short"]
    assert found.rows[0].side.kl_mean > found.rows[1].side.kl_mean
    assert any("ordered by the 80 that all of them have" in warning for warning in found.warnings)


def test_without_an_error_there_is_only_an_order() -> None:
    origin = {"origin": {"tool": "x", "form": "x", "file": "x"}}
    costs = (300.0, 200.0, 100.0)
    runs = [
        subject(str(i), None, kl={"mean": mean}, kv_bytes_per_token=kv(cost), **origin)
        for i, (mean, cost) in enumerate(zip((0.001, 0.2, 3.0), costs, strict=True))
    ]
    found = rank(runs)
    assert [(row.rank_first, row.rank_last, row.error_known) for row in found.rows] == [
        (1, 1, False),
        (2, 2, False),
        (3, 3, False),
    ]
    # An unknown error makes no tie, so the cheap and bad one does not dominate.
    assert all(row.kv.dominated_by is None for row in found.rows)
    assert any("only the order of the figures" in warning for warning in found.warnings)


def test_weights_have_a_frontier_of_their_own() -> None:
    base = makers.positions(N_CHUNKS, PER_CHUNK).kl.astype(float)
    common = {"kind": "weights", "kv_bytes_per_token": None, "weights_bytes": 1000}
    runs = [
        subject("q8", variant(base), variant_weights_bytes=500, **common),
        subject("q4", variant(base * 3), variant_weights_bytes=250, **common),
        subject("q5", variant(base * 4), variant_weights_bytes=300, **common),
    ]
    found = rank(runs)
    rows = by_run(found)
    assert found.cost == "weights"
    assert rows["q8"].weights.dominated_by is None
    assert rows["q4"].weights.dominated_by is None
    assert rows["q5"].weights.dominated_by.run == "q4"
    assert all(row.kv is None for row in rows.values())


def ladder(verdicts: Sequence[str], goods: Sequence[float]) -> list[Subject]:
    """Settings from dear and near to cheap and far."""
    base = makers.positions(N_CHUNKS, PER_CHUNK).kl.astype(float)
    return [
        subject(
            f"{bits}bit",
            variant(base * 2.0**i),
            kv_bits=bits,
            kv_bytes_per_token=kv(100.0 * bits),
            verdict=verdict,
            confidence=confidence(good, (1 - good) * 0.75),
        )
        for i, (bits, verdict, good) in enumerate(zip((8, 6, 5, 4), verdicts, goods, strict=True))
    ]


def test_the_answer_is_the_cheapest_that_is_still_good() -> None:
    found = rank(ladder(["good", "good", "marginal", "bad"], [1.0, 0.98, 0.2, 0.0]))
    assert found.answer == (
        "cheapest setting that is still good: 6-bit KV cache, group 64 (98 % sure), "
        "1.7× smaller than the full-precision cache."
    )
    assert found.choice.run == "6bit"
    assert found.surer is None


def test_an_unsure_answer_names_the_surer_one() -> None:
    found = rank(ladder(["good", "good", "marginal", "bad"], [1.0, 0.7, 0.2, 0.0]))
    assert found.answer == (
        "cheapest setting that is still good: 6-bit KV cache, group 64 (70 % sure), 1.7× smaller than "
        "the full-precision cache; to be surer take 8-bit KV cache, group 64 (over 99 % sure)."
    )


def test_the_answer_for_a_lesser_verdict() -> None:
    runs = ladder(["good", "good", "marginal", "bad"], [1.0, 1.0, 0.2, 0.0])
    found = rank(runs, Limits(min_verdict="marginal"))
    assert found.answer == (
        "cheapest setting that is at least marginal: 5-bit KV cache, group 64 (80 % sure), 2.0× smaller than "
        "the full-precision cache; to be surer take 6-bit KV cache, group 64 (over 99 % sure)."
    )
    assert [(o.run, o.why) for o in found.left_out] == [("4bit", "it is bad")]


def test_the_answer_where_none_is_good() -> None:
    found = rank(ladder(["marginal", "bad", "bad", "bad"], [0.1, 0.0, 0.0, 0.0]))
    assert found.choice is None
    assert found.answer.startswith(
        "no setting here is good; the closest is 8-bit KV cache, group 64 (marginal, "
    )


def test_limits_choose_and_say_what_they_took_away() -> None:
    runs = ladder(["good"] * 4, [1.0] * 4)
    found = rank(runs, Limits(max_kv_bytes=600))
    assert {row.side.run for row in found.rows} == {"6bit", "5bit", "4bit"}
    assert [o.why for o in found.left_out] == ["it takes 800 bytes of KV cache per token"]
    most = runs[1].report.kl.mean
    assert {row.side.run for row in rank(runs, Limits(max_kl=most)).rows} == {"8bit", "6bit"}
    nothing = rank(runs, Limits(max_kl=1e-9, max_kv_bytes=600))
    assert nothing.rows == []
    assert nothing.answer == (
        "none of the 4 runs keeps to at most 600 bytes of KV cache per token and a mean KL of at most "
        "1e-09 nats."
    )


def near(change: tuple[float, float], delta: tuple[float, float], **changes: Any) -> dict[str, Any]:
    nothing = {"value": 0.0}
    flips = {
        **dict.fromkeys(("confident", "near_tie", "top5_agreement"), nothing),
        **dict.fromkeys(("lost", "gained", "changed", "longest_run"), 0),
        "accuracy_change": {"value": sum(change) / 2, "ci": change},
        "mcnemar_p": 1.0,
    }
    delta_p = {"mean": {"value": sum(delta) / 2, "ci": delta}, "rms": nothing, "percentiles": {}}
    return {"flips": flips, "delta_p": delta_p, "verdict": "good"} | changes


def test_settings_that_cannot_be_told_apart_on_quality() -> None:
    base = makers.positions(N_CHUNKS, PER_CHUNK).kl.astype(float)
    holds, misses = (-0.01, 0.01), (-0.02, -0.01)
    runs = [
        subject("8", variant(base), kv_bits=8, kv_bytes_per_token=kv(800.0), **near(holds, holds)),
        subject("6", variant(base * 2), kv_bits=6, kv_bytes_per_token=kv(600.0), **near(holds, holds)),
        subject("5", variant(base * 3), kv_bits=5, kv_bytes_per_token=kv(500.0), **near(holds, misses)),
        subject("4", variant(base * 4), kv_bits=4, kv_bytes_per_token=kv(400.0), **near(misses, holds)),
        subject("2", variant(base * 9), kv_bits=2, **near(holds, holds, verdict="marginal")),
    ]
    found = rank(runs)
    assert found.indistinct == ["6", "8"]
    assert "cannot tell them apart on quality" in found.advice
    assert "arXiv 2606.19558" in found.advice
    assert "so take the cheapest" not in found.advice  # the answer names a cheaper one
    among = rank([runs[0], runs[1], runs[4]])
    assert among.advice.endswith("so take the cheapest of them, 6-bit KV cache, group 64 (600 B).")
    assert {run for run, row in by_run(found).items() if row.near} == {"6", "8"}
    alone = rank(runs[1:])
    assert (alone.indistinct, alone.advice) == ([], None)


def test_a_tie_does_not_let_a_worse_verdict_dominate() -> None:
    """Two chunks that differ so much that nothing is beyond the error."""
    n = N_CHUNKS * PER_CHUNK
    wild = np.where(np.arange(n) < n // 2, 0.001, 8.0)
    dear = subject("8", variant(np.full(n, 0.001)), kv_bits=8, kv_bytes_per_token=kv(800.0), verdict="good")
    cheap = subject("2", variant(wild), kv_bits=2, kv_bytes_per_token=kv(200.0), verdict="bad")
    same = subject("2", variant(wild), kv_bits=2, kv_bytes_per_token=kv(200.0), verdict="good")
    assert by_run(rank([dear, cheap]))["8"].kv.dominated_by is None
    assert by_run(rank([dear, same]))["8"].kv.dominated_by.run == "2"


def test_one_run_alone_is_ranked_first() -> None:
    (row,) = rank([subject("a", variant(np.ones(N_CHUNKS * PER_CHUNK)))]).rows
    assert (row.rank_first, row.rank_last, row.error_known) == (1, 1, True)


def test_more_bits_that_measure_worse_are_doubted() -> None:
    base = makers.positions(N_CHUNKS, PER_CHUNK).kl.astype(float)
    found = rank([subject("a", variant(base * 3), kv_bits=8), subject("b", variant(base), kv_bits=4)])
    assert sum("8-bit g64 measures worse than 4-bit g64" in warning for warning in found.warnings) == 1


def test_other_thresholds_and_circumstances_are_named() -> None:
    base = makers.positions(N_CHUNKS, PER_CHUNK).kl.astype(float)
    own = makers.report_data()["thresholds"] | {"policy": "mine", "flip_rate": [0.02, 0.05]}
    found = rank([subject("a", variant(base)), subject("b", variant(base * 2), thresholds=own, device="GPU")])
    assert found.thresholds.policy == "kv-1"
    assert any("judged by different thresholds; all are judged by kv-1" in w for w in found.warnings)
    assert any(w.startswith("more than the setting differs between the runs: device") for w in found.warnings)
    assert Ranking.model_validate_json(found.model_dump_json()) == found


def test_runs_of_different_thresholds_are_judged_alike() -> None:
    """By the default of today, or the user's own; how sure the old verdict was is of no use then."""
    base = makers.positions(N_CHUNKS, PER_CHUNK).kl.astype(float)
    loose = {"policy": "loose", "kl_mean": [1, 2], "kl_p99": [9, 9], "flip_rate": [0.5, 0.9]}
    figures = {"kl": {"mean": 0.05, "p99": 0.5}, "flip_rate": 0.02, "confidence": confidence(0.99, 0.01)}
    runs = [
        subject("loose", variant(base), thresholds=loose, verdict="good", **figures),
        subject("usual", variant(base * 2), verdict="marginal", **figures),
    ]
    rows = by_run(rank(runs))
    assert (rows["loose"].side.verdict, rows["loose"].side.sure) == ("marginal", None)
    assert (rows["usual"].side.verdict, rows["usual"].side.sure) == ("marginal", pytest.approx(0.01))
    mine = Thresholds.model_validate(loose | {"policy": "mine"})
    found = rank(runs, own=mine)
    assert [row.side.verdict for row in found.rows] == ["good", "good"]
    assert [by_run(found)[name].side.sure for name in ("loose", "usual")] == [0.99, None]
    assert found.thresholds == mine
    assert any("all are judged by mine here" in w for w in found.warnings)
    assert [row.side.run for row in rank(runs, Limits(min_verdict="good"), own=mine).rows] != []
    assert rank(runs, Limits(min_verdict="good")).rows == []
    # Where all were judged alike, the user's own change nothing.
    assert rank(runs[1:], own=mine).rows[0].side.verdict == "marginal"


def test_what_did_not_settle_is_not_recommended_as_sure() -> None:
    stopping = {"rule": "verdict", "settled": False, "alpha": 0.05, "n_chunks": 6, "method": "m"}
    runs = ladder(["good", "good", "marginal", "bad"], [1.0, 1.0, 0.2, 0.0])
    report = runs[1].report.model_copy(update={"stopping": Stopping.model_validate(stopping)})
    runs[1] = replace(runs[1], report=report)
    found = rank(runs)
    assert found.choice.sure is None
    assert found.answer == (
        "cheapest setting that is still good: 6-bit KV cache, group 64 (not settled), 1.7× smaller than "
        "the full-precision cache; to be surer take 8-bit KV cache, group 64 (over 99 % sure)."
    )
    assert "| good, not settled |" in to_markdown(found)


def test_ranks_without_an_error_are_all_marked() -> None:
    origin = {"origin": {"tool": "x", "form": "x", "file": "x"}}
    runs = [subject(str(i), None, kl={"mean": mean}, **origin) for i, mean in enumerate((0.1, 0.2))]
    assert [rank_words(row) for row in rank(runs).rows] == ["1?", "2?"]
    base = makers.positions(N_CHUNKS, PER_CHUNK).kl.astype(float)
    sure = rank([subject("a", variant(base)), subject("b", variant(base * 2))])
    assert [rank_words(row) for row in sure.rows] == ["1", "2"]


def test_several_models_are_refused() -> None:
    base = makers.positions(N_CHUNKS, PER_CHUNK).kl.astype(float)
    with pytest.raises(BadSettingError, match="different reference models"):
        rank([subject("a", variant(base)), subject("b", variant(base), model_hash="other")])


# Which runs belong together


def save(minute: int, **changes: Any) -> SavedRun:
    created = f"2026-03-04T05:{minute:02d}:00+00:00"
    return save_run(makers.report(created=created, **changes), makers.positions())


def other_text(name: str = "other.txt") -> dict[str, Any]:
    return makers.report_data()["corpus"] | {"name": name, "content_hash": "cc" * 8}


def test_the_newest_whole_run_of_each_setting_of_the_largest_family() -> None:
    older = save(1, kv_bits=4)
    newer = save(2, kv_bits=4)
    eight = save(3, kv_bits=8)
    text = save(4, kv_bits=6, corpus=other_text())
    partial = save(5, kv_bits=2, partial=True)
    deployed = save(6, kv_bits=4, quantize_start=64, mode="deployment")
    weights = save(7, kv_bits=4, kind="weights")
    chunks = save(8, corpus=makers.report_data()["corpus"] | {"chunk_length": 256})
    found = newest(list_runs())
    assert {run.id for run in found.runs} == {newer.id, eight.id}
    assert {o.run: o.why for o in found.left_out} == {
        older.id: "there is a newer run of this setting",
        text.id: "it scored another text (other.txt)",
        partial.id: "it is partial; name it to rank it",
        deployed.id: "its mode is deployment from position 64",
        weights.id: "it is of another kind",
        chunks.id: "its chunks are of 256 tokens",
    }


def test_of_families_of_one_size_the_newer_is_ranked() -> None:
    save(1, kv_bits=4)
    text = save(2, kv_bits=4, corpus=other_text())
    assert [run.id for run in newest(list_runs()).runs] == [text.id]


def longer(minute: int, n_positions: int, **changes: Any) -> SavedRun:
    return save(minute, n_positions=n_positions, **changes)


def test_the_best_evidence_is_ranked_not_the_newest() -> None:
    """Of as many settings those with the most positions in common, and it is said what decided."""
    long_chunks = makers.report_data()["corpus"] | {"chunk_length": 2048}
    full = [longer(1, 18000, kv_bits=8), longer(2, 19000, kv_bits=4)]
    few = [longer(3, 90000, kv_bits=8, corpus=long_chunks), longer(4, 2000, kv_bits=4, corpus=long_chunks)]
    found = newest(list_runs())
    assert {run.id for run in found.runs} == {run.id for run in full}
    assert found.group == (
        "Ranked are the KV runs over notes.txt in chunks of 128 tokens (stress), which have the most "
        "positions in common (18,000, in other groups 2,000)."
    )
    third = longer(5, 300, kv_bits=6, corpus=long_chunks)
    found = newest(list_runs())
    assert {run.id for run in found.runs} == {run.id for run in [*few, third]}
    assert "of which there are the most settings (3, in other groups 2 at most)" in found.group


def test_of_one_setting_the_run_with_the_most_positions_is_ranked() -> None:
    whole, quick, again = longer(1, 18000), longer(2, 2000), longer(3, 18000)
    found = newest(list_runs())
    assert [run.id for run in found.runs] == [again.id]
    assert found.group is None
    assert {o.run: o.why for o in found.left_out} == {
        quick.id: "one of this setting has more positions",
        whole.id: "there is a newer run of this setting",
    }


def test_only_partial_runs_are_ranked_all_the_same() -> None:
    run = save(1, partial=True)
    assert [r.id for r in newest(list_runs()).runs] == [run.id]


def test_named_runs_are_all_ranked_once() -> None:
    runs = [save(1, kv_bits=4), save(2, kv_bits=4, corpus=other_text()), save(3, partial=True)]
    assert named([*runs, runs[0]]).runs == tuple(runs)


@pytest.mark.parametrize("choose", [named, newest])
def test_several_models_are_listed(choose: Any) -> None:
    save(1, model="org/one", model_hash="aa")
    save(2, model="org/two", model_hash="bb")
    with pytest.raises(BadSettingError, match=r"2 reference models \(org/one, org/two\)"):
        choose(list_runs())
    save(3, model="org/one", model_hash="cc")
    with pytest.raises(
        BadSettingError, match=r"3 reference models \(org/one \(aa\), org/one \(cc\), org/two"
    ):
        choose(list_runs())
