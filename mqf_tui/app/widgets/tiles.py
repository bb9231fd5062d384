"""The four large numbers of a measurement, the same on the live screen and in the result."""

from __future__ import annotations

import math
from typing import Literal

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Digits

from mqf_tui.app.tally import Numbers
from mqf_tui.app.widgets.large import large, rate, span, times
from mqf_tui.app.widgets.tile import Tile
from mqf_tui.reports.schema import Thresholds, Verdict

# The theme's colour for each verdict.
COLOURS = {"good": "success", "marginal": "warning", "bad": "error"}
IN_A_ROW = 72  # columns that four tiles take at least
ROOM = 15  # columns of a tile in a narrow terminal, taken before the true width is known


class Tiles(Horizontal):
    """KL mean, KL p99, flips, change of perplexity; as many digits as the tiles have room for."""

    DEFAULT_CSS = """
    Tiles { height: 5; margin: 0 1; }
    Tiles.-square { layout: grid; grid-size: 2 2; height: 10; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[Numbers, Thresholds, str] | None = None

    def compose(self) -> ComposeResult:
        """Four tiles."""
        for name, title in (("mean", "KL mean"), ("p99", "KL p99"), ("flips", "flips")):
            yield Tile(title, id=name)
        yield Tile("Δ perplexity", id="perplexity")

    def show(self, n: Numbers, limits: Thresholds, *, none: str = "no interval yet") -> None:
        """Fill the tiles; colours say which verdict each number alone would give. ``none``: in place of
        an interval that there is not."""
        self._shown = n, limits, none
        self._fill()

    def on_resize(self) -> None:
        """Two rows where one has no room; more or fewer digits."""
        self.set_class(self.size.width < IN_A_ROW, "-square")
        self._fill()

    def _fill(self) -> None:
        if self._shown is None or not self.is_attached:
            return
        if len(self.query(".note")) < len(self.query(Tile)):
            self.call_after_refresh(self._fill)  # shown before the tiles have put up their own parts
            return
        n, limits, none = self._shown
        room = min((d.size.width for d in self.query(Digits)), default=0) or ROOM
        for name, title, value, interval, pair in (
            ("mean", "KL mean", n.kl_mean, n.kl_interval, limits.kl_mean),
            ("p99", "KL p99", n.kl_p99, n.p99_interval, limits.kl_p99),
        ):
            number = large(value, room, least=0.01)
            note = span(interval, 10.0**-number.exponent, room=room) or none
            self._tile(name).show(title + times(number.exponent), number.text, note, level(value, pair))
        # At first a confidence sequence spans all that can be, which says nothing.
        rates = None if n.flip_interval == (0.0, 1.0) else n.flip_interval
        ends = span(rates, 100, most=2, room=room - len(" %"))
        note = f"{ends} %" if ends else none
        self._tile("flips").show("flips", rate(n.flip_rate, room), note, level(n.flip_rate, limits.flip_rate))
        # The change is often less than its error: the power is that of the largest number shown.
        change = large(n.perplexity_delta, room, least=0.1, beside=n.perplexity_interval, signed=True)
        titles = [name + times(change.exponent) for name in ("Δ perplexity", "Δ PPL")]
        # Perplexity alone gives no verdict: it may fall by chance where the distribution is wrecked.
        self._tile("perplexity").show(
            next((title for title in titles if len(title) <= room), titles[-1]),
            change.text,
            span(n.perplexity_interval, 10.0**-change.exponent, "+", room=room) or none,
        )

    def _tile(self, name: str) -> Tile:
        return self.query_one(f"#{name}", Tile)


def level(value: float, limits: tuple[float, float]) -> Verdict | Literal[""]:
    """Which verdict one number alone would give; none where it is not known."""
    if math.isnan(value):
        return ""
    return "good" if value <= limits[0] else "marginal" if value <= limits[1] else "bad"
