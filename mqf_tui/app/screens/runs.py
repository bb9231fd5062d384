"""Runs: all that is saved; open one, or mark two and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable, Footer, Static

from mqf_tui.app.actions import bindings
from mqf_tui.app.columns import LAST, PADDING, SCROLLBAR, fitting, narrowed, staying
from mqf_tui.app.row_words import (
    SHORTEST_SETTING,
    detail_words,
    flip_words,
    kl_words,
    local_time,
    short_words,
)
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.screens.sweep import SweepScreen
from mqf_tui.app.widgets.run_table import RunTable
from mqf_tui.app.widgets.tiles import COLOURS
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.runs import SavedRun, all_runs
from mqf_tui.library.sweeps import load_sweep
from mqf_tui.reports.rows import bounds
from mqf_tui.reports.text import inert

# From left to right; the number says in which order they go where there is no room (0: never).
COLUMNS = {
    "": 0,
    "verdict": 0,
    "model": LAST,
    "setting": 0,
    "KL mean": LAST + 1,
    "flips": 5,
    "p99": 2,
    "corpus": 1,
    "tags": 4,
    "when": 3,
}
NAME_LENGTHS = (32, 24, 18, 12)  # tried in this order
NAMES = ("model", "corpus", "tags")  # that can be shortened
# Columns that have a longer form, with ±: those that get it, tried in this order.
ERROR = " ±"
WITH_ERROR = (("flips", "p99"), ("flips",), ())


class RunsScreen(BaseScreen):
    """A table, newest first."""

    TITLE: ClassVar[str | None] = "Runs"
    HELP = (
        "# Runs\n\nEnter opens a run. Space marks one; c compares the two marked ones.\n\n"
        "**◐** is a partial run: it was stopped before its end. **↓** was imported: another tool made it, "
        "and what that tool did not write is not known here. **≡** is of a sweep, which s opens.\n\n"
        "Beside the verdict stands how sure it is; ± is half of a 95 % interval: of KL as a share of it, of "
        "flips in percentage points. Below the table stands what found no room in it."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("runs")

    def __init__(self) -> None:
        super().__init__()
        self._runs: list[SavedRun] = []
        self._marked: list[str] = []

    def compose(self) -> ComposeResult:
        """The table, or a word on how to get a first run."""
        yield TitleBar(str(self.TITLE))
        yield RunTable(cursor_type="row", zebra_stripes=True, id="runs")
        yield Static("", id="empty")
        yield Static("", id="detail")
        yield Footer()

    def on_mount(self) -> None:
        """Read the runs."""
        self.query_one(DataTable).focus()
        self.action_reload()

    @work(thread=True, exclusive=True)
    def action_reload(self) -> None:
        """Read the saved runs again."""
        try:
            runs, broken = all_runs()
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
        self.query_one("#empty").display = bool(empty)
        self.query_one("#detail").display = not empty
        for name, why in broken:
            self.notify(inert(f"{name} cannot be read: {why}"), severity="warning", markup=False)

    def on_resize(self) -> None:
        """Show the columns that the new width has room for."""
        self._fill()

    def _fill(self) -> None:
        table = self.query_one(DataTable)
        row = table.cursor_row
        rows, shown = self._fitted()
        table.clear(columns=True)
        for name in shown:
            table.add_column(name, key=name)
        for run_id, cells in rows.items():
            table.add_row(*(cells[name] for name in shown), key=run_id)
        if self._runs:
            table.move_cursor(row=min(row, len(self._runs) - 1))

    def _fitted(self) -> tuple[dict[str, dict[str, Text]], list[str]]:
        """The cells of each run, and the columns that have room.

        What fits at all comes first, then flips with their error, then as many columns as can be, then
        p99's error, then long names.
        """
        cells = {run.id: self._cells(run) for run in self._runs}
        forms = [*COLUMNS, *(name + ERROR for name in WITH_ERROR[0])]
        widest = {form: max((row[form].cell_len for row in cells.values()), default=0) for form in forms}
        best: tuple[tuple[int, ...], tuple[str, ...], int, list[str]] = ((-1,), (), 0, [])
        for errors in WITH_ERROR:
            for longest in NAME_LENGTHS:
                widths, room = _widths(widest, errors, longest), self.size.width - SCROLLBAR
                shown = fitting(staying(COLUMNS), widths, room)
                said = [name for name in errors if name in shown]
                fits = sum(widths[name] + PADDING for name in shown) <= room
                worth = fits, "flips" in said, len(shown), len(said)
                if worth > best[0]:
                    best = worth, errors, longest, shown
        if not best[0][0]:
            return cells, self._narrowed(cells)
        _, errors, longest, shown = best
        for row in cells.values():
            row.update({name: row[name + ERROR] for name in errors})
            row.update({name: Text(_short(row[name].plain, longest)) for name in NAMES})
            row["setting"] = Text(_short(row["setting"].plain, max(longest, SHORTEST_SETTING)))
        return cells, shown

    def _narrowed(self, cells: dict[str, dict[str, Text]]) -> list[str]:
        """Where even the columns that always stay have no room: cells lose fields, then columns go."""
        rows, room = list(cells.values()), self.size.width - SCROLLBAR
        for row in rows:
            row.update({name: Text(_short(row[name].plain, NAME_LENGTHS[-1])) for name in NAMES})
            row["setting"] = Text(_short(row["setting"].plain, SHORTEST_SETTING))

        def measured(_: Sequence[str]) -> dict[str, int]:
            return {name: max(len(name), *(row[name].cell_len for row in rows), 0) for name in COLUMNS}

        return list(narrowed(COLUMNS, rows, measured, room))

    def _cells(self, run: SavedRun) -> dict[str, Text]:
        r = run.report
        colour = self.app.theme_variables[COLOURS[r.verdict]]
        signs = {"◐": r.partial, "↓": r.origin is not None, "≡": r.sweep_id}
        marks = "".join(f" {sign}" for sign, there in signs.items() if there)
        return {
            "": Text(str(self._marked.index(run.id) + 1) if run.id in self._marked else " "),
            "verdict": Text(short_words(r, r.stopping) + marks, style=f"bold {colour}"),
            "model": Text(inert((r.variant_model or r.model).rsplit("/", 1)[-1])),
            "setting": Text(r.short_setting),
            "KL mean": Text(kl_words(r.kl.mean, bounds(r.kl.ci_low, r.kl.ci_high))),
            "flips": Text(flip_words(r, error=False)),
            "flips" + ERROR: Text(flip_words(r)),
            "p99": Text(kl_words(r.kl.p99, None)),
            "p99" + ERROR: Text(kl_words(r.kl.p99, r.kl.p99_ci)),
            "corpus": Text(inert(r.corpus.name)),
            "tags": Text(inert(" ".join(run.tags))),
            "when": Text(local_time(r.created)),
        }

    @on(DataTable.RowHighlighted)
    def describe(self) -> None:
        """Say below the table what the row under the cursor is, its signs in words."""
        run = self._current()
        shown = {str(key.value) for key in self.query_one(DataTable).columns}
        words = detail_words(run, shown) if run is not None else ""
        self.query_one("#detail", Static).update(Text(words, style=self.app.theme_variables["secondary"]))
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is a sweep to be opened where the row is of one."""
        del parameters
        if action != "sweep":
            return True
        run = self._current() if self.query(DataTable) else None
        return run is not None and bool(run.report.sweep_id)

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
        self.mqf.compare([by_id[name] for name in chosen])

    def action_sweep(self) -> None:
        """Open the sweep that the run under the cursor is of."""
        run = self._current()
        if run is None or not run.report.sweep_id:
            return
        try:
            report = load_sweep(run.report.sweep_id)
        except FidelityError as error:
            self.notify(str(error), severity="error", markup=False)
        else:
            self.app.push_screen(SweepScreen(report, {run.id: run for run in self._runs}))

    def _current(self) -> SavedRun | None:
        row = self.query_one(DataTable).cursor_row
        return self._runs[row] if 0 <= row < len(self._runs) else None


def _widths(widest: dict[str, int], errors: tuple[str, ...], longest: int) -> dict[str, int]:
    """The width of each column, from the widest cell of each form; no tags, no column for them."""
    found = {name: widest[name + ERROR if name in errors else name] for name in COLUMNS}
    found.update({name: min(found[name], longest) for name in NAMES})
    found["setting"] = min(found["setting"], max(longest, SHORTEST_SETTING))
    return {name: max(len(name), n) for name, n in found.items() if n or name != "tags"}


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
