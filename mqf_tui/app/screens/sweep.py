"""Sweep: which setting to take, and how all of them compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, VerticalScroll
from textual.widgets import DataTable, Static

from mqf_tui.app.actions import bindings
from mqf_tui.app.columns import SCROLLBAR, narrowed
from mqf_tui.app.documents import sweep_document
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.sweep_pictures import cell_words, drawn, grid_cells, grid_gaps, points
from mqf_tui.app.sweep_words import COLUMNS, cells, detail_words, origin_words, unranked_cells
from mqf_tui.app.verdict_colours import COLOURS
from mqf_tui.app.widgets.heat_grid import HeatGrid
from mqf_tui.app.widgets.key_footer import KeyFooter
from mqf_tui.app.widgets.pareto_plot import ParetoPlot, legend
from mqf_tui.app.widgets.run_table import RunTable
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.app.words import without_flags
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.runs import SavedRun, load_run
from mqf_tui.library.spooling import resume_words
from mqf_tui.reports.sweep_schema import SweepReport, SweepVariant
from mqf_tui.reports.text import inert

MOST_COMPARED = 4
TALL = 32  # rows from which picture and table stand together
LEGEND = 96  # columns that a picture with its legend takes


class SweepScreen(BaseScreen):
    """The answer, the picture, the ranking; Enter opens a setting's own result."""

    TITLE: ClassVar[str | None] = "Sweep"
    HELP = (
        "# Sweep\n\nThe first sentence says which setting to take: → in the table. Settings are in order of "
        "mean KL; those of one **tie** cannot be told apart by this measurement. **◆** is on the Pareto "
        "frontier: no other setting needs fewer bytes and is as good. KV bytes are for one token, in a "
        "16-bit model.\n\n"
        "**✕** was dropped on the way, **◐** is partial. Below the table stands what the next cheaper "
        "setting would change, compared position by position.\n\n"
        "**p** goes from the table to the picture of all settings, to the grid of keys by values where the "
        "sweep is one, and back. Arrows move in each of them, Tab from one to the next. **Enter** opens a "
        "setting's own result, **e** its text; **space** marks two to four settings, **c** compares them; "
        "**o** opens the report."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("sweep")
    LESS: ClassVar[tuple[str, ...]] = ("pareto.previous", "pareto.next", "sweep.compare", "sweep.explore")
    DEFAULT_CSS = """
    SweepScreen #pictures { height: 1fr; min-height: 10; layout: horizontal; padding: 0 1; }
    SweepScreen #pictures #grids { width: 1fr; height: 100%; }
    SweepScreen.-narrow #pictures { layout: vertical; height: 1fr; }
    SweepScreen.-all.-tall #pictures { height: 15; }
    SweepScreen.-all.-tall #notes { height: auto; max-height: 6; }
    SweepScreen.-all.-tall #ranking { height: 1fr; max-height: 100%; }
    SweepScreen.-table #pictures, SweepScreen.-points #ranking, SweepScreen.-grid #ranking,
    SweepScreen.-points #grids, SweepScreen.-grid #pareto,
    SweepScreen.-points #notes, SweepScreen.-grid #notes { display: none; }
    """

    def __init__(self, report: SweepReport, runs: Mapping[str, SavedRun], problem: str | None = None) -> None:
        super().__init__()
        self._report, self._runs, self._problem = report, dict(runs), problem
        by_run = {v.run: v for v in report.variants}
        ranked = [by_run[row.side.run] for row in report.ranking.rows if row.side.run in by_run]
        self._order = [*ranked, *(v for v in report.variants if v not in ranked)]
        self._points = drawn(report)
        self._marked: list[str] = []
        self._view = ""  # until the size is known

    def compose(self) -> ComposeResult:
        """The answer, the picture, the table, what is known of the row under the cursor; then doubts."""
        yield TitleBar(str(self.TITLE))
        yield Static(self._headline(), id="answer")
        with Container(id="pictures"):
            yield ParetoPlot(id="pareto")
            if self._report.grids:
                with VerticalScroll(id="grids", can_focus=False):
                    for number, _ in enumerate(self._report.grids):
                        yield HeatGrid(cell_height=3, id=f"grid-{number}")
        yield RunTable(cursor_type="row", zebra_stripes=True, id="ranking")
        yield Static("", id="detail")
        with VerticalScroll(id="notes"):
            yield Static(self._notes())
        yield KeyFooter()

    def on_mount(self) -> None:
        """Fill table and pictures; begin at the setting to take."""
        if not self.query("#ranking"):
            return  # the app was left while this screen was being put up: its widgets are gone
        if self._problem:
            self.notify(self._problem, severity="error", timeout=30, markup=False)
        self._fill()
        unicode = self.mqf.capabilities.unicode
        for number, grid in enumerate(self._report.grids):
            widget = self.query_one(f"#grid-{number}", HeatGrid)
            words = f" ({inert(grid.words)})" if grid.words else ""
            widget.border_title = f"Keys (down) by values (across){words}"
            rows, columns = (list(map(inert, names)) for names in (grid.rows, grid.columns))
            widget.show(rows, columns, grid_cells(grid, unicode), empty=grid_gaps(grid))
        choice = self._report.ranking.choice
        self._go(choice.run if choice is not None else self._order[0].run if self._order else "")
        self._look("all" if self.size.height >= TALL else "table")

    def on_resize(self) -> None:
        """Lay the table out for the new width; a low window has no room for both."""
        super().on_resize()
        self._fill()
        if self._view == "all" and self.size.height < TALL:
            self._look("table")

    def action_picture(self) -> None:
        """The next of table, points and grid."""
        views = ["all" if self.size.height >= TALL else "table", "points"]
        views += ["grid"] if self._report.grids else []
        self._look(views[(views.index(self._view) + 1) % len(views)] if self._view in views else views[0])

    def _look(self, view: str) -> None:
        self._view = view
        for name in ("all", "table", "points", "grid"):
            self.set_class(name == view, f"-{name}")
        self._entitle()
        first = {"points": "#pareto", "grid": "#grid-0"}.get(view, "#ranking")
        self.query_one(first).focus()

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
        if not self.query("#ranking"):
            return
        table = self.query_one("#ranking", RunTable)
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
        table.move_cursor(row=max(0, min(row, len(rows) - 1)))
        plot = self.query_one(ParetoPlot)
        limits = self._report.thresholds.kl_mean if self._report.thresholds else None
        plot.show(points(self._report, self._marked), limits=limits)
        self._entitle()
        self._follow()

    def _entitle(self) -> None:
        """What the signs of the picture mean, where there is room."""
        beside = 2 if self._report.grids and self._view == "all" else 1
        room = self.size.width // beside >= LEGEND
        signs = f"   {legend(unicode=self.mqf.capabilities.unicode)}" if room else ""
        self.query_one(ParetoPlot).border_title = f"Mean KL (nats){signs}"

    def _cells(self, variant: SweepVariant) -> dict[str, Text]:
        ranked = next((row for row in self._report.ranking.rows if row.side.run == variant.run), None)
        words = cells(self._report, ranked, variant) if ranked is not None else unranked_cells(variant)
        if variant.run in self._marked:
            words[""] += str(self._marked.index(variant.run) + 1)
        colours = self.app.theme_variables
        styles = {"verdict": f"bold {colours[COLOURS[variant.verdict]]}", "": f"bold {colours['accent']}"}
        quiet = "" if ranked is not None and not variant.dropped else colours["secondary"]
        return {name: Text(word, style=styles.get(name, quiet)) for name, word in words.items()}

    @on(DataTable.RowHighlighted)
    def describe(self) -> None:
        """Say below the table what the row under the cursor is; the point of it is meant too."""
        if self._order:
            words = detail_words(self._report, self._current())
            self.query_one("#detail", Static).update(Text(words, style=self.app.theme_variables["secondary"]))
            self._follow()

    @on(ParetoPlot.Highlighted)
    def point(self, event: ParetoPlot.Highlighted) -> None:
        """The row of the point is meant too."""
        self._go(self._points[event.index].run)

    @on(HeatGrid.Highlighted)
    def cell(self, event: HeatGrid.Highlighted) -> None:
        """The row of the cell is meant too."""
        grid = self._report.grids[int((event.grid.id or "grid-0").removeprefix("grid-"))]
        self._go(next(c.run for c in grid.cells if (c.row, c.column) == (event.row, event.column)))

    @on(DataTable.RowSelected)
    @on(ParetoPlot.Selected)
    @on(HeatGrid.Selected)
    def open(self) -> None:
        """Open the run of the setting under the cursor."""
        run = self._saved(self._current())
        if run is not None:
            self.mqf.show_run(run)

    def action_mark(self) -> None:
        """Mark the setting, or take its mark away; one more than can be compared replaces the oldest."""
        run = self._current().run
        if run in self._marked:
            self._marked.remove(run)
        else:
            self._marked = [*self._marked, run][-MOST_COMPARED:]
        self._fill()
        self._go(run)

    def action_compare(self) -> None:
        """The marked settings, or the marked one and the one under the cursor."""
        chosen = list(self._marked)
        if len(chosen) == 1 and self._current().run not in chosen:
            chosen.append(self._current().run)
        if len(chosen) < 2:
            self.notify("Mark two to four settings with space first.")
            return
        runs = [self._saved(v) for run in chosen for v in self._order if v.run == run]
        if all(runs):
            self.mqf.compare([run for run in runs if run is not None])

    def action_explore(self) -> None:
        """The text of the setting under the cursor."""
        run = self._saved(self._current())
        if run is not None:
            self.mqf.explore(run)

    def action_report(self) -> None:
        """The report of the sweep."""
        self.mqf.report(sweep_document(self._report))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is nothing to be done with settings where there are none."""
        del parameters
        return bool(self._order) or action in ("report", "back")

    def _saved(self, variant: SweepVariant) -> SavedRun | None:
        """The run of a setting, read where it was not given; None, and said, where there is none."""
        if variant.run not in self._runs:
            try:
                self._runs[variant.run] = load_run(variant.run)
            except FidelityError:
                self.notify("The run of this setting is not saved.", severity="warning")
        return self._runs.get(variant.run)

    def _go(self, run: str) -> None:
        """To the row of a run."""
        rows = [v.run for v in self._order]
        if run in rows:
            self.query_one("#ranking", RunTable).move_cursor(row=rows.index(run))

    def _follow(self) -> None:
        """Bring the cursors of the pictures to the setting of the row."""
        if not self._order:
            return
        run, runs = self._current().run, [v.run for v in self._points]
        if run in runs:
            self.query_one(ParetoPlot).go_to(runs.index(run))
        for number, grid in enumerate(self._report.grids):
            widget = self.query_one(f"#grid-{number}", HeatGrid)
            found = next((cell for cell in grid.cells if cell.run == run), None)
            widget.border_subtitle = "" if found is None else Text(cell_words(grid, found), style="bold")
            if found is not None:
                widget.go_to(found.row, found.column)

    def _current(self) -> SweepVariant:
        return self._order[max(0, self.query_one("#ranking", RunTable).cursor_row)]
