"""What stands around every screen: the keys below that have room, and the way above."""

from __future__ import annotations

from typing import cast

from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding
from textual.geometry import Size
from textual.screen import Screen

from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.footers import PALETTE, fitted
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.widgets.title_bar import TitleBar

NODE = cast("Screen[None]", None)


def active(*names: str, words: str = "Words") -> dict[str, ActiveBinding]:
    """Bindings on the keys a, b, c, … with these ids."""
    keys = "abcdefghij"
    return {
        keys[n]: ActiveBinding(NODE, Binding(keys[n], f"do_{n}", words, id=name), enabled=True, tooltip="")
        for n, name in enumerate(names)
    }


def seen(bindings: dict[str, ActiveBinding]) -> list[str | None]:
    return [one.binding.id for one in bindings.values() if one.binding.show]


def test_a_footer_leaves_out_the_less_wanted_keys_first_and_never_those_that_hold_everywhere() -> None:
    found = active("x.one", "x.two", "x.three", "x.four", "app.back", "app.quit")
    each = len("a Words ")

    def shown(keys: int) -> list[str | None]:
        return seen(fitted(found, ["x.two"], keys * each + PALETTE, lambda one: one.key, compact=True))

    assert shown(6) == list(dict.fromkeys(one.binding.id for one in found.values()))
    assert shown(5) == ["x.one", "x.three", "x.four", "app.back", "app.quit"]
    assert shown(4) == ["x.one", "x.three", "app.back", "app.quit"]
    assert shown(0) == ["app.back", "app.quit"]
    assert all(found[key].binding.action == one.binding.action for key, one in found.items())


async def test_a_long_way_loses_its_beginning_so_that_the_last_step_is_read() -> None:
    class Place(BaseScreen):
        def __init__(self, title: str) -> None:
            super().__init__()
            self.TITLE = title

        def compose(self) -> ComposeResult:
            yield TitleBar(str(self.TITLE))

    app = MqfTuiApp()
    try:
        async with app.run_test(size=(60, 20)) as pilot:
            for name in ("Set-up", "Live", "Runs of a long name", "Compare", "Explore"):
                await app.push_screen(Place(name))
            await pilot.pause()
            line = str(app.screen.query_one(TitleBar).render())
            assert line.endswith("›  Explore")
            assert len(line) <= 56
            assert "mqf-tui  ›  …  ›  " in line
            await pilot.resize_terminal(120, 40)
            await pilot.pause()
            assert "Models  ›  Set-up  ›  Live" in str(app.screen.query_one(TitleBar).render())
    finally:
        app.bridge.close()
    assert app.size == Size(120, 40)
