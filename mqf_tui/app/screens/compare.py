"""Compare: two runs side by side, and their difference, paired where they share positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from textwrap import wrap
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import DataTable, Footer, Static

from mqf_tui.app.actions import bindings
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.tally import histogram
from mqf_tui.app.widgets.kl_plots import Histogram
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.fidelity.comparison import compare
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.pairing import Subject
from mqf_tui.fidelity.positions import Positions
from mqf_tui.library.runs import SavedRun
from mqf_tui.library.subjects import subject
from mqf_tui.reports.comparison_report import (
    basis,
    figures,
    more_differs,
    one_sided,
    sentence,
    shortened,
    verdict_of,
)
from mqf_tui.reports.comparison_schema import Comparison, Difference
from mqf_tui.reports.rows import known
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import UNKNOWN, inert, kl, p_value, perplexity

LONGEST_MODEL = 32
SCROLLBAR = 2
PADDING = 2  # of a cell, both sides together


class Row(NamedTuple):
    """A line of the table in words."""

    name: str
    first: str
    second: str
    difference: str = ""
    interval: str = ""
    beyond: str = ""


class CompareScreen(BaseScreen):
    """Two columns of numbers, their difference, two histograms."""

    TITLE: ClassVar[str | None] = "Compare"
    HELP = (
        "# Compare\n\nWhere both runs scored the same positions of the same tokens, the difference is taken "
        "position by position; its 95 % interval and p value are clustered by chunk. **Beyond error** says "
        "whether p is under 0.05: chance alone would seldom give such a difference. Where the window is too "
        "narrow for a column of intervals, each stands under its difference. Runs that cannot be paired are "
        "compared as two separate samples, which sees less; the words above the table say why."
    )

    BINDINGS: ClassVar[list[BindingType]] = bindings("compare")

    def __init__(self, runs: Sequence[SavedRun]) -> None:
        super().__init__()
        self._first, self._second = runs[:2]
        self._rows: list[Row] = []

    def compose(self) -> ComposeResult:
        """The difference in words, then the table, then the plots."""
        yield TitleBar(str(self.TITLE))
        with VerticalScroll():
            yield Static("comparing …", id="difference")
            yield DataTable(show_cursor=False, zebra_stripes=True, id="compare")
            with Horizontal(id="plots"):
                yield Histogram(id="first")
                yield Histogram(id="second")
        yield Footer()

    def on_mount(self) -> None:
        """Read both positions and compare, beside the screen."""
        self.query_one(VerticalScroll).focus()
        self._compare()

    def on_resize(self) -> None:
        """Lay the table out for the new width."""
        self._fill()

    def _fill(self) -> None:
        if not self._rows:
            return
        labels = (f"1: {_label(self._first.report)}", f"2: {_label(self._second.report)}")
        lines = laid_out(self._rows, labels, self.size.width - SCROLLBAR)
        table = self.query_one(DataTable)
        table.clear(columns=True)
        table.add_columns(*lines[0])
        for line in lines[1:]:
            table.add_row(*map(Text, line), height=max(cell.count("\n") for cell in line) + 1)

    @work(thread=True, exclusive=True)
    def _compare(self) -> None:
        problems: list[str] = []
        read: list[Positions | None] = []
        for run in (self._first, self._second):
            try:
                read.append(subject(run).load())
            except FidelityError as error:
                problems.append(str(error))
                read.append(None)
        counts = [None if p is None or not len(p) else histogram(p.kl) for p in read]
        try:
            runs = (self._first, self._second)
            found = compare([_with(run, p) for run, p in zip(runs, read, strict=True)])
        except FidelityError as error:
            self.app.call_from_thread(self._show, str(error), None, counts, problems)
        else:
            self.app.call_from_thread(self._show, words(found), found, counts, problems)

    def _show(
        self,
        text: str,
        found: Comparison | None,
        counts: list[NDArray[np.int64] | None],
        problems: list[str],
    ) -> None:
        if not self.is_mounted:
            return
        for problem in problems:
            self.notify(problem, severity="error", markup=False)
        reports = (self._first.report, self._second.report)
        said = sources(*reports) if found else headers(*reports)
        self.query_one("#difference", Static).update(Text(f"{text}\n{said}"))
        if found is None:
            # Figures side by side would be read as a comparison, and it was just refused.
            self.query_one(DataTable).display = False
            self.query_one("#plots").display = False
            return
        self._rows = list(rows(*reports, found))
        self._fill()
        for number, (counted, report) in enumerate(zip(counts, reports, strict=True), 1):
            plot = self.query_one(f"#{'first' if number == 1 else 'second'}", Histogram)
            plot.border_title = f"{number}: KL of each position, {_label(report)}"
            if counted is not None:
                plot.show(counted)


def words(comparison: Comparison) -> str:
    """The difference in a sentence, what it stands on, and every doubt."""
    baseline, (pair,) = comparison.baseline, comparison.pairs
    parts = [sentence(baseline, pair), basis(pair), "" if pair.same else one_sided(pair)]
    doubts = [more_differs(baseline, pair), *(f"⚠ {warning}." for warning in pair.warnings)]
    return "\n".join([" ".join(part for part in parts if part), *(doubt for doubt in doubts if doubt)])


def rows(a: Report, b: Report, comparison: Comparison) -> Iterator[Row]:
    """Every figure of the two: first those whose difference has been tested."""
    one, (pair,) = comparison.baseline, comparison.pairs
    yield Row("verdict", verdict_of(one), verdict_of(pair.other))
    tested = (pair.kl, pair.flips, pair.nll, pair.accuracy, pair.delta_p)
    tests = [d for d in tested if d is not None]
    for (name, x, y, moved, ends, _), d in zip(figures(pair), tests, strict=True):
        if pair.same:
            yield Row(name.removesuffix(" (nats)"), x, y, moved)
        else:
            yield Row(name.removesuffix(" (nats)"), x, y, moved, ends, _beyond(d))
    for name, x, y in (
        ("KL median", a.kl.median, b.kl.median),
        ("KL p95", a.kl.p95, b.kl.p95),
        ("KL p99", a.kl.p99, b.kl.p99),
        ("KL max", a.kl.max, b.kl.max),
    ):
        yield Row(name, kl(x), kl(y))
    x, y = (_if_known(r.perplexity_quant, perplexity) for r in (a, b))
    yield Row("perplexity", x, y)
    x, y = one.kv_bytes, pair.other.kv_bytes
    if x is not None and y is not None:
        name = f"KV per token ({comparison.kv_basis})"
        yield Row(name, f"{x:,.0f}", f"{y:,.0f}", f"{y - x:+,.0f}" if y != x else "0")


def laid_out(found: Sequence[Row], labels: tuple[str, str], room: int) -> list[tuple[str, ...]]:
    """The head and the rows of a table: with a column of intervals where ``room`` (columns of text) lets it,
    else each under its difference, and long cells broken into lines."""
    wide = [("", *labels, "2 − 1", "95 % interval", "beyond error"), *found]
    columns = zip(*wide, strict=True)
    if sum(max(map(cell_len, column)) + PADDING for column in columns) <= room:
        return wide
    lines: list[tuple[str, ...]] = [("", *labels, "2 − 1", "beyond error")]
    for row in found:
        name, one, two = (_broken(cell, 12) for cell in row[:3])
        moved = (
            f"{row.difference}\n{_broken(row.interval.removesuffix(' pp'), 18)}"
            if row.interval
            else row.difference
        )
        lines.append((name, one, two, moved, row.beyond.replace(", ", "\n")))
    return lines


def _broken(cell: str, longest: int) -> str:
    """A cell in lines that are at most ``longest`` wide where it has words that short."""
    if ", " in cell:
        return cell.replace(", ", ",\n")
    return "\n".join(wrap(cell, longest, break_long_words=False)) or cell


def _beyond(d: Difference) -> str:
    if d.p is None:
        return UNKNOWN
    return f"{'yes' if d.beyond_error else 'no'}, {p_value(d.p)}"


def _if_known(value: float, word: Callable[[float], str]) -> str:
    return word(value) if known(value) else UNKNOWN


def _with(run: SavedRun, positions: Positions | None) -> Subject:
    return Subject(run.id, run.report, lambda: positions)


def _label(r: Report) -> str:
    return r.short_setting + (" partial" if r.partial else "")


def sources(a: Report, b: Report) -> str:
    """What each measured on what: one line where that is the same, else two. A table has no room for it."""
    one, two = map(_source, (a, b))
    return f"Both: {one}" if one == two else f"1: {one}\n2: {two}"


def headers(a: Report, b: Report) -> str:
    """What the two runs are, a line each."""
    return "\n".join(f"{n}: {_label(r)}, {_source(r)}" for n, r in enumerate((a, b), 1))


def _source(r: Report) -> str:
    return f"{shortened(inert(r.model), LONGEST_MODEL)} on {inert(r.corpus.name)}, {_chunks(r)}"


def _chunks(r: Report) -> str:
    return f"{r.n_chunks} × {r.corpus.chunk_length}" if r.n_chunks else "chunks not known"
