"""A grid of a sweep as a heat map: formats of the keys by formats of the values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mqf_tui.reports.chart_parts import Chart, frame, label
from mqf_tui.reports.deciding import SIGNS
from mqf_tui.reports.heatmap import heat_level
from mqf_tui.reports.markup import Markup, element, fitting, text_width, together
from mqf_tui.reports.sweep_report import FEWER, is_reference
from mqf_tui.reports.sweep_schema import Grid, GridCell
from mqf_tui.reports.text import inert, kl

_TOP, _HEIGHT, _WIDEST = 80.0, 66.0, 150.0
_NARROW = 500.0
_NOTE = 20.0
_ROOMY = 80.0  # px of a cell that holds the longest verdict
_SLACK = 0.9  # digits run narrower than text_width has it


def grid_picture(grid: Grid, width: float) -> Chart:
    """Keys down, values across: each cell has the colour of its mean KL, and says KL, verdict and bytes.

    The cheapest good one is framed.
    """
    left = 78.0 if width > _NARROW else 46.0
    column = min(_WIDEST, (width - left - 4) / max(1, len(grid.columns)))
    place = _Place(left, column)
    words = f" ({inert(grid.words)})" if grid.words else ""
    said = "mean KL, verdict, bytes per token; framed: cheapest good"
    if column < _ROOMY:
        said = "● good ▲ marginal ■ bad; framed: cheapest good"
    cells = {(cell.row, cell.column): cell for cell in grid.cells}
    parts = [
        label(0, _TOP - 8, "keys", small=True),
        label(left, _TOP - 26, "values", small=True),
        *(
            label(left + (j + 0.5) * column, _TOP - 8, _shorter(name, column - 4), "middle")
            for j, name in enumerate(grid.columns)
        ),
        *(
            label(left - 6, _TOP + (i + 0.5) * _HEIGHT + 4, _shorter(name, left - 6), "end")
            for i, name in enumerate(grid.rows)
        ),
        *(
            part
            for i in range(len(grid.rows))
            for j in range(len(grid.columns))
            for part in _cell(grid, cells.get((i, j)), i, j, place)
        ),
        *(_frame(cell, place) for cell in grid.cells if cell.cheapest_good),
    ]
    described = "; ".join(
        f"keys {inert(grid.rows[c.row])}, values {inert(grid.columns[c.column])}: {kl(c.kl.value)} nats, "
        f"{c.verdict}{_further(c)}"
        for c in grid.cells
    )
    height = _TOP + _HEIGHT * len(grid.rows) + 8
    if any(c.fewer for c in grid.cells):
        height += _NOTE
        parts.append(label(0, height - 8, f"{FEWER} fewer chunks: less of the text", small=True))
    return Chart(
        together([frame(f"Keys by values{words}", said, width), *parts]),
        width,
        height,
        f"Keys by values. {described}.",
    )


def _further(cell: GridCell) -> str:
    words = ", over fewer chunks" if cell.fewer else ""
    return words + (", the cheapest good one" if cell.cheapest_good else "")


class _Place(NamedTuple):
    left: float
    wide: float

    def of(self, row: int, column: int) -> tuple[float, float]:
        return self.left + column * self.wide, _TOP + row * _HEIGHT


def _cell(grid: Grid, cell: GridCell | None, i: int, j: int, place: _Place) -> Iterator[Markup]:
    (x, y), wide = place.of(i, j), place.wide
    middle = x + wide / 2
    if cell is None:
        yield element("rect", x=x + 1, y=y + 1, width=wide - 2, height=_HEIGHT - 2, rx=4, class_="empty")
        words = ("reference", "ref.") if is_reference(grid, i, j) else ("not measured", "none")
        yield label(middle, y + _HEIGHT / 2 + 4, _first(words, 12, wide - 4), "middle", small=True)
        return
    level = heat_level(cell.kl.value)
    tip = element("title", f"{inert(cell.setting)}: {kl(cell.kl.value)} nats, {cell.verdict}{_further(cell)}")
    yield element(
        "rect", tip, x=x + 1, y=y + 1, width=wide - 2, height=_HEIGHT - 2, rx=4, class_=f"cell h{level}"
    )
    sign = SIGNS[cell.verdict]
    figures = (f"{words}{f' {FEWER}' * cell.fewer}" for words in _figures(cell.kl.value))
    lines = [
        _first(tuple(figures), 13, wide, bold=True),
        _first((f"{sign} {cell.verdict}", sign), 12, wide - 4),
    ]
    if cell.kv_bytes is not None:
        in_thousands = f"{cell.kv_bytes / 1000:.3g}k"
        lines.append(_first((f"{cell.kv_bytes:,.0f} B", f"{cell.kv_bytes:,.0f}", in_thousands), 12, wide - 4))
    for k, words in enumerate(lines):
        class_ = f"t{level} {'strong' if k == 0 else 'sub'}"
        yield element("text", words, x=middle, y=y + 21 + 17 * k, text_anchor="middle", class_=class_)


def _figures(value: float) -> tuple[str, ...]:
    return kl(value), f"{value:.2g}", f"{value:.0e}"


def _first(words: Sequence[str], size: float, wide: float, *, bold: bool = False) -> str:
    """The first that fits, or the last: a number is never cut."""
    return next((w for w in words if _SLACK * text_width(w, size, bold=bold) <= wide), words[-1])


def _shorter(name: str, wide: float) -> str:
    """A format's name, or what stands before its brackets."""
    whole = inert(name)
    return fitting(_first((whole, whole.split(" (")[0]), 13, wide), 13, wide)


def _frame(cell: GridCell, place: _Place) -> Markup:
    x, y = place.of(cell.row, cell.column)
    return element("rect", x=x + 2, y=y + 2, width=place.wide - 4, height=_HEIGHT - 4, rx=4, class_="framed")
