"""The hub in the app, by keyboard against a hub on loopback: search, download, go on, faults, trust."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.hub_words import (
    page_of,
)
from mqf_tui.app.screens.hub import HubScreen
from mqf_tui.app.screens.hub_dialogs import DownloadScreen, TrustScreen
from mqf_tui.app.screens.models import ModelsScreen
from mqf_tui.app.screens.quit import QuitDownloadsScreen, QuitScreen
from mqf_tui.app.screens.runs import RunsScreen
from mqf_tui.app.screens.setup import SetupScreen
from mqf_tui.app.widgets.download_list import DownloadList
from mqf_tui.app.widgets.row_list import RowList
from mqf_tui.fidelity.errors import INTERRUPTED
from mqf_tui.library import models as local
from mqf_tui.library.runs import list_runs
from tests import makers
from tests.hub_server import WEB_LOGIN, Fault, LocalHub
from tests.test_app import at_models, running, screen_text, text_of, until

TINY = "mlx-community/tiny-4bit"
COLOURS = {"good": "green", "marginal": "yellow", "bad": "red"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.model_folder(tmp_path_factory.mktemp("hub") / "tiny")


@pytest.fixture
def filled(hub: LocalHub, folder: Path) -> LocalHub:
    """A hub with some models, of which one is whole."""
    files = {file.name: file for file in folder.iterdir() if file.is_file()}
    hub.add_model(TINY, files, downloads=500, likes=7)
    hub.add_model("mlx-community/other-8bit", files, downloads=900)
    hub.add_model("mlx-community/gated-4bit", files, downloads=20, gated="manual")
    hub.add_model("someone/tiny-too", files, downloads=5, tag="v1")
    return hub


def names(app: MqfTuiApp) -> list[str]:
    screen = app.screen
    assert isinstance(screen, HubScreen)
    return [row.name for row in screen.rows]


def state_of(app: MqfTuiApp, name: str) -> str:
    one = app.downloads.of(name)
    return one.standing().state if one is not None else ""


def states(app: MqfTuiApp) -> list[str]:
    return [one.standing().state for one in app.downloads.all]


async def at_hub(app: MqfTuiApp, pilot: Pilot[None]) -> None:
    """From the first screen to the hub, with its first answer."""
    await at_models(app, pilot)
    await pilot.press("H")
    await until(pilot, lambda: isinstance(app.screen, HubScreen) and app.screen.query("#hits"))
    await until(pilot, lambda: text_of(app, "#told") not in ("", "searching …"))


async def found(app: MqfTuiApp, pilot: Pilot[None], *wanted: str) -> None:
    await until(pilot, lambda: names(app) == list(wanted))


async def asked_for(app: MqfTuiApp, pilot: Pilot[None]) -> None:
    """Enter on a model, and a yes to the question."""
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(app.screen, DownloadScreen) and app.screen.query("#question"))
    await pilot.press("y")
    await until(pilot, lambda: isinstance(app.screen, HubScreen))


async def test_from_a_search_to_the_set_up(filled: LocalHub) -> None:
    async with running() as (app, pilot):
        await at_hub(app, pilot)
        everything = ["mlx-community/other-8bit", TINY, "mlx-community/gated-4bit"]
        await found(app, pilot, *everything)
        assert "3 models by mlx-community" in text_of(app, "#told")
        await pilot.press(*"tiny")
        await found(app, pilot, TINY)
        # An empty author is everyone; Escape takes back what was changed there.
        await pilot.press("enter", "a", *["backspace"] * len("mlx-community"))
        await found(app, pilot, TINY, "someone/tiny-too")
        await pilot.press("escape")
        await found(app, pilot, TINY)
        assert isinstance(app.focused, RowList)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, DownloadScreen))
        await until(pilot, lambda: "free on disk" in text_of(app, "#question"))
        await pilot.press("n")
        assert not app.downloads.all
        await asked_for(app, pilot)
        await until(pilot, lambda: state_of(app, TINY) == "finished")
        await until(pilot, lambda: "is here; Enter sets it up" in text_of(app, "#about"))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen) and app.screen.query("#about"))
        assert text_of(app, "#about").startswith(TINY)
        await pilot.press("escape", "escape")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        await until(pilot, lambda: "tiny-4bit" in screen_text(app))


async def test_a_cancelled_download_goes_on_from_where_it_was(filled: LocalHub) -> None:
    filled.fault("/cdn/*", Fault(hold_after=50_000), times=2)
    async with running((100, 30)) as (app, pilot):
        await at_hub(app, pilot)
        await pilot.press(*"tiny", "enter")
        await found(app, pilot, TINY)
        await asked_for(app, pilot)
        await until(pilot, lambda: "of" in text_of_download(app) and "%" in text_of_download(app))
        # Elsewhere it goes on, and the line at the top tells of it.
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        await until(pilot, lambda: "tiny-4bit" in screen_text(app).splitlines()[0])
        await pilot.press("H")
        await until(pilot, lambda: isinstance(app.screen, HubScreen))
        await until(pilot, lambda: isinstance(app.focused, DownloadList))
        assert "x cancels it" in text_of(app, "#about")
        await pilot.press("x")
        await until(pilot, lambda: state_of(app, TINY) == "cancelled")
        await until(pilot, lambda: "R goes on with it" in screen_text(app))
        # What is here of it is listed, and Enter there leads back to it.
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        await until(pilot, lambda: "2 models" in text_of(app, "#told"))
        await pilot.press("end")
        await until(pilot, lambda: "Enter goes on with it" in flat(text_of(app, "#facts-text")))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, HubScreen) and app.screen.query("#hits"))
        await found(app, pilot, TINY)
        assert isinstance(app.focused, RowList)
        await pilot.press("R", "m")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        filled.let_go()
        await until(pilot, lambda: state_of(app, TINY) == "finished")
        await until(pilot, lambda: any(n.title == "Downloaded" for n in app._notifications))
        assert [one.part for one in filled.asked("/cdn/*", "GET")][-1] not in (None, "bytes=0-")


def text_of_download(app: MqfTuiApp) -> str:
    return "\n".join(text.plain for text in app.screen.query_one(DownloadList).texts)


async def test_faults_are_said_in_place(filled: LocalHub) -> None:
    filled.fault("/api/models", WEB_LOGIN)
    async with running((100, 30)) as (app, pilot):
        await at_models(app, pilot)
        await pilot.press("H")
        await until(pilot, lambda: isinstance(app.screen, HubScreen) and app.screen.query("#said"))
        await until(pilot, lambda: "F5 tries again." in text_of(app, "#said"))
        assert "Traceback" not in screen_text(app)
        filled.mend()
        await pilot.press("enter", "f5")
        await until(pilot, lambda: TINY in names(app))
        assert not app.screen.query_one("#said").display
        # Gated: what to accept and where, before and after.
        await pilot.press("end")
        page = page_of("mlx-community/gated-4bit")
        await until(pilot, lambda: page in flat(text_of(app, "#about")))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, DownloadScreen))
        await until(pilot, lambda: page in flat(text_of(app, "#question")))
        await pilot.press("y")
        await until(pilot, lambda: state_of(app, "mlx-community/gated-4bit") == "failed")
        await until(pilot, lambda: page in flat(text_of_download(app)))


async def test_what_is_said_would_work_in_the_app(hub: LocalHub) -> None:
    hub.add_model("mlx-community/nothing-4bit", {"README.md": b"# Nothing yet"})
    async with running((100, 30)) as (app, pilot):
        await at_hub(app, pilot)
        await pilot.press("enter", "enter")
        await until(pilot, lambda: isinstance(app.screen, DownloadScreen))
        await until(pilot, lambda: "look for a conversion on the hub (H)" in flat(text_of(app, "#question")))
        await pilot.press("y")
        await until(pilot, lambda: state_of(app, "mlx-community/nothing-4bit") == "failed")
        await until(pilot, lambda: "on the hub (H)" in flat(text_of_download(app)))
        assert "mqf-tui models" not in screen_text(app)


def flat(text: str) -> str:
    return " ".join(text.split())


async def test_what_is_no_hit_can_be_downloaded_by_its_name(filled: LocalHub) -> None:
    async with running((100, 30)) as (app, pilot):
        await at_hub(app, pilot)
        await pilot.press(*"someone/tiny-too@v1", "enter")
        await until(pilot, lambda: names(app)[:1] == ["someone/tiny-too@v1"])
        await asked_for(app, pilot)
        await until(pilot, lambda: state_of(app, "someone/tiny-too@v1") == "finished")
        # A wrong one: its sentence is there, with what is near.
        await pilot.press("slash")
        app.screen.query_one("#text", Input).value = "mlx-community/tiny-4bits"
        await pilot.press("enter")
        await until(pilot, lambda: names(app)[:1] == ["mlx-community/tiny-4bits"])
        await asked_for(app, pilot)
        await until(pilot, lambda: state_of(app, "mlx-community/tiny-4bits") == "failed")
        await until(pilot, lambda: "tiny-4bit" in flat(text_of_download(app)).replace("tiny-4bits", ""))


async def test_offline_is_said(filled: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    async with running() as (app, pilot):
        await at_models(app, pilot)
        await pilot.press("H")
        await until(pilot, lambda: isinstance(app.screen, HubScreen) and app.screen.query("#said"))
        await until(pilot, lambda: "HF_HUB_OFFLINE" in text_of(app, "#said"))
    assert filled.requests == []


async def test_leaving_asks_and_breaks_off(filled: LocalHub, capsys: pytest.CaptureFixture[str]) -> None:
    filled.fault("/cdn/*", Fault(hold_after=50_000))
    async with running((100, 30)) as (app, pilot):
        await at_hub(app, pilot)
        await found(app, pilot, "mlx-community/other-8bit", TINY, "mlx-community/gated-4bit")
        await pilot.press("enter")
        await asked_for(app, pilot)
        await pilot.press("down")
        await asked_for(app, pilot)
        await until(pilot, lambda: states(app) == ["running", "waiting"])
        await pilot.press("q")
        await until(
            pilot, lambda: isinstance(app.screen, QuitDownloadsScreen) and app.screen.query("#question")
        )
        assert "1 more model" in flat(text_of(app, "#question"))
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, HubScreen))
        assert app.downloads.busy
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, QuitDownloadsScreen))
        await pilot.press("y", "y")
        await until(pilot, lambda: app.return_code is not None)
    assert app.return_code == INTERRUPTED
    assert capsys.readouterr().err.count("goes on with it") == 2
    assert states(app) == ["cancelled", "cancelled"]
    app.downloads.close()
    assert not app.downloads.alive


@pytest.mark.usefixtures("unhurried")
async def test_leaving_a_measurement_tells_how_downloads_go_on(
    filled: LocalHub, capsys: pytest.CaptureFixture[str]
) -> None:
    filled.fault("/cdn/*", Fault(hold_after=50_000))
    async with running((100, 30)) as (app, pilot):
        await at_models(app, pilot)
        app.download(TINY)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen) and app.screen.query("#length"))
        await until(pilot, lambda: text_of(app, "#estimate"))
        await pilot.press("enter")
        await until(pilot, lambda: app.bridge.busy)
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, QuitScreen) and app.screen.query("#question"))
        assert "break off the download" in flat(text_of(app, "#question"))
        await pilot.press("y")
        await until(pilot, lambda: app.return_code is not None)
    assert f"`mqf-tui models download {TINY}` goes on with it" in capsys.readouterr().err
    app.downloads.close()


async def test_a_search_here_that_finds_nothing_goes_on_there(filled: LocalHub) -> None:
    async with running() as (app, pilot):
        await at_models(app, pilot)
        await pilot.press("slash", *"tiny-4")
        await until(pilot, lambda: "on the hub" in flat(text_of(app, "#facts-text")))
        await pilot.press("enter", "enter")
        await until(pilot, lambda: isinstance(app.screen, HubScreen) and app.screen.query("#hits"))
        await found(app, pilot, TINY)


# Trust

PAYLOAD = """
import pathlib
pathlib.Path({marker!r}).write_text("ran")
from mlx_lm.models.llama import Model, ModelArgs
"""


@pytest.fixture
def suspicious(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one model of a folder brings code, which leaves a mark where it runs; returns the mark's path."""
    home = tmp_path / "mine"
    shutil.copytree(folder, home / "sly")
    makers.rewrite_config(home / "sly", model_file="modeling_sly.py")
    marker = tmp_path / "marker"
    (home / "sly" / "modeling_sly.py").write_text(PAYLOAD.format(marker=str(marker)))
    monkeypatch.setenv("MQF_TUI_MODELS", str(home))
    monkeypatch.setenv("HF_HUB_CACHE", os.devnull)
    return marker


async def test_code_runs_only_after_a_yes_that_names_the_file(suspicious: Path) -> None:
    async with running() as (app, pilot):
        listing = await at_models(app, pilot)
        await until(pilot, lambda: listing.option_count == 2 and "reading" not in text_of(app, "#told"))
        await pilot.press("end")
        await until(pilot, lambda: "press Enter to be asked" in flat(text_of(app, "#facts-text")))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, TrustScreen) and app.screen.query("#question"))
        question = flat(text_of(app, "#question"))
        assert "modeling_sly.py" in question
        assert "delete your files" in question
        assert app.focused is app.screen.query_one("#no")
        for no in ("enter", "escape", "n"):  # Enter alone is a no
            await pilot.press(no)
            await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, TrustScreen) and app.screen.query("#no"))
        assert not suspicious.exists()
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen) and app.screen.query("#length"))
        setup = app.screen
        assert isinstance(setup, SetupScreen)
        await until(pilot, lambda: text_of(app, "#estimate"))
        assert setup.sweeps()[0].first.trust_remote_code
        assert not suspicious.exists()  # not before it is loaded
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        await pilot.press("enter")  # the next time it is asked again
        await until(pilot, lambda: isinstance(app.screen, TrustScreen) and app.screen.query("#no"))
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen) and app.screen.query("#length"))
        await pilot.press(*["down"] * 3, "left", "left", "down", "1")
        await pilot.press("enter")
        await until(pilot, lambda: app.bridge.current is not None)
        measurement = app.bridge.current
        assert measurement is not None
        await until(pilot, lambda: not measurement.snapshot().running)
        assert measurement.snapshot().problem is None
    assert suspicious.read_text() == "ran"
    [run] = list_runs()
    assert "--trust-remote-code" in run.report.command


async def test_who_went_elsewhere_is_not_asked_about_what_was_chosen(
    suspicious: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk may be slow; the app is not, and its user may have something else in mind by then."""
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()
    read = local.read_now

    def slow(model: local.LocalModel) -> local.LocalModel:
        begun.set()
        go.wait(10)
        try:
            return read(model)
        finally:
            ended.set()

    async with running() as (app, pilot):
        listing = await at_models(app, pilot)
        await until(pilot, lambda: listing.option_count == 2 and "reading" not in text_of(app, "#told"))
        monkeypatch.setattr(local, "read_now", slow)
        await pilot.press("end", "enter")
        await until(pilot, begun.is_set)
        assert not ended.is_set()  # keys are answered meanwhile
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        go.set()
        await until(pilot, ended.is_set)
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert isinstance(app.screen, RunsScreen)
