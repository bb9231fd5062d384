"""Studies: the saved sweeps, sensitivities and tunings."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable, Static

from mqf_tui.app.actions import bindings
from mqf_tui.app.columns import PADDING, SCROLLBAR
from mqf_tui.app.row_words import local_time
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.widgets.key_footer import KeyFooter
from mqf_tui.app.widgets.run_table import RunTable
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.studies import Study, all_studies
from mqf_tui.reports.comparison_report import shortened
from mqf_tui.reports.text import inert

NONE = (
    "Nothing of several settings is saved yet.\n\nChoose several bits or formats in a model's set-up for a "
    "sweep; `mqf-tui sensitivity MODEL` measures layers apart, `mqf-tui tune MODEL --max-kl 0.01` finds a "
    "recipe."
)
LONGEST_MODEL = 28
LEAST = 12  # columns of a sentence


class StudiesScreen(BaseScreen):
    """A list, newest first; Enter opens."""

    TITLE: ClassVar[str | None] = "Sweeps and tunings"
    HELP = (
        "# Sweeps and tunings\n\nWhat was measured with several settings at once, newest first: "
        "**sweeps** say which setting to take, **sensitivities** which layers hurt most, **tunings** have a "
        "recipe of formats for the layers. Below the list stands what came out of the one under the cursor; "
        "**Enter** opens it."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("studies")
    DEFAULT_CSS = """
    StudiesScreen #studies { height: 1fr; margin: 1 0; }
    StudiesScreen #detail { height: auto; min-height: 2; max-height: 6; padding: 0 2; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._studies: list[Study] = []

    def compose(self) -> ComposeResult:
        """The list, and what the row under the cursor came to."""
        yield TitleBar(str(self.TITLE))
        yield RunTable(cursor_type="row", zebra_stripes=True, id="studies")
        yield Static("", id="empty")
        yield Static("", id="detail")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Read the list beside the screen."""
        if not self.query("#studies"):
            return  # the app was left while this screen was being put up: its widgets are gone
        self.query_one("#studies", RunTable).add_columns("", "when", "model", "what came out")
        self.query_one("#studies").focus()
        self._read()

    def action_reload(self) -> None:
        """Read what is saved again."""
        self._read()

    def measured(self) -> None:
        """One more, perhaps."""
        self._read()

    @work(thread=True, exclusive=True)
    def _read(self) -> None:
        self.app.call_from_thread(self._fill, all_studies())

    def on_resize(self) -> None:
        """Sentences are cut where the window ends."""
        super().on_resize()
        if self._studies:
            self._fill(self._studies)

    def _fill(self, studies: list[Study]) -> None:
        if not self.query("#studies"):
            return
        self._studies = studies
        table = self.query_one("#studies", RunTable)
        cursor = table.cursor_row
        table.clear()
        rows = [self._row(study) for study in studies]
        before = sum(max((row[i].cell_len for row in rows), default=0) for i in range(3))
        room = max(LEAST, self.size.width - before - 4 * PADDING - SCROLLBAR)
        for row in rows:
            row[-1].truncate(room, overflow="ellipsis")
            table.add_row(*row)
        table.move_cursor(row=max(0, min(cursor, len(studies) - 1)))
        table.display = bool(studies)
        if studies and self.focused is None:
            table.focus()  # it lost the focus when there was nothing to show
        self.query_one("#empty", Static).update("" if studies else NONE)
        self.query_one("#empty").display = not studies

    def _row(self, study: Study) -> tuple[Text, ...]:
        colours = self.app.theme_variables
        if study.problem:
            why = f"{inert(study.id)}: {inert(study.problem)}"
            return Text(study.kind), Text(""), Text(""), Text(why, style=colours["warning"])
        answer = inert(study.answer[:1].upper() + study.answer[1:])
        return (
            Text(study.kind),
            Text(local_time(study.created), style=colours["secondary"]),
            Text(_model(study)),
            Text(("PARTIAL " if study.partial else "") + answer),
        )

    @on(DataTable.RowHighlighted)
    def describe(self) -> None:
        """What came out of the one under the cursor, whole."""
        study = self._current()
        words = "" if study is None else study.problem or study.answer
        self.query_one("#detail", Static).update(Text(inert(words[:1].upper() + words[1:])))

    @on(DataTable.RowSelected)
    def open(self) -> None:
        """Open the one under the cursor."""
        study = self._current()
        if study is not None:
            self._load(study)

    @work(thread=True, exclusive=True, group="load")
    def _load(self, study: Study) -> None:
        from mqf_tui.library.sweeps import load_sweep
        from mqf_tui.library.tunings import load_tuning

        try:
            if study.kind == "tuning":
                self.app.call_from_thread(self.mqf.open_tuning, load_tuning(study.id))
            else:
                self.app.call_from_thread(self.mqf.open_sweep, load_sweep(study.id), {})
        except FidelityError as error:
            words = str(error)
            self.app.call_from_thread(
                self.notify, words[:1].upper() + words[1:], severity="error", timeout=15, markup=False
            )

    def _current(self) -> Study | None:
        row = self.query_one("#studies", RunTable).cursor_row
        return self._studies[row] if 0 <= row < len(self._studies) else None


def _model(study: Study) -> str:
    return shortened(inert(study.model.rsplit("/", 1)[-1]), LONGEST_MODEL)
