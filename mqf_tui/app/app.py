"""The Textual app: screens over one bridge to the MLX thread."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from mqf_tui.app.bridge import Bridge
from mqf_tui.app.measurement import Measurement
from mqf_tui.app.screens.live import LiveScreen
from mqf_tui.app.screens.models import ModelsScreen
from mqf_tui.app.screens.quit import QuitScreen, kept_words
from mqf_tui.app.screens.result import ResultScreen
from mqf_tui.app.screens.runs import RunsScreen
from mqf_tui.app.screens.setup import Choices, SetupScreen
from mqf_tui.app.screens.sweep import SweepScreen
from mqf_tui.app.themes import DEFAULT, themes
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.library.models import LocalModel
from mqf_tui.library.runs import SavedRun

SIGNALLED = 128  # shells count an end by a signal from here
SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class MqfTuiApp(App[None]):
    """Choose a model and a setting, watch the measurement, read and compare runs."""

    TITLE = "mqf-tui"
    CSS_PATH = "styles.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "leave", "Quit", priority=True),
        Binding("ctrl+c", "leave", "Quit", show=False, priority=True),
        Binding("f1,question_mark", "help", "Help", key_display="f1"),
    ]

    def __init__(
        self, settings: KVSettings | SweepSettings | None = None, *, autostart: bool = False
    ) -> None:
        super().__init__()
        self.bridge = Bridge()
        self._first = settings
        self._choices: dict[str, Choices] = {}  # of the set-up, by the model's folder
        self._autostart = autostart

    def on_mount(self) -> None:
        """Set the theme; open the first screen."""
        found, problems = themes()
        for theme in found:
            self.register_theme(theme)
        if DEFAULT in self.available_themes:
            self.theme = DEFAULT
        for problem in problems:
            self.notify(problem, severity="warning", markup=False)
        self._obey_signals()
        self.push_screen(ModelsScreen())
        if self._first is not None and self._autostart:
            self.measure(self._first)

    def _obey_signals(self) -> None:
        """A closed terminal or a kill ends the app as a user would: stop, save, leave."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            # Not in a thread other than the main one (tests), and not on every system.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, lambda n=number: self.exit(return_code=SIGNALLED + n))

    def set_up(self, model: LocalModel) -> None:
        """Open the set-up for a model."""
        if not isinstance(self.screen, SetupScreen):  # Enter, pressed twice
            folder = str(model.facts.folder) if model.facts is not None else ""
            self.push_screen(SetupScreen(model, self._choices.setdefault(folder, {})))

    def measure(self, settings: KVSettings | SweepSettings) -> None:
        """Start a measurement of one or more settings and show it."""
        self.push_screen(LiveScreen(self.bridge.start(settings)))

    def show_run(self, run: SavedRun) -> None:
        """Open a saved run."""
        self.push_screen(ResultScreen(run))

    def show_ended(self, measurement: Measurement) -> None:
        """Put the result of an ended measurement in place of its live screen."""
        s = measurement.snapshot()
        if s.sweep is not None:
            self.switch_screen(SweepScreen(s.sweep, {run.id: run for run in s.saved}, s.problem))
        elif s.reports:
            one = next(one for one in s.variants if one.report is not None)
            self.switch_screen(ResultScreen(one.saved, one.report, s.problem))

    def action_runs(self) -> None:
        """Open the saved runs."""
        self.push_screen(RunsScreen())

    def action_help(self) -> None:
        """Show or hide the keys and the words of this screen."""
        if self.screen.query("HelpPanel"):
            self.action_hide_help_panel()
        else:
            self.action_show_help_panel()

    def action_leave(self) -> None:
        """Quit; ask first where a measurement runs."""
        if isinstance(self.screen, QuitScreen):
            return
        current = self.bridge.current
        if current is not None and current.snapshot().running:
            self.push_screen(QuitScreen(current))
        else:
            self.exit(return_code=self.screen.exit_code if isinstance(self.screen, LiveScreen) else 0)

    async def action_quit(self) -> None:
        """The command palette's word for it."""
        self.action_leave()


def run_app(settings: KVSettings | SweepSettings | None = None, *, autostart: bool = False) -> int:
    """Run the app until the user leaves; return the exit code (130: a measurement was cut short)."""
    app = MqfTuiApp(settings, autostart=autostart)
    try:
        app.run()
    finally:
        # Never leave with the thread inside MLX: the process would abort and wreck the terminal.
        app.bridge.close()
    code, current = app.return_code or 0, app.bridge.current
    if code - SIGNALLED in SIGNALS and current is not None and (words := kept_words(current.snapshot())):
        with contextlib.suppress(OSError):  # the terminal may be gone
            sys.stderr.write(f"{words}\n")
    return code
