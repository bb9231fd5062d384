"""A line to type into that is there while it is needed, with a sentence where it cannot be understood."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input, Static

from mqf_tui.app.actions import bindings


class ExploreLine(Vertical):
    """Hidden while it is empty and not typed into. ``sign`` stands before it, ``hint`` in it while empty."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("explore_line")
    DEFAULT_CSS = """
    ExploreLine { height: auto; display: none; background: $panel; padding: 0 2; }
    ExploreLine Horizontal { height: 1; }
    ExploreLine .sign { width: 2; }
    ExploreLine Input, ExploreLine Input:focus {
        border: none; height: 1; width: 1fr; background: $panel; padding: 0;
    }
    ExploreLine .said { height: auto; color: $warning; display: none; }
    """

    class Changed(Message):
        """Something else stands in it."""

        def __init__(self, line: ExploreLine, value: str) -> None:
            super().__init__()
            self.line, self.value = line, value

        @property
        def control(self) -> ExploreLine:
            """The line."""
            return self.line

    class Left(Changed):
        """It is done with; ``value`` is what was accepted, empty where it was given up."""

    def __init__(self, sign: str, hint: str, id: str) -> None:
        super().__init__(id=id)
        self._sign, self._hint = sign, hint

    def compose(self) -> ComposeResult:
        """The line and, below it, the sentence."""
        with Horizontal():
            yield Static(self._sign, classes="sign")
            yield Input(placeholder=self._hint, select_on_focus=False)
        yield Static("", classes="said")

    def open(self, value: str) -> None:
        """Show it, to be typed into."""
        self.display = True
        line = self.query_one(Input)
        line.value = value
        line.cursor_position = len(value)
        line.focus()

    def say(self, sentence: str) -> None:
        """What is wrong with what stands there, or nothing."""
        said = self.query_one(".said", Static)
        said.update(Text(sentence))
        said.display = bool(sentence)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(self, event.value))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_done()

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        """Out of sight where nothing stands in it."""
        del event
        if not self.query_one(Input).value.strip():
            self.display = False

    def action_done(self) -> None:
        """Go on with what stands there."""
        self.post_message(self.Left(self, self.query_one(Input).value.strip()))

    def action_clear(self) -> None:
        """Go on without it."""
        self.say("")
        self.query_one(Input).value = ""
        self.post_message(self.Left(self, ""))

    def empty(self) -> None:
        """Take what stands there away, without a message of leaving."""
        self.query_one(Input).value = ""
        self.display = False
