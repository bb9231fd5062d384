"""The list of models, a row each, and the line that is typed into to find some of them."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input, OptionList

from mqf_tui.app.actions import bindings

MOVES = {"up", "down", "home", "end", "pageup", "pagedown"}


class ModelList(OptionList, inherit_bindings=False):
    """Enter is the screen's: it may stand for several marked models. One click goes there, a second opens."""

    DEFAULT_CSS = """
    ModelList {
        border: none; padding: 0 1; background: $background; height: 1fr; scrollbar-size-vertical: 1;
    }
    ModelList:focus { border: none; background-tint: transparent; }
    ModelList > .option-list--option-highlighted { background: $panel; color: $foreground; }
    ModelList:focus > .option-list--option-highlighted {
        background: $panel; color: $foreground; text-style: bold;
    }
    ModelList.-plain > .option-list--option-highlighted,
    ModelList.-plain:focus > .option-list--option-highlighted {
        background: $primary; color: $background; text-style: bold;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        one for one in OptionList.BINDINGS if isinstance(one, Binding) and one.key in MOVES
    ]

    def on_click(self, event: events.Click) -> None:
        """Go to what was clicked; where the cursor is there already, open it."""
        event.prevent_default()
        clicked: int | None = event.style.meta.get("option")
        if clicked is None:
            return
        if clicked == self.highlighted:
            self.action_select()
        else:
            self.highlighted = clicked


class SearchLine(Input):
    """What is typed narrows the list; it may also be the path of a folder."""

    DEFAULT_CSS = """
    SearchLine { border: none; height: 1; margin: 0 1; padding: 0 1; background: $panel; }
    SearchLine:focus { border: none; background: $surface; background-tint: transparent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("search")

    class Left(Message):
        """The user goes on to the list."""

    def action_to_list(self) -> None:
        """Go on to what was found."""
        self.post_message(self.Left())

    def action_clear(self) -> None:
        """Empty the line and go back to the list."""
        self.value = ""
        self.post_message(self.Left())
