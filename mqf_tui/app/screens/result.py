"""Result: one report, saved or just made."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Static

from mqf_tui.app.actions import bindings
from mqf_tui.app.labelling import ask_note, ask_tags
from mqf_tui.app.opening import open_report, open_sweep_of
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.sections import Section, sections
from mqf_tui.app.tally import Numbers, histogram
from mqf_tui.app.undoing import taken_back
from mqf_tui.app.verdict_colours import COLOURS
from mqf_tui.app.widgets.key_footer import KeyFooter
from mqf_tui.app.widgets.kl_plots import Depth, Histogram
from mqf_tui.app.widgets.tiles import Tiles
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.app.words import perplexity_words, policy_words, setting_words, without_flags
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.filtering import quoted
from mqf_tui.library.index import run_rows
from mqf_tui.library.labels import read_labels
from mqf_tui.library.runs import SavedRun
from mqf_tui.reports.markdown import to_markdown
from mqf_tui.reports.rows import bounds
from mqf_tui.reports.schema import Report
from mqf_tui.reports.setting_words import notes
from mqf_tui.reports.text import inert, stopping_words, verdict_words


class ResultScreen(BaseScreen):
    """Verdict, large numbers, plots, parts, provenance."""

    TITLE: ClassVar[str | None] = "Result"
    HELP = (
        "# Result\n\nThe **verdict** passes a level when mean KL, p99 KL and flips all do; beside it stands "
        "the share of resampled chunks that give the same. Intervals are 95 %, clustered by chunk. Lines "
        "with ! are doubts about this very measurement. ↑ and ↓ scroll to the tables.\n\n"
        "**e** walks through the text, position by position. **c** goes to the runs of this model, with this "
        "one marked: choose another and press c again. **o** opens the report in its formats, **y** copies "
        "it as Markdown. **t** and **n** change tags and note, **u** takes that back."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("result")
    LESS: ClassVar[tuple[str, ...]] = ("result.sweep", "result.note", "result.tags", "result.copy")

    def __init__(
        self, run: SavedRun | None, report: Report | None = None, problem: str | None = None
    ) -> None:
        super().__init__()
        self._run = run
        found = report or (run.report if run else None)
        assert found is not None
        self._report: Report = found
        self._problem = problem

    def compose(self) -> ComposeResult:
        """Verdict, large numbers and doubts first; then pictures, tables, provenance."""
        r = self._report
        yield TitleBar(str(self.TITLE))
        with VerticalScroll():
            yield Static(self._headline(), id="setting")
            yield Tiles()
            yield Static(_doubts(r, self.app.theme_variables["warning"]), id="doubts")
            with Horizontal(id="plots"):
                if self._run is not None and self._run.has_positions:
                    yield Histogram(id="histogram")
                if r.kl_by_depth:
                    yield Depth(r.kl_by_depth, r.thresholds, id="depth")
            yield Static(self._judging(), id="judging")
            for section in sections(r):
                yield Static(_title(section), classes="section")
                yield Static(_table(section), classes="figures")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Fill in the numbers."""
        if not self.query(Tiles):
            return  # the app was left while this screen was being put up: its widgets are gone
        r = self._report
        self.query_one("#doubts").display = bool(r.warnings)
        self.query_one("#plots").display = bool(self.query("#plots > *"))
        self.query_one(Tiles).show(_numbers(r), r.thresholds, none="no interval")
        if self._problem:
            self.notify(self._problem, severity="error", timeout=30, markup=False)
        self.query_one(VerticalScroll).focus()
        if self._run is not None and self._run.has_positions:
            self._read(self._run)

    @work(thread=True, exclusive=True)
    def _read(self, run: SavedRun) -> None:
        """Count the positions of the run beside the screen: there may be millions."""
        try:
            counts = histogram(run.positions().kl)
        except FidelityError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error", markup=False)
            return
        self.app.call_from_thread(self._show_histogram, counts)

    def _show_histogram(self, counts: NDArray[np.int64]) -> None:
        for plot in self.query(Histogram):
            plot.show(counts, self._report.thresholds)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What needs a saved run, its positions, or its sweep."""
        del parameters
        if action == "explore":
            return self._run is not None and self._run.has_positions
        if action == "sweep":
            return bool(self._report.sweep_id)
        return self._run is not None if action in ("compare", "tags", "note") else True

    def action_copy(self) -> None:
        """Hand the Markdown to the clipboard."""
        self.mqf.copy(to_markdown(self._report), "The report as Markdown")

    def action_explore(self) -> None:
        """Walk through the text."""
        if self._run is not None:
            self.mqf.explore(self._run)

    def action_report(self) -> None:
        """Open the report in its formats."""
        open_report(self, self._run, self._report)

    def action_compare(self) -> None:
        """To the runs of this model, with this one marked: the next mark is what it is compared with."""
        if self._run is not None:
            name = (self._report.variant_model or self._report.model).rsplit("/", 1)[-1]
            self.mqf.find_runs(f"model:{quoted(name)} ", [self._run.id])

    def action_sweep(self) -> None:
        """Open the sweep that the run is of."""
        if self._report.sweep_id:
            open_sweep_of(self, self._report.sweep_id)

    def action_tags(self) -> None:
        """Change the tags of this run."""
        if self._run is not None:
            ask_tags(
                self, [self._run], sorted({tag for row in run_rows().rows for tag in row.tags}), self._again
            )

    def action_note(self) -> None:
        """Change the note of this run."""
        if self._run is not None:
            ask_note(self, self._run, self._again)

    def action_undo(self) -> None:
        """Take back the last change of labels, or the last removal."""
        words, well = taken_back(self.mqf.undoing)
        self.notify(words, severity="information" if well else "warning", markup=False)
        self._again()

    def _again(self) -> None:
        """Show the labels that the run has now."""
        if self._run is None:
            return
        self._run = replace(self._run, labels=read_labels(self._run.folder))
        self.query_one("#setting", Static).update(self._headline())
        self.query_one("#judging", Static).update(self._judging())

    def _headline(self) -> Text:
        r = self._report
        colours = self.app.theme_variables
        colour = colours[COLOURS[r.verdict]]
        text = Text()
        text.append(f" {verdict_words(r).upper()} ", style=f"bold reverse {colour}")
        if r.partial:
            text.append("  PARTIAL", style=f"bold {colours['warning']}")
        if r.origin is not None:
            text.append(f"  IMPORTED from {inert(r.origin.tool)}", style=f"bold {colours['warning']}")
        text.append(f"\n{inert(r.model)}", style="bold")
        text.append(f"  {setting_words(r)}")
        for tag in self._run.tags if self._run else ():
            text.append(f"  #{inert(tag)}", style=colours["accent"])
        return text

    def _judging(self) -> Text:
        """What the verdict was taken from, how the measurement ended, where it is kept."""
        r = self._report
        stopped, perplexities = stopping_words(r), perplexity_words(r)
        lines = (
            f"saved as {inert(self._run.id)}" if self._run else "not saved",
            f"thresholds {policy_words(r.thresholds)}",
            *([perplexities] if perplexities else []),
            *([stopped] if stopped else []),
            *notes(r),
            *([f"of sweep {inert(r.sweep_id)}"] if r.sweep_id else []),
            *([f"note: {inert(self._run.note)}"] if self._run and self._run.note else []),
        )
        return Text("\n".join(lines), style=self.app.theme_variables["secondary"])


def _numbers(r: Report) -> Numbers:
    change = r.perplexity.delta_ci if r.perplexity else None
    return Numbers(
        kl_mean=r.kl.mean,
        kl_interval=bounds(r.kl.ci_low, r.kl.ci_high),
        kl_p99=math.nan if r.kl.p99 is None else r.kl.p99,
        p99_interval=r.kl.p99_ci,
        flip_rate=r.flip_rate,
        flip_interval=bounds(r.flip_ci_low, r.flip_ci_high),
        perplexity_delta=r.perplexity_delta,
        perplexity_interval=change,
    )


def _doubts(r: Report, colour: str) -> Text:
    return Text("\n").join(Text(f"! {inert(without_flags(warning))}", style=colour) for warning in r.warnings)


def _title(section: Section) -> Text:
    return Text(section.title, style="bold")


def _table(section: Section) -> Table:
    """Names may fold in a narrow terminal, numbers may not."""
    table = Table(box=None, show_header=bool(section.columns), padding=(0, 1, 0, 0), header_style="dim")
    numbers = len(section.columns) - 1
    for place, name in enumerate(section.columns or ("", "")):
        if place == 0:
            table.add_column(name, style="dim", no_wrap=not section.columns)
        else:
            table.add_column(name, justify="right" if numbers > 0 else "left", no_wrap=numbers > 0)
    for row in section.rows:
        table.add_row(*map(Text, row))
    return table
