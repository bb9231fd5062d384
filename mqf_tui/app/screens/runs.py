"""Runs: all that is saved; open one, or mark two and compare them."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Static

from mqf_tui.app.screens.base import COMMON, BaseScreen
from mqf_tui.app.screens.compare import CompareScreen
from mqf_tui.app.widgets.tiles import COLOURS
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.runs import SavedRun, broken_runs, list_runs
from mqf_tui.reports.text import inert, kl, percent

COLUMNS = ("", "verdict", "model", "setting", "mode", "KL mean", "p99", "flips", "corpus", "when")


class RunTable(DataTable[Text]):
    """The table, with Enter shown in the footer."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "Open")]


class RunsScreen(BaseScreen):
    """A table, newest first."""

    TITLE: ClassVar[str | None] = "Runs"
    HELP = (
        "# Runs\n\nEnter opens a run. Space marks one; c compares the two marked ones side by side. "
        "◐ is a partial run: it was stopped before its end."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", key_display="␣"),
        Binding("c", "compare", "Compare"),
        Binding("f5", "reload", "Reload"),
        *COMMON,
    ]

    def __init__(self) -> None:
        super().__init__()
        self._runs: list[SavedRun] = []
        self._marked: list[str] = []

    def compose(self) -> ComposeResult:
        """The table, or a word on how to get a first run."""
        yield TitleBar(str(self.TITLE))
        yield RunTable(cursor_type="row", zebra_stripes=True, id="runs")
        yield Static("", id="empty")
        yield Footer()

    def on_mount(self) -> None:
        """Read the runs."""
        self.query_one(DataTable).add_columns(*COLUMNS)
        self.query_one(DataTable).focus()
        self.action_reload()

    @work(thread=True, exclusive=True)
    def action_reload(self) -> None:
        """Read the saved runs again."""
        try:
            runs, broken = list_runs(), broken_runs()
        except FidelityError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error", markup=False)
            return
        self.app.call_from_thread(self._loaded, runs, broken)

    def _loaded(self, runs: list[SavedRun], broken: list[tuple[str, str]]) -> None:
        self._runs = runs
        self._marked = [run_id for run_id in self._marked if any(run.id == run_id for run in runs)]
        self._fill()
        empty = "No runs yet. Escape goes back to the models; Enter there sets one up." if not runs else ""
        self.query_one("#empty", Static).update(empty)
        for name, why in broken:
            self.notify(inert(f"{name} cannot be read: {why}"), severity="warning", markup=False)

    def _fill(self) -> None:
        table = self.query_one(DataTable)
        row = table.cursor_row
        table.clear()
        for run in self._runs:
            table.add_row(*self._cells(run), key=run.id)
        if self._runs:
            table.move_cursor(row=min(row, len(self._runs) - 1))

    def _cells(self, run: SavedRun) -> tuple[Text, ...]:
        r = run.report
        colour = self.app.theme_variables[COLOURS[r.verdict]]
        words = (
            _short(inert(r.model.rsplit("/", 1)[-1])),
            f"{r.kv_bits}-bit g{r.kv_group_size}",
            r.mode or "" if not r.quantize_start else f"from {r.quantize_start}",
            kl(r.kl.mean),
            kl(r.kl.p99),
            percent(r.flip_rate),
        )
        verdict = Text(r.verdict + (" ◐" if r.partial else ""), style=f"bold {colour}")
        when = _local(r.created)
        mark = Text(str(self._marked.index(run.id) + 1) if run.id in self._marked else " ")
        return (mark, verdict, *map(Text, words), Text(inert(r.corpus.name)), Text(when))

    @on(DataTable.RowSelected)
    def open(self) -> None:
        """Open the run under the cursor."""
        run = self._current()
        if run is not None:
            self.mqf.show_run(run)

    def action_mark(self) -> None:
        """Mark or unmark; a third mark replaces the older one."""
        run = self._current()
        if run is None:
            return
        if run.id in self._marked:
            self._marked.remove(run.id)
        else:
            self._marked = [*self._marked, run.id][-2:]
        self._fill()

    def action_compare(self) -> None:
        """The two marked runs, or the marked one and the one under the cursor."""
        current = self._current()
        chosen = list(self._marked)
        if len(chosen) == 1 and current is not None and current.id not in chosen:
            chosen.append(current.id)
        if len(chosen) != 2:
            self.notify("Mark two runs with space first.")
            return
        by_id = {run.id: run for run in self._runs}
        self.app.push_screen(CompareScreen(by_id[chosen[0]], by_id[chosen[1]]))

    def _current(self) -> SavedRun | None:
        row = self.query_one(DataTable).cursor_row
        return self._runs[row] if 0 <= row < len(self._runs) else None


def _local(created: str) -> str:
    try:
        return datetime.fromisoformat(created).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return inert(created[:16])


def _short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
