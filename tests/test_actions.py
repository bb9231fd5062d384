"""The table of actions: no two share a key, each exists, and a user's own keys are taken or refused."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from textual.dom import DOMNode
from textual.pilot import Pilot

from mqf_tui.app import screens, widgets
from mqf_tui.app.actions import clashes, is_key, keymap, table
from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.library.settings import config_dir


def _classes() -> Iterator[type[DOMNode]]:
    yield MqfTuiApp
    for package in (screens, widgets):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for thing in vars(importlib.import_module(module.name)).values():
                if isinstance(thing, type) and issubclass(thing, DOMNode) and thing.__module__ == module.name:
                    yield thing


def test_default_keys_do_not_clash() -> None:
    assert clashes() == []


def test_every_action_of_the_table_is_bound_and_exists() -> None:
    bound: set[str] = set()
    for owner in _classes():
        for binding in owner.__dict__.get("BINDINGS", ()):
            if binding.id is None:
                continue
            bound.add(binding.id)
            where, _, rest = binding.action.rpartition(".") if "(" not in binding.action else ("", "", "")
            if not rest and "(" in binding.action:
                where, _, rest = binding.action.split("(")[0].rpartition(".")
            target = {"": owner, "app": MqfTuiApp, "screen": BaseScreen}[where]
            if where != "screen":
                assert hasattr(target, f"action_{rest}"), f"{binding.id}: {binding.action}"
    names = {name for scope in table().values() for name in scope}
    assert names == bound


def test_every_action_has_words_and_keys_that_exist() -> None:
    for scope in table().values():
        for one in scope.values():
            assert one.words, one.id
            assert one.help.endswith(".") is False, one.id
            assert all(map(is_key, one.keys)), one.id


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"runs.nothing": ("x",)}, "no such action"),
        ({"runs.mark": ()}, "no key is named"),
        ({"runs.mark": ("ctrl+zz",)}, "'ctrl+zz' is no key"),
        ({"runs.mark": ("a,b",)}, "'a,b' is no key"),
        ({"runs.mark": ("q",)}, "q is the key of app.quit"),
        ({"runs.mark": ("c",)}, "c is the key of runs.compare"),
        ({"app.runs": ("c",)}, "c is the key of"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_and_the_default_stays(
    wanted: dict[str, tuple[str, ...]], said: str
) -> None:
    keys, problems = keymap(wanted)
    assert not keys
    assert len(problems) == 1
    assert said in problems[0]
    assert next(iter(wanted)) in problems[0]


def test_keys_are_taken_by_name_or_character_and_may_be_swapped() -> None:
    keys, problems = keymap({"runs.mark": ("c", "?"), "runs.compare": ("space",), "app.help": ("f9", ",")})
    assert problems == []
    assert keys == {"runs.mark": "c,question_mark", "runs.compare": "space", "app.help": "f9,comma"}


async def _shows(pilot: Pilot[None], title: str) -> None:
    for _ in range(100):
        await pilot.pause(0.02)
        if title == pilot.app.screen.TITLE:
            return
    raise AssertionError(f"{pilot.app.screen} is shown, not {title}")


async def test_a_users_key_works_and_a_clash_is_said_at_the_start() -> None:
    config_dir().mkdir(parents=True)
    (config_dir() / "settings.toml").write_text('[keys]\n"app.runs" = "f6"\n"app.models" = "q"\n')
    app = MqfTuiApp()
    try:
        async with app.run_test(size=(100, 30)) as pilot:
            await _shows(pilot, "Models")
            said = [note.message for note in app._notifications]
            assert [message for message in said if "q is the key of app.quit" in message] == said
            await pilot.press("r")
            assert app.screen.TITLE == "Models"
            await pilot.press("f6")
            await _shows(pilot, "Runs")
            await pilot.press("m")
            await _shows(pilot, "Models")
    finally:
        app.bridge.close()


async def test_a_window_that_is_too_small_gets_a_sentence_and_the_screen_back() -> None:
    app = MqfTuiApp()
    try:
        async with app.run_test(size=(59, 20)) as pilot:
            await pilot.pause(0.5)
            assert "60 × 20" in str(app.screen.query_one("Static").render())
            await pilot.resize_terminal(60, 20)
            await _shows(pilot, "Models")
            await pilot.resize_terminal(80, 19)
            await pilot.pause()
            await pilot.press("r")
            await pilot.resize_terminal(200, 60)
            await _shows(pilot, "Models")
    finally:
        app.bridge.close()


async def test_the_palette_lists_what_can_be_done_here() -> None:
    app = MqfTuiApp()
    try:
        async with app.run_test(size=(100, 30)) as pilot:
            await _shows(pilot, "Models")
            await pilot.press("r")
            await _shows(pilot, "Runs")
            titles = [command.title for command in app.get_system_commands(app.screen)]
            assert {"Mark", "Compare", "Models", "Help", "Theme"} <= set(titles)
            assert "Start" not in titles
            await pilot.press("colon", *"models", "enter")
            await _shows(pilot, "Models")
    finally:
        app.bridge.close()
