"""What the report screen asks: where to save a file, and for which tracker an issue is."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Checkbox, Input, Label, Static

from mqf_tui.app.actions import bindings
from mqf_tui.fidelity.errors import FidelityError, SaveError
from mqf_tui.library.exporting import export_path
from mqf_tui.library.remembered import remember, remembered
from mqf_tui.reports.comparison_report import shortened
from mqf_tui.reports.issue_text import Tracker, parse_tracker
from mqf_tui.reports.text import inert

LONGEST_TRACKER = 200

SAVING = "Enter saves, Escape goes back."
SENDING = "Enter makes the text, Escape goes back. Nothing is sent: you copy it and paste it there."


class SaveScreen(ModalScreen[Path | None]):
    """Asks for a path; gives one that can be written, after a second Enter where it replaces a file."""

    DEFAULT_CSS = """
    SaveScreen { align: center middle; }
    SaveScreen #dialog { width: 76; max-width: 100%; border: round $accent; }
    SaveScreen #said { height: auto; margin-top: 1; color: $text-warning; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("ask")

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._asked: Path | None = None  # the file that the user was told is there

    def compose(self) -> ComposeResult:
        """The path, and what is wrong with it."""
        with Vertical(id="dialog"):
            yield Label(f"Save in {inert(str(Path.cwd()))} as:", classes="strong")
            # The name may be typed over, its ending stays.
            yield Input(self._name, id="path", select_on_focus=False)
            yield Static(SAVING, id="said", markup=False)

    @on(Input.Changed)
    def changed(self) -> None:
        """Another path is another question."""
        self._asked = None
        self._say(SAVING)

    def action_take(self) -> None:
        """Take the path, ask once more, or say why not."""
        try:
            path = export_path(self.query_one(Input).value, self._name)
        except SaveError as error:
            self._say(str(error))
            return
        if path.exists() and path != self._asked:
            self._asked = path
            self._say(f"{inert(str(path))} is there already; Enter once more replaces it.")
        else:
            self.dismiss(path)

    def action_cancel(self) -> None:
        """Save nothing."""
        self.dismiss(None)

    def _say(self, words: str) -> None:
        self.query_one("#said", Static).update(words[:1].upper() + words[1:])


class TrackerScreen(ModalScreen[tuple[Tracker, bool] | None]):
    """Asks which tracker the issue is for, and whether words of the text may stand in it."""

    DEFAULT_CSS = """
    TrackerScreen { align: center middle; }
    TrackerScreen #dialog { width: 76; max-width: 100%; border: round $accent; }
    TrackerScreen Checkbox { margin-top: 1; border: none; background: transparent; }
    TrackerScreen #said { height: auto; margin-top: 1; color: $text-warning; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("ask")

    def __init__(self, text_name: str, *, quoted: bool) -> None:
        super().__init__()
        self._text_name, self._quoted = text_name, quoted

    def compose(self) -> ComposeResult:
        """The tracker, what may be quoted, and that nothing is sent."""
        with Vertical(id="dialog"):
            yield Label("Prepare an issue for which tracker?", classes="strong")
            yield Input(remembered_tracker(), placeholder="owner/name, or its address", id="tracker")
            if self._text_name:
                yield Checkbox(self._words(self._quoted), self._quoted, id="quoted")
            yield Static(SENDING, id="said", markup=False)

    @on(Checkbox.Changed)
    def quoted(self, event: Checkbox.Changed) -> None:
        """The box tells by its colour alone, so words do too."""
        event.checkbox.label = self._words(event.value)

    def _words(self, quoted: bool) -> Content:
        whether = "quoted" if quoted else "left out"
        return Content(f"Worst positions, words of {shortened(self._text_name, 16)}: {whether}")

    def action_take(self) -> None:
        """Take the tracker, or say what is wrong with it."""
        try:
            tracker = parse_tracker(self.query_one(Input).value)
        except FidelityError as error:
            words = str(error)
            self.query_one("#said", Static).update(words[:1].upper() + words[1:])
            return
        remember(tracker=tracker.word)
        boxes = self.query(Checkbox)
        self.dismiss((tracker, bool(boxes and boxes.first().value)))

    def action_cancel(self) -> None:
        """Make none."""
        self.dismiss(None)


def remembered_tracker() -> str:
    """The one that the last issue was for; "" where there was none."""
    return inert(remembered().get("tracker", "")[:LONGEST_TRACKER]).strip()
