"""A line to type into that is there while it is needed, with a sentence where it cannot be understood."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Static

from mqf_tui.app.actions import bindings

Heard = Callable[[str], None]


class ExploreLine(Vertical):
    """Hidden while it is empty and not typed into. ``sign`` stands before it, ``hint`` in it while empty.

    ``changed`` hears each text that stands in it, ``left`` what was accepted, or nothing where it was given
    up; ``left`` has to give the focus to something else.
    """

    DEFAULT_CSS = """
    ExploreLine { height: auto; display: none; background: $panel; padding: 0 2; }
    ExploreLine Horizontal { height: 1; }
    ExploreLine .sign { width: 2; }
    ExploreLine Input, ExploreLine Input:focus {
        border: none; height: 1; width: 1fr; background: $panel; padding: 0;
    }
    ExploreLine .said { height: auto; color: $warning; display: none; }
    """

    def __init__(self, sign: str, hint: str, left: Heard, changed: Heard | None = None, *, id: str) -> None:
        super().__init__(id=id)
        self._sign, self._hint = sign, hint
        self._left, self._changed = left, changed

    def compose(self) -> ComposeResult:
        """The line and, below it, the sentence."""
        with Horizontal():
            yield Static(self._sign, classes="sign")
            yield LineInput(self._hint, self.leave)
        yield Static("", classes="said")

    def open(self, value: str) -> None:
        """Show it, to be typed into."""
        self.display = True
        line = self.query_one(Input)
        line.value = value
        line.cursor_position = len(value)
        # At once, since the next key may be here already.
        self.screen.set_focus(line)

    def leave(self, value: str) -> None:
        """Go on with what stands there, or without it."""
        if not value:
            self.say("")
            self.query_one(Input).value = ""
            self.display = False
        self._left(value)

    def empty(self) -> None:
        """Take away what stands there."""
        self.query_one(Input).value = ""
        self.display = False

    def say(self, sentence: str) -> None:
        """What is wrong with what stands there, or nothing."""
        said = self.query_one(".said", Static)
        said.update(Text(sentence))
        said.display = bool(sentence)

    @on(Input.Changed)
    def _heard(self, event: Input.Changed) -> None:
        event.stop()
        if self._changed is not None:
            self._changed(event.value)

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        """Out of sight where nothing stands in it."""
        del event
        if not self.query_one(Input).value.strip():
            self.display = False


class LineInput(Input):
    """Keys that come in a burst, as over a slow line or from a paste, go where they would one by one."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("explore_line")

    def __init__(self, hint: str, leave: Heard) -> None:
        super().__init__(placeholder=hint, select_on_focus=False)
        self._leave = leave

    async def on_key(self, event: events.Key) -> None:
        """Leave at once at the key for it; what was typed behind it is not of this line any more."""
        if self.screen.focused is not self:
            self.app.post_message(events.Key(event.key, event.character))
        else:
            active = self.screen.active_bindings.get(event.key)
            if active is None or not (active.binding.id or "").startswith("explore_line."):
                return
            await self.app.run_action(active.binding.action, self)
        event.stop()
        event.prevent_default()

    def action_done(self) -> None:
        """Go on with what stands there."""
        self._leave(self.value.strip())

    def action_clear(self) -> None:
        """Go on without it."""
        self._leave("")
