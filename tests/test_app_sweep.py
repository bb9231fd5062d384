"""Several settings in the app: live beside each other, saved as a sweep, and which of them to take."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.widgets import DataTable, Digits

from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.bridge import Bridge
from mqf_tui.app.measurement import Measurement
from mqf_tui.app.screens.live import LiveScreen
from mqf_tui.app.screens.result import ResultScreen
from mqf_tui.app.screens.runs import RunsScreen
from mqf_tui.app.screens.setup import SetupScreen
from mqf_tui.app.screens.sweep import SweepScreen
from mqf_tui.app.widgets.kl_plots import Histogram
from mqf_tui.app.widgets.row_list import RowList
from mqf_tui.app.widgets.variant_table import VariantTable, bar, scale
from mqf_tui.console.arguments import parser
from mqf_tui.console.sweeping import sweep_settings
from mqf_tui.fidelity.errors import NotANumberError, OutOfMemoryError, SaveError
from mqf_tui.fidelity.events import (
    ChunkFinished,
    Dropped,
    Event,
    Failed,
    Finished,
    Plan,
    Started,
    StepScored,
    Stopped,
    Swept,
)
from mqf_tui.fidelity.recipes import Recipe
from mqf_tui.fidelity.running import RunningSweep
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.spreading import spread, with_control
from mqf_tui.fidelity.verdict import KV_POLICY
from mqf_tui.library.commands import sweep_words
from mqf_tui.library.runs import list_runs
from mqf_tui.library.spool import Spool
from mqf_tui.library.spooling import resume_words
from mqf_tui.library.sweeps import list_sweeps, load_sweep
from mqf_tui.reports.schema import CorpusProvenance, KVBytes, Layers, Stopping
from tests import makers
from tests.test_app import at_models, running, screen_text, text_of, until

SWEEP = SweepSettings(
    spread(KVSettings("demo", chunk_length=128, max_chunks=30), bits=(8, 4), formats=("k8v4",)), sweep_id="s1"
)


def plan(settings: KVSettings) -> Plan:
    return Plan(
        settings=settings,
        model="demo",
        architecture="llama",
        corpus=CorpusProvenance(name="notes.txt", chunk_length=128),
        n_chunks=2,
        positions_per_chunk=127,
        device="CPU",
        compute="float32",
        cache="a cache",
        kv_bytes=KVBytes(reference=1024, variant=160, number_bytes=4, reference_16bit=512, variant_16bit=144),
        recipe=Recipe.uniform(2, settings.quantizers),
        kinds=("full", "full"),
        kernel="quantized",
        sweep_id="s1",
    )


def begun(settings: SweepSettings = SWEEP) -> Measurement:
    """A sweep whose variants have one chunk of two each, further in than the one before it."""
    measurement = Measurement(settings)
    measurement.take(Started(tuple(plan(one) for one in settings.variants)))
    for i in range(len(settings.variants)):
        positions = makers.positions(n_chunks=1, seed=i)
        measurement.take(StepScored(0, 0, positions, len(positions), 1.0 + i, i))
    return measurement


def report(i: int, partial: bool = False):
    formats = [
        {"kv_bits": 8},
        {"kv_bits": 4},
        {"kv_bits": None, "kv_group_size": None, "kv_format": "k8v4g64"},
    ]
    return makers.report(sweep_id="s1", partial=partial, model="demo", **formats[i])


def test_each_variant_has_its_own_numbers() -> None:
    measurement = begun()
    s = measurement.snapshot()
    assert s.several
    assert (s.n_positions, s.n_planned, s.seconds) == (3 * 127, 3 * 254, 3.0)
    for i in range(3):
        numbers = measurement.numbers(i)
        assert numbers is not None
        assert numbers.numbers.kl_mean == pytest.approx(
            makers.positions(n_chunks=1, seed=i).kl.astype(np.float64).mean()
        )


def test_what_is_dropped_is_planned_no_further() -> None:
    measurement = begun()
    measurement.take(Dropped(1, 0, "surely bad"))
    s = measurement.snapshot()
    assert s.n_planned == 254 + 127 + 254
    assert [one.out for one in s.variants] == ["", "surely bad", ""]


def test_all_runs_and_the_sweep_are_saved() -> None:
    measurement = begun()
    positions = [makers.positions(seed=i) for i in range(3)]
    for i in range(3):
        measurement.take(Finished(report(i), positions[i], i))
        assert measurement.snapshot().running
    measurement.take(Swept("s1", 2, 6, 9.0))
    s = measurement.snapshot()
    assert (s.state, s.problem, s.exit_code) == ("finished", None, 0)
    saved = {run.id: run for run in list_runs()}
    assert [run.id for run in s.saved] == [one.saved.id for one in s.variants if one.saved]
    assert set(saved) == {run.id for run in s.saved}
    for run, expected in zip(s.saved, positions, strict=True):
        np.testing.assert_array_equal(saved[run.id].positions().kl, expected.kl)
    assert s.sweep is not None
    assert load_sweep("s1") == s.sweep
    assert {v.run for v in s.sweep.variants} == set(saved)


def test_a_failure_keeps_what_was_scored_and_says_whose_it_is() -> None:
    measurement = begun()
    error = OutOfMemoryError("memory ran out; take less.")
    measurement.take(Failed(error, report(0, True), makers.positions(seed=0), 0))
    measurement.take(Failed(error, report(1, True), makers.positions(seed=1), 1))
    measurement.take(Swept("s1", 1, 2, 9.0, error=error))
    s = measurement.snapshot()
    assert (s.state, s.exit_code) == ("failed", 3)
    assert s.problem == "memory ran out; take less."
    assert len(list_runs()) == 2
    assert s.sweep is not None
    assert s.sweep.partial


def test_one_that_fails_does_not_take_the_others_with_it() -> None:
    measurement = begun()
    measurement.take(Finished(report(0), makers.positions(seed=0), 0))
    measurement.take(Failed(NotANumberError("it is NaN."), variant=1))
    measurement.take(Finished(report(2), makers.positions(seed=2), 2))
    measurement.take(Swept("s1", 2, 6, 9.0))
    s = measurement.snapshot()
    assert (s.state, s.exit_code, s.problem) == ("finished", 1, "4g64: it is NaN.")
    assert s.sweep is not None
    assert len(s.sweep.variants) == 2


def test_a_stop_before_anything_was_scored() -> None:
    measurement = Measurement(SWEEP)
    measurement.take(Stopped(None, makers.positions(n_chunks=0)))
    measurement.take(Swept("s1", 0, 0, 0.0, stopped=True))
    s = measurement.snapshot()
    assert (s.state, s.exit_code, s.sweep) == ("stopped", 130, None)
    assert list_sweeps() == []


def test_a_sweep_that_cannot_be_saved_is_told_and_shown(data_home: Path) -> None:
    measurement = begun()
    data_home.mkdir()
    (data_home / "runs").write_text("a file")
    measurement.take(Finished(report(0), makers.positions(seed=0), 0))
    measurement.take(Finished(report(1), makers.positions(seed=1), 1))
    measurement.take(Swept("s1", 2, 4, 9.0))
    s = measurement.snapshot()
    assert s.problem is not None
    assert "could not be saved" in s.problem
    assert s.sweep is not None
    assert s.sweep.ranking.rows
    assert list_sweeps() == []


def test_a_mistake_of_ours_ends_one_measurement_and_not_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Iterator[Event]:
        yield Started(tuple(plan(one) for one in SWEEP.variants))
        raise RuntimeError("oops")

    monkeypatch.setattr("mqf_tui.app.jobs.api.sweep_events", broken)
    bridge = Bridge()
    try:
        for _ in range(2):
            measurement = bridge.start(SWEEP)
            for _ in range(400):
                if not measurement.snapshot().running:
                    break
                time.sleep(0.05)
            s = measurement.snapshot()
            assert (s.state, s.exit_code) == ("failed", 1)
            assert s.problem == "RuntimeError: oops; please report this."
    finally:
        bridge.close()


def test_several_settings_get_an_id_and_one_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mqf_tui.app.jobs.api.sweep_events", lambda *_: iter(()))
    bridge = Bridge()
    try:
        assert bridge.start(SWEEP.first).snapshot().settings.sweep_id == ""
        assert bridge.start(replace(SWEEP, sweep_id="")).snapshot().settings.sweep_id
        assert bridge.start(SWEEP).snapshot().settings.sweep_id == "s1"
    finally:
        bridge.close()


def test_bars_are_as_long_as_they_say() -> None:
    for share in (0.0, 0.01, 0.5, 0.99, 1.0):
        eighths = sum(8 if c == "█" else " ▏▎▍▌▋▊▉".index(c) for c in bar(share, 20))
        assert eighths == max(1, round(share * 160))
        assert bar(share, 20, ascii_only=True).count("#") == max(1, round(share * 20))
    low, high = scale([-4.6, -1.2, None])
    assert low < -4.6
    assert high >= -1.2
    assert scale([None]) == (-4, 0)
    assert scale([-9.0])[0] == -6


async def test_a_row_that_goes_out_is_drawn_in_its_other_colour() -> None:
    measurement = begun()
    async with running((120, 40)) as (app, pilot):
        await app.push_screen(LiveScreen(measurement))
        table = app.screen.query_one(VariantTable)
        colour = app.theme_variables["secondary"]
        await until(pilot, lambda: table.row_count == 3)
        # The columns are laid out anew when the screen has its size; until then there may be fewer.
        await until(pilot, lambda: "positions" in table.columns and "KV/token" in table.columns)
        await until(pilot, lambda: "127" in table.get_cell("1", "positions").plain)
        assert table.get_cell("1", "KV/token").style != colour
        measurement.take(Dropped(1, 0, "surely bad"))
        await until(pilot, lambda: table.get_cell("1", "KV/token").style == colour)


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40)], ids=str)
async def test_rows_are_chosen_and_marked(size: tuple[int, int]) -> None:
    measurement = begun(replace(SWEEP, race=True))
    measurement.take(Dropped(1, 0, "surely worse than k8v4g64, which takes no more memory"))
    async with running(size) as (app, pilot):
        await app.push_screen(LiveScreen(measurement))
        await until(pilot, lambda: app.screen.query_one(DataTable).row_count == 3)
        first = measurement.numbers(0)
        assert first is not None
        await until(pilot, lambda: f"{first.numbers.kl_mean:.3g}" in screen_text(app))
        shown = screen_text(app)
        for i, words in enumerate(("8-bit g64", "4-bit g64 ✕", "k8v4g64")):
            line = next(line for line in shown.splitlines() if line.strip().startswith(words))
            numbers = measurement.numbers(i)
            assert numbers is not None
            assert f"{numbers.numbers.kl_mean:.3g}" in line
            if size[0] > 60:
                assert f"{100 * numbers.numbers.flip_rate:.2f} %" in line
                assert "144 B" in line
                assert "█" in line
        assert "3 KV-cache settings, stress, race" in shown
        assert "381/635 positions" in shown
        table = app.screen.query_one(VariantTable)
        assert table.virtual_size.width <= table.size.width
        await pilot.press("down")
        await until(pilot, lambda: "out: surely worse than k8v4g64" in text_of(app, "#verdict"))
        second = measurement.numbers(1)
        assert second is not None
        await until(pilot, lambda: f"{100 * second.numbers.flip_rate:.2f}%" in digits(app))
        measurement.take(Dropped(2, 0, "settled"))
        await until(pilot, lambda: "k8v4g64 ✓" in screen_text(app))
        measurement.take(Swept("s1", 1, 3, 1.0, stopped=True))


def digits(app: MqfTuiApp) -> list[str]:
    return [one.value for one in app.screen.query(Digits)]


@pytest.mark.usefixtures("unhurried")
async def test_from_the_set_up_to_the_answer_and_back() -> None:
    async with running() as (app, pilot):
        await at_models(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen))
        # 8 and 2 bits, chunks of 128 tokens, 5 of them
        await pilot.press("space", *["right"] * 5, "space", *["down"] * 3, "left", "left", "down", "5")
        await until(
            pilot, lambda: "2 settings: 8/2 bits, group 64; 1 + 2 passes" in text_of(app, "#estimate")
        )
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SweepScreen) and app.screen.is_mounted, tries=1200)
        await pilot.pause(0.3)
        runs = list_runs()
        [sweep_id] = {run.report.sweep_id for run in runs}
        assert sweep_id
        assert list_sweeps() == [sweep_id]
        assert {run.report.kv_bits for run in runs} == {8, 2}
        assert all(run.report.n_chunks == 5 and not run.report.partial for run in runs)
        saved = load_sweep(sweep_id)
        assert saved.answer[1:] in " ".join(text_of(app, "#answer").split())
        assert (saved.passes.reference, saved.passes.variants) == (5, 10)
        table = app.screen.query_one(DataTable)
        best = min(runs, key=lambda run: run.report.kl.mean)
        assert [str(table.get_row_at(i)[2]) for i in (0, 1)] == ["8-bit g64", "2-bit g64"]
        await pilot.press("home", "enter")
        await until(pilot, lambda: isinstance(app.screen, ResultScreen) and app.screen.is_mounted)
        await pilot.pause(0.2)
        assert best.id in text_of(app, "#judging")
        await until(pilot, lambda: "1e" in app.screen.query_one(Histogram).render().plain)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, SweepScreen))
        await pilot.press("r")
        await until(
            pilot,
            lambda: isinstance(app.screen, RunsScreen) and app.screen.query_one(RowList).row_count == 2,
        )
        assert f"≡ sweep {sweep_id}" in text_of(app, "#detail")
        await pilot.press("S")
        await until(pilot, lambda: isinstance(app.screen, SweepScreen))


@pytest.mark.usefixtures("unhurried")
async def test_a_stopped_sweep_keeps_partial_runs() -> None:
    async with running(settings=replace(SWEEP, sweep_id=""), autostart=True) as (app, pilot):
        measurement = app.bridge.current
        assert measurement is not None
        await until(pilot, lambda: measurement.snapshot().chunk > 0)
        await pilot.press("q")
        await pilot.pause(0.2)
        assert "partial runs" in screen_text(app)
        await pilot.press("n", "s")
        await until(pilot, lambda: isinstance(app.screen, SweepScreen) and app.screen.is_mounted)
        await pilot.pause(0.2)
        assert "PARTIAL: it was stopped on request" in screen_text(app)
        [sweep_id] = list_sweeps()
        assert f"mqf-tui sweep --resume {sweep_id}" in screen_text(app)
    assert len(list_runs()) == 3
    assert all(run.report.partial for run in list_runs())
    assert load_sweep(sweep_id).partial


@pytest.mark.usefixtures("unhurried")
async def test_quitting_names_the_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    async with running(settings=replace(SWEEP, sweep_id=""), autostart=True) as (app, pilot):
        measurement = app.bridge.current
        assert measurement is not None
        await until(pilot, lambda: measurement.snapshot().chunk > 0)
        await pilot.press("q", "y")
        await until(pilot, lambda: app.return_code is not None)
    assert app.return_code == 130
    [sweep_id] = list_sweeps()
    assert capsys.readouterr().err.splitlines() == [
        f"3 partial runs saved as sweep {sweep_id}",
        f"to go on with this sweep: mqf-tui sweep --resume {sweep_id}",
    ]


@pytest.mark.usefixtures("unhurried")
async def test_the_command_line_goes_on_with_a_sweep_that_was_stopped_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = replace(SWEEP, sweep_id="", variants=tuple(replace(one, max_chunks=4) for one in SWEEP.variants))
    passes: list[int] = []
    held: list[int] = []
    chunk = RunningSweep._chunk

    def counted(self: RunningSweep, model: Any, chunks: Any, index: int) -> Iterator[Event]:
        passes.append(index)
        if len(passes) == 3:
            held.append(subprocess_resume("last"))
            self.control.stop()
        yield from chunk(self, model, chunks, index)

    monkeypatch.setattr(RunningSweep, "_chunk", counted)
    async with running(settings=small, autostart=True) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, SweepScreen) and app.screen.is_mounted)
        [sweep_id] = list_sweeps()
        assert len(Spool.open(sweep_id).known(3)) == 2
        # The app is still open, and holds it no more.
        assert await asyncio.to_thread(subprocess_resume, sweep_id) == 0
    assert held == [2]  # while it ran here, no one else could go on with it
    whole = load_sweep(sweep_id)
    assert not whole.partial
    assert {v.n_positions for v in whole.variants} == {4 * 127}
    assert whole.passes.reference == 2  # the other two chunks were put by
    assert resume_words(sweep_id) == ""


def subprocess_resume(sweep_id: str) -> int:
    """Another process, as a user's: this one's thread of MLX is the app's."""
    command = [sys.executable, "-m", "mqf_tui", "sweep", "--resume", sweep_id, "--format", "json"]
    return subprocess.run(command, check=False, capture_output=True, timeout=120).returncode


async def test_a_whole_sweep_leaves_nothing_to_go_on_with() -> None:
    few = tuple(replace(one, max_chunks=1) for one in SWEEP.variants[:2])
    async with running(settings=SweepSettings(few), autostart=True) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, SweepScreen) and app.screen.is_mounted)
        await pilot.pause(0.2)
        assert "--resume" not in screen_text(app)
    with pytest.raises(SaveError):
        Spool.open("last")


FIRST = KVSettings("demo")
EARLY = replace(
    FIRST,
    model="/models/with a space",
    layers="full-attention",
    kernel="emulated",
    quantize_start=64,
    chunk_length=300,
    max_chunks=7,
    score_last=100,
    corpus="/texts/my notes.txt",
    until_sure=True,
    precision=0.02,
    max_kl=0.1 + 0.2,
    max_flips=1 / 14,
    trust_remote_code=True,
)


@pytest.mark.parametrize(
    "sweep",
    [
        SWEEP,
        SweepSettings(spread(FIRST, bits=(8, 6, 4), groups=(32, 64))),
        SweepSettings(
            spread(FIRST, bits=(4, 8), groups=(64, 32), formats=("k4v8", "mxfp4", "k8v4", "nvfp4"))
        ),
        SweepSettings(spread(FIRST, k_bits=(16, 4), v_bits=(16, 8), groups=(128,), formats=("k8g64v4g32",))),
        SweepSettings(spread(EARLY, bits=(2, 3)), race=True, memory_limit=7_500_000_001),
        SweepSettings(spread(replace(FIRST, precision=0.05), bits=(8, 5)), race=True),
    ],
)
def test_a_sweep_as_a_command_means_the_same_sweep(sweep: SweepSettings) -> None:
    words = sweep_words(sweep)
    assert words is not None
    assert sweep_settings(parser().parse_args(words), sweep.sweep_id) == sweep


def test_what_no_command_can_say_is_not_said() -> None:
    own = tuple(replace(one, thresholds=KV_POLICY) for one in SWEEP.variants)
    assert sweep_words(SweepSettings(own)) is None
    assert sweep_words(SweepSettings(with_control(SWEEP.variants))) is None


async def test_a_run_of_a_sweep_that_is_gone_says_so() -> None:
    from mqf_tui.library.runs import save_run

    save_run(report(0), makers.positions())
    async with running() as (app, pilot):
        await at_models(app, pilot)
        await pilot.press("r")
        await until(
            pilot,
            lambda: isinstance(app.screen, RunsScreen) and app.screen.query_one(RowList).row_count == 1,
        )
        await pilot.press("S")
        await until(pilot, lambda: any("there is no sweep" in note.message for note in app._notifications))


async def test_the_list_of_runs_has_room_for_what_a_sweep_brings() -> None:
    from mqf_tui.library.runs import save_run

    stopping = Stopping(rule="verdict", settled=False, alpha=0.05, n_chunks=5, method="m")
    layers = Layers(n_layers=30, n_quantized=12, words="12 of 30 layers quantized", recipe=[])
    hard = {"stopping": stopping, "partial": True, "layers": layers, "kernel": "emulated"}
    save_run(
        makers.report(model="org/a-model-of-a-long-name-fp16", sweep_id="s1", **hard), makers.positions()
    )
    async with running((80, 24)) as (app, pilot):
        await at_models(app, pilot)
        await pilot.press("r")
        await until(
            pilot,
            lambda: isinstance(app.screen, RunsScreen) and app.screen.query_one(RowList).row_count == 1,
        )
        await pilot.pause(0.2)
        table = app.screen.query_one(RowList)
        assert table.virtual_size.width <= table.size.width
        shown = screen_text(app)
        assert "0.0234 ±15%" in shown
        assert "◐≡" in shown
        assert "4-bit g64 12 layers emulated" in " ".join(text_of(app, "#detail").split())


async def test_tiny_terminals_and_resizing() -> None:
    measurement = begun()
    async with running((60, 20)) as (app, pilot):
        await app.push_screen(LiveScreen(measurement))
        for size in ((20, 5), (200, 60), (60, 20)):
            await pilot.resize_terminal(*size)
            await pilot.pause(0.3)
        assert app.screen.query_one(DataTable).row_count == 3
        for i in range(3):
            measurement.take(Finished(report(i), makers.positions(seed=i), i))
        measurement.take(Swept("s1", 2, 6, 9.0))
        await until(pilot, lambda: isinstance(app.screen, SweepScreen) and app.screen.is_mounted)
        for size in ((20, 5), (200, 60), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause(0.3)
        assert app.screen.query_one(DataTable).row_count == 3
        assert "mean KL" in screen_text(app)


@pytest.mark.usefixtures("unhurried")
async def test_escape_closes_the_help_while_it_runs_and_after() -> None:
    measurement = begun()
    async with running() as (app, pilot):
        await app.push_screen(LiveScreen(measurement))
        for screen in (LiveScreen, SweepScreen):
            await until(pilot, lambda wanted=screen: isinstance(app.screen, wanted) and app.screen.is_mounted)
            await pilot.press("f1")
            await until(pilot, lambda: app.screen.query("HelpPanel"))
            await pilot.press("escape")
            await until(pilot, lambda: not app.screen.query("HelpPanel"))
            assert isinstance(app.screen, screen)
            for i in range(3):
                measurement.take(Finished(report(i), makers.positions(seed=i), i))
            measurement.take(Swept("s1", 2, 6, 9.0))


@pytest.mark.parametrize("width", [60, 70])
async def test_no_cell_is_cut_in_a_narrow_window(width: int) -> None:
    """Whole fields and columns go instead: half a number is another number."""
    measurement = Measurement(SWEEP)
    measurement.take(Started(tuple(plan(one) for one in SWEEP.variants)))
    for i in range(3):
        found = makers.positions(n_chunks=2, seed=i)
        for chunk in range(2):
            measurement.take(StepScored(chunk, 0, found.where(found.chunk == chunk), 127, 1.0, i))
            measurement.take(ChunkFinished(chunk, 2, None, i))
    async with running((width, 26)) as (app, pilot):
        await app.push_screen(LiveScreen(measurement))
        for screen, needed in ((LiveScreen, "bad"), (SweepScreen, "marginal")):
            await until(pilot, lambda wanted=screen: isinstance(app.screen, wanted) and app.screen.is_mounted)
            table = app.screen.query_one(DataTable)
            await until(pilot, lambda shown=table: shown.row_count == 3)
            await pilot.pause(0.3)
            assert table.virtual_size.width <= table.size.width
            cells = [cell for key in table.rows for cell in table.get_row(key)]
            words = [cell.plain for cell in cells if cell.plain]
            assert any(word.split(" ")[0] == needed for word in words)
            lines = screen_text(app)
            assert all(word in lines for word in words)
            if screen is LiveScreen:
                for i in range(3):
                    measurement.take(Finished(report(i), makers.positions(seed=i), i))
                measurement.take(Swept("s1", 2, 6, 9.0))
