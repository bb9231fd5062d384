"""What a sweep comes to: the answer, steps, grids and controls, against SciPy and by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mqf_tui.fidelity.choosing import Limits
from mqf_tui.fidelity.errors import MeasurementError
from mqf_tui.fidelity.events import Swept
from mqf_tui.fidelity.kernel_error import words
from mqf_tui.fidelity.pairing import Subject
from mqf_tui.reports.comparison_schema import Difference
from mqf_tui.reports.schema import Estimate
from mqf_tui.reports.sensitivity_schema import LayerCost, Sensitivity
from mqf_tui.reports.sweep_schema import Grid, SweepReport, SweepVariant
from tests import made_sweeps as made
from tests.made_sweeps import N_CHUNKS, PER_CHUNK, subject, summary


def by_run(report: SweepReport) -> dict[str, SweepVariant]:
    return {v.run: v for v in report.variants}


# --- the answer


def test_the_cheapest_good_setting_is_the_answer() -> None:
    report = summary(made.six())
    six = made.bytes_of("6g64")
    assert (
        report.answer
        == f"use 6-bit, group 64: {made.FULL_BYTES / six:.1f}× smaller than fp16, still good (99 %)."
    )
    assert report.ranking.choice is not None
    assert report.ranking.choice.run == "run-6g64"


def test_where_nothing_is_good_the_closest_is_named() -> None:
    report = summary([subject("4g64", 0.02, flips=0.02), subject("3g64", 0.3, flips=0.2)])
    assert report.answer.startswith("no setting here is good; the closest is 4-bit, group 64: marginal (")
    assert "mean KL 0.0200 nats" in report.answer
    assert report.ranking.choice is None


def test_a_budget_is_named_and_the_best_that_fits_is_the_answer() -> None:
    limits = Limits(max_kv_bytes=made.bytes_of("6g32"))
    report = summary(made.six(), limits=limits)
    assert report.answer.startswith(
        "use 6-bit, group 32, the best of 4 settings that keep to 10,080 bytes of "
    )
    assert "the cheapest that is still good is 6-bit, group 64 (" in report.answer
    left = {out.run for out in report.ranking.left_out}
    assert left == {"run-8g32", "run-8g64"}
    named = summary(made.six(), limits=limits, budget="8.0 GB at 32,768 tokens")
    assert "keep to 8.0 GB at 32,768 tokens: mean KL" in named.answer


def test_a_budget_that_nothing_keeps_to_names_the_smallest() -> None:
    report = summary(made.six(), limits=Limits(max_kv_bytes=5000.0))
    assert report.answer == (
        "none of 6 settings keeps to 5,000 bytes of KV cache per token; the closest in size is 4-bit, group "
        "64, with 6,480 bytes of KV cache per token (marginal, mean KL 0.0270 nats)."
    )
    assert len(report.variants) == 6
    assert not report.ranking.rows


def test_a_budget_that_no_good_setting_keeps_to() -> None:
    report = summary(made.six(), limits=Limits(max_kv_bytes=made.bytes_of("4g32")))
    assert report.answer.startswith(
        "no setting that keeps to 7,200 bytes of KV cache per token is good; the closest is 4-bit, group 32: "
        "marginal (99 %), mean KL 0.0200 nats, 3.2× smaller"
    )


def test_a_budget_that_one_setting_keeps_to() -> None:
    report = summary(made.six()[2:4], limits=Limits(max_kv_bytes=made.bytes_of("6g64")))
    assert report.answer.startswith("use 6-bit, group 64, the only setting that keeps to 9,360 bytes of KV ")


def test_a_tie_is_said_to_be_one() -> None:
    one = made.positions("8g64", 0.001)
    rng = np.random.default_rng(2)
    other = replace(one, kl=(one.kl * np.exp(rng.normal(0, 0.3, len(one)) - 0.045)).astype(np.float32))
    a, b = one.kl.reshape(N_CHUNKS, -1).mean(1), other.kl.reshape(N_CHUNKS, -1).mean(1)
    assert stats.ttest_rel(a, b).pvalue > 0.05
    report = summary([made.of_positions("8g64", one), made.of_positions("6g64", other)])
    assert report.answer.startswith("use 6-bit, group 64: ")
    assert report.answer.endswith("; its mean KL is a tie with that of 8-bit, group 64.")
    step = by_run(report)["run-8g64"].next_cheaper
    assert step is None or step.tie


def test_one_setting_is_a_sweep_too() -> None:
    report = summary([subject("8g64", 0.0004)])
    assert report.answer.startswith("use 8-bit, group 64: 1.9× smaller than fp16, still good (")
    assert report.variants[0].next_cheaper is None
    assert report.grids == []


def test_without_anything_scored_there_is_no_report() -> None:
    with pytest.raises(ValueError, match="nothing was scored"):
        summary([])


# --- each setting


def test_the_next_cheaper_setting_is_compared_position_by_position() -> None:
    subjects = made.six()
    report = summary(subjects)
    kl = {s.run: p.kl.astype(float) for s in subjects if (p := s.load()) is not None}
    by_bytes = sorted(report.variants, key=lambda v: v.kv_bytes or 0)
    assert by_bytes[0].next_cheaper is None
    for cheaper, dearer in pairwise(by_bytes):
        step = dearer.next_cheaper
        assert step is not None
        assert step.run == cheaper.run
        assert step.paired
        assert step.bytes_saved == made.bytes_of(dearer.run[4:]) - made.bytes_of(cheaper.run[4:])
        moved = (kl[cheaper.run] - kl[dearer.run]).reshape(N_CHUNKS, PER_CHUNK).mean(1)
        test = stats.ttest_1samp(moved, 0)
        ends = test.confidence_interval(0.95)
        assert step.difference.value == pytest.approx(moved.mean(), rel=1e-9)
        assert step.difference.ci == pytest.approx((ends.low, ends.high), rel=1e-9)
        assert step.difference.p == pytest.approx(test.pvalue, rel=1e-6)


def test_a_dominated_setting_is_no_step_down() -> None:
    """Of two with fewer bytes, the nearer one is worse for nothing."""
    subjects = [subject("8g64", 0.0004), subject("k4v8g64", 0.5), subject("6g64", 0.002)]
    assert made.bytes_of("8g64") > made.bytes_of("k4v8g64") >= made.bytes_of("6g64")
    report = summary([*subjects, subject("k6v8g64", 0.9)])
    found = by_run(report)
    assert not found["run-k6v8g64"].on_frontier
    step = found["run-8g64"].next_cheaper
    assert step is not None
    assert step.run == "run-6g64"


def test_keys_and_values_are_given_apart() -> None:
    words = ("8g64", "k8v4g64", "k16v4g32", "mxfp4", "kmxfp8v4g32", "k8g64v4g32")
    report = summary([subject(word, 0.001 * (i + 1)) for i, word in enumerate(words)])
    assert [(v.keys, v.values) for v in report.variants] == [
        ("8g64", "8g64"),
        ("8g64", "4g64"),
        ("16", "4g32"),
        ("mxfp4", "mxfp4"),
        ("mxfp8", "4g32"),
        ("8g64", "4g32"),
    ]


def test_names_that_would_be_alike_are_told_apart() -> None:
    layers = {"n_layers": 4, "n_quantized": 2, "words": "2 of 4 layers quantized"}
    runs = [
        subject(
            "4g64",
            0.02,
            run=f"r{i}",
            kv_format="recipe",
            kv_bits=None,
            layers=layers | {"recipe": [{"layers": span, "format": "4g64"}]},
        )
        for i, span in enumerate(("0-1", "2-3"))
    ]
    names = [v.short_setting for v in summary(runs).variants]
    assert len(set(names)) == 2


def test_the_positions_of_a_race_are_told() -> None:
    why = "surely bad after 4 chunks"
    subjects = [subject("8g64", 0.0004), subject("3g64", 0.3, n_chunks=4, flips=0.1, dropped=why)]
    report = summary(subjects)
    assert report.evidence == (
        f"Positions that each setting got: 8-bit g64 {8 * 127:,} in 8 chunks; 3-bit g64 508 in 4 chunks "
        f"(dropped: {why}). In all 1,524 of 2,032 planned, so 25.00 % were saved."
    )
    dropped = by_run(report)["run-3g64"]
    assert (dropped.dropped, dropped.n_positions, dropped.n_planned) == (why, 508, 1016)
    assert summary(made.six()).evidence == ""


def raced(word: str, mean: float, why: str | None = None, *, settled: bool, n_chunks: int = 4) -> Subject:
    """A run that left a race after ``n_chunks`` of 8, with its verdict settled or not."""
    rule = {"rule": "race", "settled": settled, "alpha": 0.05, "n_chunks": n_chunks, "method": "sequences"}
    known = {"good": 0.95, "marginal": 0.0, "bad": 0.0, "method": "anytime"} if settled else None
    return subject(word, mean, n_chunks=n_chunks, dropped=why, stopping=rule, confidence=known)


def test_what_left_a_race_undecided_is_not_the_answer() -> None:
    """It seems good after half of the text, and is surely worse than what seems marginal after all of it."""
    why = "surely worse than k8v4g64, which takes no more memory"
    dear = raced("8g64", 0.0004, settled=True, n_chunks=8)
    out, edge = (
        raced("k4v8g64", 0.009, why, settled=False),
        raced("k8v4g64", 0.011, settled=False, n_chunks=8),
    )
    report = summary([dear, out, edge])
    seen = {v.short_setting: v.verdict for v in report.variants}
    assert list(seen.values()) == ["good", "good", "marginal"]
    assert report.answer.startswith("use 8-bit, group 64: ")
    assert by_run(report)[out.run].dropped == why
    alone = summary([out, edge])
    assert alone.answer.startswith(
        "no setting here is good; the closest is 8-bit keys, 4-bit values, group 64"
    )
    assert "no setting here is good; the closest is 8-bit keys" in alone.ranking.answer
    sure = summary([dear, raced("k4v8g64", 0.009, why, settled=True), edge])
    assert sure.answer.startswith("use 4-bit keys, 8-bit values, group 64: ")


def test_differences_after_a_race_are_doubted() -> None:
    subjects = [subject("8g64", 0.0004), raced("3g64", 0.3, "surely bad", settled=True)]
    assert any(
        "number of chunks as fixed beforehand" in doubt for doubt in summary(subjects).ranking.warnings
    )
    whole = summary(made.six())
    assert not any("fixed beforehand" in doubt for doubt in whole.ranking.warnings)


def test_only_the_scored_positions_of_a_chunk_count_as_planned() -> None:
    report = summary([subject("8g64", 0.0004, score_last=20), subject("4g64", 0.02, score_last=20)])
    assert {v.n_planned for v in report.variants} == {N_CHUNKS * 20}
    assert report.score_last == 20
    report = summary([subject("8g64", 0.0004, score_last=20, quantize_start=117, mode="deployment")])
    assert report.variants[0].n_planned == N_CHUNKS * 10


def test_warnings_are_said_once_with_the_settings_that_have_them() -> None:
    subjects = [
        subject("8g64", 0.0004, warnings=["only 8 chunks"]),
        subject("4g64", 0.02, warnings=["only 8 chunks", "a heavy tail"]),
    ]
    report = summary(subjects, warnings=["the machine was busy"])
    assert report.warnings == ["the machine was busy", "only 8 chunks", "4-bit g64: a heavy tail"]


def test_another_cache_is_no_doubt_within_a_sweep() -> None:
    subjects = [subject("8g64", 0.0004, cache="one"), subject("k8v4g64", 0.002, cache="another")]
    assert not any("compare like with like" in warning for warning in summary(subjects).ranking.warnings)
    mixed = [*subjects, subject("4g64", 0.02, kernel="emulated")]
    (doubt,) = [w for w in summary(mixed).ranking.warnings if "compare like with like" in w]
    assert "differs between the runs: cache;" in doubt


def test_a_setting_that_is_hardly_surely_good_is_not_praised() -> None:
    unsure = {"good": 0.4, "marginal": 0.6, "bad": 0.0, "replicates": 1000}
    report = summary([subject("8g64", 0.0004, confidence=unsure)])
    assert report.answer.endswith("smaller than fp16, good by these figures, but only 40 % sure.")


@pytest.mark.parametrize(
    ("ended", "partial", "words"),
    [
        (Swept("x", 1, 2, 1.0, stopped=True), True, "it was stopped on request"),
        (Swept("x", 1, 2, 1.0, error=MeasurementError("the power went.")), True, "the power went."),
        (Swept("x", 1, 2, 1.0), False, ""),
    ],
)
def test_how_it_ended_is_said(ended: Swept, partial: bool, words: str) -> None:
    report = summary(made.six(), ended=ended)
    assert (report.partial, report.ended) == (partial, words)
    assert (report.passes.reference, report.passes.variants) == (1, 2)


# --- grids


def cell_words(grid: Grid) -> dict[tuple[str, str], str]:
    return {(grid.rows[c.row], grid.columns[c.column]): c.run for c in grid.cells}


def test_keys_by_values_are_a_grid() -> None:
    (grid,) = summary(made.grid()).grids
    assert grid.words == "group 64"
    assert grid.rows == grid.columns == ["8-bit", "6-bit", "4-bit"]
    assert len(grid.cells) == 9
    assert cell_words(grid)["8-bit", "4-bit"] == "run-k8v4g64"
    assert cell_words(grid)["6-bit", "6-bit"] == "run-6g64"
    good = [c for c in grid.cells if c.verdict == "good"]
    least = min(c.kv_bytes or 0 for c in good)
    (marked,) = [c for c in grid.cells if c.cheapest_good]
    assert marked.kv_bytes == least
    assert marked.kl.value == min(c.kl.value for c in good if c.kv_bytes == least)


def test_full_precision_is_a_row_and_a_column() -> None:
    (grid,) = summary(made.grid(("16", "8", "4"))).grids
    assert grid.rows == ["16 (full)", "8-bit", "4-bit"]
    assert ("16 (full)", "16 (full)") not in cell_words(grid)
    assert len(grid.cells) == 8


def test_a_diagonal_is_no_grid() -> None:
    assert summary(made.six()).grids == []


def test_further_settings_do_not_spoil_a_grid() -> None:
    more = [subject("mxfp4", 0.02), subject("3g64", 0.3), subject("8g32", 0.0003)]
    (grid,) = summary([*made.grid(), *more]).grids
    assert len(grid.cells) == 9


def test_each_group_size_has_its_own_grid() -> None:
    words = [f"k{k}v{v}g{group}" for group in (32, 64) for k in (8, 4) for v in (8, 4)]
    found = summary([subject(word, 0.001 + 0.001 * i) for i, word in enumerate(words)]).grids
    assert [grid.words for grid in found] == ["group 32", "group 64"]
    assert all(len(grid.cells) == 4 for grid in found)


def test_formats_without_a_group_stand_in_the_grid() -> None:
    words = ["8g32", "k8vmxfp4g32", "kmxfp4v8g32", "mxfp4"]
    (grid,) = summary([subject(word, 0.001 + 0.001 * i) for i, word in enumerate(words)]).grids
    assert grid.rows == ["8-bit", "mxfp4"]
    assert len(grid.cells) == 4


@pytest.mark.parametrize(("settled", "best"), [(False, "run-k8v4g64"), (True, "run-4g64")])
def test_cells_of_fewer_chunks_are_told_and_the_best_only_where_settled(settled: bool, best: str) -> None:
    runs = [subject(word, 0.001) for word in ("8g64", "k4v8g64")]
    runs += [subject("k8v4g64", 0.0005), raced("4g64", 0.002, settled=settled)]
    (grid,) = summary(runs).grids
    told = {cell.run: (cell.fewer, cell.n_positions) for cell in grid.cells}
    assert told.pop("run-4g64") == (True, 4 * PER_CHUNK)
    assert set(told.values()) == {(False, N_CHUNKS * PER_CHUNK)}
    assert [cell.run for cell in grid.cells if cell.cheapest_good] == [best]


def test_no_cell_is_marked_where_none_is_good() -> None:
    runs = [subject(f"k{k}v{v}g64", 0.2 + 0.01 * k, flips=0.1) for k in (4, 3) for v in (4, 3)]
    (grid,) = summary(runs).grids
    assert not any(c.cheapest_good for c in grid.cells)


# --- quantizer and kernel


def twins(extra: float) -> list[Any]:
    """The same recipe by two kernels; the packed one has ``extra`` nats more on average."""
    base = made.positions("4g64", 0.0121)
    rng = np.random.default_rng(4)
    more = np.clip(rng.normal(extra, abs(extra) / 2, len(base)), -base.kl, None)
    total = replace(base, kl=(base.kl + more).astype(np.float32))
    return [
        made.of_positions("4g64", total, run="packed", kernel="quantized"),
        made.of_positions("4g64", base, run="plain", kernel="dequantized"),
    ]


def test_the_kernels_error_is_told_from_the_quantizers() -> None:
    subjects = twins(0.0002)
    total, quantizer = (p.kl.astype(float) for s in subjects if (p := s.load()) is not None)
    report = summary([*subjects, subject("8g64", 0.0004)])
    (control,) = report.controls
    assert (control.run, control.control_run) == ("packed", "plain")
    assert control.kl_total == pytest.approx(total.mean(), rel=1e-9)
    assert control.kl_quantizer == pytest.approx(quantizer.mean(), rel=1e-9)
    moved = (total - quantizer).reshape(N_CHUNKS, PER_CHUNK).mean(1)
    ends = stats.ttest_1samp(moved, 0).confidence_interval(0.95)
    assert control.difference.ci == pytest.approx((ends.low, ends.high), rel=1e-9)
    assert control.words == (
        f"of the mean KL {total.mean():.4f}, {quantizer.mean():.4f} come from the quantizer; the kernel adds "
        f"{moved.mean():.6f} ({ends.low:.6f} to {ends.high:.6f})"
    )
    # The control is shown, and not ranked.
    assert {row.side.run for row in report.ranking.rows} == {"packed", "run-8g64"}
    plain = by_run(report)["plain"]
    assert plain.control_of == "packed"
    assert plain.setting.endswith("(dequantized)")
    assert plain.next_cheaper is None
    assert not plain.on_frontier


def test_a_kernel_that_adds_nothing() -> None:
    base = made.positions("4g64", 0.0121)
    runs = [
        made.of_positions("4g64", base, run="a", kernel="quantized"),
        made.of_positions("4g64", base, run="b", kernel="emulated"),
    ]
    (control,) = summary(runs).controls
    assert control.words == "of the mean KL 0.0121, 0.0121 come from the quantizer; the kernel adds nothing"


def test_other_recipes_are_no_controls() -> None:
    runs = [
        subject("4g64", 0.02, kernel="quantized"),
        subject("4g32", 0.02, kernel="dequantized"),
        subject("4g64", 0.02, run="other", kernel="dequantized", quantize_start=5, mode="deployment"),
    ]
    assert summary(runs).controls == []


@pytest.mark.parametrize(
    ("d", "said"),
    [
        ((0.0121, 0.0123, (-0.0001, 0.0005), 0.2), "+0.000200 (-0.000100 to 0.000500), is within the error"),
        ((0.0123, 0.0121, (-0.0003, -0.0001), 0.001), "the kernel makes -0.000200 (-0.000300 to -0.000100)"),
        ((0.0121, 0.0123, None, None), "the kernel adds +0.000200, of which no error is known"),
    ],
)
def test_what_the_kernel_does_in_words(d: tuple[float, float, Any, float | None], said: str) -> None:
    first, second, ci, p = d
    assert said in words(Difference(first=first, second=second, value=second - first, ci=ci, p=p))


# --- layers


def test_the_layer_that_hurts_most_is_the_answer_of_a_sensitivity_sweep() -> None:
    costs = [("keys", 3, 0.03), ("values", 3, 0.001), ("keys", 0, 0.006), ("values", 0, 0.003)]
    found = Sensitivity(
        format="4g64",
        n_layers=4,
        layers=[
            LayerCost(layer=layer, side=side, kl=Estimate(value=kl), bytes_saved=276.0)
            for side, layer, kl in costs
        ],
    )
    report = summary([subject("4g64", 0.02)], sensitivity=found)
    assert report.answer == (
        "the keys of layer 3 hurt most: mean KL 0.0300 nats where they alone are 4g64; the values of layer 3 "
        "hurt least (0.00100); of all that keys and values cost apart, the keys have 90 %."
    )
    empty = summary([subject("4g64", 0.02)], sensitivity=found.model_copy(update={"layers": []}))
    assert empty.answer == "no layer of this model can be quantized alone."
