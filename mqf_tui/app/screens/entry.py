"""Small questions: the tags of runs, the note of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Label, Static, TextArea

from mqf_tui.app.actions import bindings
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.labels import checked_note, checked_tag
from mqf_tui.reports.text import inert

CSS = """
{name} { align: center middle; }
{name} #entry {
    width: 76; max-width: 100%; height: auto; padding: 1 2; background: $surface; border: round $accent;
}
{name} #said { height: auto; margin-top: 1; color: $secondary; }
{name} #said.-wrong { color: $warning; }
{name} Input, {name} Input:focus { border: none; height: 1; margin-top: 1; background: $panel; }
{name} TextArea, {name} TextArea:focus {
    border: none; height: 5; margin-top: 1; padding: 0 1; background: $panel;
}
"""


class TagsScreen(ModalScreen[tuple[str, ...] | None]):
    """Asks for tags in one line; gives them checked, or None."""

    DEFAULT_CSS = CSS.replace("{name}", "TagsScreen")
    BINDINGS: ClassVar[list[BindingType]] = bindings("ask")

    def __init__(self, of: str, tags: Sequence[str], known: Sequence[str] = ()) -> None:
        super().__init__()
        self._of, self._tags = of, tags
        others = [tag for tag in known if tag not in tags][:12]
        self._hint = "Enter saves, Escape goes back. Words between blanks; an empty line takes all away."
        if others:
            self._hint += f"\nIn use: {' '.join(map(inert, others))}"

    def compose(self) -> ComposeResult:
        """The line, and what is wrong with it."""
        with Vertical(id="entry"):
            yield Label(f"Tags of {self._of}", classes="strong", markup=False)
            begun = " ".join(map(inert, self._tags))
            yield Input(f"{begun} " if begun else "", placeholder="baseline phone", select_on_focus=False)
            yield Static(self._hint, id="said", markup=False)
        yield Footer(show_command_palette=False)

    @on(Input.Changed)
    def changed(self) -> None:
        """What was wrong may be mended."""
        _say(self, self._hint, wrong=False)

    def action_take(self) -> None:
        """Take the tags, or say what is wrong."""
        words = dict.fromkeys(self.query_one(Input).value.replace(",", " ").split())
        try:
            tags = tuple(map(checked_tag, words))
        except FidelityError as error:
            _say(self, str(error), wrong=True)
        else:
            self.dismiss(tags)

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)


class NoteScreen(ModalScreen[str | None]):
    """Asks for a note of one or more lines; gives it checked, or None."""

    DEFAULT_CSS = CSS.replace("{name}", "NoteScreen")
    BINDINGS: ClassVar[list[BindingType]] = bindings("note")
    HINT = "Enter saves, ctrl+j begins a new line, Escape goes back. Without words there is no note."

    def __init__(self, of: str, note: str) -> None:
        super().__init__()
        self._of, self._note = of, note

    def compose(self) -> ComposeResult:
        """The note, and what is wrong with it."""
        with Vertical(id="entry"):
            yield Label(f"Note of {self._of}", classes="strong", markup=False)
            yield TextArea("\n".join(map(inert, self._note.split("\n"))), soft_wrap=True)
            yield Static(self.HINT, id="said", markup=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Go on at the end of it."""
        area = self.query_one(TextArea)
        area.move_cursor(area.document.end)
        area.focus()

    @on(TextArea.Changed)
    def changed(self) -> None:
        """What was wrong may be mended."""
        _say(self, self.HINT, wrong=False)

    def action_save(self) -> None:
        """Take the note, or say what is wrong."""
        try:
            note = checked_note(self.query_one(TextArea).text)
        except FidelityError as error:
            _say(self, str(error), wrong=True)
        else:
            self.dismiss(note)

    def action_newline(self) -> None:
        """Begin a new line."""
        self.query_one(TextArea).insert("\n")

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)


def _say(screen: TagsScreen | NoteScreen, words: str, *, wrong: bool) -> None:
    said = screen.query_one("#said", Static)
    said.set_class(wrong, "-wrong")
    said.update(words[:1].upper() + words[1:])
