"""What the pictures of a sweep show: its settings as points, its grids and layers as cells."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mqf_tui.app.capabilities import mark
from mqf_tui.app.widgets.heat_grid import HeatCell
from mqf_tui.app.widgets.pareto_plot import ParetoPoint
from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.quantizers import Quantizer, parsed
from mqf_tui.reports.heatmap import heat_level
from mqf_tui.reports.layer_strip import Scale
from mqf_tui.reports.schema import LayerFormat
from mqf_tui.reports.sensitivity_schema import CacheSide, LayerCost, Sensitivity
from mqf_tui.reports.sweep_report import FEWER, is_reference
from mqf_tui.reports.sweep_rows import chosen_run
from mqf_tui.reports.sweep_schema import Grid, GridCell, SweepReport, SweepVariant
from mqf_tui.reports.text import inert, kl, percent

SIDES: tuple[CacheSide, ...] = ("keys", "values", "both")
Cells = Mapping[tuple[int, int], HeatCell]


def drawn(report: SweepReport) -> list[SweepVariant]:
    """The settings that are points: those that are no control and whose bytes are known."""
    return [v for v in report.variants if v.control_of is None and v.kv_bytes is not None]


def points(report: SweepReport, marked: Collection[str] = ()) -> list[ParetoPoint]:
    """A point for each of ``drawn``; the setting to take stands out, and so do the runs in ``marked``."""
    standing_out = {chosen_run(report), *marked}
    return [
        ParetoPoint(
            inert(v.short_setting),
            v.kv_bytes or 0.0,
            v.kl.value,
            v.kl.ci,
            v.verdict,
            frontier=v.on_frontier,
            marked=v.run in standing_out,
        )
        for v in drawn(report)
    ]


def grid_cells(grid: Grid, unicode: bool) -> Cells:
    """The cells of keys by values: KL with the sign of its verdict, the verdict, bytes."""
    return {(cell.row, cell.column): _grid_cell(cell, unicode) for cell in grid.cells}


def grid_gaps(grid: Grid) -> dict[tuple[int, int], str]:
    """What stands where no cell was measured."""
    there = {(cell.row, cell.column) for cell in grid.cells}
    return {
        (i, j): "reference" if is_reference(grid, i, j) else "—"
        for i in range(len(grid.rows))
        for j in range(len(grid.columns))
        if (i, j) not in there
    }


def cell_words(grid: Grid, cell: GridCell) -> str:
    """One cell in words."""
    ends = f" ({kl(cell.kl.ci[0])} to {kl(cell.kl.ci[1])})" if cell.kl.ci else ""
    size = f", {cell.kv_bytes:,.0f} B" if cell.kv_bytes is not None else ""
    fewer = ", over fewer chunks" if cell.fewer else ""
    best = ", the cheapest good one" if cell.cheapest_good else ""
    where = f"keys {inert(grid.rows[cell.row])}, values {inert(grid.columns[cell.column])}"
    return f"{where}: {kl(cell.kl.value)}{ends}{size}, {cell.verdict}{best}{fewer}"


@dataclass(frozen=True)
class Strip:
    """Layers across, ``sides`` down. ``costs`` by row and column of ``cells``."""

    sides: Sequence[str]
    cells: Cells
    costs: Mapping[tuple[int, int], LayerCost]


def strip(found: Sensitivity) -> Strip:
    """The costs of the layers as a strip; what hurts most is framed."""
    costs = [cost for cost in found.layers if 0 <= cost.layer < found.n_layers]
    sides = [side for side in SIDES if any(cost.side == side for cost in costs)]
    scale = Scale.over(costs)
    worst = max(costs, key=lambda cost: cost.kl.value, default=None)
    by_place = {(sides.index(cost.side), cost.layer): cost for cost in costs}
    cells = {
        place: HeatCell(scale.level(cost.kl.value), (_short(cost.kl.value),), cost is worst)
        for place, cost in by_place.items()
    }
    return Strip(sides, cells, by_place)


def cost_words(cost: LayerCost, found: Sensitivity) -> str:
    """One layer in words, with its share of what all cost."""
    ends = f" ({kl(cost.kl.ci[0])} to {kl(cost.kl.ci[1])})" if cost.kl.ci else ""
    total = sum(max(0.0, one.kl.value) for one in found.layers)
    share = f", {percent(cost.kl.value / total)} of all" if total > 0 else ""
    what = cost.side if cost.side != "both" else "keys and values"
    saved = f", saves {cost.bytes_saved:,.0f} B"
    return f"layer {cost.layer} {what}: {kl(cost.kl.value)}{ends}{share}{saved}"


def worst_words(found: Sensitivity, most: int = 3) -> str:
    """What hurts most, and how much of the whole the keys are, in a sentence or two."""
    worst = sorted(found.layers, key=lambda cost: -cost.kl.value)[:most]
    listed = ", ".join(f"layer {cost.layer} {cost.side} ({kl(cost.kl.value)})" for cost in worst)
    words = f"What hurts most at {inert(found.format)}: {listed}." if listed else "No layer was tried."
    total = {side: sum(c.kl.value for c in found.layers if c.side == side) for side in ("keys", "values")}
    whole = sum(total.values())
    if whole > 0 and min(total.values()) > 0:
        words += (
            f" Keys cost {percent(total['keys'] / whole)} of it, values {percent(total['values'] / whole)}."
        )
    return words


def recipe_cells(layers: Sequence[LayerFormat], n_layers: int) -> Cells:
    """The keys (row 0) and values (row 1) of each layer of a recipe; the fewer bits, the higher the level."""
    cells: dict[tuple[int, int], HeatCell] = {}
    for i, word in _formats(layers, n_layers):
        try:
            found = parsed(word)
        except BadSettingError:
            continue
        for row, quantizer in enumerate((found.keys, found.values)):
            cells[row, i] = _format_cell(quantizer)
    return cells


def _format_cell(quantizer: Quantizer | None) -> HeatCell:
    if quantizer is None:
        return HeatCell(0, ("16",))
    name = f"{quantizer.bits}" if quantizer.mode == "affine" else quantizer.mode
    return HeatCell(9 - min(8, quantizer.bits), (name,))


def _formats(layers: Sequence[LayerFormat], n_layers: int) -> Iterator[tuple[int, str]]:
    """Each layer's number and format."""
    for part in layers:
        for span in part.layers.split(","):
            first, _, last = span.strip().partition("-")
            if first.isdecimal() and (last or first).isdecimal():
                for i in range(int(first), min(int(last or first) + 1, n_layers)):
                    yield i, part.format


def _grid_cell(cell: GridCell, unicode: bool) -> HeatCell:
    sign = mark(cell.verdict, unicode) + (f" {FEWER}" if cell.fewer else "")
    size = () if cell.kv_bytes is None else (f"{cell.kv_bytes:,.0f} B",)
    level = heat_level(cell.kl.value)
    return HeatCell(level, (f"{kl(cell.kl.value)} {sign}", cell.verdict, *size), cell.cheapest_good)


def _short(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-")
