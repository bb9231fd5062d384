"""Text: how a text is read and cut, and the first chunk as the model will get it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Input, Static

from mqf_tui.app import setup_options as offered
from mqf_tui.app.actions import bindings
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.setup_choices import Subject, text_settings
from mqf_tui.app.setup_texts import TEXT_DEFAULTS, Lines, corpus_of
from mqf_tui.app.text_words import (
    assistant_refusal,
    chunk_text,
    facts_text,
    has_fields,
    is_mixture,
    may_be_folder,
    source_words,
)
from mqf_tui.app.widgets.choice import Choice
from mqf_tui.app.widgets.key_footer import KeyFooter
from mqf_tui.app.widgets.text_sight import TextSight
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.app.words import without_flags
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.last_used import Choices, Value


class OptionLine(Input):
    """A word for an option; arrows go to the options around it."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("option_line")


class Part(VerticalScroll, can_focus=False, inherit_bindings=False):
    """The options, or the text; it leaves the arrow keys to the options."""


class TextScreen(BaseScreen):
    """The text of a set-up. ``lines``: of the set-up; ``taken`` gets the text's own when one leaves."""

    TITLE: ClassVar[str | None] = "Text"
    HELP = """\
# Text

How the text is read and cut into chunks. ↑/↓ or Tab go from option to option, ←/→ choose. Below stands what
there is with this model's tokenizer, and the first chunk with its special tokens. What is dim there is
context: the model sees it, and it is not scored.

**Documents** are the files of a folder, the rows of a data set, conversations. **BOS** is the token that
begins a text. With a **stride** chunks overlap, and each token is scored once. **Rest** is what is left at
the end of a text, or of a document.

**Scored** *assistant*: of conversations (JSON lines with `messages`) only what the assistant says.

**Keep text**: the words of your own files stay out of reports and saved runs unless you say otherwise."""
    BINDINGS: ClassVar[list[BindingType]] = bindings("text")
    DEFAULT_CSS = """
    TextScreen #text-name {
        height: 1; padding: 0 2; text-style: bold; text-wrap: nowrap; text-overflow: ellipsis;
    }
    TextScreen #options { height: auto; max-height: 60%; padding: 0 1; scrollbar-size-vertical: 1; }
    TextScreen .row { height: 1; }
    TextScreen .title { width: 13; margin-left: 1; text-style: bold; }
    TextScreen OptionLine, TextScreen OptionLine:focus {
        border: none; height: 1; width: 1fr; padding: 0 1; background: $panel;
    }
    TextScreen #passage { height: 1fr; padding: 0 2; background: $surface; scrollbar-size-vertical: 1; }
    TextScreen #sight.-wrong { color: $error; }
    TextScreen #first, TextScreen #sight { height: auto; padding-right: 1; }
    TextScreen.-tall #text-name { margin-top: 1; }
    TextScreen.-tall #options { padding: 1 1; }
    """

    def __init__(self, subject: Subject, lines: Lines, taken: Callable[[Choices], None]) -> None:
        super().__init__()
        self._subject, self._lines, self._taken = subject, dict(lines), taken
        self._refusal: str | None = None  # why there is no assistant

    def compose(self) -> ComposeResult:
        """The text's name, the options, what is known, the first chunk."""
        word, held = corpus_of(self._lines), TEXT_DEFAULTS | self._lines
        length = self._lines["length"][0]
        assert isinstance(length, int)
        yield TitleBar(str(self.TITLE))
        yield Static(source_words(word, self._subject.model.name), id="text-name", markup=False)
        with Part(id="options"):
            yield Choice("documents", offered.documents(), held["documents"][0], id="documents")
            yield Choice("BOS", offered.bos(), held["bos"][0], id="bos")
            yield Choice("stride", offered.strides(length), held["stride"][0], own="a stride", id="stride")
            yield Choice("rest", offered.rests(), held["rest"][0], id="rest")
            yield Choice("scored", offered.scored(None), held["scored"][0], id="scored")
            yield Choice("keep text", offered.keeps(), held["keep"][0], id="keep")
            if has_fields(word) or held["field"][0]:
                yield from self._typed(
                    "field", held["field"][0], "text or messages, or the one that there is"
                )
            if may_be_folder(word) or held["glob"][0]:
                yield from self._typed("files", held["glob"][0], "a pattern as **/*.md; all that hold text")
            if is_mixture(word) or held["seed"][0]:
                yield from self._typed("seed", held["seed"][0], "0")
        with Part(id="passage"):
            yield TextSight(id="sight")
            yield Static(id="first", markup=False)
        yield KeyFooter()

    def _typed(self, title: str, value: Value, hint: str) -> ComposeResult:
        name = "glob" if title == "files" else title
        with Horizontal(classes="row"):
            yield Static(title, classes="title")
            kind = "integer" if name == "seed" else "text"
            yield OptionLine(str(value or ""), placeholder=hint, id=name, type=kind)

    def on_mount(self) -> None:
        """Look at once."""
        self.query_one("#documents").focus()
        self._look()

    @property
    def lines(self) -> Choices:
        """What the lines hold that say how the text is read."""
        found: Choices = {choice.id or "": (choice.value,) for choice in self.query(Choice)}
        for line in self.query(OptionLine):
            typed = line.value.strip()
            number = int(typed) if typed.isdecimal() else 0
            found[line.id or ""] = (number if line.id == "seed" else typed,)
        return found

    @on(Choice.Changed)
    @on(Input.Changed)
    def _look(self) -> None:
        self._see()

    def _see(self, *, fetch: bool = False, again: bool = False) -> None:
        sight, lines = self.query_one(TextSight), self._lines | self.lines
        try:
            if corpus_of(lines):
                settings = text_settings(self._subject, lines)
                sight.look(settings, self._subject.facts, fetch=fetch, again=again)
            else:
                sight.say("no text is named; go back and name one.")
        except FidelityError as error:
            sight.say(without_flags(str(error)))
        self._show()

    @on(TextSight.Seen)
    def _show(self) -> None:
        """What is known by now."""
        if not self.is_attached or not self.query("#sight"):
            return
        shown = self.query_one(TextSight)
        sight, colours = shown.sight, self.app.theme_variables
        shown.set_class(sight is not None and bool(sight.problem), "-wrong")
        length = self._lines["length"][0]
        shown.update(facts_text(sight, length, colours["warning"]))
        if sight is not None:
            self.query_one("#first", Static).update(chunk_text(sight, colours))
            self._refuse(assistant_refusal(sight, bool(self.lines["scored"][0])))
        self.refresh_bindings()

    def _refuse(self, refusal: str | None) -> None:
        """Where nobody speaks, nobody's words can be chosen."""
        if refusal != self._refusal:
            self._refusal = refusal
            choice = self.query_one("#scored", Choice)
            choice.options = offered.scored(refusal)
            choice.refresh(layout=True)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is something to fetch only where it is not here."""
        del parameters
        sight = self.query_one(TextSight).sight if action == "fetch" else None
        return action != "fetch" or (sight is not None and sight.unread)

    def action_fetch(self) -> None:
        """From the hub, to be counted."""
        self._see(fetch=True)

    def action_reload(self) -> None:
        """It may be another one by now."""
        self._see(again=True)

    def action_scroll_down(self) -> None:
        """On in the text."""
        self.query_one("#passage", Part).scroll_page_down(animate=False)

    def action_scroll_up(self) -> None:
        """Back in the text."""
        self.query_one("#passage", Part).scroll_page_up(animate=False)

    def leave(self) -> None:
        """Back to the set-up with what was chosen."""
        self._taken(self.lines)
        super().leave()
