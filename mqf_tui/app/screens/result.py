"""Result: one report, saved or just made."""

from __future__ import annotations

import math
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Footer, Static

from mqf_tui.app.screens.base import COMMON, BaseScreen
from mqf_tui.app.tally import Numbers, tally_of
from mqf_tui.app.widgets.kl_plots import Depth, Histogram
from mqf_tui.app.widgets.tiles import COLOURS, Tiles
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.runs import SavedRun
from mqf_tui.reports.markdown import to_markdown
from mqf_tui.reports.schema import KVBytes, Report
from mqf_tui.reports.text import counted, duration, inert, interval, kl, percent, size


class ResultScreen(BaseScreen):
    """Verdict, large numbers, plots, parts, provenance."""

    TITLE: ClassVar[str | None] = "Result"
    HELP = (
        "# Result\n\nThe **verdict** passes a level when mean KL, p99 KL and flips all do. Intervals are "
        "95 %, clustered by chunk. y copies the Markdown report through your terminal; `mqf-tui runs show` "
        "prints it."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "Copy Markdown"),
        Binding("r", "app.runs", "Runs"),
        *COMMON,
    ]

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
        """From the verdict down to the versions."""
        r = self._report
        yield TitleBar(str(self.TITLE))
        with VerticalScroll():
            yield Static(self._headline(), id="setting")
            yield Tiles()
            with Horizontal(id="plots"):
                yield Histogram(id="histogram")
                yield Depth(r.kl_by_depth, id="depth")
            yield Static(_details(r), id="details")
        yield Footer()

    def on_mount(self) -> None:
        """Fill in the numbers."""
        if not self.query(Tiles):
            return  # the app was left while this screen was being put up: its widgets are gone
        r = self._report
        numbers = Numbers(
            r.kl.mean,
            _pair(r.kl.ci_low, r.kl.ci_high),
            _number(r.kl.median),
            _number(r.kl.p99),
            r.flip_rate,
            _pair(r.flip_ci_low, r.flip_ci_high),
            r.perplexity_ref,
            r.perplexity_quant,
        )
        self.query_one(Tiles).show(numbers, r.thresholds)
        if self._problem:
            self.notify(self._problem, severity="error", timeout=30, markup=False)
        self.query_one(VerticalScroll).focus()
        if self._run is not None:
            try:
                numbers = tally_of(self._run.positions()).running()
            except FidelityError as error:
                self.notify(str(error), severity="error", markup=False)
                return
            if numbers is not None:
                self.query_one(Histogram).show(numbers.histogram)

    def action_copy(self) -> None:
        """Hand the Markdown to the terminal's clipboard."""
        self.app.copy_to_clipboard(to_markdown(self._report))
        self.notify("Markdown sent to the terminal's clipboard (OSC 52); not every terminal takes it.")

    def _headline(self) -> Text:
        r = self._report
        text = Text()
        text.append(
            f" {r.verdict.upper()} ", style=f"bold reverse {self.app.theme_variables[COLOURS[r.verdict]]}"
        )
        mode = "stress" if r.mode == "stress" else f"deployment from {r.quantize_start}"
        text.append(f"  {inert(r.model)}", style="bold")
        text.append(f"  {r.setting}, {mode}")
        if r.partial:
            text.append("  PARTIAL", style=f"bold {self.app.theme_variables['warning']}")
        text.append(f"\n{'saved as ' + self._run.id if self._run else 'not saved'}", style="dim")
        return text


def _pair(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _details(r: Report) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for part in r.by_part if len(r.by_part) > 1 else ():
        words = f"KL {kl(part.kl_mean)}"
        if part.ci_low is not None:
            words += f" ({interval(part.ci_low, part.ci_high)})"
        table.add_row(
            inert(part.name), f"{words}, flips {percent(part.flip_rate)}, {counted(part.n_chunks, 'chunk')}"
        )
    rows = [
        *([("KV cache", _kv_words(r.kv_bytes_per_token))] if r.kv_bytes_per_token else []),
        (
            "scored",
            f"{r.n_positions:,} positions, {r.n_chunks} of {r.n_chunks_planned} chunks, "
            f"{duration(r.seconds)}, {r.positions_per_second:,.0f}/s, peak {size(r.peak_memory_bytes)}",
        ),
        (
            "corpus",
            f"{inert(r.corpus.name)} {r.corpus.content_hash}, chunks of {r.corpus.chunk_length} tokens",
        ),
        ("device", f"{r.device}, {r.compute}"),
        ("versions", f"mqf-tui {r.versions.mqf_tui}, mlx {r.versions.mlx}, mlx-lm {r.versions.mlx_lm}"),
        ("again", inert(r.command)),
    ]
    for name, value in rows:
        table.add_row(name, Text(inert(value)))
    for warning in r.warnings:
        table.add_row("note", Text(inert(warning)))
    return table


def _kv_words(kv: KVBytes) -> str:
    words = []
    if kv.reference_16bit and kv.variant_16bit and kv.number_bytes != 2:
        words.append(f"{size(kv.reference_16bit)} → {size(kv.variant_16bit)} per token (16-bit)")
    words.append(f"{size(kv.reference)} → {size(kv.variant)} per token as run ({8 * kv.number_bytes}-bit)")
    if kv.reference_measured and kv.variant_measured:
        words.append(f"{size(kv.reference_measured)} → {size(kv.variant_measured)} measured")
    return ", ".join(words)
