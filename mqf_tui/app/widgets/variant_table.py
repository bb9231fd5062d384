"""The settings of a running sweep side by side, a row each, with mean KL as a bar on a log scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

from mqf_tui.app.capabilities import has_unicode, unicode_bar
from mqf_tui.app.columns import LAST, SCROLLBAR, narrowed, taken
from mqf_tui.app.row_words import kl_words, short_words
from mqf_tui.app.snapshots import VariantState
from mqf_tui.app.tally import Running
from mqf_tui.app.verdict_colours import COLOURS
from mqf_tui.app.widgets.kl_plots import power
from mqf_tui.app.words import state_words
from mqf_tui.fidelity.events import Plan
from mqf_tui.reports.text import percent, size

BAR = "bar"
# From left to right; the number says in which order they go where there is no room (0: never).
COLUMNS = {
    "setting": 0,
    "KV/token": 3,
    "positions": 1,
    "KL mean": LAST,
    BAR: 5,
    "flips": 4,
    "verdict": 0,
    "state": 2,
}
# What the longest cells take, so that the columns stay where they are while numbers move.
LEAST = {
    "KV/token": len("999.9 kB"),
    "positions": len("positions"),
    "KL mean": len("0.000123 ±138%"),
    BAR: 10,
    "flips": len("12.34 %"),
    "verdict": len("marginal >99%"),
    "state": len("surely bad"),
}
LEAST_BRIEF = {"KL mean": len("0.000123"), "verdict": len("marginal")}
LONGEST = {"setting": 18, BAR: 30, "state": 40}
LOWEST = -6  # the power of ten that a bar begins at, at least
MOST_ROWS = 9  # without scrolling


@dataclass(frozen=True)
class Variant:
    """What a row shows: ``numbers`` None before the first position."""

    setting: str
    state: VariantState
    plan: Plan
    numbers: Running | None

    @property
    def log_kl(self) -> float | None:
        """log10 of mean KL, None where that is no number to draw."""
        kl = self.numbers.numbers.kl_mean if self.numbers else 0.0
        return math.log10(kl) if 0 < kl < math.inf else None


class VariantTable(DataTable[Text]):
    """↑ and ↓ choose the setting whose numbers are shown below."""

    DEFAULT_CSS = """
    VariantTable { height: auto; max-height: 10; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "cursor_up", "Setting", key_display="↑↓"),
        Binding("down", "cursor_down", "Setting", show=False),
    ]

    def __init__(self, id: str | None = None) -> None:
        super().__init__(cursor_type="row", zebra_stripes=True, id=id)
        self._laid_out: tuple[tuple[str, int], ...] = ()
        self._shown: dict[tuple[int, str], tuple[Text, str | Style]] = {}

    def show(self, variants: Sequence[Variant], room: int) -> None:
        """Draw these, always of the same settings in the same order, into ``room`` columns of text."""
        low, high = scale([v.log_kl for v in variants])
        rows = [self._cells(variant) for variant in variants]
        room -= SCROLLBAR if len(rows) > MOST_ROWS else 0
        widths = _widths(rows, room)
        if BAR in widths:
            for row, variant in zip(rows, variants, strict=True):
                row[BAR] = self._bar(variant, low, high, widths[BAR])
        titles = {BAR: f"{power(low)} … {power(high)}" if BAR in widths else ""}
        self._lay_out(widths, titles, rows)
        for number, row in enumerate(rows):
            for name in widths:
                # Texts that differ in their own style alone are equal to Rich.
                drawn = row[name], row[name].style
                if self._shown.get((number, name)) != drawn:
                    self._shown[number, name] = drawn
                    self.update_cell(str(number), name, row[name])

    def _lay_out(self, widths: dict[str, int], titles: dict[str, str], rows: list[dict[str, Text]]) -> None:
        """New columns, where they or their titles changed."""
        wanted = tuple((titles.get(name, name), width) for name, width in widths.items())
        if wanted == self._laid_out:
            return
        self._laid_out, self._shown = wanted, {}
        cursor = self.cursor_row
        self.clear(columns=True)
        for name, (title, width) in zip(widths, wanted, strict=True):
            self.add_column(title, width=width, key=name)
        for number, row in enumerate(rows):
            self.add_row(*(row[name] for name in widths), key=str(number))
        self.move_cursor(row=min(cursor, len(rows) - 1))

    def _cells(self, v: Variant) -> dict[str, Text]:
        colours = self.app.theme_variables
        quiet = colours["secondary"] if v.state.out else ""
        mark = " ✓" if v.state.settled else " ✕" if v.state.out or v.state.problem else ""
        row = {
            "setting": Text(v.setting + mark, style=quiet),
            "KV/token": Text(size(v.plan.kv_bytes.variant_16bit or v.plan.kv_bytes.variant), style=quiet),
            "positions": Text(f"{v.state.n_positions:,}", style=quiet),
            BAR: Text(),
            "state": Text(state_words(v.state), style=quiet),
        }
        n = v.numbers
        if n is None:
            return row | dict.fromkeys(("KL mean", "flips", "verdict"), Text("…", style="dim"))
        colour = colours[COLOURS[n.verdict]]
        return row | {
            "KL mean": Text(kl_words(n.numbers.kl_mean, n.numbers.kl_interval), style=quiet),
            "flips": Text(percent(n.numbers.flip_rate), style=quiet),
            "verdict": Text(_verdict(n), style=colour if v.state.out else f"bold {colour}"),
        }

    def _bar(self, v: Variant, low: int, high: int, width: int) -> Text:
        if v.log_kl is None or v.numbers is None:
            return Text()
        share = min(1.0, max(0.0, (v.log_kl - low) / (high - low)))
        colour = self.app.theme_variables[COLOURS[v.numbers.verdict]]
        return Text(bar(share, width, ascii_only=self._ascii_only), style=colour)

    @property
    def _ascii_only(self) -> bool:
        return not has_unicode(self.app)


def _verdict(n: Running) -> str:
    """How sure it is where one look is taken; where a rule looks again and again, whether it is settled."""
    if n.looked is None:
        return n.verdict if n.stopping is not None else short_words(n)
    return f"{n.verdict} ✓" if len(n.looked.possible) == 1 else n.verdict


def scale(logs: Sequence[float | None]) -> tuple[int, int]:
    """Whole powers of ten around these; the lowest is well to the left, so that every bar can be seen."""
    known = [log for log in logs if log is not None]
    if not known:
        return -4, 0
    low = max(LOWEST, math.floor(min(known) - 0.5))
    return low, max(low + 2, math.ceil(max(known)))


def bar(share: float, width: int, *, ascii_only: bool = False) -> str:
    """A bar of a share of ``width`` columns, in eighths of one; at least the thinnest is seen."""
    if ascii_only:
        return "#" * max(1, round(share * width))
    return unicode_bar(max(share, 1 / (8 * width)), width).rstrip()


def _widths(rows: Sequence[dict[str, Text]], room: int) -> dict[str, int]:
    """The columns that are shown, and their widths; what is left over makes the bars longer."""

    def measured(brief: Sequence[str]) -> dict[str, int]:
        least = LEAST | {name: LEAST_BRIEF[name] for name in brief}
        return {
            name: min(
                max(least.get(name, 0), *(cell_len(row[name].plain) for row in rows), len(name)),
                LONGEST.get(name, room),
            )
            for name in COLUMNS
        }

    found = narrowed(COLUMNS, rows, measured, room)
    left = room - taken(found)
    if BAR in found and left > 0:
        found[BAR] = min(LONGEST[BAR], found[BAR] + left)
    return found
