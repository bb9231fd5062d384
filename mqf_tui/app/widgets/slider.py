"""A number on one line, on a track: arrows, digits and the mouse move it; its end means all there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive

from mqf_tui.app.actions import bindings
from mqf_tui.app.widgets.setting_line import INDENT, SettingLine

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp

TRACK = 36  # columns at most
SHORTEST_TRACK = 8
WORDS = 22  # columns kept for the words behind the track


class Slider(SettingLine):
    """A whole number from 1; None, the end of the track, is all.

    ``most``: the largest number on the track, or about that; ``all_words`` say what all of it is.
    """

    DEFAULT_CSS = """
    Slider { height: auto; padding: 0 1; }
    Slider:focus { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("slider")
    value: reactive[int | None] = reactive(1, layout=True)
    most: reactive[int] = reactive(100)
    all_words: reactive[str] = reactive("all")
    hint: reactive[str] = reactive("", layout=True)

    class Changed(Message):
        """The value changed."""

        def __init__(self, slider: Slider) -> None:
            super().__init__()
            self.slider = slider

        @property
        def control(self) -> Slider:
            """The slider that changed."""
            return self.slider

    def __init__(self, title: str, value: int | None, *, id: str | None = None) -> None:
        super().__init__(title, id)
        self._drags = False
        self.set_reactive(Slider.value, value)

    def pick(self, value: object) -> None:
        """Take a number from 1, or None; anything else is left out."""
        if value is None or (type(value) is int and value > 0):
            self.value = value

    def watch_value(self) -> None:
        """Tell the screen."""
        if self.is_mounted:
            self.post_message(self.Changed(self))

    def action_move(self, by: int) -> None:
        """Go on by one; or, where ``by`` is more, to the next number that it divides."""
        self._typed = ""
        place, step = self._place, abs(by)
        place = (place // step + 1) * step if by > 0 else (place - 1) // step * step
        self._go(place)

    def action_end(self, last: int) -> None:
        """To one of the ends."""
        self._typed = ""
        self._go(self.most + 1 if last else 1)

    def take_number(self, number: int) -> None:
        """Go to a number that was typed; it may lie beyond the track."""
        self.value = number

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Go to what was clicked, and follow the mouse while it is held."""
        if event.y == 0 and event.x - self.styles.padding.left >= INDENT:
            self._drags = True
            self.capture_mouse()
            self._follow(event.x)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Follow the mouse."""
        if self._drags:
            self._follow(event.x)

    def on_mouse_up(self) -> None:
        """Let go."""
        if self._drags:
            self._drags = False
            self.release_mouse()

    def _follow(self, x: int) -> None:
        column = max(0, min(self._track - 1, x - self.styles.padding.left - INDENT))
        self._typed = ""
        self._go(1 + round(column / (self._track - 1) * self.most))

    def _go(self, place: int) -> None:
        self.value = None if place > self.most else max(1, place)

    @property
    def _place(self) -> int:
        """On the track, from 1; all is behind the last number."""
        return self.most + 1 if self.value is None else min(self.value, self.most)

    @property
    def _track(self) -> int:
        return max(SHORTEST_TRACK, min(TRACK, self.content_size.width - INDENT - WORDS))

    def render(self) -> Text:
        """The track with its knob, the number; the hint below."""
        return Text("\n").join(self._lines(self.content_size.width))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One line, and as many as the hint takes."""
        del container, viewport
        return len(self._lines(width))

    def _lines(self, width: int) -> list[Text]:
        colours = self.app.theme_variables
        unicode = cast("MqfTuiApp", self.app).capabilities.unicode
        before, knob, after = ("━", "●", "─") if unicode else ("=", "O", "-")
        column = round((self._place - 1) / max(1, self.most) * (self._track - 1))
        words = self.all_words if self.value is None else f"{self.value:,}"
        line = Text.assemble(
            (f"{self._title:<{INDENT}}", "bold"),
            (before * column, colours["primary"]),
            (knob, f"bold {colours['primary']}"),
            (after * (self._track - 1 - column), colours["secondary"]),
            (f" {words}", "bold underline" if self.has_focus else "bold"),
            no_wrap=True,
            overflow="ellipsis",
        )
        typing = "; or type a number" if self.has_focus else ""
        return [line, *self.hint_lines(self.hint + typing, width)]
