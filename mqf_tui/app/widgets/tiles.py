"""The four large numbers of a measurement, the same on the live screen and in the result."""

from __future__ import annotations

import math
from typing import Literal

from textual.app import ComposeResult
from textual.containers import Horizontal

from mqf_tui.app.tally import Numbers
from mqf_tui.app.widgets.tile import Tile
from mqf_tui.fidelity.intervals import Interval
from mqf_tui.reports.schema import Thresholds, Verdict
from mqf_tui.reports.text import UNKNOWN

# The theme's colour for each verdict.
COLOURS = {"good": "success", "marginal": "warning", "bad": "error"}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Tiles(Horizontal):
    """KL mean, KL p99, flips, perplexity change."""

    DEFAULT_CSS = "Tiles { height: 5; margin: 0 1; }"

    def compose(self) -> ComposeResult:
        """Four tiles."""
        for name, title in (("mean", "KL mean"), ("p99", "KL p99"), ("flips", "flips"), ("perplexity",) * 2):
            yield Tile(title, id=name)

    def show(self, n: Numbers, limits: Thresholds, *, none: str = "no interval yet") -> None:
        """Fill the tiles; colours say which verdict each number alone would give. ``none``: in place of
        an interval that there is not."""
        for name, title, value, interval, pair in (
            ("mean", "KL mean", n.kl_mean, n.kl_interval, limits.kl_mean),
            ("p99", "KL p99", n.kl_p99, n.p99_interval, limits.kl_p99),
        ):
            exponent = exponent_of(value)
            note = span(interval, 10.0**-exponent) or none
            self._tile(name).show(title + times(exponent), scaled(value, exponent), note, level(value, pair))
        rate = f"{100 * n.flip_rate:.2f}%" if math.isfinite(n.flip_rate) else UNKNOWN
        # At first a confidence sequence spans all that can be, which says nothing.
        rates = None if n.flip_interval == (0.0, 1.0) else n.flip_interval
        note = f"{span(rates, 100, most=2)} %" if rates else none
        self._tile("flips").show("flips", rate, note, level(n.flip_rate, limits.flip_rate))
        # The change is often less than its error: the power is that of the largest number shown.
        largest = max((n.perplexity_delta, *(n.perplexity_interval or ())), key=abs)
        exponent = exponent_of(largest, 0.1)
        sign = "+" if n.perplexity_delta > 0 else ""
        # Perplexity alone gives no verdict: it may fall by chance where the distribution is wrecked.
        self._tile("perplexity").show(
            f"perplexity{times(exponent)}",
            sign + scaled(n.perplexity_delta, exponent),
            span(n.perplexity_interval, 10.0**-exponent, "+") or none,
        )

    def _tile(self, name: str) -> Tile:
        return self.query_one(f"#{name}", Tile)


def level(value: float, limits: tuple[float, float]) -> Verdict | Literal[""]:
    """Which verdict one number alone would give; none where it is not known."""
    if math.isnan(value):
        return ""
    return "good" if value <= limits[0] else "marginal" if value <= limits[1] else "bad"


def exponent_of(value: float, least: float = 0.01) -> int:
    """The power of ten that is put into a tile's title; 0 for numbers from ``least`` to 10,000."""
    if not math.isfinite(value) or value == 0 or least <= abs(value) < 10_000:
        return 0
    return math.floor(math.log10(abs(value)))


def scaled(value: float, exponent: int) -> str:
    """Three significant digits of value / 10^exponent."""
    if not math.isfinite(value):
        return UNKNOWN if math.isnan(value) else str(value)
    mantissa = value / 10.0**exponent
    digits = 2 if mantissa == 0 else 2 - math.floor(math.log10(abs(mantissa)))
    return f"{mantissa:.{min(max(digits, 0), 4)}f}"


def times(exponent: int) -> str:
    """`` ×10⁻³`` for a title."""
    return f" ×10{str(exponent).translate(SUPERSCRIPTS)}" if exponent else ""


def span(interval: Interval | None, factor: float, sign: str = "-", most: int = 4) -> str:
    """Both ends times ``factor``, with as many decimals (at ``most``) as the larger one needs for three
    digits; empty where there is no finite interval. A tile of a narrow terminal has 16 columns for it."""
    if interval is None or not all(map(math.isfinite, interval)):
        return ""
    ends = [end * factor for end in interval]
    largest = max(map(abs, ends))
    decimals = min(max(2 - math.floor(math.log10(largest)), 0), most) if largest else 0
    return " to ".join(f"{end:{sign}.{decimals}f}" for end in ends)
