"""Compare: two runs side by side, and the paired difference where they scored the same positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import DataTable, Footer, Static

from mqf_tui.app.screens.base import COMMON, BaseScreen
from mqf_tui.app.tally import tally_of
from mqf_tui.app.widgets.kl_plots import Histogram
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.fidelity.comparison import PairedDifference, paired_difference
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.positions import Positions
from mqf_tui.library.runs import SavedRun
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import change, inert, interval, kl, percent, perplexity, size


class CompareScreen(BaseScreen):
    """Two columns of numbers, their difference, two histograms."""

    TITLE: ClassVar[str | None] = "Compare"
    HELP = (
        "# Compare\n\nWhere both runs scored the same positions of the same tokens, the difference is taken "
        "position by position and its 95 % interval is clustered by chunk: an interval that leaves out 0 is "
        "more than chance explains."
    )

    BINDINGS: ClassVar[list[BindingType]] = [*COMMON]

    def __init__(self, first: SavedRun, second: SavedRun) -> None:
        super().__init__()
        self._first, self._second = first, second

    def compose(self) -> ComposeResult:
        """Table, then a word on the difference, then the plots."""
        yield TitleBar(str(self.TITLE))
        with VerticalScroll():
            yield DataTable(show_cursor=False, zebra_stripes=True, id="compare")
            yield Static("", id="difference")
            with Horizontal(id="plots"):
                yield Histogram(id="first")
                yield Histogram(id="second")
        yield Footer()

    def on_mount(self) -> None:
        """Fill the table; read both positions."""
        a, b = self._first.report, self._second.report
        table = self.query_one(DataTable)
        table.add_columns("", f"1: {_label(a)}", f"2: {_label(b)}", "2 − 1")
        self.query_one(VerticalScroll).focus()
        try:
            first, second = self._first.positions(), self._second.positions()
        except FidelityError as error:
            self.notify(str(error), severity="error", markup=False)
            first = second = Positions.empty()
        found = paired_difference(first, second) if a.model_hash == b.model_hash else None
        for name, x, y, change_of in rows(a, b):
            # A difference of figures over different positions would compare unlike with unlike.
            table.add_row(Text(name), Text(x), Text(y), Text(change_of if found is not None else ""))
        self.query_one("#difference", Static).update(Text(difference(a, b, found)))
        for name, positions, report in (("first", first, a), ("second", second, b)):
            plot = self.query_one(f"#{name}", Histogram)
            plot.border_title = f"{1 if name == 'first' else 2}: KL of each position, {_label(report)}"
            numbers = tally_of(positions).running() if len(positions) else None
            if numbers is not None:
                plot.show(numbers.histogram)


def rows(a: Report, b: Report) -> Iterator[tuple[str, str, str, str]]:
    """Name, first, second, difference."""
    yield "model", inert(a.model), inert(b.model), ""
    yield "verdict", a.verdict, b.verdict, ""
    for name, x, y in (
        ("KL mean", a.kl.mean, b.kl.mean),
        ("KL median", a.kl.median, b.kl.median),
        ("KL p95", a.kl.p95, b.kl.p95),
        ("KL p99", a.kl.p99, b.kl.p99),
        ("KL max", a.kl.max, b.kl.max),
    ):
        yield name, kl(x), kl(y), "" if x is None or y is None else _signed(y - x, kl(y - x))
    yield (
        "flips",
        percent(a.flip_rate),
        percent(b.flip_rate),
        _signed(b.flip_rate - a.flip_rate, percent(b.flip_rate - a.flip_rate)),
    )
    yield (
        "perplexity",
        perplexity(a.perplexity_quant),
        perplexity(b.perplexity_quant),
        change(b.perplexity_quant - a.perplexity_quant),
    )
    if a.kv_bytes_per_token and b.kv_bytes_per_token:
        x, y = a.kv_bytes_per_token.variant, b.kv_bytes_per_token.variant
        yield "KV per token", size(x), size(y), _signed(y - x, size(y - x))
    yield "corpus", _corpus(a), _corpus(b), ""


def difference(a: Report, b: Report, found: PairedDifference | None) -> str:
    """The paired difference in a sentence, or why there is none."""
    if a.model_hash != b.model_hash:
        return "These are different models: their numbers stand side by side, but no difference is taken."
    if found is None:
        return "They scored different positions, so the difference is not paired and no interval is given."
    if found.equal:
        return f"Both gave the same at each of {found.n:,} positions: there is no difference."
    low, high = found.kl_interval or (None, None)
    moved = _signed(found.kl_mean, kl(found.kl_mean))
    text = f"Paired over {found.n:,} positions: mean KL changes by {moved} nats"
    text += f" (95 %: {interval(low, high)})"
    if found.kl_interval is None:
        return text + "."
    return text + ("; more than chance explains." if found.beyond_chance else "; that may be chance.")


def _label(r: Report) -> str:
    start = f" from {r.quantize_start}" if r.quantize_start else ""
    return f"{r.kv_bits}-bit g{r.kv_group_size}{start}{' partial' if r.partial else ''}"


def _corpus(r: Report) -> str:
    return f"{inert(r.corpus.name)}, {r.n_chunks} × {r.corpus.chunk_length}"


def _signed(value: float, words: str) -> str:
    return f"+{words}" if value > 0 else words
