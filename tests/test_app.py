"""The app, driven by keys through Textual's Pilot on the demo model and on saved runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Digits, Input, OptionList, Static

from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.screens.compare import CompareScreen
from mqf_tui.app.screens.live import LiveScreen
from mqf_tui.app.screens.models import ModelsScreen
from mqf_tui.app.screens.quit import QuitScreen
from mqf_tui.app.screens.result import ResultScreen
from mqf_tui.app.screens.runs import RunsScreen
from mqf_tui.app.screens.setup import SetupScreen
from mqf_tui.app.widgets.choice import Choice
from mqf_tui.app.widgets.kl_plots import Histogram, Trace
from mqf_tui.app.widgets.row_list import RowList
from mqf_tui.app.widgets.slider import Slider
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.library.runs import list_runs, save_run
from tests import makers

SIZES = [(80, 24), (120, 40)]


@contextlib.asynccontextmanager
async def running(
    size: tuple[int, int] = (80, 24), **options: Any
) -> AsyncIterator[tuple[MqfTuiApp, Pilot[None]]]:
    app = MqfTuiApp(**options)
    try:
        async with app.run_test(size=size) as pilot:
            yield app, pilot
    finally:
        await asyncio.to_thread(app.bridge.close)


async def until(pilot: Pilot[None], condition: Callable[[], object], tries: int = 600) -> None:
    for _ in range(tries):
        await pilot.pause(0.05)
        if condition():
            return
    raise AssertionError(f"never came true; the screen is {pilot.app.screen}")


async def at_models(app: MqfTuiApp, pilot: Pilot[None]) -> OptionList:
    await until(
        pilot, lambda: isinstance(app.screen, ModelsScreen) and app.screen.query_one(OptionList).option_count
    )
    return app.screen.query_one(OptionList)


def text_of(app: MqfTuiApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).render())


def screen_text(app: MqfTuiApp) -> str:
    return "\n".join(
        "".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_from_models_to_a_saved_run(size: tuple[int, int]) -> None:
    async with running(size) as (app, pilot):
        await at_models(app, pilot)
        await until(pilot, lambda: "llama" in text_of(app, "#facts-text"))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen))
        # 8 -> 4 bits, and 5 chunks of 128 tokens
        await pilot.press("right", "right", "right", *["down"] * 3, "left", "left", "down", "5")
        await until(pilot, lambda: "635 positions" in text_of(app, "#estimate"))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen | ResultScreen))
        await until(pilot, lambda: isinstance(app.screen, ResultScreen))
        await pilot.pause(0.2)
        [run] = list_runs()
        r = run.report
        assert (r.kv_bits, r.kv_group_size, r.corpus.chunk_length, r.n_chunks) == (4, 64, 128, 5)
        assert not r.partial
        assert run.id in text_of(app, "#judging")
        shown = screen_text(app)
        assert r.verdict.upper() in shown
        assert "demo" in shown
        assert f"{100 * r.flip_rate:.2f}%" in [d.value for d in app.screen.query(Digits)]


@pytest.mark.usefixtures("unhurried")
async def test_live_numbers_move_and_pause_holds_them() -> None:
    settings = KVSettings("demo", kv_bits=4, max_chunks=30)
    async with running(settings=settings, autostart=True) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
        measurement = app.bridge.current
        assert measurement is not None
        await until(pilot, lambda: measurement.snapshot().n_positions > 300)
        first = measurement.snapshot().n_positions
        await until(pilot, lambda: measurement.snapshot().n_positions > first)
        await pilot.press("space")
        await until(pilot, lambda: measurement.snapshot().paused)
        await pilot.pause(1.0)  # the step that was under way ends
        held = measurement.snapshot().n_positions
        await pilot.pause(0.5)
        assert measurement.snapshot().n_positions == held
        assert "paused" in text_of(app, "#status")
        assert f"{held:,}/" in text_of(app, "#status")
        digits = [d.value for d in app.screen.query(Digits)]
        assert "–" not in digits
        assert "1e" in app.screen.query_one(Histogram).render().plain
        assert "waiting" not in app.screen.query_one(Trace).render().plain
        await pilot.press("space")
        await until(pilot, lambda: measurement.snapshot().n_positions > held)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, ResultScreen) and app.screen.is_mounted)
        await pilot.pause(0.2)
        [run] = list_runs()
        assert run.report.partial
        assert run.report.n_positions == len(run.positions())
        assert "PARTIAL" in text_of(app, "#setting")


@pytest.mark.usefixtures("unhurried")
async def test_quitting_in_the_middle_asks_saves_and_gives_130() -> None:
    settings = KVSettings("demo", kv_bits=2, max_chunks=30)
    async with running(settings=settings, autostart=True) as (app, pilot):
        measurement = app.bridge.current
        assert measurement is not None
        await until(pilot, lambda: measurement.snapshot().n_positions > 300)
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, QuitScreen))
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
        assert measurement.snapshot().running
        await pilot.press("q", "y")
        await until(pilot, lambda: app.return_code is not None)
    assert app.return_code == 130
    [run] = list_runs()
    assert run.report.partial
    assert run.report.kv_bits == 2


@pytest.mark.usefixtures("unhurried")
async def test_quitting_after_a_stop_was_asked_for() -> None:
    settings = KVSettings("demo", kv_bits=2, max_chunks=30)
    async with running(settings=settings, autostart=True) as (app, pilot):
        measurement = app.bridge.current
        assert measurement is not None
        await until(pilot, lambda: measurement.snapshot().n_positions > 300)
        app.push_screen(QuitScreen(measurement))
        await pilot.pause(0.1)
        measurement.control.stop()
        await pilot.press("y")
        await until(pilot, lambda: app.return_code is not None)
    assert app.return_code == 130


async def test_an_end_under_the_question_is_not_lost() -> None:
    settings = KVSettings("demo", kv_bits=4, chunk_length=128, max_chunks=2)
    async with running(settings=settings, autostart=True) as (app, pilot):
        measurement = app.bridge.current
        assert measurement is not None
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
        app.push_screen(QuitScreen(measurement))
        await until(pilot, lambda: isinstance(app.screen, ResultScreen))


@pytest.mark.usefixtures("unhurried")
async def test_the_palettes_quit_asks_too() -> None:
    settings = KVSettings("demo", kv_bits=2, max_chunks=30)
    async with running(settings=settings, autostart=True) as (app, pilot):
        measurement = app.bridge.current
        assert measurement is not None
        await until(pilot, lambda: measurement.snapshot().n_positions > 100)
        await app.run_action("quit")
        await until(pilot, lambda: isinstance(app.screen, QuitScreen))
        await pilot.press("y")
        await until(pilot, lambda: app.return_code is not None)
    assert app.return_code == 130


async def test_failure_is_shown_and_the_app_goes_on(tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("too short")
    settings = KVSettings("demo", corpus=str(short))
    async with running(settings=settings, autostart=True) as (app, pilot):
        await until(
            pilot, lambda: isinstance(app.screen, LiveScreen) and "fewer than" in text_of(app, "#status")
        )
        await pilot.press("space", "s", "space")
        assert len(app._notifications) == 1
        await pilot.press("escape")
        await at_models(app, pilot)
    assert list_runs() == []


async def test_unwritable_data_folder_is_told_and_the_result_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    monkeypatch.setenv("MQF_TUI_DATA_DIR", str(blocked))
    settings = KVSettings("demo", kv_bits=4, chunk_length=128, max_chunks=2)
    async with running(settings=settings, autostart=True) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, ResultScreen) and app.screen.is_mounted)
        await pilot.pause(0.2)
        assert "not saved" in text_of(app, "#judging")


async def test_filter_and_paths(tmp_path: Path) -> None:
    folder = makers.model_folder(tmp_path / "tiny-llama")
    async with running() as (app, pilot):
        listing = await at_models(app, pilot)
        entry = app.screen.query_one("#filter", Input)
        for typed in ("~nobody-of-this-name", "x" * 300, "a\0b", "qwen/r?"):
            entry.value = typed
            await pilot.pause(0.05)
            assert listing.option_count == 0
        await pilot.press("escape", "slash", *"qrz")
        assert entry.value == "qrz"
        assert listing.option_count == 0
        assert "No model matches" in text_of(app, "#facts-text")
        await pilot.press("escape")
        assert listing.option_count >= 1
        entry.value = str(folder)
        await until(pilot, lambda: listing.option_count == 1)
        assert "tiny-llama" in text_of(app, "#facts-text")
        entry.focus()
        await pilot.press("enter", "enter")  # to the list, and the set-up
        await until(pilot, lambda: isinstance(app.screen, SetupScreen))


async def test_arrows_move_in_the_list_and_among_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = makers.model_folder(tmp_path / "tiny")
    cache = makers.hub_cache(tmp_path / "hub", {"org/tiny": tiny})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    async with running((60, 20)) as (app, pilot):
        listing = await at_models(app, pilot)
        assert listing.option_count == 2
        await pilot.press("down")
        await until(pilot, lambda: "org/tiny" in text_of(app, "#facts-text"))
        await pilot.press("up", "down", "enter")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen))
        assert "org/tiny" in text_of(app, "#about")
        await pilot.press(*["down"] * 7, "right", "right", "right", "down")
        assert app.focused is app.screen.query_one("#file")
        await pilot.press("up")
        assert app.focused is app.screen.query_one("#corpus")


async def test_what_cannot_be_measured_says_why(tmp_path: Path) -> None:
    folder = makers.model_folder(tmp_path / "broken")
    (folder / "model.safetensors").write_bytes(b"\0" * 10)
    async with running((120, 40)) as (app, pilot):
        await at_models(app, pilot)
        app.screen.query_one("#filter", Input).value = str(folder)
        await until(pilot, lambda: "Cannot be measured" in text_of(app, "#facts-text"))
        await pilot.press("enter", "space")
        await pilot.pause(0.3)
        assert isinstance(app.screen, ModelsScreen)
        assert "Cannot be measured" in [note.title for note in app._notifications]


async def test_only_valid_choices_can_be_chosen() -> None:
    async with running() as (app, pilot):
        await at_models(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen))
        group, length = app.screen.query_one("#group", Choice), app.screen.query_one("#length", Choice)
        await pilot.press("down", "right", "right", "right")
        assert group.value == 64  # 128 does not divide the head size of 64
        await pilot.press("down", "down", *["right"] * 6)
        assert length.value == 2048  # the demo's context
        await pilot.press("3", "0", "0", "²")
        assert length.value == 300
        await pilot.press("escape")
        await at_models(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen))
        await pilot.press("down", "down", "down", "9", "9", "9", "9")
        await until(pilot, lambda: "longer than this model's context" in text_of(app, "#estimate"))
        await pilot.press("enter", "backspace", "backspace", "backspace", "backspace", "3", "0", "0")
        assert isinstance(app.screen, SetupScreen)
        await pilot.press("down", "7")
        assert app.screen.query_one("#chunks", Slider).value == 7
        await pilot.press("down", "down", "2", "9", "9")
        await until(pilot, lambda: "leaves no position" in text_of(app, "#estimate"))
        await pilot.press("enter")
        await pilot.pause(0.2)
        assert isinstance(app.screen, SetupScreen)


async def test_nothing_starts_where_no_run_can_be_saved(data_home: Path) -> None:
    async with running() as (app, pilot):
        await at_models(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen))
        data_home.mkdir(exist_ok=True)
        (data_home / "runs").write_text("a file, not a folder")
        await pilot.press("enter")
        await until(pilot, lambda: any("no run can be saved" in note.message for note in app._notifications))
        assert isinstance(app.screen, SetupScreen)
        assert not app.bridge.busy


async def test_a_missing_corpus_file_does_not_start() -> None:
    async with running() as (app, pilot):
        await at_models(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen))
        app.screen.query_one("#corpus", Choice).focus()
        await pilot.press("right", "right", "right", "down", *"nowhere.txt", "enter")
        await pilot.pause(0.3)
        assert isinstance(app.screen, SetupScreen)
        assert app.screen.query_one("#file", Input).value == "nowhere.txt"


async def test_runs_open_mark_and_compare() -> None:
    first = makers.positions(seed=1)
    save_run(makers.report(kv_bits=4, model="one"), first)
    save_run(makers.report(kv_bits=8, model="two"), first)
    async with running((120, 40)) as (app, pilot):
        await at_models(app, pilot)
        await pilot.press("r")
        await until(
            pilot,
            lambda: isinstance(app.screen, RunsScreen) and app.screen.query_one(RowList).row_count == 2,
        )
        await pilot.press("c")
        await pilot.pause(0.1)
        assert isinstance(app.screen, RunsScreen)
        await pilot.press("space", "down", "c")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await pilot.pause(0.3)
        shown = screen_text(app)
        assert "one" in shown
        assert "two" in shown
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ResultScreen))
        await pilot.press("y")
        await pilot.pause(0.1)
        assert app.clipboard.startswith("### ")


async def test_keys_of_every_screen_do_not_crash() -> None:
    save_run(makers.report(), makers.positions())
    keys = [
        "question_mark",
        "question_mark",
        "tab",
        "down",
        "up",
        "left",
        "right",
        "home",
        "end",
        "pageup",
        "f5",
    ]
    async with running() as (app, pilot):
        await at_models(app, pilot)
        await pilot.press(*keys, "escape", "r")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        await pilot.press(*keys, "space", "space", "enter")
        await until(pilot, lambda: isinstance(app.screen, ResultScreen))
        await pilot.press(*keys, "escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        await pilot.press("escape")
        await at_models(app, pilot)
        await pilot.press("ctrl+q")
        await until(pilot, lambda: app.return_code is not None)
    assert app.return_code == 0


def last_line(app: MqfTuiApp) -> str:
    return screen_text(app).splitlines()[-1]


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("width", [60, 70, 76, 79, 80, 120])
async def test_quit_and_help_are_always_in_the_footer(width: int) -> None:
    for seed in (1, 2):
        save_run(makers.report(), makers.positions(seed=seed))
    async with running((width, 24)) as (app, pilot):
        seen: dict[str, str] = {}

        async def look() -> None:
            await pilot.pause(0.3)
            seen[type(app.screen).__name__] = last_line(app)

        await at_models(app, pilot)
        await look()
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen))
        await look()
        await pilot.press("escape", "r")
        await until(
            pilot,
            lambda: isinstance(app.screen, RunsScreen) and app.screen.query_one(RowList).row_count == 2,
        )
        await look()
        await pilot.press("space", "down", "c")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await look()
        await pilot.press("escape", "enter")
        await until(pilot, lambda: isinstance(app.screen, ResultScreen))
        await look()
        app.measure(KVSettings("demo", kv_bits=4, max_chunks=30))
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
        await look()
    assert len(seen) == 6
    for name, line in seen.items():
        assert "q Quit" in line, name
        assert "? Help" in line, name


async def test_a_tiny_terminal_and_resizing() -> None:
    settings = KVSettings("demo", kv_bits=4, chunk_length=128, max_chunks=2)
    async with running((40, 10), settings=settings, autostart=True) as (app, pilot):
        await pilot.resize_terminal(20, 5)
        await pilot.resize_terminal(200, 60)
        await until(pilot, lambda: isinstance(app.screen, ResultScreen))
        await pilot.pause(0.2)
        assert "KL mean" in screen_text(app)
