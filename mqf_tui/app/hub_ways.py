"""The part of the app that fetches models: the way to the hub, downloads and what comes of them, trust."""

from __future__ import annotations

import os
from functools import cached_property, partial
from typing import TYPE_CHECKING, cast

from mqf_tui.app.hub_downloads import Download, Downloads
from mqf_tui.app.navigation import Navigation
from mqf_tui.app.trusting import code_of, trusted
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
        words = f"{s.name} is here, in Models." if done else f"{s.name}: {s.problem}"
        if not isinstance(self.screen, HubScreen):
            title, severity = ("Downloaded", "information") if done else ("Download failed", "error")
            self.notify(words, title=title, severity=severity, timeout=TIMEOUT, markup=False)
        call(cast("MqfTuiApp", self), f"mqf-tui: {words}")

    def set_up_downloaded(self, name: str, folder: Path | None) -> None:
        """Set up a model that is in the hub's cache; ``folder``: where, if that is known."""
        self.run_worker(partial(self._read_downloaded, name, folder), thread=True, group="downloaded")

    def _read_downloaded(self, name: str, folder: Path | None) -> None:
        from mqf_tui.fidelity.errors import FidelityError
        from mqf_tui.library.model_places import Place
        from mqf_tui.library.models import find_model, listed, read_now

        try:
            model = read_now(listed(Place(name, HUB, folder or find_model(name))))
        except FidelityError as error:
            self.call_from_thread(self._refuse_model, str(error))
        else:
            self.call_from_thread(self.choose_model, model)

    def choose_model(self, model: LocalModel) -> None:
        """Set up a model; ask first where that would run code of its own. Where it cannot be, say why."""
        if model.facts is not None and not model.problem:
            self.set_up([model])
        elif model.incomplete and model.source == HUB:
            self.find_on_hub(model.name)
        elif model.folder is not None and (files := code_of(model)):
            self._ask_to_trust(model, model.folder, files)
        else:
            self._refuse_model(model.problem or "its headers are still being read; try again in a moment.")

    def _ask_to_trust(self, model: LocalModel, folder: Path, files: tuple[str, ...]) -> None:
        from mqf_tui.app.screens.hub_dialogs import TrustScreen

        def answered(yes: bool | None) -> None:
            if not yes:
                return
            found = trusted(model)
            if found.problem or found.facts is None:
                self._refuse_model(found.problem or "its headers cannot be read.")
            else:
                self.set_up([found])

        if not isinstance(self.screen, TrustScreen):  # Enter, pressed twice
            self.push_screen(TrustScreen(model.name, folder, files), answered)

    def _refuse_model(self, why: str) -> None:
        from mqf_tui.app.hub_words import sentence

        self.notify(
            sentence(why), title="Cannot be measured", severity="warning", timeout=TIMEOUT, markup=False
        )

    def browse(self, address: str) -> None:
        """Open a page of the web in the user's browser; where there is none, say its address."""
        self.run_worker(partial(self._browse, address), thread=True, group="browse", exit_on_error=False)

    def _browse(self, address: str) -> None:
        from mqf_tui.app.browsing import open_address

        words, opened = open_address(address, os.environ)
        severity = "information" if opened else "warning"
        self.call_from_thread(self.notify, words, severity=severity, timeout=TIMEOUT, markup=False)
