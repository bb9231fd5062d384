"""Reports, sweeps, layers and recipes on their screens, by keyboard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Checkbox, DataTable, Input, Markdown, Static

from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.documents import Document, Form, run_document
from mqf_tui.app.screens.compare import CompareScreen
from mqf_tui.app.screens.report import IssueScreen, ReportScreen
from mqf_tui.app.screens.report_dialogs import SaveScreen, TrackerScreen
from mqf_tui.app.screens.result import ResultScreen
from mqf_tui.app.screens.sensitivity import SensitivityScreen
from mqf_tui.app.screens.studies import StudiesScreen
from mqf_tui.app.screens.sweep import SweepScreen
from mqf_tui.app.screens.tuning import TuningScreen
from mqf_tui.app.widgets.heat_grid import HeatCell, HeatGrid
from mqf_tui.app.widgets.pareto_plot import ParetoPlot
from mqf_tui.fidelity.errors import SaveError
from mqf_tui.library.runs import SavedRun, save_run
from mqf_tui.library.sweeps import save_sweep
from mqf_tui.library.tunings import save_tuning
from tests import made_sweeps, makers
from tests.test_app import running, screen_text, text_of, until
from tests.test_documents import tuning


def told(app: MqfTuiApp) -> str:
    return "\n".join(note.message for note in app._notifications)


def below(widget: Widget) -> str:
    """The words in a widget's lower border."""
    return Content.from_markup(str(widget.border_subtitle)).plain


async def test_a_report_is_read_copied_saved_and_made_an_issue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SSH_CONNECTION", "DISPLAY", "WAYLAND_DISPLAY", "TMUX", "STY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))  # no tools
    monkeypatch.setenv("SSH_TTY", "/dev/pts/0")
    report, positions = makers.report(), makers.positions()
    document = run_document(report, lambda: positions, "my-run")
    async with running((80, 24)) as (app, pilot):
        app.report(document)
        await until(pilot, lambda: app.screen.query(Markdown))
        assert "my-run.md" in text_of(app, "#status")
        await until(pilot, lambda: "mean KL 0.0234" in screen_text(app))
        await pilot.press("t")
        await until(pilot, lambda: "### org/tiny-llama" in screen_text(app))
        await pilot.press("t")
        # Left of the first is the last.
        await pilot.press("left")
        await until(pilot, lambda: "my-run.badge.json, " in text_of(app, "#status"))
        await pilot.press("right")
        await until(pilot, lambda: "my-run.md, " in text_of(app, "#status"))
        await pilot.press("l", "l", "l")
        await until(pilot, lambda: "my-run.json" in text_of(app, "#status"))
        assert '"schema_version": 1' in screen_text(app)
        await pilot.press("y")
        await until(pilot, lambda: "JSON sent to the terminal (OSC 52)" in told(app))
        assert app.clipboard == document.render("json")
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, SaveScreen))
        await pilot.press("enter")
        await until(pilot, lambda: Path("my-run.json").exists())
        assert json.loads(Path("my-run.json").read_text())["model"] == "org/tiny-llama"
        await until(pilot, lambda: "Saved as my-run.json" in told(app))
        # A file that is there is replaced after a second Enter only; a folder that is not there is told.
        Path("my-run.json").write_text("mine")
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, SaveScreen))
        await pilot.press("enter")
        await until(pilot, lambda: "is there already" in text_of(app, "#said"))
        assert Path("my-run.json").read_text() == "mine"
        app.screen.query_one(Input).value = "none/my.json"
        await pilot.press("enter")
        await until(pilot, lambda: "There is no folder none" in text_of(app, "#said"))
        app.screen.query_one(Input).value = "my-run.json"
        await pilot.press("enter")
        await pilot.pause(0.1)
        assert Path("my-run.json").read_text() == "mine"
        await pilot.press("enter")
        await until(pilot, lambda: Path("my-run.json").read_text() != "mine")
        await until(pilot, lambda: isinstance(app.screen, ReportScreen))
        await pilot.press("b")
        await until(pilot, lambda: "over ssh" in told(app))
        page = tmp_path / "cache-home" / "pages" / "my-run.html"
        assert page.read_text(encoding="utf-8") == document.render("html")
        await pilot.press("i")
        await until(pilot, lambda: isinstance(app.screen, TrackerScreen))
        assert not app.screen.query_one(Checkbox).value
        await pilot.press("x", "enter")
        await until(pilot, lambda: "names no tracker" in text_of(app, "#said"))
        app.screen.query_one(Input).value = "ml-explore/mlx-lm"
        await pilot.press("tab", "space")
        await until(pilot, lambda: "quoted" in str(app.screen.query_one(Checkbox).label))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, IssueScreen) and app.screen.query(Markdown))
        assert "Nothing is sent" in text_of(app, "#note")
        await pilot.press("right", "right", "y")
        await until(pilot, lambda: "Body alone sent to" in told(app))
        assert "Where it moved most:" in app.clipboard
        await pilot.press("i", "b")  # there is neither for an issue
        await pilot.press("escape")
        await until(pilot, lambda: type(app.screen) is ReportScreen)
        await pilot.press("i")
        await until(pilot, lambda: isinstance(app.screen, TrackerScreen))
        assert app.screen.query_one(Input).value == "ml-explore/mlx-lm"


async def test_long_hostile_and_broken_documents() -> None:
    def broken() -> str:
        raise SaveError("the positions cannot be read; measure it again.")

    big = json.dumps([{"x": "y" * 50}] * 100_000)
    hostile = "[bold]x[/]\x1b[2J\u202e | \x9b31m [link](javascript:x)"
    document = Document(
        hostile,
        "made",
        (
            Form("md", "Markdown", "md", "markdown", lambda: f"# One\n\n{hostile}\n\n" + "words " * 10_000),
            Form("json", "JSON", "json", "json", lambda: big),
            Form("bad", "Broken", "html", "html", broken),
        ),
    )
    async with running((80, 24)) as (app, pilot):
        app.report(document)
        await until(pilot, lambda: app.screen.query(Markdown))
        await until(pilot, lambda: "One" in screen_text(app))
        assert not {"\x1b", "\x9b", "\u202e"} & set(screen_text(app))
        assert "[bold]x[/]" in text_of(app, "#title")
        assert "characters; copies and files have all" in text_of(app, "#status")
        await pilot.press("right")
        await until(pilot, lambda: "the first 20,000 of" in text_of(app, "#status"))
        [shown] = app.screen.query("#page Static").results(Static)
        assert len(str(shown.render())) <= 20_000
        await pilot.press("right")
        await until(pilot, lambda: "The positions cannot be read" in told(app))
        await pilot.press("y", "w", "escape")
        await until(pilot, lambda: isinstance(app.screen, ReportScreen))


def saved_sweep(bits: tuple[str, ...] = ("8", "4")) -> dict[str, SavedRun]:
    """A grid of keys by values, its runs saved; by id."""
    subjects = made_sweeps.grid(bits)
    runs = [save_run(one.report, one.load()) for one in subjects]
    renamed = [
        made_sweeps.subject(one.report.kv_format, one.report.kl.mean, run=run.id)
        for one, run in zip(subjects, runs, strict=True)
    ]
    save_sweep(made_sweeps.summary(renamed))
    return {run.id: run for run in runs}


async def test_from_any_picture_of_a_sweep_to_its_runs() -> None:
    from mqf_tui.library.sweeps import load_sweep

    runs = saved_sweep()
    report = load_sweep("last")
    choice = report.ranking.choice
    assert choice is not None
    words = {run: v.short_setting for run in runs for v in report.variants if v.run == run}
    async with running((80, 24)) as (app, pilot):
        app.open_sweep(report, {})
        await until(pilot, lambda: isinstance(app.screen, SweepScreen) and app.screen.is_mounted)
        await pilot.pause(0.2)
        assert report.answer[1:] in " ".join(text_of(app, "#answer").split())
        table = app.screen.query_one("#ranking", DataTable)
        plot, grid = app.screen.query_one(ParetoPlot), app.screen.query_one(HeatGrid)
        assert not plot.display or not app.screen.query_one("#pictures").display
        assert table.has_focus
        # The points: the cursor is on the answer, and goes by bytes.
        await pilot.press("p")
        await until(pilot, lambda: plot.has_focus)
        assert below(plot).startswith(words[choice.run])
        by_bytes = sorted(report.variants, key=lambda v: (v.kv_bytes or 0.0, v.kl.value))
        await pilot.press("home")
        await until(pilot, lambda: f"run {by_bytes[0].run}" in text_of(app, "#detail"))
        await pilot.press("space", "enter")
        await until(pilot, lambda: isinstance(app.screen, ResultScreen))
        await until(pilot, lambda: by_bytes[0].run in screen_text(app))
        await pilot.press("escape")
        # The grid: keys down, values across.
        await until(pilot, lambda: isinstance(app.screen, SweepScreen))
        await pilot.press("p")
        await until(pilot, lambda: grid.has_focus)
        assert "Keys (down) by values (across)" in screen_text(app)
        for cell in report.grids[0].cells:
            await pilot.press(*["up", "left"] * 2, *["down"] * cell.row, *["right"] * cell.column)
            await until(pilot, lambda cell=cell: f"run {cell.run}" in text_of(app, "#detail"))
            assert f"{cell.kl.value:.3g}"[:5] in below(grid)
        await pilot.press("p")  # back to the table, its row the cell's
        await until(pilot, lambda: table.has_focus)
        assert report.grids[0].cells[-1].run in text_of(app, "#detail")
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, ReportScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, SweepScreen))
        await pilot.press("home", "c")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
    async with running((120, 40)) as (app, pilot):
        app.open_sweep(report, {})
        await until(pilot, lambda: isinstance(app.screen, SweepScreen) and app.screen.is_mounted)
        await pilot.pause(0.2)
        shown = screen_text(app)
        assert all(word in shown for word in ("Mean KL (nats)", "Keys (down)", "KV/token", "next cheaper"))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "Mean KL (nats)" not in screen_text(app))


async def test_runs_of_a_sweep_that_are_gone_are_told() -> None:
    async with running((80, 24)) as (app, pilot):
        app.open_sweep(made_sweeps.summary(made_sweeps.six()), {})
        await until(pilot, lambda: isinstance(app.screen, SweepScreen) and app.screen.is_mounted)
        await pilot.pause(0.2)
        await pilot.press("c", "enter", "e")
        await until(pilot, lambda: told(app).count("The run of this setting is not saved.") == 2)
        assert "Mark two to four settings" in told(app)
        assert isinstance(app.screen, SweepScreen)


async def test_all_that_is_saved_of_several_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    async with running((80, 24)) as (app, pilot):
        await pilot.press("T")
        await until(
            pilot,
            lambda: isinstance(app.screen, StudiesScreen) and "Nothing of several" in screen_text(app),
        )
        found = made_sweeps.sensitivity(40)
        layers = made_sweeps.summary(made_sweeps.six(), sensitivity=found)
        save_tuning(tuning(created="2026-01-01T00:00:00+00:00"))
        save_sweep(layers.model_copy(update={"sweep_id": "layers", "created": "2026-02-01T00:00:00+00:00"}))
        await pilot.press("f5")
        table = app.screen.query_one("#studies", DataTable)
        await until(pilot, lambda: table.row_count == 2)
        assert table.virtual_size.width <= 80
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, SensitivityScreen) and app.screen.is_mounted)
        await pilot.pause(0.2)
        worst = max(found.layers, key=lambda cost: cost.kl.value)
        assert f"layer {worst.layer} {worst.side}" in text_of(app, "#answer")
        grid = app.screen.query_one(HeatGrid)
        assert below(grid).startswith(f"layer {worst.layer} {worst.side}: ")
        await pilot.press("end")
        await until(pilot, lambda: below(grid).startswith("layer 39 "))
        rows = app.screen.query_one("#layers", DataTable)
        assert rows.cursor_row == 39
        await pilot.press("tab", "home")
        await until(pilot, lambda: below(grid).startswith("layer 0 "))
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, ReportScreen))
        await pilot.press("escape", "escape")
        await until(pilot, lambda: isinstance(app.screen, StudiesScreen))
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, TuningScreen) and app.screen.is_mounted)
        await pilot.pause(0.2)
        assert "The recipe has a mean KL of 0.012" in text_of(app, "#answer")
        measured = app.screen.query_one("#measured", DataTable)
        assert measured.row_count == 3
        assert measured.virtual_size.width <= 80
        recipe = app.screen.query_one("#recipe", HeatGrid)
        recipe.focus()
        await pilot.press("right", "down")
        await until(pilot, lambda: below(recipe) == "layer 1 values: 4-bit")
        await pilot.press("y")
        await until(pilot, lambda: app.clipboard == tuning().code)
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, SaveScreen))
        await pilot.press("enter")
        name = "recipe-tiny-llama-2026-01-01.toml"
        await until(pilot, lambda: Path(name).exists())
        assert Path(name).read_text() == tuning().toml


async def test_a_grid_of_cells_in_bands_and_by_mouse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that have no room stand below the others; gaps are leapt over; colours are not needed."""
    monkeypatch.setenv("NO_COLOR", "1")
    n = 200
    cells = {(i, j): HeatCell(j % 9, ("x",)) for i in range(2) for j in range(n) if (i, j) != (0, 1)}
    async with running((80, 24)) as (app, pilot):
        grid = HeatGrid()
        await app.screen.mount(grid)
        grid.show(("keys", "values"), [str(j) for j in range(n)], cells)
        grid.focus()
        await pilot.pause(0.1)
        wide = grid.content_size.width - len("values ")
        bands = -(-n // wide)
        assert grid.content_size.height == 3 * bands
        lines = str(grid.render()).splitlines()
        assert sum(line.strip().startswith("keys") for line in lines) == bands
        drawn = "".join(line[len("values ") :] for line in lines if line.startswith("values"))
        assert len(drawn.rstrip()) >= n - 8  # a cell of level 0 is blank
        assert grid.cursor == (0, 0)
        await pilot.press("right")
        assert grid.cursor == (0, 2)
        await pilot.press("down", "left", "up")
        assert grid.cursor == (1, 1)
        await pilot.press("end")
        assert grid.cursor == (1, n - 1)
        left, top = grid.content_region.x, grid.content_region.y
        await pilot.click(None, offset=(left + len("values ") + 5, top + 2))
        assert grid.cursor == (1, 5)
