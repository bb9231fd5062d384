"""The part of the app that fetches models: the way to the hub, downloads and what comes of them, trust."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, cast

from textual.worker import get_current_worker

from mqf_tui.app.hub_downloads import Download, Downloads
from mqf_tui.app.navigation import Navigation
from mqf_tui.app.trusting import Chosen, chosen, chosen_of_hub, in_app, is_read, trusted
from mqf_tui.library.model_places import HUB

if TYPE_CHECKING:
    from pathlib import Path

    from mqf_tui.app.app import MqfTuiApp
    from mqf_tui.library.models import LocalModel

SECONDS = 0.5  # between two looks at downloads that may have ended
TIMEOUT = 15.0  # seconds that a sentence stands


class HubWays(Navigation):
    """What every screen may ask for. Downloads are told of when they end, wherever one is."""

    @cached_property
    def downloads(self) -> Downloads:
        """All since the app began."""
        return Downloads()

    @cached_property
    def _told(self) -> set[Download]:
        self.set_interval(SECONDS, self._look_at_downloads)
        return set()

    def on_unmount(self) -> None:
        """No thread of ours goes on when the app has ended, whatever ended it."""
        self.downloads.cancel()

    def action_hub(self) -> None:
        """Go to the hub."""
        from mqf_tui.app.screens.hub import HubScreen

        self._go(HubScreen, HubScreen)

    def find_on_hub(self, text: str) -> None:
        """Go to the hub and search for this."""
        from mqf_tui.app.screens.hub import HubScreen

        opened = any(isinstance(screen, HubScreen) for screen in self.screen_stack)
        self._go(HubScreen, partial(HubScreen, text))
        if opened and isinstance(self.screen, HubScreen):
            self.screen.find(text)

    def download(self, name: str) -> None:
        """Fetch a model after those that were asked for before; the end of it is told."""
        self._told  # noqa: B018 (the first one begins the looking)
        self.downloads.start(name)

    def _look_at_downloads(self) -> None:
        for one in self.downloads.all:
            if one not in self._told and one.standing().ended:
                self._told.add(one)
                self._tell_download(one)

    def _tell_download(self, one: Download) -> None:
        """What came of it: a sentence where it is not seen in its place, and what else the user wants."""
        from mqf_tui.app.alerts import call
        from mqf_tui.app.screens.hub import HubScreen
        from mqf_tui.app.screens.models import ModelsScreen

        for screen in self.screen_stack:
            if isinstance(screen, ModelsScreen):
                screen.action_reload()  # a part of a model is listed too
        s = one.standing()
        if s.state == "cancelled":
            return  # who cancelled it knows
        done = s.state == "finished"
        words = f"{s.name} is here, in Models." if done else f"{s.name}: {in_app(s.problem)}"
        if not isinstance(self.screen, HubScreen):
            title, severity = ("Downloaded", "information") if done else ("Download failed", "error")
            self.notify(words, title=title, severity=severity, timeout=TIMEOUT, markup=False)
        call(cast("MqfTuiApp", self), f"mqf-tui: {words}")

    def set_up_downloaded(self, name: str, folder: Path | None) -> None:
        """Set up a model that is in the hub's cache; ``folder``: where, if that is known."""
        self._choose(lambda: [chosen_of_hub(name, folder)])

    def choose_models(self, models: Sequence[LocalModel]) -> None:
        """Set up models; where one would run code of its own, ask first. Where one cannot be, say why."""
        if all(map(is_read, models)):
            self.set_up(models)  # at once: the keys that are typed ahead are for it
        else:
            self._choose(lambda: list(map(chosen, models)))

    def _choose(self, read: Callable[[], list[Chosen]]) -> None:
        """Read models beside the app, and go on with them if the user is where they were chosen still."""
        screen = self.screen

        def work() -> None:
            from mqf_tui.fidelity.errors import FidelityError

            worker, found, problem = get_current_worker(), list[Chosen](), ""
            try:
                found = read()
            except FidelityError as error:
                problem = str(error)
            if not worker.is_cancelled:
                self.call_from_thread(go_on, found, problem)

        def go_on(found: list[Chosen], problem: str) -> None:
            if self.screen is screen:
                self._set_up_chosen(found, problem)

        self.run_worker(work, thread=True, exclusive=True, group="chosen")

    def _set_up_chosen(self, found: Sequence[Chosen], problem: str = "") -> None:
        one = next((one for one in found if one.problem), None)
        if problem or one is None:
            self._refuse_model(problem) if problem else self.set_up([each.model for each in found])
        elif one.model.incomplete and one.model.source == HUB:
            self.find_on_hub(one.model.name)
        elif one.files and one.model.folder is not None and len(found) == 1:
            self._ask_to_trust(one.model, one.model.folder, one.files)
        else:
            self._refuse_model(one.problem)

    def _ask_to_trust(self, model: LocalModel, folder: Path, files: tuple[str, ...]) -> None:
        from mqf_tui.app.screens.hub_dialogs import TrustScreen

        def answered(yes: bool | None) -> None:
            if yes:
                self._choose(lambda: [Chosen(trusted(model))])

        self.push_screen(TrustScreen(model.name, folder, files), answered)

    def _refuse_model(self, why: str) -> None:
        from mqf_tui.app.hub_words import sentence

        title, words = "Cannot be measured", sentence(in_app(why))
        self.notify(words, title=title, severity="warning", timeout=TIMEOUT, markup=False)

    def browse(self, address: str) -> None:
        """Open a page of the web in the user's browser; where there is none, say its address."""
        self.run_worker(partial(self._browse, address), thread=True, group="browse", exit_on_error=False)

    def _browse(self, address: str) -> None:
        from mqf_tui.app.browsing import open_address

        words, opened = open_address(address, os.environ)
        severity = "information" if opened else "warning"
        self.call_from_thread(self.notify, words, severity=severity, timeout=TIMEOUT, markup=False)
