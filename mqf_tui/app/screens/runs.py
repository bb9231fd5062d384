"""Runs: all that is saved. Find some, open, compare, label, throw away and take back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import Static
from textual.worker import get_current_worker

from mqf_tui.app.actions import bindings
from mqf_tui.app.capabilities import mark
from mqf_tui.app.labelling import ask_note, ask_tags
from mqf_tui.app.opening import open_report, open_sweep_of
from mqf_tui.app.row_words import detail_words, row_forms
from mqf_tui.app.run_columns import RIGHT, UNTITLED, Place, cell, layout, widest
from mqf_tui.app.run_order import Sorting
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.undoing import taken_back
from mqf_tui.app.widgets.filter_bar import FilterBar
from mqf_tui.app.widgets.key_footer import KeyFooter
from mqf_tui.app.widgets.model_list import SearchLine
from mqf_tui.app.widgets.row_list import Cell, Column, RowList
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.filtering import Filter
from mqf_tui.library.index import RunIndex, RunRow, run_rows
from mqf_tui.library.runs import SavedRun
from mqf_tui.reports.text import counted, inert

MOST_COMPARED = 4
EMPTY = (
    "No runs yet. Press m for the models and Enter on one of them: what is measured is kept here.\n"
    "`mqf-tui runs import FILE` takes in what mlx-quant-fidelity and llama.cpp reported."
)
Damaged = tuple[str, str]  # name and why it cannot be read
Forms = Mapping[str, tuple[str, ...]]


class Loaded(NamedTuple):
    """The runs as they were read, with their words and the widths of these."""

    runs: RunIndex
    forms: Mapping[str, Forms]
    widths: Mapping[str, tuple[int, ...]]


class RunsScreen(BaseScreen):
    """A table with a line that filters it. The table has the focus; `/` goes to the line."""

    TITLE: ClassVar[str | None] = "Runs"
    HELP = (
        "# Runs\n\n**/** filters as you type: words, and `model:smol bits:4,8 kv:k8v4 verdict:bad tag:blog "
        "corpus:wiki sweep:ID is:imported partial:yes after:2026-01-01 before:7d kl<0.01 flips>1%`. A hyphen "
        "turns a term round, commas separate alternatives, double quotes hold words together.\n\n"
        "**Space** marks runs; **c** compares the marked ones, two to four; the first is the baseline. "
        "**t**, **d** and **o** are for the marked ones, or the one under the cursor. What **d** throws away "
        "is kept for 30 days, and **u** takes it back.\n\n"
        "**◐** is a partial run: it was stopped before its end. **↓** was imported: another tool made it, "
        "and what that tool did not write is not known here. **≡** is of a sweep, which S opens.\n\n"
        "Beside the verdict stands how sure it is; ± is half of a 95 % interval: of KL as a share of it, of "
        "flips in percentage points. Below the table stands what found no room in it."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("runs")
    LESS: ClassVar[tuple[str, ...]] = tuple(
        f"runs.{name}" for name in ("tags", "sweep", "report", "trash", "explore", "sort", "search")
    )
    DEFAULT_CSS = """
    RunsScreen #empty { padding: 1 2; height: auto; }
    """

    def __init__(self, filter: str = "", marked: Sequence[str] = ()) -> None:
        super().__init__()
        self._loaded: Loaded | None = None
        self._text = filter
        self._filter = Filter()
        self._sorting = Sorting()
        self._marked = list(marked)
        self._shown: list[RunRow | Damaged] = []
        self._places: list[Place] = []
        self._can: tuple[bool | None, ...] = ()

    def compose(self) -> ComposeResult:
        """The line that filters, the table, what is known of the row under the cursor."""
        yield TitleBar(str(self.TITLE))
        yield FilterBar(self._text)
        yield Static(EMPTY, id="empty", markup=False)
        yield RowList(id="runs")
        yield Static("", id="detail", markup=False)
        yield KeyFooter()

    def on_mount(self) -> None:
        """Read the runs."""
        self.query_one("#empty").display = False
        self.query_one(RowList).focus()
        self.action_reload()

    def on_screen_resume(self) -> None:
        """Read them again: some may have been added on other screens."""
        if self._loaded is not None:
            self.action_reload()

    def measured(self) -> None:
        """Read them again: one has been added while the list was looked at."""
        self.action_reload()

    @work(thread=True, exclusive=True)
    def action_reload(self) -> None:
        """Read the saved runs again."""
        worker, unicode = get_current_worker(), self.mqf.capabilities.unicode
        try:
            index = run_rows()
        except FidelityError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error", markup=False)
            return
        forms = {row.id: row_forms(row, unicode=unicode) for row in index.rows}
        found = Loaded(index, forms, widest(forms.values()))
        if not worker.is_cancelled:
            self.app.call_from_thread(self._take, found)

    def _take(self, found: Loaded) -> None:
        self._loaded = found
        there = found.forms.keys()
        self._marked = [run_id for run_id in self._marked if run_id in there]
        self._fill()

    def find(self, text: str, marked: Sequence[str] = ()) -> None:
        """Filter by ``text``, with these runs marked besides those that are."""
        self._marked = list(dict.fromkeys((*self._marked, *marked)))
        self._text = text
        for bar in self.query(FilterBar):
            bar.text = text
        self._fill()

    # What is shown

    def on_resize(self) -> None:
        """Show the columns that the new width has room for."""
        super().on_resize()
        self._fill()

    def _fill(self, cursor: int | None = None) -> None:
        """Show what fits the filter; the cursor stays on its run where that is shown still."""
        if self._loaded is None or not self.query(RowList):
            return  # not read yet, or left already
        table, index = self.query_one(RowList), self._loaded.runs
        before = self._current()
        self._shown = [row for row in self._sorting.ordered(index.rows) if self._filter.takes(row)]
        self._shown += [one for one in index.broken if self._filter.takes_damaged(*one)]
        if cursor is None:
            names = [_id(one) for one in self._shown]
            cursor = names.index(_id(before)) if before and _id(before) in names else table.cursor_row
        n = len(index.rows) + len(index.broken)
        self._places = layout(self._loaded.widths, self.size.width - 1, self._sorting.column) if n else []
        table.show([self._column(place) for place in self._places], len(self._shown), self._cells, cursor)
        self.query_one("#empty").display = not n
        self._count(n)

    def _count(self, n: int) -> None:
        some = f"{len(self._shown):,} of {counted(n, 'run')}" if len(self._shown) < n else counted(n, "run")
        marked = f"{len(self._marked)} marked" if self._marked else ""
        dot = f" {mark('dot', self.mqf.capabilities.unicode)} "
        words = dot.join(filter(None, (marked, some, self._sorting.words)))
        self.query_one(FilterBar).count(words if n else "")

    def _column(self, place: Place) -> Column:
        title = "" if place.name in UNTITLED else place.name
        if place.name == self._sorting.column:
            arrow = mark("down" if self._sorting.falling else "up", self.mqf.capabilities.unicode)
            title = f"{title} {arrow}"
        return Column(place.name, title, place.width, place.name in RIGHT, place.gap)

    def _cells(self, number: int) -> list[Cell]:
        one, unicode = self._shown[number], self.mqf.capabilities.unicode
        if not isinstance(one, RunRow):
            name, why = one
            words = inert(f"damaged: {why}, {name}")
            return [("", ""), (f"{mark('no', unicode)} {words}", "quiet")]
        assert self._loaded is not None
        forms = self._loaded.forms[one.id]
        place = self._marked.index(one.id) + 1 if one.id in self._marked else 0
        marked = "" if not place else str(place) if place <= MOST_COMPARED else mark("marked", unicode)
        styles = {
            "verdict": one.verdict,
            "signs": "quiet",
            "corpus": "quiet",
            "when": "quiet",
            "tags": "strong",
        }
        return [
            (marked, "strong") if p.name == "mark" else (cell(p, forms), styles.get(p.name, ""))
            for p in self._places
        ]

    @on(RowList.Moved)
    def describe(self) -> None:
        """Say below the table what the row under the cursor is, its signs in words."""
        one = self._current()
        if isinstance(one, RunRow):
            names = [place.name for place in self._places]
            words = detail_words(one, names, unicode=self.mqf.capabilities.unicode)
        elif one is not None:
            name, why = map(inert, one)
            words = f"{name}\n{why}\nd throws it away; `mqf-tui runs verify` tells more."
        else:
            words = "No run fits. Escape in the line above shows all again." if self._loaded else ""
        self.query_one("#detail", Static).update(Text(words), layout=False)
        self.query_one("#detail").display = not self.query_one("#empty").display
        # The footer puts up all its keys anew, which takes longer than all the rest.
        can = tuple(self.check_action(name, ()) for name in ("open", "explore", "sweep"))
        if can != self._can:
            self._can = can
            self.refresh_bindings()

    def _current(self) -> RunRow | Damaged | None:
        row = self.query_one(RowList).cursor_row if self.query(RowList) else 0
        return self._shown[row] if 0 <= row < len(self._shown) else None

    @on(FilterBar.Filtered)
    def filtered(self, event: FilterBar.Filtered) -> None:
        """Show the runs that fit."""
        if event.filter != self._filter:
            self._filter = event.filter
            self._fill()

    def action_search(self) -> None:
        """Type a filter."""
        self.query_one(FilterBar).type()

    @on(SearchLine.Left)
    def left(self) -> None:
        """On to what was found."""
        self.query_one(RowList).focus()

    # What is done with runs

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What can be done with the row under the cursor."""
        del parameters
        if action in ("open", "explore", "report", "tags", "note", "sweep"):
            one = self._current()
            if not isinstance(one, RunRow):
                return False
            return {"sweep": bool(one.sweep_id), "explore": one.has_positions}.get(action, True)
        return True

    @on(RowList.Chosen)
    def action_open(self) -> None:
        """Open the run under the cursor."""
        if run := self._load(self._current()):
            self.mqf.show_run(run)

    def action_mark(self) -> None:
        """Mark or unmark the run under the cursor, and go on to the next."""
        one = self._current()
        if not isinstance(one, RunRow):
            return
        if one.id in self._marked:
            self._marked.remove(one.id)
        else:
            self._marked.append(one.id)
        self._fill(self.query_one(RowList).cursor_row + 1)

    def action_unmark(self) -> None:
        """Take all marks away."""
        self._marked = []
        self._fill()

    def action_sort(self) -> None:
        """By the next column."""
        self._sorting = self._sorting.next()
        self._fill(0)

    def action_reverse(self) -> None:
        """The other way round."""
        self._sort_by(self._sorting.column)

    @on(RowList.HeaderClicked)
    def header_clicked(self, event: RowList.HeaderClicked) -> None:
        """By the column that was clicked."""
        self._sort_by(event.name)

    def _sort_by(self, column: str) -> None:
        self._sorting = self._sorting.by(column)
        self._fill(0)

    def action_compare(self) -> None:
        """The marked runs, or the one that is marked and the one under the cursor."""
        current, chosen = self._current(), self._chosen()
        if len(chosen) == 1 and isinstance(current, RunRow) and current.id != chosen[0].id:
            chosen.append(current)
        if not 2 <= len(chosen) <= MOST_COMPARED:
            have = f"{len(self._marked)} are marked" if len(self._marked) > 1 else "mark them with space"
            self.notify(f"Two to {MOST_COMPARED} runs are compared; {have}.")
            return
        runs = [run for one in chosen if (run := self._load(one))]
        if len(runs) == len(chosen):
            self.mqf.compare(runs)

    def action_explore(self) -> None:
        """Walk through the text of the run under the cursor."""
        if run := self._load(self._current()):
            self.mqf.explore(run)

    def action_report(self) -> None:
        """Open the report of the run under the cursor."""
        if run := self._load(self._current()):
            open_report(self, run, run.report)

    def action_sweep(self) -> None:
        """Open the sweep that the run under the cursor is of."""
        one = self._current()
        if isinstance(one, RunRow) and one.sweep_id and self._loaded is not None:
            open_sweep_of(self, one.sweep_id, self._loaded.runs.rows)

    def action_tags(self) -> None:
        """Change the tags of the marked runs, or of the one under the cursor."""
        if (runs := self._chosen()) and self._loaded is not None:
            known = sorted({tag for row in self._loaded.runs.rows for tag in row.tags})
            ask_tags(self, runs, known, self.action_reload)

    def action_note(self) -> None:
        """Change the note of the run under the cursor."""
        if isinstance(one := self._current(), RunRow):
            ask_note(self, one, self.action_reload)

    def action_trash(self) -> None:
        """Throw away the marked runs, or the one under the cursor."""
        current = self._current()
        names = list(self._marked) or ([_id(current)] if current else [])
        if not names:
            return
        from mqf_tui.library.trash import delete_runs, restore_runs

        try:
            gone = [one.folder.name for one in delete_runs(names)]
        except FidelityError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        what = inert(names[0]) if len(names) == 1 else counted(len(names), "run")
        is_are, them = ("is", "it") if len(names) == 1 else ("are", "them")
        self.mqf.undoing.did(f"{what} {is_are} back.", lambda: restore_runs(gone))
        self.notify(f"{what} {is_are} in the trash for 30 days; u takes {them} back.", markup=False)
        self._forget(names)

    def _forget(self, names: Sequence[str]) -> None:
        """At once, not when the runs have been read again: the next key is for the next row."""
        assert self._loaded is not None
        index, gone = self._loaded.runs, set(names)
        rows = tuple(row for row in index.rows if row.id not in gone)
        broken = tuple(one for one in index.broken if one[0] not in gone)
        self._marked = [run_id for run_id in self._marked if run_id not in gone]
        self._loaded = self._loaded._replace(runs=RunIndex(rows, broken))
        self._fill(self.query_one(RowList).cursor_row)

    def action_undo(self) -> None:
        """Take back the last removal or change of labels."""
        words, well = taken_back(self.mqf.undoing)
        self.notify(words, severity="information" if well else "warning", markup=False)
        self.action_reload()

    def _chosen(self) -> list[RunRow]:
        """The marked runs in the order of their marks, or the one under the cursor."""
        if self._marked and self._loaded is not None:
            by_id = {row.id: row for row in self._loaded.runs.rows}
            return [by_id[run_id] for run_id in self._marked if run_id in by_id]
        current = self._current()
        return [current] if isinstance(current, RunRow) else []

    def _load(self, one: RunRow | Damaged | None) -> SavedRun | None:
        """The run of a row; what keeps it from being read is told."""
        if not isinstance(one, RunRow):
            return None
        try:
            return one.load()
        except FidelityError as error:
            self.notify(str(error), severity="error", markup=False)
            self.action_reload()
            return None


def _id(one: RunRow | Damaged) -> str:
    return one.id if isinstance(one, RunRow) else one[0]
