"""What the app shows of a run: intervals, doubts, confidence, origin; on old and foreign reports too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.containers import VerticalScroll
from textual.pilot import Pilot
from textual.widgets import Static

from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.row_words import flip_words, kl_words, short_words
from mqf_tui.app.screens.live import LiveScreen
from mqf_tui.app.screens.result import ResultScreen
from mqf_tui.app.screens.runs import RunsScreen
from mqf_tui.app.screens.setup import SetupScreen
from mqf_tui.app.sections import sections
from mqf_tui.app.tally import Looked, Numbers, Running
from mqf_tui.app.widgets.choice import Choice
from mqf_tui.app.widgets.large import span
from mqf_tui.app.widgets.row_list import RowList
from mqf_tui.app.words import so_far_words, undecided_words, without_flags
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.library.importing import import_files
from mqf_tui.library.runs import SavedRun, list_runs, save_run
from mqf_tui.reports.json_report import from_json
from mqf_tui.reports.schema import Confidence, Report, Stopping
from tests import makers
from tests.conftest import DATA
from tests.test_app import at_models, running, screen_text, text_of, until

LLAMA_CPP = """
====== Perplexity statistics ======
Mean PPL(Q)                   :   6.407115 ±   0.039119
Mean PPL(base)                :   6.233160 ±   0.037828
====== KL divergence statistics ======
Mean    KLD:   0.031273 ±   0.000238
Maximum KLD:  11.826689
99.0%   KLD:   0.302110
Median  KLD:   0.012345
Same top p: 91.901 ± 0.072 %
"""
KL_WITH_P99 = {
    "mean": 0.0234, "ci_low": 0.0198, "ci_high": 0.027, "p99": 0.2, "p99_ci": [0.15, 0.25], "max": 1.0
}  # fmt: skip
REPORTS = sorted((DATA / "reports").glob("*.json"))


async def opened(app: MqfTuiApp, pilot: Pilot[None]) -> str:
    """Open the only run and give all that its screen says, by scrolling through it."""
    await at_models(app, pilot)
    await pilot.press("r")
    await until(
        pilot, lambda: isinstance(app.screen, RunsScreen) and app.screen.query_one(RowList).row_count == 1
    )
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(app.screen, ResultScreen) and app.screen.is_mounted)
    await pilot.pause(0.2)
    seen = [screen_text(app)]
    scroll = app.screen.query_one(VerticalScroll)
    for _ in range(30):
        if scroll.scroll_y >= scroll.max_scroll_y:
            break
        await pilot.press("pagedown")
        await pilot.pause(0.3)
        seen.append(screen_text(app))
    return "\n".join(seen)


def words_of(text: str) -> str:
    """Without line breaks and the scroll bar's signs, so that folded words are found."""
    return " ".join(text.translate({ord(c): " " for c in "▁▂▃▄▅▆▇█"}).split())


@pytest.mark.parametrize("path", REPORTS, ids=lambda p: p.stem)
async def test_reports_of_every_age_open_and_scroll(path: Path) -> None:
    report = from_json(path.read_bytes())
    save_run(report, makers.positions())
    async with running() as (app, pilot):
        shown = words_of(await opened(app, pilot))
        assert not app._notifications
    assert report.verdict.upper() in shown
    for warning in report.warnings:
        assert f"! {words_of(without_flags(warning))}" in shown
    assert report.thresholds.policy in shown
    assert report.corpus.content_hash in shown
    assert report.versions.mlx in shown
    assert "None" not in shown
    assert "nan" not in shown.split()


async def test_what_an_import_does_not_know_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "perplexity.log"
    log.write_text(LLAMA_CPP, encoding="utf-8")
    import_files([log])
    async with running() as (app, pilot):
        text = await opened(app, pilot)
        assert not app._notifications
        assert not app.screen.query("Histogram")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        assert "↓" in screen_text(app)
    shown = words_of(text)
    assert "IMPORTED from llama.cpp" in shown
    assert "perplexity.log" in shown
    # 1.96 standard errors to either side, worked out by hand
    assert "0.0313 0.0308 to 0.0317" in shown
    assert "8.10 %" in shown
    for absent in ("None", " nan", "0 chunks", "0 positions", " 0 B", "confident flips"):
        assert absent not in shown


def smollm2_report() -> Report:
    return from_json((DATA / "reports" / "v2-smollm2-4bit-g64.json").read_bytes())


def estimates(value: Any) -> list[tuple[float, float]]:
    """Every interval that a report has in its parts for the whole run."""
    found: list[tuple[float, float]] = []
    if isinstance(value, dict):
        for name, part in value.items():
            if name == "ci" or name.endswith("_ci"):
                found += [tuple(part)] if part else []
            elif not name.startswith(("by_", "kl_by")):
                found += estimates(part)
    return found


def test_every_interval_of_a_report_has_its_row() -> None:
    report = smollm2_report()
    intervals = estimates(json.loads(report.model_dump_json()))
    assert len(intervals) >= 15
    whole = next(s for s in sections(report) if s.title == "Over the whole run")
    rows = [row[2] for row in whole.rows if row[2]]
    assert len(rows) == len(intervals) + 2  # mean KL and flips have theirs in two keys each
    assert f"{report.kl.ci_low:.3f} to {report.kl.ci_high:.3f}" in rows


def test_breakdowns_show_each_group_with_its_count_and_intervals() -> None:
    report = smollm2_report()
    found = {s.title: s for s in sections(report)}
    for title, groups in (
        ("By depth in the chunk", report.kl_by_depth),
        ("By the reference's entropy", report.by_entropy),
        ("By class of the next token", report.by_token_class),
    ):
        rows = found[title].rows
        assert sum(int(row[1].replace(",", "")) for row in rows) == report.n_positions
        assert len(rows) == len(groups)
        for row, group in zip(rows, groups, strict=True):
            assert group.flip_ci is not None
            assert row[5] == f"{100 * group.flip_ci[0]:.2f} to {100 * group.flip_ci[1]:.2f} %"
    assert "By part of the corpus" not in found  # it has only one


async def test_tiles_show_the_intervals_that_the_report_has() -> None:
    report = smollm2_report()
    save_run(report, makers.positions())
    async with running() as (app, pilot):
        text = await opened(app, pilot)
    first = text.split("saved as")[0]
    assert report.kl.p99_ci is not None
    assert report.flip_ci_low is not None
    assert report.flip_ci_high is not None
    assert report.perplexity is not None
    assert report.perplexity.delta_ci is not None
    for low, high, form in (
        (report.kl.ci_low, report.kl.ci_high, ".3f"),
        (*report.kl.p99_ci, ".2f"),
        (100 * report.flip_ci_low, 100 * report.flip_ci_high, ".1f"),
        (*report.perplexity.delta_ci, "+.2f"),
    ):
        assert f"{low:{form}} to {high:{form}}" in first


@pytest.mark.parametrize(
    ("interval", "factor", "sign", "words"),
    [
        (None, 1, "-", ""),
        ((0.0, np.inf), 1, "-", ""),
        ((0.0, 0.0), 1, "-", "0 to 0"),
        ((0.00123, 0.0456), 1, "-", "0.0012 to 0.0456"),
        ((0.1, 0.45), 1, "-", "0.100 to 0.450"),
        ((0.123456, 1.0), 100, "-", "12 to 100"),
        ((-0.004, 0.187), 1, "+", "-0.004 to +0.187"),
    ],
)
def test_both_ends_have_the_same_decimals(
    interval: tuple[float, float] | None, factor: float, sign: str, words: str
) -> None:
    assert span(interval, factor, sign) == words
    assert len(words) <= 16


def test_half_an_interval_is_that_of_its_uncut_side() -> None:
    assert kl_words(0.2, (0.15, 0.25)) == "0.200 ±25%"
    assert kl_words(0.2, (0.0, 0.5)) == "0.200 ±150%"
    assert kl_words(0.2, (0.1, np.inf)) == kl_words(0.2, None) == "0.200"
    assert kl_words(None, None) == "—"
    assert kl_words(np.inf, None) == "inf"
    assert flip_words(0.025, (0.01, 0.04)) == "2.50 ±1.50 %"
    assert flip_words(0.025, None) == "2.50 %"
    assert flip_words(np.nan, None) == "—"
    assert flip_words(0.025, (0.0, 0.06)) == "2.50 ±3.50 %"


def test_what_is_not_settled_is_given_no_confidence() -> None:
    sure = Confidence(good=0.97, marginal=0.03, bad=0.0, replicates=1000)
    stopping = Stopping(rule="verdict", settled=False, alpha=0.05, n_chunks=5, method="m")
    report = makers.report(verdict="good", confidence=sure, stopping=stopping)
    assert short_words(report, report.stopping) == "good, not settled"
    settled = stopping.model_copy(update={"settled": True})
    assert short_words(report, settled) == "good 97%"


@pytest.mark.parametrize(
    ("clause", "words"),
    [
        ("score 20 chunks or more (--max-chunks)", "score 20 chunks or more"),
        ("score more chunks (a longer text or shorter chunks)",) * 2,
        ("use --chunk-length 512 or more", "use a chunk length of 512 or more"),
        ("use --kv-group-size 32 or 64.", "use a group size of 32 or 64."),
        ("or use --corpus builtin.", "or use the corpus builtin."),
        ("use shorter chunks (--chunk-length), close", "use shorter chunks, close"),
    ],
)
def test_the_app_names_no_option_of_the_command_line(clause: str, words: str) -> None:
    assert without_flags(clause) == words


def running_numbers(**changes: Any) -> Running:
    numbers = Numbers(0.02, None, 0.2, None, 0.02, None, 0.1, None)
    empty = np.zeros(60, np.int64)
    return replace(Running(100, numbers, empty, np.zeros(3), "marginal"), **changes)


def test_the_verdict_so_far_says_how_sure_it_is() -> None:
    sure = Confidence(good=0.38, marginal=0.62, bad=0.0, replicates=200)
    assert so_far_words(running_numbers(), stops_early=False) == "marginal"
    words = so_far_words(running_numbers(confidence=sure, n_resampled=12), stops_early=False)
    assert "on the edge between good and marginal" in words
    assert "62 %" in words
    few = so_far_words(running_numbers(confidence=sure, n_resampled=3), stops_early=False)
    assert few.endswith("(only 3 chunks)")
    assert so_far_words(running_numbers(confidence=sure, n_resampled=12), stops_early=True) == "marginal"
    assert short_words(running_numbers(confidence=sure)) == "marginal 62%"


def test_what_is_undecided_is_named() -> None:
    looked = Looked(False, ("good", "marginal"), 0.314, None)
    assert undecided_words(looked, 4) == "may still be good or marginal; stops when one is left"
    three = undecided_words(replace(looked, possible=("good", "marginal", "bad")), 4)
    assert "good, marginal or bad" in three
    assert undecided_words(replace(looked, wanted=0.05), 4) == "mean KL ±31.4 %; stops at ±5 %"
    both = undecided_words(replace(looked, wanted=0.05, both=True), 4)
    assert both == "mean KL ±31.4 %; stops at ±5 % and when one verdict is left"
    assert "not known yet" in undecided_words(replace(looked, wanted=0.05, half_width=np.inf), 4)
    assert "settled" in undecided_words(replace(looked, settled=True), 4)
    assert "4 chunks" in undecided_words(None, 4)
    assert "only bad is left" in undecided_words(replace(looked, possible=("bad",)), 4)


async def test_stop_when_sure_is_chosen_and_ends_early() -> None:
    async with running() as (app, pilot):
        await at_models(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen))
        # 2 bits, 128 tokens, all chunks, when sure
        await pilot.press(*["right"] * 5, *["down"] * 3, "left", "left", "down", "end")
        await pilot.press("down", "right")
        await until(pilot, lambda: "up to" in text_of(app, "#estimate"))
        # The device's speed is looked at a little after the start.
        await until(pilot, lambda: "at most about" in text_of(app, "#estimate"))
        assert app.screen.query_one("#stop", Choice).value == "sure"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ResultScreen) and app.screen.is_mounted)
        await pilot.pause(0.2)
        [run] = list_runs()
        stopping = run.report.stopping
        assert stopping is not None
        assert stopping.settled
        n, planned = run.report.n_chunks, run.report.n_chunks_planned
        assert n < planned
        assert f"stopped after {n} of {planned} chunks" in text_of(app, "#judging")
        assert "AT LEAST 95 %" in screen_text(app)


@pytest.mark.usefixtures("unhurried")
async def test_precision_is_wired_and_what_is_missing_is_shown() -> None:
    async with running() as (app, pilot):
        await at_models(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen))
        await pilot.press(*["down"] * 5, *["right"] * 3, "enter")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
        measurement = app.bridge.current
        assert measurement is not None
        settings = measurement.snapshot().settings.first
        assert settings.precision == 0.02
        assert not settings.until_sure
        await until(pilot, lambda: "stops at ±2 %" in text_of(app, "#verdict"))
        assert "at most" in text_of(app, "#status")
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, ResultScreen))


@pytest.mark.usefixtures("unhurried")
async def test_thresholds_of_ones_own_are_those_of_the_live_screen(tmp_path: Path) -> None:
    home = tmp_path / "config-home"
    home.mkdir()
    (home / "settings.toml").write_text(
        '[verdict]\npolicy = "strict"\nkl_mean = [1e-9, 1e-8]\n', encoding="utf-8"
    )
    settings = KVSettings("demo", kv_bits=8, chunk_length=256, max_chunks=30)
    async with running(settings=settings, autostart=True) as (app, pilot):
        await until(
            pilot,
            lambda: isinstance(app.screen, LiveScreen) and "so far: ■ bad" in text_of(app, "#verdict"),
        )
        assert "bad" in app.screen.query_one("#mean").classes
        assert "good" in app.screen.query_one("#p99").classes
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, ResultScreen) and app.screen.is_mounted)
        await pilot.pause(0.2)
        assert "strict" in text_of(app, "#judging")
        assert "BAD" in str(app.screen.query_one("#setting", Static).render())


async def test_hostile_words_are_inert() -> None:
    hostile = "x\x1b[31m[b]y[/b]\u202e</b>\n| z"
    report = makers.report(model=hostile, warnings=[hostile], command=hostile, architecture=hostile)
    run: SavedRun = save_run(report, makers.positions())
    async with running((120, 40)) as (app, pilot):
        text = await opened(app, pilot)
    assert run.id in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[b]y[/b]" in text
