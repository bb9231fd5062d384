"""Sensitivity: what each layer costs when it alone is quantized."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import DataTable, Static

from mqf_tui.app.actions import bindings
from mqf_tui.app.documents import sensitivity_document
from mqf_tui.app.row_words import kl_words
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.sweep_pictures import Strip, cost_words, strip, worst_words
from mqf_tui.app.sweep_words import origin_words
from mqf_tui.app.widgets.heat_grid import HeatGrid
from mqf_tui.app.widgets.key_footer import KeyFooter
from mqf_tui.app.widgets.run_table import RunTable
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.app.words import without_flags
from mqf_tui.reports.sensitivity_schema import Sensitivity
from mqf_tui.reports.sweep_schema import SweepReport
from mqf_tui.reports.text import UNKNOWN, counted, inert, size


class SensitivityScreen(BaseScreen):
    """What hurts most in a sentence, the strip of layers, the same as a table."""

    TITLE: ClassVar[str | None] = "Sensitivity"
    HELP = (
        "# Sensitivity\n\nEach layer was quantized alone, all others in full precision: keys and values "
        "apart, or both. The stronger the colour in the strip, the more a layer costs; the brackets are "
        "around what hurts most. Arrows go from layer to layer, Tab to the table. `mqf-tui tune` finds a "
        "recipe from numbers like these. **o** opens the report."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("sensitivity")
    DEFAULT_CSS = """
    SensitivityScreen #layers { height: 1fr; margin-top: 1; }
    SensitivityScreen #strip { margin: 1 1 0 1; }
    SensitivityScreen #notes { height: auto; max-height: 6; }
    SensitivityScreen.-short #notes { max-height: 3; }
    """

    def __init__(self, report: SweepReport) -> None:
        super().__init__()
        assert report.sensitivity is not None
        self._report = report
        self._found: Sensitivity = report.sensitivity
        self._strip: Strip = strip(self._found)

    def compose(self) -> ComposeResult:
        """The sentence, the strip, what the layer under the cursor costs, the table, how it was made."""
        yield TitleBar(str(self.TITLE))
        yield Static(self._headline(), id="answer")
        yield HeatGrid(cell_height=2, id="strip")
        yield RunTable(cursor_type="row", zebra_stripes=True, id="layers")
        with VerticalScroll(id="notes"):
            yield Static(self._notes())
        yield KeyFooter()

    def on_mount(self) -> None:
        """Fill strip and table."""
        if not self.query("#layers"):
            return  # the app was left while this screen was being put up: its widgets are gone
        show_strip(self.query_one(HeatGrid), self._found, self._strip)
        table = self.query_one("#layers", RunTable)
        table.add_columns("layer", *self._strip.sides, "bytes saved per token")
        layers = sorted({layer for _, layer in self._strip.costs})
        for layer in layers:
            table.add_row(*map(Text, self._row(layer)), key=str(layer))
        # At first the strip's cursor is on what hurts most.
        if (place := self.query_one(HeatGrid).cursor) is not None:
            table.move_cursor(row=layers.index(place[1]))
        self.query_one(HeatGrid).focus()

    @on(HeatGrid.Highlighted)
    def cell(self, event: HeatGrid.Highlighted) -> None:
        """Say what the layer costs; its row in the table is meant too."""
        cost = self._strip.costs[event.row, event.column]
        event.grid.border_subtitle = Text(cost_words(cost, self._found), style="bold")
        table = self.query_one("#layers", RunTable)
        table.move_cursor(row=table.get_row_index(str(event.column)))

    @on(DataTable.RowHighlighted)
    def row(self, event: DataTable.RowHighlighted) -> None:
        """The layer of the row is meant in the strip too."""
        grid = self.query_one(HeatGrid)
        layer = int(event.row_key.value or 0)
        if grid.cursor is not None and grid.cursor[1] != layer:
            places = [place for place in self._strip.costs if place[1] == layer]
            place = min(places, key=lambda place: place[0] != grid.cursor[0] if grid.cursor else 0)
            grid.go_to(*place)
            grid.border_subtitle = Text(cost_words(self._strip.costs[place], self._found), style="bold")

    def action_report(self) -> None:
        """The report."""
        self.mqf.report(sensitivity_document(self._report))

    def _row(self, layer: int) -> Iterator[str]:
        """Its number, mean KL of each side that was tried, bytes saved."""
        costs = [self._strip.costs.get((i, layer)) for i in range(len(self._strip.sides))]
        yield str(layer)
        for cost in costs:
            yield UNKNOWN if cost is None else kl_words(cost.kl.value, cost.kl.ci)
        yield ", ".join(dict.fromkeys(size(cost.bytes_saved) for cost in costs if cost is not None))

    def _headline(self) -> Text:
        r, colours = self._report, self.app.theme_variables
        text = Text(worst_words(self._found), style="bold")
        text.append(
            f"\n{inert(r.model)}, {counted(self._found.n_positions, 'position')}", colours["secondary"]
        )
        if r.partial:
            why = f": {inert(r.ended)}" if r.ended else ""
            text.append(f"  PARTIAL{why}", style=f"bold {colours['warning']}")
        return text

    def _notes(self) -> Text:
        colours = self.app.theme_variables
        lines = [
            Text(f"! {inert(without_flags(w))}", style=colours["warning"]) for w in self._report.warnings
        ]
        lines.append(Text(origin_words(self._report), style=colours["secondary"]))
        return Text("\n").join(lines)


def show_strip(grid: HeatGrid, found: Sensitivity, drawn: Strip) -> None:
    """Put the layers up in a grid."""
    grid.border_title = f"Each layer alone at {inert(found.format)}: mean KL in nats, the stronger the worse"
    grid.show(drawn.sides, [str(i) for i in range(found.n_layers)], drawn.cells)
    if grid.cursor is not None:
        grid.border_subtitle = Text(cost_words(drawn.costs[grid.cursor], found), style="bold")
