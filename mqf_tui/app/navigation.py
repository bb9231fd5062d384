"""Ways from screen to screen. Each is imported when it is first opened, so that the app starts at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from textual.screen import ModalScreen, Screen

from mqf_tui.app.bridge import Bridge
from mqf_tui.app.copying import CopyingApp

if TYPE_CHECKING:
    from mqf_tui.app.documents import Document
    from mqf_tui.app.measurement import Measurement
    from mqf_tui.fidelity.settings import KVSettings, SweepSettings
    from mqf_tui.library.models import LocalModel
    from mqf_tui.library.runs import SavedRun
    from mqf_tui.reports.schema import Report
    from mqf_tui.reports.sweep_schema import SweepReport
    from mqf_tui.reports.tuning_schema import Tuning


class Navigation(CopyingApp):
    """The part of the app that opens screens. A screen that is open already is gone back to."""

    bridge: Bridge

    def set_up(self, models: Sequence[LocalModel]) -> None:
        """Open the set-up of one or more models."""
        from mqf_tui.app.screens.setup import SetupScreen

        if not isinstance(self.screen, SetupScreen):  # Enter, pressed twice
            self.push_screen(SetupScreen(models))

    def measure(self, settings: KVSettings | SweepSettings) -> None:
        """Start a measurement of one or more settings, after what runs already, and show the running one."""
        self.bridge.start(settings)
        self.action_live()

    def show_run(
        self, run: SavedRun | None, report: Report | None = None, problem: str | None = None
    ) -> None:
        """Open a run; ``report`` where it could not be saved."""
        from mqf_tui.app.screens.result import ResultScreen

        self.push_screen(ResultScreen(run, report, problem))

    def open_sweep(
        self, report: SweepReport, runs: Mapping[str, SavedRun], problem: str | None = None
    ) -> None:
        """Open the report of several settings, or of layers alone; ``runs`` by id."""
        if report.sensitivity is not None:
            from mqf_tui.app.screens.sensitivity import SensitivityScreen

            self.push_screen(SensitivityScreen(report))
            return
        from mqf_tui.app.screens.sweep import SweepScreen

        self.push_screen(SweepScreen(report, runs, problem))

    def open_tuning(self, tuning: Tuning) -> None:
        """Open a recipe that was found."""
        from mqf_tui.app.screens.tuning import TuningScreen

        self.push_screen(TuningScreen(tuning))

    def show_ended(self, measurement: Measurement) -> None:
        """Put the result of an ended measurement in place of its live screen."""
        s = measurement.snapshot()
        if s.sweep is not None:
            self.pop_screen()
            self.open_sweep(s.sweep, {run.id: run for run in s.saved}, s.problem)
        elif s.reports:
            one = next(one for one in s.variants if one.report is not None)
            self.pop_screen()
            self.show_run(one.saved, one.report, s.problem)

    def compare(self, runs: Sequence[SavedRun]) -> None:
        """Open two to four runs side by side."""
        from mqf_tui.app.screens.compare import CompareScreen

        self.push_screen(CompareScreen(runs))

    def explore(self, run: SavedRun, rival: SavedRun | None = None, position: int | None = None) -> None:
        """Open the text of a run, at an index into its positions where one is given."""
        from mqf_tui.app.screens.explore import ExploreScreen

        self.push_screen(ExploreScreen(run, rival, position))

    def report(self, document: Document) -> None:
        """Open a report to be read, copied and saved."""
        from mqf_tui.app.screens.report import ReportScreen

        self.push_screen(ReportScreen(document))

    def action_models(self) -> None:
        """Go to the models."""
        from mqf_tui.app.screens.models import ModelsScreen

        self._go(ModelsScreen, ModelsScreen)

    def action_runs(self) -> None:
        """Go to the saved runs."""
        from mqf_tui.app.screens.runs import RunsScreen

        self._go(RunsScreen, RunsScreen)

    def find_runs(self, filter: str, marked: Sequence[str] = ()) -> None:
        """Go to the saved runs that fit a filter, with these marked."""
        self.action_runs()
        from mqf_tui.app.screens.runs import RunsScreen

        if isinstance(self.screen, RunsScreen):
            self.screen.find(filter, marked)

    def action_tunings(self) -> None:
        """Go to the saved sweeps, sensitivities and tunings."""
        from mqf_tui.app.screens.studies import StudiesScreen

        self._go(StudiesScreen, StudiesScreen)

    def action_live(self) -> None:
        """Go to the measurement that runs."""
        from mqf_tui.app.screens.live import LiveScreen

        current = self.bridge.current
        if current is None or not current.snapshot().running:
            self.notify("Nothing is being measured.")
        else:
            self._go(LiveScreen, lambda: LiveScreen(current))
            if isinstance(self.screen, LiveScreen):
                self.call_later(self.screen.follow, current)  # one that was open may show another

    def action_back_to(self, number: int) -> None:
        """Go to a screen of the way here: 0 is the first one."""
        named = [screen for screen in self.screen_stack if getattr(screen, "TITLE", None)]
        if number < len(named):
            self._back_to(named[number])

    def _go(self, kind: type[Screen[None]], make: Callable[[], Screen[None]]) -> None:
        if isinstance(self.screen, ModalScreen):
            return
        opened = next((screen for screen in self.screen_stack if isinstance(screen, kind)), None)
        if opened is None:
            self.push_screen(make())
        else:
            self._back_to(opened)

    def _back_to(self, screen: Screen[object]) -> None:
        while self.screen is not screen and len(self.screen_stack) > 1:
            self.pop_screen()
