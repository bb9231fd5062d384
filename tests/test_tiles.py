"""The large digits: they fit their tiles at every width, with every number, and say what they say."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.style import Style
from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.renderables.digits import Digits as Large
from textual.widgets import Digits, Label

from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.tally import Numbers
from mqf_tui.app.widgets.large import Large as Shown
from mqf_tui.app.widgets.large import cells, large
from mqf_tui.app.widgets.tile import Tile
from mqf_tui.app.widgets.tiles import Tiles
from mqf_tui.fidelity.verdict import KV_POLICY

VALUES = [
    0.0, 1e-12, 4.26e-4, 0.00999999, 0.0234, 0.099999, 0.1, 0.47, 0.99996, 1.0, 9.9996, 12.34, 99.996,
    123.4, 999.96, 1234.5, 9999.4, 9999.6, 12345.6, 1.4e5, 9.996e9, 1e300, math.inf, math.nan,
]  # fmt: skip
RATES = [0.0, 1e-6, 0.00123, 0.0196, 0.09996, 0.12345, 0.99996, 1.0, math.nan]
WIDTHS = [40, 60, 75, 76, 80, 100, 120]


class Page(App[None]):
    """Tiles as the live screen and the result have them: beside a scroll bar."""

    CSS_PATH = "../mqf_tui/app/styles.tcss"

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Tiles()
            yield Label("\n" * 100)

    def get_default_screen(self) -> BaseScreen:
        return BaseScreen()


def numbers() -> list[Numbers]:
    found = []
    rates = itertools.cycle(RATES)
    for value, sign in itertools.product(VALUES, (1, -1)):
        for error in (0.0, 1e-3, 0.3, 1e3):
            ends = (max(value - error, 0.0), value + error)
            change = (sign * value - error, sign * value + error)
            share = next(rates)
            flips = (max(share - 0.01, 0.0), min(share + 0.0123, 1.0))
            of_all = value, ends, value, ends, share, flips, sign * value, change
            found.append(Numbers(*of_all, kl_median=value, confident_rate=share, confident_interval=flips))
        found.append(Numbers(value, None, value, None, next(rates), None, sign * value, None, value, share))
    return found


def rendered_width(digits: Digits) -> int:
    """Columns of the drawn digits, without the blanks at their end."""
    lines = "".join(segment.text for segment in Large(digits.value).render(Style())).splitlines()
    assert len(lines) == 3
    return max(len(line.rstrip()) for line in lines)


def shown(app: App[None]) -> list[Tile]:
    return [tile for tile in app.screen.query(Tile) if tile.display]


def values(app: App[None]) -> list[str]:
    return [tile.query_one(Digits).value for tile in shown(app)]


@pytest.mark.parametrize("width", WIDTHS)
async def test_everything_fits_its_tile(width: int) -> None:
    app = Page()
    async with app.run_test(size=(width, 24)) as pilot:
        await pilot.pause(0.1)
        tiles, n_shown = app.screen.query_one(Tiles), 0
        for n in numbers():
            tiles.show(n, KV_POLICY)
            if len(shown(app)) != n_shown:
                n_shown = len(shown(app))
                await pilot.pause(0)
            for tile in shown(app):
                digits = tile.query_one(Digits)
                room = digits.size.width
                assert room == tile.content_size.width >= 15
                assert 0 < rendered_width(digits) <= room, (n, digits.value)
                for label in tile.query(Label):
                    assert len(str(label.render())) <= room, (n, label.render())


async def test_digits_follow_the_width() -> None:
    app = Page()
    n = Numbers(0.0234, (0.0123, 0.0345), 0.2, None, 1.0, None, 0.047, (-0.0041, 0.187))
    async with app.run_test(size=(120, 24)) as pilot:
        tiles = app.screen.query_one(Tiles)
        tiles.show(n, KV_POLICY)
        await pilot.pause(0.1)
        assert values(app) == ["0.0234", "0.200", "100.00%", "+0.047"]
        await pilot.resize_terminal(76, 24)
        await pilot.pause(0.2)
        assert values(app) == ["0.023", "0.200", "100.0%", "+4.70"]
        change = app.screen.query_one("#perplexity", Tile)
        assert str(change.query_one(".title", Label).render()) == "Δ PPL ×10⁻²"
        assert str(change.query_one(".note", Label).render()) == "-0.4 to +18.7"
        await pilot.resize_terminal(100, 24)
        await pilot.pause(0.2)
        assert values(app) == ["0.0234", "0.200", "100.00%", "+0.047"]
        assert str(change.query_one(".title", Label).render()) == "Δ perplexity"


async def test_all_six_where_they_find_room() -> None:
    app = Page()
    n = Numbers(0.0234, None, 0.2, None, 1.0, None, 0.047, (-0.0041, 0.187), 0.00123, 0.0251, (0.02, 0.03))
    async with app.run_test(size=(120, 24)) as pilot:
        tiles = app.screen.query_one(Tiles)
        tiles.show(n, KV_POLICY)
        await pilot.pause(0.1)
        assert values(app) == ["0.0234", "1.23", "0.200", "100.0%", "2.51%", "+0.047"]
        titles = [str(tile.query_one(".title", Label).render()) for tile in shown(app)]
        assert titles == ["KL mean", "KL median ×10⁻³", "KL p99", "flips", "confident flips", "Δ perplexity"]
        assert "2.00 to 3.00 %" in [str(tile.query_one(".note", Label).render()) for tile in shown(app)]
        await pilot.resize_terminal(100, 24)
        await pilot.pause(0.2)
        assert values(app) == ["0.0234", "0.200", "100.00%", "+0.047"]
        tiles.show(n._replace(kl_median=math.nan), KV_POLICY)
        await pilot.resize_terminal(140, 24)
        await pilot.pause(0.2)
        assert "confident flips" in [str(tile.query_one(".title", Label).render()) for tile in shown(app)]
        assert len(shown(app)) == 5


@given(
    st.floats(-1e12, 1e12).filter(lambda v: abs(v) > 1e-12 or v == 0),
    st.sampled_from([15, 16, 21, 26]),
    st.sampled_from([0.01, 0.1]),
)
def test_a_number_is_shown_as_what_it_is(value: float, room: int, least: float) -> None:
    shown = large(value, room, least=least, signed=True)
    assert cells(shown.text) <= room
    read = float(shown.text) * 10.0**shown.exponent
    assert read == pytest.approx(value, rel=0.051)  # two digits at least
    assert shown.text[0] in "+-" or read == 0


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9), st.sampled_from([15, 16, 21]))
def test_a_change_has_the_digits_of_its_error(value: float, error: float, room: int) -> None:
    shown = large(value, room, least=0.1, beside=(value - error, value + error), signed=True)
    assert cells(shown.text) <= room
    read = float(shown.text) * 10.0**shown.exponent
    assert abs(read - value) <= max(0.051 * value, 0.051 * (value + error))


def test_what_is_no_number() -> None:
    assert large(math.inf, 15, least=0.1, signed=True).text == "+inf"
    assert large(-math.inf, 15, least=0.1, signed=True).text == "-inf"
    assert large(math.inf, 15, least=0.1).text == "inf"
    assert large(math.nan, 15, least=0.1).text == "—"
    assert large(1.4e5, 15, least=0.1, signed=True, beside=(-math.inf, math.inf)) == Shown("+1.40", 5)
