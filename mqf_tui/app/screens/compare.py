"""Compare: two runs side by side, and their difference, paired where they share positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import DataTable, Footer, Static

from mqf_tui.app.screens.base import COMMON, BaseScreen
from mqf_tui.app.tally import tally_of
from mqf_tui.app.widgets.kl_plots import Histogram
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.fidelity.comparison import compare
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.pairing import Subject
from mqf_tui.fidelity.positions import Positions
from mqf_tui.library.runs import SavedRun
from mqf_tui.library.subjects import subject
from mqf_tui.reports.comparison_report import basis, figures, more_differs, one_sided, sentence, verdict_of
from mqf_tui.reports.comparison_schema import Comparison, Difference
from mqf_tui.reports.rows import known
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import UNKNOWN, inert, kl, p_value, percent, perplexity, size

Row = tuple[str, str, str, str, str]


class CompareScreen(BaseScreen):
    """Two columns of numbers, their difference, two histograms."""

    TITLE: ClassVar[str | None] = "Compare"
    HELP = (
        "# Compare\n\nWhere both runs scored the same positions of the same tokens, the difference is taken "
        "position by position; its 95 % interval and p value are clustered by chunk. **Beyond error** says "
        "whether p is under 0.05: chance alone would seldom give such a difference. Runs that cannot be "
        "paired are compared as two separate samples, which sees less; the words above the table say why."
    )

    BINDINGS: ClassVar[list[BindingType]] = [*COMMON]

    def __init__(self, first: SavedRun, second: SavedRun) -> None:
        super().__init__()
        self._first, self._second = first, second

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
        """Name the columns; read both positions and compare, beside the screen."""
        a, b = self._first.report, self._second.report
        table = self.query_one(DataTable)
        table.add_columns("", f"1: {_label(a)}", f"2: {_label(b)}", "2 − 1", "beyond error")
        self.query_one(VerticalScroll).focus()
        self._compare()

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
        try:
            runs = (self._first, self._second)
            found = compare([_with(run, p) for run, p in zip(runs, read, strict=True)])
        except FidelityError as error:
            self.app.call_from_thread(self._show, str(error), None, read, problems)
        else:
            self.app.call_from_thread(self._show, words(found), found, read, problems)

    def _show(
        self, text: str, found: Comparison | None, read: list[Positions | None], problems: list[str]
    ) -> None:
        if not self.is_mounted:
            return
        for problem in problems:
            self.notify(problem, severity="error", markup=False)
        source = sources(self._first.report, self._second.report)
        self.query_one("#difference", Static).update(Text(f"{text}\n{source}"))
        table = self.query_one(DataTable)
        for row in rows(self._first.report, self._second.report, found):
            table.add_row(*map(Text, row))
        reports = (self._first.report, self._second.report)
        for number, (positions, report) in enumerate(zip(read, reports, strict=True), 1):
            plot = self.query_one(f"#{'first' if number == 1 else 'second'}", Histogram)
            plot.border_title = f"{number}: KL of each position, {_label(report)}"
            numbers = tally_of(positions).running() if positions is not None and len(positions) else None
            if numbers is not None:
                plot.show(numbers.histogram)


def words(comparison: Comparison) -> str:
    """The difference in a sentence, what it stands on, and every doubt."""
    baseline, (pair,) = comparison.baseline, comparison.pairs
    parts = [sentence(baseline, pair), basis(pair), "" if pair.same else one_sided(pair)]
    doubts = [more_differs(baseline, pair), *(f"⚠ {warning}." for warning in pair.warnings)]
    return "\n".join([" ".join(part for part in parts if part), *(doubt for doubt in doubts if doubt)])


def rows(a: Report, b: Report, comparison: Comparison | None) -> Iterator[Row]:
    """Name, first, second, difference, whether that is beyond the error."""
    pair = comparison.pairs[0] if comparison else None
    one = verdict_of(comparison.baseline) if comparison else a.verdict
    two = verdict_of(pair.other) if pair else b.verdict
    yield "verdict", one, two, "", ""
    if pair is None:
        # A difference of distances from two references would compare unlike with unlike.
        yield "KL mean", kl(a.kl.mean), kl(b.kl.mean), "", ""
        yield "flips", _if_known(a.flip_rate, percent), _if_known(b.flip_rate, percent), "", ""
    else:
        tested = (pair.kl, pair.flips, pair.nll, pair.accuracy, pair.delta_p)
        tests = [d for d in tested if d is not None]
        for (name, x, y, moved, _, _), d in zip(figures(pair), tests, strict=True):
            yield name.removesuffix(" (nats)"), x, y, moved, _beyond(d)
    for name, x, y in (
        ("KL median", a.kl.median, b.kl.median),
        ("KL p95", a.kl.p95, b.kl.p95),
        ("KL p99", a.kl.p99, b.kl.p99),
        ("KL max", a.kl.max, b.kl.max),
    ):
        yield name, kl(x), kl(y), "", ""
    x, y = (_if_known(r.perplexity_quant, perplexity) for r in (a, b))
    yield "perplexity", x, y, "", ""
    if a.kv_bytes_per_token and b.kv_bytes_per_token:
        x, y = a.kv_bytes_per_token.variant, b.kv_bytes_per_token.variant
        yield "KV per token", size(x), size(y), f"{'+' if y > x else ''}{size(y - x)}", ""


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
    one, two = (f"{inert(r.model)} on {inert(r.corpus.name)}, {_chunks(r)}" for r in (a, b))
    return f"Both: {one}" if one == two else f"1: {one}\n2: {two}"


def _chunks(r: Report) -> str:
    return f"{r.n_chunks} × {r.corpus.chunk_length}" if r.n_chunks else "chunks not known"
