"""The Textual app: screens over one bridge to the MLX thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import SystemCommand
from textual.binding import BindingType
from textual.geometry import Size
from textual.screen import Screen

from mqf_tui.app.actions import bindings, keymap
from mqf_tui.app.alerts import Alerts
from mqf_tui.app.bridge import Bridge
from mqf_tui.app.capabilities import capabilities
from mqf_tui.app.crashing import CrashingApp
from mqf_tui.app.hub_ways import HubWays
from mqf_tui.app.looks import Looks
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.touring import Touring
from mqf_tui.app.undoing import Undoing
from mqf_tui.library.settings import user_settings
from mqf_tui.library.settings_file import place_of

if TYPE_CHECKING:
    from mqf_tui.fidelity.settings import KVSettings, SweepSettings

MOST_SAID = 3  # problems of the settings that are said one by one at the start
SIGNALLED = 128  # shells count an end by a signal from here
SIGNALS = (signal.SIGTERM, signal.SIGHUP)
TEXTUALS_OWN = ("Quit", "Keys")  # commands that our table has


class MqfTuiApp(Looks, Touring, HubWays, CrashingApp):
    """Choose a model and a setting, watch the measurement, walk around in the answer."""

    TITLE = "mqf-tui"
    CSS_PATH = "styles.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings("app")

    def __init__(
        self, settings: KVSettings | SweepSettings | None = None, *, autostart: bool = False
    ) -> None:
        super().__init__()
        self.settings = user_settings()
        self.capabilities = capabilities(os.environ, self.settings.app.unicode)
        self.undoing = Undoing()
        self._too_small: Screen[None] | None = None
        self._first = settings
        self._autostart = autostart
        self.bridge = Bridge()  # the last: its thread would keep the process alive if anything failed here

    def on_mount(self) -> None:
        """Set theme and keys; open the first screen; say what of the user's files cannot be used."""
        problems = self.start_looks(self.settings.app.theme)
        keys, refused = keymap(self.settings.keys, partial(place_of, "keys"))
        self.set_keymap(keys)
        self._complain([*self.settings.problems, *problems, *refused])
        self._obey_signals()
        Alerts(self)
        self.action_models()
        if self._first is not None and self._autostart:
            self.measure(self._first)
        else:
            self.offer_tour()
        self._fit(self.size)

    def _complain(self, problems: Sequence[str]) -> None:
        """Say what cannot be used: so much that the screen is not covered."""
        said, more = problems[:MOST_SAID], len(problems) - MOST_SAID
        for problem in (*said, *([f"And {more} more; `mqf-tui settings` lists all."] if more > 0 else [])):
            self.notify(
                problem[:1].upper() + problem[1:],
                title="Settings",
                severity="warning",
                markup=False,
                timeout=15,
            )

    def _obey_signals(self) -> None:
        """A closed terminal or a kill ends the app as a user would: stop, save, leave."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            # Not in a thread other than the main one (tests), and not on every system.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, lambda n=number: self.exit(return_code=SIGNALLED + n))

    def on_resize(self, event: events.Resize) -> None:
        """A sentence in place of a screen that would not fit."""
        if len(self.screen_stack) > 1:  # the first size comes before the first screen
            self._fit(event.size)

    def _fit(self, size: Size) -> None:
        from mqf_tui.app.screens.too_small import LEAST_HEIGHT, LEAST_WIDTH, TooSmallScreen

        small = size.width < LEAST_WIDTH or size.height < LEAST_HEIGHT
        if small and self._too_small is None:
            self._too_small = TooSmallScreen()
            self.push_screen(self._too_small)
        elif self._too_small is not None and not small:
            self._too_small, gone = None, self._too_small
            gone.dismiss()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """What the palette lists: every action that can be done on this screen, then Textual's own."""
        if isinstance(screen, BaseScreen):
            yield from screen.commands()
        yield from (one for one in super().get_system_commands(screen) if one.title not in TEXTUALS_OWN)

    async def action_press(self, key: str) -> None:
        """Do what another key does: letters that move as the arrows."""
        # Not by sending the key: in a burst it would come after the keys that follow.
        active = self.screen.active_bindings.get(key)
        bound = active is not None and active.enabled
        if active is None or not bound or not await self.run_action(active.binding.action, active.node):
            # Nothing took it, or what did passed it on: as a key it goes the whole way.
            self.simulate_key(key)

    def action_undo(self) -> None:
        """Take back the last removal on this screen."""
        if isinstance(self.screen, BaseScreen):
            self.screen.action_undo()

    async def action_help(self) -> None:
        """Show or hide the keys and the words of this screen."""
        if panels := self.screen.query("HelpPanel"):
            await panels.remove()
        else:
            self.action_show_help_panel()
        self.screen.refresh_bindings()  # the footer has more room now, or less

    def action_leave(self) -> None:
        """Quit; ask first where a measurement or a download runs."""
        from mqf_tui.app.screens.quit import QuitDownloadsScreen, QuitScreen

        if isinstance(self.screen, QuitScreen | QuitDownloadsScreen):
            return
        current = self.bridge.current
        if current is not None and current.snapshot().running:
            self.push_screen(QuitScreen(current))
        elif self.downloads.busy:
            self.push_screen(QuitDownloadsScreen())
        else:
            self.exit(return_code=getattr(self.screen, "exit_code", 0))

    async def action_quit(self) -> None:
        """The command palette's word for it."""
        self.action_leave()


def run_app(settings: KVSettings | SweepSettings | None = None, *, autostart: bool = False) -> int:
    """Run the app until the user leaves; return the exit code (130: a measurement was cut short)."""
    from mqf_tui.app.screens.quit import kept_words

    app = MqfTuiApp(settings, autostart=autostart)
    try:
        app.run()
    finally:
        # Never leave with the thread inside MLX: the process would abort and wreck the terminal.
        app.bridge.close()
        app.downloads.close()
    code, current = app.return_code or 0, app.bridge.current
    cut_short = app.crashed or code - SIGNALLED in SIGNALS
    if cut_short and current is not None and (words := kept_words(current.snapshot())):
        with contextlib.suppress(OSError):  # the terminal may be gone
            sys.stderr.write(f"{words}\n")
    return code
