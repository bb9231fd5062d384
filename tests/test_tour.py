from __future__ import annotations

import asyncio

import pytest
from textual.pilot import Pilot

from mqf_tui.app import screens
from mqf_tui.app.actions import table
from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.tour import Place, ids, steps
from mqf_tui.app.touring import ARROWS
from mqf_tui.app.widgets.tour_panel import TourPanel
from mqf_tui.library.remembered import remembered, state_file
from mqf_tui.library.runs import list_runs
from mqf_tui.library.settings import settings_file
from tests.conftest import ROOT


def words(app: MqfTuiApp) -> str:
    """Title and text of the panel on this screen; empty where there is none."""
    panels = app.screen.query(TourPanel)
    return f"{panels.first().border_title} {panels.first().render()}" if panels else ""


async def until(pilot: Pilot[None], *texts: str) -> None:
    """Wait until the panel says this."""
    for _ in range(600):
        if all(text in words(pilot.app) for text in texts):
            await pilot.pause()
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{texts} never came; the panel says {words(pilot.app)!r}")


def test_what_the_data_names_exists() -> None:
    assert len(steps()) == 5
    known = {name for scope in table().values() for name in scope}
    assert ids() <= known | set(ARROWS)
    source = "".join(path.read_text() for path in (ROOT / "mqf_tui/app/screens").glob("*.py"))
    for step in steps():
        assert all(f"class {name}(" in source for name in step.on)
        if step.action:
            assert f"def action_{step.action}(" in source + (ROOT / "mqf_tui/app/app.py").read_text()
    assert screens.__doc__


def test_steps_are_done_in_order() -> None:
    place = Place()
    assert place.after("ModelsScreen") == place
    assert place.after("SetupScreen") == Place(1)
    assert place.after("LiveScreen") == Place(2)  # its measurement was started some other way
    verdict = Place(2)
    assert verdict.after("ResultScreen") == verdict
    assert verdict.after("RunsScreen", "help") == verdict
    assert verdict.after("ResultScreen", "copy") == verdict
    assert verdict.after("ResultScreen", "help") == Place(3)
    assert Place(3).after("ExploreScreen", "flip") == Place(4)
    last = Place(4).after("ReportScreen", "copy")
    assert last.ended
    assert last.after("ResultScreen", "copy") == last


async def test_the_tour_can_be_finished_by_keyboard() -> None:
    state_file().unlink()
    app = MqfTuiApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, "1 of 5", "demo")
        assert remembered()["tour"] == "offered"
        await pilot.press("enter")
        await until(pilot, "2 of 5", "4 bits")
        # What it explains stays in sight.
        panel = app.screen.query_one(TourPanel)
        assert panel.region.bottom == app.size.height - 1
        assert app.focused is not None
        assert app.focused.region.bottom <= panel.region.y
        await pilot.press("right", "right", "right", *["down"] * 3, "left", "left", "down", "home", "enter")
        await until(pilot, "3 of 5", "verdict")
        while not list_runs() or type(app.screen).__name__ != "ResultScreen":
            await pilot.pause(0.05)
        await until(pilot, "3 of 5")
        await pilot.press("question_mark")
        await until(pilot, "4 of 5")
        await pilot.press("question_mark", "e")
        await until(pilot, "4 of 5")
        await pilot.pause()
        await pilot.press("n")
        await until(pilot, "5 of 5")
        await pilot.press("escape")
        await until(pilot, "5 of 5")
        assert type(app.screen).__name__ == "ResultScreen"
        await pilot.press("y")
        await until(pilot, "That is all")
        assert remembered()["tour"] == "done"
        await pilot.press("f2")
        await pilot.pause()
        assert all(not screen.query(TourPanel) for screen in app.screen_stack)
        # From the palette it begins again.
        assert isinstance(app.screen, BaseScreen)
        again = next(command for command in app.screen.commands() if command.title == "Tour")
        await again.callback()
        await until(pilot, "1 of 5")
        app.bridge.close()


@pytest.mark.parametrize("why", ["turned off", "seen", "runs"])
async def test_it_comes_by_itself_at_the_very_first_start_only(why: str) -> None:
    if why != "seen":
        state_file().unlink()
    if why == "turned off":
        settings_file().parent.mkdir(parents=True)
        settings_file().write_text("[app]\ntour = false\n")
    if why == "runs":
        from mqf_tui.library.folders import data_dir

        (data_dir() / "runs" / "20260101-000000-any").mkdir(parents=True)
    app = MqfTuiApp()
    async with app.run_test() as pilot:
        await pilot.pause(0.3)
        assert words(app) == ""


async def test_keys_of_the_users_own_are_named() -> None:
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text('[keys]\n"models.choose" = "ctrl+o"\n"app.tour" = "f9"\n')
    app = MqfTuiApp()
    async with app.run_test() as pilot:
        await pilot.pause()
        await pilot.press("f9")
        await until(pilot, "^o opens its settings")
        await pilot.press("f9")
        await pilot.pause()
        assert words(app) == ""
