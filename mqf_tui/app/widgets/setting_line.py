"""What the lines of the set-up share: a title, words below, and a number that is typed digit by digit."""

from __future__ import annotations

from textwrap import wrap
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widget import Widget

LONGEST_NUMBER = 7  # digits
INDENT = 13  # columns that a title takes
SHORTEST_HINT = 8  # columns of a line of it, in the narrowest window
SHORT = 32  # lines: in a lower window only what has the focus shows its hint


class SettingLine(Widget, can_focus=True):
    """A line with the focus shows its hint, and takes digits where there may be a number of one's own."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # As bindings, since a widget gets the keys themselves before the arrows that were pressed earlier
        # have moved the focus: in a burst they would go to the line before.
        *(Binding(str(d), f"digit({d})", show=False, system=True) for d in range(10)),
        Binding("backspace", "digit(-1)", show=False, system=True),
    ]

    def __init__(self, title: str, id: str | None = None) -> None:
        super().__init__(id=id)
        self._title = title
        self._typed = ""

    def take_number(self, number: int) -> None:
        """A number from 1 was typed so far."""
        raise NotImplementedError

    def action_digit(self, digit: int) -> None:
        """Add a digit to the number that is being typed; -1 takes the last one away."""
        if digit < 0:
            self._typed = self._typed[:-1]
        elif len(self._typed) < LONGEST_NUMBER:
            self._typed += str(digit)
        if self._typed and int(self._typed) > 0:
            self.take_number(int(self._typed))

    def on_focus(self) -> None:
        """The hint is shown, or says more, and may need more lines."""
        self.refresh(layout=True)
        self.call_after_refresh(self.scroll_visible, animate=False)

    def on_blur(self) -> None:
        """The next digit begins a new number."""
        self._typed = ""
        self.refresh(layout=True)

    def hint_lines(self, hint: str, width: int) -> list[Text]:
        """The words below, in lines; none in a low window where something else has the focus."""
        if self.app.size.height < SHORT and not self.has_focus:
            return []
        colour = self.app.theme_variables["secondary"]
        parts = wrap(hint, max(SHORTEST_HINT, width - INDENT - 1)) or [""]
        return [Text(f"{'':<{INDENT}} {part}", style=colour, no_wrap=True) for part in parts]
