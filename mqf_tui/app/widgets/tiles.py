"""The large numbers of a measurement, the same on the live screen and in the result."""

from __future__ import annotations

import math
from typing import Literal

from textual.app import ComposeResult
from textual.containers import Horizontal

from mqf_tui.app.tally import Numbers
from mqf_tui.app.widgets.large import large, rate, span, times
from mqf_tui.app.widgets.tile import Tile
from mqf_tui.reports.schema import Thresholds, Verdict

# The theme's colour for each verdict.
IN_A_ROW = 72  # columns that four tiles take at least
ALL_IN_A_ROW = 108  # columns that all of them take at least
FRAME = 3  # columns of a tile beside its text
ROOM = 15  # columns of text in a narrow tile, taken before the true width is known
# Shown only where all find room.
MORE = ("median", "confident")


class Tiles(Horizontal):
    """KL mean, KL p99, flips, change of perplexity, and where there is room the median and confident flips;
    as many digits as the tiles have room for."""

    DEFAULT_CSS = """
    Tiles { height: 5; margin: 0 1; }
    Tiles.-square { layout: grid; grid-size: 2 2; height: 10; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[Numbers, Thresholds, str] | None = None

    def compose(self) -> ComposeResult:
        """All of them; the layout hides some."""
        for name, title in (
            ("mean", "KL mean"),
            ("median", "KL median"),
            ("p99", "KL p99"),
            ("flips", "flips"),
            ("confident", "confident flips"),
        ):
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

    @property
    def all_shown(self) -> bool:
        """Whether there is room for all of them."""
        return self.size.width >= ALL_IN_A_ROW

    def _room(self) -> int:
        """Columns of text in each of those that are shown."""
        n = len([tile for tile in self.query(Tile) if tile.display])
        a_row = 2 if self.size.width < IN_A_ROW else max(1, n)  # none yet: they come with the first frame
        return max(ROOM, self.size.width // a_row - FRAME)

    def _fill(self) -> None:
        if self._shown is None or not self.is_attached:
            return
        if len(self.query(".note")) < len(self.query(Tile)):
            self.call_after_refresh(self._fill)  # shown before the tiles have put up their own parts
            return
        n, limits, none = self._shown
        for name, value in zip(MORE, (n.kl_median, n.confident_rate), strict=True):
            self._tile(name).display = self.all_shown and not math.isnan(value)
        room = self._room()
        for name, title, value, note, word in (
            ("mean", "KL mean", n.kl_mean, n.kl_interval, level(n.kl_mean, limits.kl_mean)),
            ("median", "KL median", n.kl_median, "half are less", ""),
            ("p99", "KL p99", n.kl_p99, n.p99_interval, level(n.kl_p99, limits.kl_p99)),
        ):
            number = large(value, room, least=0.01)
            if not isinstance(note, str):
                note = span(note, 10.0**-number.exponent, room=room) or none
            self._tile(name).show(title + times(number.exponent), number.text, note, word)
        for name, title, value, interval, word in (
            ("flips", "flips", n.flip_rate, n.flip_interval, level(n.flip_rate, limits.flip_rate)),
            ("confident", "confident flips", n.confident_rate, n.confident_interval, ""),
        ):
            # At first a confidence sequence spans all that can be, which says nothing.
            rates = None if interval == (0.0, 1.0) else interval
            ends = span(rates, 100, most=2, room=room - len(" %"))
            self._tile(name).show(title, rate(value, room), f"{ends} %" if ends else none, word)
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
