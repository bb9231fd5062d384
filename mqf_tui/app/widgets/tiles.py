"""The four large numbers of a measurement, the same on the live screen and in the result."""

from __future__ import annotations

import math

from textual.app import ComposeResult
from textual.containers import Horizontal

from mqf_tui.app.tally import Numbers
from mqf_tui.app.widgets.tile import Tile
from mqf_tui.fidelity.intervals import Interval
from mqf_tui.reports.schema import Thresholds, Verdict
from mqf_tui.reports.text import kl, perplexity

# The theme's colour for each verdict.
COLOURS = {"good": "success", "marginal": "warning", "bad": "error"}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Tiles(Horizontal):
    """KL mean, KL p99, flips, perplexity change."""

    DEFAULT_CSS = "Tiles { height: 5; margin: 0 1; }"

    def compose(self) -> ComposeResult:
        """Four tiles."""
        for name in ("mean", "p99", "flips", "perplexity"):
            yield Tile(name, id=name)

    def show(self, n: Numbers, limits: Thresholds) -> None:
        """Fill the tiles; colours say which verdict each number alone would give."""
        exponent = exponent_of(n.kl_mean)
        self._tile("mean").show(
            f"KL mean{times(exponent)}",
            scaled(n.kl_mean, exponent),
            _between(n.kl_interval, exponent),
            level(n.kl_mean, limits.kl_mean),
        )
        exponent = exponent_of(n.kl_p99)
        median = f"median {kl(n.kl_median)}"
        self._tile("p99").show(
            f"KL p99{times(exponent)}",
            scaled(n.kl_p99, exponent),
            median,
            level(n.kl_p99, limits.kl_p99),
        )
        low, high = n.flip_interval or (0.0, 0.0)
        note = f"{100 * low:.2f} to {100 * high:.2f} %" if n.flip_interval else "no interval yet"
        self._tile("flips").show(
            "flips", f"{100 * n.flip_rate:.2f}%", note, level(n.flip_rate, limits.flip_rate)
        )
        delta = n.perplexity_quant - n.perplexity_ref
        exponent = exponent_of(delta, 0.1)
        sign = "+" if delta > 0 else ""
        # Perplexity alone gives no verdict: it may fall by chance where the distribution is wrecked.
        note = f"{perplexity(n.perplexity_ref)}→{perplexity(n.perplexity_quant)}"
        self._tile("perplexity").show(f"perplexity{times(exponent)}", sign + scaled(delta, exponent), note)

    def _tile(self, name: str) -> Tile:
        return self.query_one(f"#{name}", Tile)


def level(value: float, limits: tuple[float, float]) -> Verdict:
    """Which verdict one number alone would give."""
    return "good" if value <= limits[0] else "marginal" if value <= limits[1] else "bad"


def exponent_of(value: float, least: float = 0.01) -> int:
    """The power of ten that is put into a tile's title; 0 for numbers from ``least`` to 10,000."""
    if not math.isfinite(value) or value == 0 or least <= abs(value) < 10_000:
        return 0
    return math.floor(math.log10(abs(value)))


def scaled(value: float, exponent: int) -> str:
    """Three significant digits of value / 10^exponent."""
    if not math.isfinite(value):
        return str(value)
    mantissa = value / 10.0**exponent
    digits = 2 if mantissa == 0 else 2 - math.floor(math.log10(abs(mantissa)))
    return f"{mantissa:.{min(max(digits, 0), 4)}f}"


def times(exponent: int) -> str:
    """`` ×10⁻³`` for a title."""
    return f" ×10{str(exponent).translate(SUPERSCRIPTS)}" if exponent else ""


def _between(interval: Interval | None, exponent: int) -> str:
    if interval is None:
        return "no interval yet"
    return f"{scaled(interval[0], exponent)} to {scaled(interval[1], exponent)}"
