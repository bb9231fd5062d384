"""Compare: two to four runs side by side, as a table, as pictures, in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widgets import Static
from textual.worker import get_current_worker

from mqf_tui.app.actions import bindings
from mqf_tui.app.comparing import Compared, explained, figure_rows
from mqf_tui.app.comparing_pictures import Spread, curves, doubling, part_lines, spreads
from mqf_tui.app.comparing_settings import setting_rows
from mqf_tui.app.comparing_words import about, in_full, summary
from mqf_tui.app.comparing_work import Reading, begun, compared, gap
from mqf_tui.app.documents import comparison_document
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.widgets.compare_table import CompareTable
from mqf_tui.app.widgets.key_footer import KeyFooter
from mqf_tui.app.widgets.overlays import OverlaidCurves, OverlaidParts, OverlaidSpreads, Overlay
from mqf_tui.app.widgets.pareto_plot import ParetoPlot, legend
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.runs import SavedRun
from mqf_tui.reports.text import counted

if TYPE_CHECKING:
    from mqf_tui.app.comparing_frontier import Frontier

VIEWS = ("numbers", "spread", "depth", "parts", "pareto", "words")
MOST = 4  # runs
ROWS_FOR_TWO = 32  # of the terminal: then the table stands above a picture
ROOM_FOR_ALL = (170, 44)  # columns and rows: then everything stands beside each other


class CompareScreen(BaseScreen):
    """A column a run; one of them is the current column, and one the baseline of all differences."""

    TITLE: ClassVar[str | None] = "Compare"
    HELP = (
        "# Compare\n\nEach column is a run, with its number. ← and → choose the current one. Differences "
        "are taken from the **baseline**; b makes the current run the baseline, x swaps its column with the "
        "next, Enter opens it, e goes to the token on which it and the baseline differ most.\n\n"
        "Where two runs scored the same positions, a difference is taken position by position, with 95 % "
        "intervals clustered by chunk; else they are compared as two samples, which sees less. "
        "**≠** more, less, better, worse: beyond the error, chance alone would seldom give it (p < 0.05, or "
        "for percentiles a 95 % interval without 0). **≈** within the error. **=** the same. **?** there is "
        "no test of it. Of settings only those that differ are shown; a shows all.\n\n"
        "Tab, [ and ] and the numbers 1 to 6 go from view to view."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("compare")
    DEFAULT_CSS = """
    CompareScreen {
        #about { height: 1; padding: 0 2; color: $secondary; margin-top: 1; }
        #summary { height: auto; max-height: 5; padding: 0 2; }
        #views { height: 1; padding: 0 2; color: $secondary; link-style: none; link-color: $secondary; }
        #views-body { height: 1fr; layout: vertical; }
        #pictures { height: 1fr; layout: vertical; }
        #parts { height: 1fr; }
        #words { height: 1fr; padding: 1 2; }
        #pareto-box { height: 1fr; width: 1fr; }
        #pareto-words { height: auto; max-height: 5; padding: 0 2; color: $secondary; }
        #cell { height: 2; padding: 0 2; color: $secondary; }
    }
    CompareScreen.-short #about { margin-top: 0; }
    CompareScreen.-short #summary { max-height: 3; }
    CompareScreen.-all {
        #views-body { layout: horizontal; }
        CompareTable { width: 1fr; }
        #pictures { width: 1fr; layout: grid; grid-size: 2 2; }
        #words { width: 1fr; }
    }
    """

    def __init__(self, runs: Sequence[SavedRun]) -> None:
        if not 2 <= len(runs) <= MOST:
            raise ValueError(f"{counted(len(runs), 'run')} cannot be compared; take two to {MOST}")
        super().__init__()
        self._reading = Reading(runs)
        self._order = list(range(len(runs)))  # the places of the runs, from left to right
        self._at = 1 if len(runs) == 2 else 0  # the current column
        self._compared = begun(runs, 0)
        self._known: dict[int, Compared] = {}  # by baseline
        self._frontiers: dict[int, Frontier] = {}  # by baseline
        self._everything = False
        self._view = VIEWS[0]
        self._picture = VIEWS[1]
        self._points: tuple[SavedRun, ...] = ()

    @property
    def _runs(self) -> tuple[SavedRun, ...]:
        return self._reading.runs

    @property
    def _place(self) -> int:
        """Of the current column's run."""
        return self._order[self._at]

    def compose(self) -> ComposeResult:
        """What comes out in words, the views, and what the cell under the cursor means."""
        reports = [run.report for run in self._runs]
        yield TitleBar(str(self.TITLE))
        yield Static(about(reports), id="about", markup=False)
        yield Static("", id="summary", markup=False)
        yield Static("", id="views")
        with Container(id="views-body"):
            yield CompareTable(id="numbers")
            with Container(id="pictures"):
                yield OverlaidSpreads(id="spread")
                yield OverlaidCurves(curves(reports), doubling=any(map(doubling, reports)), id="depth")
                with VerticalScroll(id="parts"):
                    yield OverlaidParts(part_lines(reports))
                with Container(id="pareto-box"):
                    yield ParetoPlot(id="pareto", empty="looking for the other runs of this model")
                    yield Static("", id="pareto-words", markup=False)
            with VerticalScroll(id="words"):
                yield Static("", id="told", markup=False)
        yield Static("", id="cell", markup=False)
        yield KeyFooter()

    def on_mount(self) -> None:
        """Show what the reports say; work out the rest beside the screen."""
        self._arrange()
        self._fill()
        self.query_one(CompareTable).focus()
        # After the first frame: reading beside it would keep it waiting.
        self.call_after_refresh(self._work, self._compared.baseline)

    def on_resize(self) -> None:
        """Arrange the views for the new size."""
        super().on_resize()
        self._arrange()

    def _arrange(self) -> None:
        """Show the views that have room."""
        width, height = self.size
        everything = width >= ROOM_FOR_ALL[0] and height >= ROOM_FOR_ALL[1]
        two = not everything and height >= ROWS_FOR_TWO
        self.set_class(everything, "-all")
        words = self._view == "words"
        self.query_one(CompareTable).display = everything or two or self._view == "numbers"
        self.query_one("#words").display = words
        self.query_one("#pictures").display = not words and (everything or two or self._view != "numbers")
        for view, box in (
            ("spread", "#spread"),
            ("depth", "#depth"),
            ("parts", "#parts"),
            ("pareto", "#pareto-box"),
        ):
            self.query_one(box).display = everything or self._picture == view
        self.query_one("#cell").display = everything or two or self._view == "numbers"
        self._say_views()

    def _say_views(self) -> None:
        parts: list[Content] = []
        for number, view in enumerate(VIEWS, 1):
            style = "bold reverse" if view == self._view else f"@click=screen.view('{view}')"
            parts.append(Content.styled(f"{number} {view}", style))
        self.query_one("#views", Static).update(Content("  ").join(parts))

    @work(thread=True, exclusive=True, group="compare")
    def _work(self, baseline: int) -> None:
        """Read, compare, and show step by step: there may be millions of positions."""
        from mqf_tui.app.comparing_frontier import frontier

        worker, reading = get_current_worker(), self._reading

        def show(step: Callable[[], None]) -> None:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._if_there, step)

        try:
            steps = compared(reading, baseline)
            means = next(steps)
            show(lambda: self._show(means))
            read = [reading.positions(place) for place in range(len(reading.runs))]
            counted_up = spreads(read)
            show(lambda: self._show_spreads(counted_up))
            for more in steps:
                show(lambda found=more: self._show(found))
                if worker.is_cancelled:
                    return
            points = frontier(reading.runs, baseline)
            show(lambda: self._show_frontier(points, baseline))
        except FidelityError as error:
            words = str(error)
            show(lambda: self.notify(words, severity="error", markup=False))

    def _if_there(self, step: Callable[[], None]) -> None:
        """Nothing is shown on a screen that was left, or of which parts are gone already."""
        if self.is_mounted and self.query(CompareTable):
            step()

    def _show(self, found: Compared) -> None:
        """What is known by now of the comparison with one baseline."""
        told = set(self._compared.problems) | {p for known in self._known.values() for p in known.problems}
        for problem in found.problems:
            if problem not in told:
                self.notify(problem, severity="error", markup=False)
        self._known[found.baseline] = found
        if found.baseline == self._compared.baseline:
            self._compared = found
            self._fill()

    def _show_spreads(self, found: Sequence[Spread]) -> None:
        there = {spread.place for spread in found}
        without = [str(place + 1) for place in range(len(self._runs)) if place not in there]
        missing = f"no positions of {', '.join(without)}" if without else ""
        self.query_one(OverlaidSpreads).show(found, missing)

    def _show_frontier(self, found: Frontier, baseline: int) -> None:
        self._frontiers[baseline] = found
        self._points = found.runs
        plot = self.query_one(ParetoPlot)
        plot.show(found.points, limits=found.limits, unit=found.unit)
        lines = (found.words, legend(unicode=self.mqf.capabilities.unicode))
        self.query_one("#pareto-words", Static).update("\n".join(lines))

    def _fill(self) -> None:
        """Everything that stands on the baseline, the order or the width."""
        table = self.query_one(CompareTable)
        reports = [run.report for run in self._runs]
        rows = [*setting_rows(reports, everything=self._everything), *figure_rows(self._compared)]
        table.show(self._compared, rows, self._order, self._at)
        told = Text("\n\n").join(
            Text("\n").join([Text(heading, "bold"), *map(Text, lines)])
            for heading, lines in in_full(self._compared)
        )
        self.query_one("#told", Static).update(told if told.plain else Text("comparing …"))
        self._say()

    def _say(self) -> None:
        """What depends on the cell under the cursor."""
        place, table = self._place, self.query_one(CompareTable)
        names = [self._called(number) for number in range(len(self._runs))]
        for picture in self.query(Overlay):
            picture.name_runs(names, place)
        self.query_one("#summary", Static).update(Text(summary(self._compared, place)))
        row = table.row_at(table.cursor_row)
        words = explained(row, place, self._compared.baseline) if row is not None else ""
        self.query_one("#cell", Static).update(Text(words))

    def _called(self, place: int) -> str:
        report = self._runs[place].report
        return f"{report.short_setting}{' (baseline)' * (place == self._compared.baseline)}"

    @on(CompareTable.CellHighlighted)
    def _moved(self, event: CompareTable.CellHighlighted) -> None:
        self._at = min(event.coordinate.column, len(self._order) - 1)
        self._say()

    @on(CompareTable.LaidOut)
    def _laid_out(self) -> None:
        self._say()

    @on(CompareTable.CellSelected)
    def _chosen(self) -> None:
        self.action_open()

    @on(ParetoPlot.Selected)
    def _point_chosen(self, event: ParetoPlot.Selected) -> None:
        self.mqf.show_run(self._points[event.index])

    def action_move(self, by: int) -> None:
        """Another run becomes the current one, where the table itself has not the keys."""
        self._at = min(max(self._at + by, 0), len(self._order) - 1)
        self.query_one(CompareTable).choose(self._at)
        self._say()

    def action_swap(self) -> None:
        """The current column changes places with the one to its right, and stays current."""
        if self._at + 1 >= len(self._order):
            self.notify("There is no column to the right of this one.")
            return
        order = self._order
        order[self._at], order[self._at + 1] = order[self._at + 1], order[self._at]
        self._at += 1
        self._fill()

    def action_baseline(self) -> None:
        """Take all differences from the current run."""
        place = self._place
        if place == self._compared.baseline:
            self.notify(f"{place + 1} is the baseline already.")
            return
        known = self._known.get(place)
        self._compared = known or begun(self._runs, place)
        self._fill()
        if known is None or known.pending or place not in self._frontiers:
            self._work(place)
        else:
            self._show_frontier(self._frontiers[place], place)

    def action_all(self) -> None:
        """Show all settings, or only those that differ."""
        self._everything = not self._everything
        self._fill()

    def action_open(self) -> None:
        """Open the run of the current column."""
        self.mqf.show_run(self._runs[self._place])

    def action_view(self, view: str) -> None:
        """Go to a view."""
        self._view = view
        if view in VIEWS[1:-1]:
            self._picture = view
        self._arrange()
        target = {"pareto": "#pareto", "words": "#words", "parts": "#parts"}.get(view, "#numbers")
        shown = self.query_one(target)
        self.set_focus(shown if shown.display else None)

    def action_turn(self, by: int) -> None:
        """To the next view or the one before."""
        self.action_view(VIEWS[(VIEWS.index(self._view) + by) % len(VIEWS)])

    def action_report(self) -> None:
        """Open the report of the comparison."""
        found = self._compared.comparison
        if found is None:
            self.notify("The runs are still being compared.")
        elif not found.pairs:
            self.notify(
                "There is no comparison to report: each run has its own reference model.", severity="warning"
            )
        else:
            self.mqf.report(comparison_document(found))

    def action_explore(self) -> None:
        """Go to the token on which the current run and the baseline differ most."""
        place, base = self._place, self._compared.baseline
        other = next(p for p in self._order if p != base) if place == base else base
        self._jump(place, other)

    @work(thread=True, exclusive=True, group="jump")
    def _jump(self, place: int, other: int) -> None:
        try:
            found = gap(self._reading, other, place)
        except FidelityError as error:
            words = str(error)
            self.app.call_from_thread(self.notify, words, severity="warning", markup=False)
            return
        if found is None:
            words = f"{place + 1} and {other + 1} differ at no shared position."
            self.app.call_from_thread(self.notify, words)
            return
        run, rival = self._runs[place], self._runs[other]
        self.app.call_from_thread(self._if_there, lambda: self.mqf.explore(run, rival, found.second))
