"""Sweep: which setting to take, and how all of them compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import DataTable, Footer, Static

from mqf_tui.app.actions import bindings
from mqf_tui.app.columns import SCROLLBAR, narrowed
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.sweep_words import COLUMNS, cells, detail_words, origin_words, unranked_cells
from mqf_tui.app.widgets.run_table import RunTable
from mqf_tui.app.widgets.tiles import COLOURS
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.app.words import without_flags
from mqf_tui.library.runs import SavedRun
from mqf_tui.library.spooling import resume_words
from mqf_tui.reports.sweep_schema import SweepReport, SweepVariant
from mqf_tui.reports.text import inert


class SweepScreen(BaseScreen):
    """The answer, then the ranking; Enter opens a setting's own result."""

    TITLE: ClassVar[str | None] = "Sweep"
    HELP = (
        "# Sweep\n\nThe first sentence says which setting to take: → in the table. Settings are in order of "
        "mean KL; those of one **tie** cannot be told apart by this measurement. **◆** is on the Pareto "
        "frontier: no other setting needs fewer bytes and is as good. KV bytes are for one token, in a "
        "16-bit model.\n\n"
        "**✕** was dropped on the way, **◐** is partial. Below the table stands what the next cheaper "
        "setting would change, compared position by position. Enter opens a setting's own result; Tab goes "
        "to the notes below, which the arrows scroll."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("sweep")

    def __init__(self, report: SweepReport, runs: Mapping[str, SavedRun], problem: str | None = None) -> None:
        super().__init__()
        self._report, self._runs, self._problem = report, runs, problem
        by_run = {v.run: v for v in report.variants}
        ranked = [by_run[row.side.run] for row in report.ranking.rows if row.side.run in by_run]
        self._order = [*ranked, *(v for v in report.variants if v not in ranked)]

    def compose(self) -> ComposeResult:
        """The answer, the table, what is known of the row under the cursor; then doubts and provenance."""
        yield TitleBar(str(self.TITLE))
        yield Static(self._headline(), id="answer")
        yield RunTable(cursor_type="row", zebra_stripes=True, id="ranking")
        yield Static("", id="detail")
        with VerticalScroll(id="notes"):
            yield Static(self._notes())
        yield Footer()

    def on_mount(self) -> None:
        """Fill the table; begin at the setting to take."""
        if self._problem:
            self.notify(self._problem, severity="error", timeout=30, markup=False)
        self._fill()
        choice = self._report.ranking.choice
        rows = [v.run for v in self._order]
        table = self.query_one(DataTable)
        table.move_cursor(row=rows.index(choice.run) if choice is not None and choice.run in rows else 0)
        table.focus()

    def on_resize(self) -> None:
        """Lay the table out for the new width."""
        super().on_resize()
        self._fill()

    def _headline(self) -> Text:
        r = self._report
        text = Text(inert(r.answer[:1].upper() + r.answer[1:]), style="bold")
        mode = f"deployment from {r.quantize_start}" if r.quantize_start else "stress"
        colours = self.app.theme_variables
        text.append(f"\n{inert(r.model)}, KV cache, {mode}", style=colours["secondary"])
        if r.partial:
            why = f": {inert(r.ended)}" if r.ended else ""
            text.append(f"  PARTIAL{why}", style=f"bold {colours['warning']}")
        if words := resume_words(r.sweep_id):
            text.append(f"\n{inert(words)}", style=colours["secondary"])
        return text

    def _notes(self) -> Text:
        """What makes it doubtful, what each setting got, how it was made."""
        colours = self.app.theme_variables
        lines = [
            Text(f"! {inert(without_flags(w))}", style=colours["warning"]) for w in self._report.warnings
        ]
        if self._report.evidence:
            lines.append(Text(inert(self._report.evidence)))
        lines.append(Text(origin_words(self._report), style=colours["secondary"]))
        return Text("\n").join(lines)

    def _fill(self) -> None:
        table = self.query_one(DataTable)
        row, rows = table.cursor_row, [self._cells(variant) for variant in self._order]
        frontier = any(one["frontier"].plain for one in rows)

        def measured(_: Sequence[str]) -> dict[str, int]:
            names = (name for name in COLUMNS if frontier or name != "frontier")
            # Over the frontier's signs stands one, not the word.
            least = {name: 1 if name == "frontier" else len(name) for name in names}
            return {name: max(n, *(one[name].cell_len for one in rows)) for name, n in least.items()}

        shown = narrowed(COLUMNS, rows, measured, self.size.width - SCROLLBAR)
        table.clear(columns=True)
        for name in shown:
            table.add_column("◆" if name == "frontier" else name, key=name)
        for number, one in enumerate(rows):
            table.add_row(*(one[name] for name in shown), key=str(number))
        table.move_cursor(row=min(row, len(rows) - 1))

    def _cells(self, variant: SweepVariant) -> dict[str, Text]:
        ranked = next((row for row in self._report.ranking.rows if row.side.run == variant.run), None)
        words = cells(self._report, ranked, variant) if ranked is not None else unranked_cells(variant)
        colours = self.app.theme_variables
        styles = {"verdict": f"bold {colours[COLOURS[variant.verdict]]}", "": f"bold {colours['accent']}"}
        quiet = "" if ranked is not None and not variant.dropped else colours["secondary"]
        return {name: Text(word, style=styles.get(name, quiet)) for name, word in words.items()}

    @on(DataTable.RowHighlighted)
    def describe(self) -> None:
        """Say below the table what the row under the cursor is."""
        words = detail_words(self._report, self._current())
        self.query_one("#detail", Static).update(Text(words, style=self.app.theme_variables["secondary"]))

    @on(DataTable.RowSelected)
    def open(self) -> None:
        """Open the run under the cursor."""
        run = self._runs.get(self._current().run)
        if run is None:
            self.notify("The run of this setting is not saved.", severity="warning")
        else:
            self.mqf.show_run(run)

    def _current(self) -> SweepVariant:
        return self._order[max(0, self.query_one(DataTable).cursor_row)]
