"""The picture of settings: what is drawn where, the cursor by keys and mouse, and what must not break it."""

from __future__ import annotations

import math

from textual.app import App, ComposeResult

from mqf_tui.app.capabilities import Capabilities
from mqf_tui.app.widgets.canvas import LinearScale, LogScale, tick_word
from mqf_tui.app.widgets.pareto_plot import ParetoPlot, ParetoPoint
from tests.hostile import HOSTILE

POINTS = (
    ParetoPoint("4-bit", 144.0, 0.2, (0.05, 0.8), "bad", frontier=True, marked=True),
    ParetoPoint("8-bit", 272.0, 0.001, (-0.001, 0.003), "good", frontier=True),
    ParetoPoint("6-bit [b]", 208.0, 0.02, None, "marginal"),
    ParetoPoint("2-bit", 80.0, math.inf, None, "bad"),
    ParetoPoint("no KL", 100.0, math.nan, None, "bad"),
    ParetoPoint(HOSTILE, 250.0, 0.0, None, "good"),
)


class Shown(App[None]):
    """An app with nothing else in it."""

    def __init__(self, unicode: bool) -> None:
        super().__init__()
        self.capabilities = Capabilities(unicode)
        self.taken: list[int] = []
        self.passed: list[int] = []

    def compose(self) -> ComposeResult:
        """The picture."""
        yield ParetoPlot()

    def on_pareto_plot_selected(self, event: ParetoPlot.Selected) -> None:
        """Note what was taken."""
        self.taken.append(event.index)

    def on_pareto_plot_highlighted(self, event: ParetoPlot.Highlighted) -> None:
        """Note where the cursor came to."""
        self.passed.append(event.index)


async def test_points_bars_names_and_the_cursor() -> None:
    app = Shown(unicode=True)
    async with app.run_test(size=(90, 24)) as pilot:
        plot = app.query_one(ParetoPlot)
        assert "no setting" in plot.render().plain
        plot.focus()
        plot.show(POINTS, limits=(0.01, 0.1))
        await pilot.pause()
        lines = plot.render().plain.split("\n")
        place = {
            name: (y, line.index(name))
            for name in ("⟦■⟧ 4-bit", "8-bit", "6-bit [b]", "2-bit")
            for y, line in enumerate(lines)
            if name in line
        }
        # Higher is worse, farther right is larger; a bar from the one end of the interval to the other.
        assert place["2-bit"][0] < place["⟦■⟧ 4-bit"][0] < place["6-bit [b]"][0] < place["8-bit"][0]
        y, x = place["⟦■⟧ 4-bit"]
        bar = [line[x + 1] for line in lines]
        assert "".join(bar[y - 3 : y + 4]) == "│││■│││"
        assert any("good up to 0.01" in line for line in lines)
        assert len(lines) == plot.content_size.height
        assert not {"\x1b", "\u202e", "\x9b"} & set("".join(lines))
        # The cursor begins at what is marked; by bytes that is the second, and no KL has no place.
        assert plot.index == 0
        assert "0.200 nats (0.0500 to 0.800), 144 bytes per token, bad" in str(plot.border_subtitle)
        await pilot.press("home", "left", "end", "enter", "left", "enter")
        assert app.passed == [3, 1, 5]
        assert app.taken == [1, 5]
        assert "…" in str(plot.border_subtitle)
        assert "0, 250 bytes, good" in str(plot.border_subtitle)
        # A click comes to a point, a second one takes it; one beside all points does nothing.
        await pilot.click(ParetoPlot, offset=(x + 2, y + 1))
        assert (plot.index, app.taken) == (0, [1, 5])
        await pilot.click(ParetoPlot, offset=(x + 2, y + 1))
        assert app.taken == [1, 5, 0]
        await pilot.click(ParetoPlot, offset=(12, 18))
        assert app.taken == [1, 5, 0]
        plot.go_to(4)
        plot.go_to(2)
        assert plot.index == 2
        plot.show([])
        assert plot.index is None
        await pilot.press("left", "enter")
        plot.show(POINTS[:1])
        await pilot.resize_terminal(20, 8)
        assert "too small" in plot.render().plain


async def test_without_unicode() -> None:
    app = Shown(unicode=False)
    async with app.run_test(size=(60, 16)):
        plot = app.query_one(ParetoPlot)
        plot.show(POINTS, limits=(0.01, 0.1))
        drawn = plot.render().plain
        assert drawn.isascii()
        assert "[#] 4-bit" in drawn


def test_scales_keep_order_and_round_ticks() -> None:
    scale = LogScale.over([1e-5, 0.3, 0.0, math.inf], 40)
    cells = [scale.at(v) for v in (0.0, 1e-5, 1e-3, 0.3, math.inf)]
    assert cells == sorted(cells)
    assert (cells[0], cells[-1]) == (0, 39)
    assert scale.ticks(9) == [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    assert LogScale.over([0.02, 0.03], 20).ticks(9) == [0.02]
    assert LogScale.over([], 20).at(1.0) in range(20)
    line = LinearScale.over([100.0, 900.0], 50)
    assert line.ticks(5) == [200.0, 400.0, 600.0, 800.0]
    assert LinearScale.over([7.0], 50).at(7.0) in range(20, 30)
    assert [tick_word(v) for v in (1e-6, 0.02, 1.0, 20000.0)] == ["1e-6", "0.02", "1", "2e4"]
