"""A small list of the runs that can be read beside one: the same model, the same text."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from mqf_tui.app.actions import bindings
from mqf_tui.app.row_words import local_time
from mqf_tui.fidelity.errors import FidelityError, SaveError
from mqf_tui.fidelity.pairing import UnpairedError, check_reference, check_streams
from mqf_tui.library.index import run_rows
from mqf_tui.library.runs import SavedRun
from mqf_tui.reports.text import inert, kl, percent

ALONE = "alone"


class RivalsScreen(ModalScreen["SavedRun | str | None"]):
    """Dismissed with a run, with ``ALONE`` where none shall stand beside, or with None: as before."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("rivals")
    DEFAULT_CSS = """
    RivalsScreen { align: center middle; }
    RivalsScreen #rivals-box {
        width: 90%; max-width: 100; height: auto; max-height: 80%;
        padding: 1 2; background: $surface; border: round $primary;
    }
    RivalsScreen #rivals-said { height: auto; margin-bottom: 1; }
    RivalsScreen OptionList, RivalsScreen OptionList:focus {
        height: auto; max-height: 16; border: none; background: $surface; padding: 0;
    }
    """

    def __init__(self, run: SavedRun, rival: SavedRun | None) -> None:
        super().__init__()
        self._run, self._rival = run, rival
        self._found: list[SavedRun] = []

    def compose(self) -> ComposeResult:
        """A sentence and the list."""
        with Vertical(id="rivals-box"):
            yield Static("Looking for other runs of this model on this text …", id="rivals-said")
            yield OptionList()

    def on_mount(self) -> None:
        """Read the runs beside the screen."""
        self.query_one(OptionList).focus()
        self._read()

    @work(thread=True, exclusive=True)
    def _read(self) -> None:
        try:
            found = saved_rivals(self._run)
        except FidelityError as error:
            self.app.call_from_thread(self._show, [], str(error))
        else:
            self.app.call_from_thread(self._show, found, "")

    def _show(self, found: list[SavedRun], problem: str) -> None:
        if not self.is_mounted:
            return
        self._found = found
        said = "Which run shall stand beside this one? Enter takes it, Escape leaves it as it is."
        if not found:
            said = "There is no other run of this model on this text; measure another setting to have one."
        self.query_one("#rivals-said", Static).update(Text(problem or said))
        options = self.query_one(OptionList)
        if self._rival is not None:
            options.add_option(Option("none: this run alone", id=ALONE))
        for number, run in enumerate(found):
            options.add_option(Option(Text(words(run), no_wrap=True), id=str(number)))
        if found or self._rival is not None:
            options.highlighted = 0

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(ALONE if event.option.id == ALONE else self._found[int(event.option.id or 0)])

    def action_cancel(self) -> None:
        """Leave it as it is."""
        self.dismiss(None)


def saved_rivals(run: SavedRun) -> list[SavedRun]:
    """``rivals`` among all saved runs; no report of another model is opened. Raises SaveError."""
    from mqf_tui.app.comparing_frontier import row_of_model

    found: list[SavedRun] = []
    for row in run_rows().rows:
        if row.has_positions and row_of_model(run.report, row):
            try:
                found.append(row.load())
            except SaveError:
                continue  # Runs tells of it
    return rivals(run, found)


def rivals(run: SavedRun, runs: list[SavedRun]) -> list[SavedRun]:
    """Those of ``runs`` that were measured against the same reference on the same tokens, as far as known."""
    return [other for other in runs if other.id != run.id and other.has_positions and _goes(run, other)]


def words(run: SavedRun) -> str:
    """A run as a line of the list."""
    r = run.report
    model = f" {inert(r.variant_model.rsplit('/', 1)[-1])}" if r.variant_model else ""
    figures = f"KL {kl(r.kl.mean)}, flips {percent(r.flip_rate)}"
    return f"{r.short_setting}{model}  {r.verdict}  {figures}  {local_time(r.created)}"


def _goes(run: SavedRun, other: SavedRun) -> bool:
    try:
        check_reference(run.report, other.report)
        check_streams(run.report, other.report)
    except (FidelityError, UnpairedError):
        return False
    return True
