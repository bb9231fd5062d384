"""The part of the app that leads through the tour: it watches what is done and says what comes next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.timer import Timer

from mqf_tui.app.actions import keymap, table
from mqf_tui.app.looks import KEY_WORDS
from mqf_tui.app.tour import Place, steps
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.files import subfolders
from mqf_tui.library.folders import data_dir
from mqf_tui.library.remembered import remember, state_file
from mqf_tui.library.settings import UserSettings

EVERY = 0.2  # seconds between two looks at where one is
ARROWS = {"up/down": "up and down", "left/right": "left and right"}


class Touring(App[None]):
    """Steps wait until they are done. The tour can be left and begun again at any time."""

    settings: UserSettings
    action_models: Callable[[], None]
    _tour_place: Place | None = None
    _tour_timer: Timer | None = None

    def offer_tour(self) -> None:
        """Begin by itself at the very first start: no runs, nothing remembered, not turned off."""
        if self.settings.app.tour and not state_file().exists() and not _has_runs():
            remember(tour="offered")
            self._tour_begins()

    def action_tour(self) -> None:
        """Begin the tour, or leave it."""
        if self._tour_place is None:
            self.action_models()  # where the first step is
            self._tour_begins()
        else:
            self._tour_left()

    async def run_action(
        self,
        action: Any,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """As everywhere; the tour sees what was done, and where."""
        screen = type(self.screen).__name__ if self._tour_place is not None else ""
        done = await super().run_action(action, default_namespace, namespaces)
        if done and self._tour_place is not None and isinstance(action, str):
            self._tour_goes(self._tour_place.after(screen, action.partition("(")[0].rpartition(".")[2]))
        return done

    def _tour_begins(self) -> None:
        self._tour_place = Place()
        self._tour_timer = self.set_interval(EVERY, self._tour_looks)
        self._tour_looks()

    def _tour_left(self) -> None:
        self._tour_place = None
        if self._tour_timer is not None:
            self._tour_timer.stop()
        for screen in self.screen_stack:
            screen.query("TourPanel").remove()

    def _tour_looks(self) -> None:
        if self._tour_place is not None:
            self._tour_goes(self._tour_place.after(type(self.screen).__name__))

    def _tour_goes(self, place: Place) -> None:
        from mqf_tui.app.screens.base import BaseScreen
        from mqf_tui.app.widgets.tour_panel import TourPanel

        if place != self._tour_place and place.ended:
            remember(tour="done")
        self._tour_place = place
        if not isinstance(self.screen, BaseScreen) or not self.screen.is_mounted:
            return
        shown = self.screen.query(TourPanel)
        panel = shown.first() if shown else TourPanel()
        if not shown:
            self.screen.mount(panel)
        number = "" if place.ended else f"{place.at + 1} of {len(steps())}: "
        leaves = f"{self._tour_key('app.tour')} {'closes this' if place.ended else 'leaves it'}"
        panel.say(f"{number}{place.step.title}", place.step.words(self._tour_key), leaves)

    def _tour_key(self, name: str) -> str:
        """The key of an action, as the footer calls it."""
        if name in ARROWS:
            return ARROWS[name]
        one = table()[name.partition(".")[0]][name]
        own = keymap(self.settings.keys)[0].get(name)
        keys = own or ",".join(one.keys)
        binding = Binding(keys.partition(",")[0], one.action, key_display=None if own else one.display)
        shown = self.get_key_display(binding)
        return KEY_WORDS.get(shown, shown)  # not everybody knows the signs yet


def _has_runs() -> bool:
    try:
        return bool(subfolders(data_dir() / "runs"))
    except FidelityError:
        return True
