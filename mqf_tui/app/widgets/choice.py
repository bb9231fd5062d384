"""One setting: ←/→ choose among its values, the line below says what the choice means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive

from mqf_tui.app.actions import bindings
from mqf_tui.app.widgets.setting_line import INDENT, SettingLine


@dataclass(frozen=True)
class Option:
    """A value and its words; ``refusal`` says why it cannot be chosen, None where it can."""

    value: int | str | None
    label: str
    meaning: str = ""
    refusal: str | None = None


class Choice(SettingLine):
    """A row of options. Digits type a number of one's own where ``own`` says what it is."""

    DEFAULT_CSS = """
    Choice { height: auto; padding: 0 1; }
    Choice:focus { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("choice")
    chosen: reactive[int] = reactive(0, layout=True)

    class Changed(Message):
        """The value changed."""

        def __init__(self, choice: Choice) -> None:
            super().__init__()
            self.choice = choice

        @property
        def control(self) -> Choice:
            """The choice that changed."""
            return self.choice

    def __init__(
        self,
        title: str,
        options: Sequence[Option],
        value: int | str | None,
        *,
        own: str | None = None,
        id: str | None = None,
    ) -> None:
        super().__init__(title, id)
        self._presets = list(options)
        self.options = list(options)
        self._own = own
        self._places: list[tuple[int, int, int]] = []  # line, start and end of each option
        self.pick(value)

    @property
    def value(self) -> int | str | None:
        """The value chosen."""
        return self.options[self.chosen].value

    def pick(self, value: int | str | None) -> None:
        """Choose ``value`` where it exists and is allowed, else the first that is; an own number is added."""
        places = {o.value: i for i, o in enumerate(self.options) if o.refusal is None}
        if value not in places and self._own and isinstance(value, int) and value > 0:
            self._set_own(value)
            return
        self.chosen = places.get(value, next(iter(places.values()), 0))

    def action_move(self, by: int) -> None:
        """Go to the next option that can be chosen."""
        self._typed = ""
        place = self.chosen + by
        while 0 <= place < len(self.options) and self.options[place].refusal is not None:
            place += by
        if 0 <= place < len(self.options):
            self.chosen = place

    def watch_chosen(self) -> None:
        """Tell the screen."""
        if self.is_mounted:
            self.post_message(self.Changed(self))
            self.call_after_refresh(self._keep_in_sight)

    def _keep_in_sight(self) -> None:
        if self.has_focus:
            self.scroll_visible(animate=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Digits make a number of one's own, where there may be one."""
        del parameters
        return self._own is not None if action == "digit" else True

    def take_number(self, number: int) -> None:
        """Choose a number of one's own."""
        self._set_own(number)

    def on_click(self, event: events.Click) -> None:
        """Choose what was clicked."""
        self._lines(self.content_size.width)  # a layout may have asked for another width since it was drawn
        for place, (line, start, end) in enumerate(self._places):
            inside = event.y == line and start <= event.x - self.styles.padding.left < end
            if inside and self.options[place].refusal is None:
                self.click(place)

    def click(self, place: int) -> None:
        """Choose this option."""
        self.chosen = place

    def is_chosen(self, place: int) -> bool:
        """Whether this option is (one of) the chosen."""
        return place == self.chosen

    def mark(self, place: int) -> str:
        """One column before an option's label."""
        del place
        return " "

    @property
    def hint(self) -> str:
        """What the option under the cursor means, and what else can be done."""
        picked = self.options[self.chosen]
        hint = picked.refusal or picked.meaning
        if not self.has_focus:
            return hint
        own = f"or type {self._own}" if self._own else ""
        return "; ".join(part for part in (hint, own) if part) + self.refusals

    @property
    def refusals(self) -> str:
        """Why the values that are struck out cannot be chosen; each reason once."""
        reasons: dict[str, list[str]] = {}
        for place, option in enumerate(self.options):
            if option.refusal is not None and place != self.chosen:
                reasons.setdefault(option.refusal, []).append(option.label)
        return "".join(f"; not {', '.join(labels)}: {why}" for why, labels in reasons.items())

    def render(self) -> Text:
        """The title and options, then the meaning of the chosen one (or why others are not to be had)."""
        return Text("\n").join(self._lines(self.content_size.width))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as the options and the hint take."""
        del container, viewport
        return len(self._lines(width))

    def _lines(self, width: int) -> list[Text]:
        lines = [Text.assemble((f"{self._title:<{INDENT}}", "bold"), no_wrap=True)]
        self._places = []
        for place, option in enumerate(self.options):
            label = f"{self.mark(place)}{option.label} "
            if len(lines[-1]) > INDENT and len(lines[-1]) + len(label.rstrip()) > width:
                lines.append(Text(" " * INDENT, no_wrap=True))
            line = lines[-1]
            self._places.append((len(lines) - 1, len(line), len(line) + len(label)))
            line.append(label, style=self._style(place))
            line.append(" ")
        return [*lines, *self.hint_lines(self.hint, width)]

    def _style(self, place: int) -> str:
        colours = self.app.theme_variables
        under = " underline" if place == self.chosen and self.has_focus else ""
        if self.is_chosen(place):
            return f"bold{under} {colours['background']} on {colours['primary']}"
        if self.options[place].refusal is not None:
            return f"strike {colours['secondary']}"
        return f"{colours['foreground']}{under}"

    def _set_own(self, value: int) -> None:
        known = {o.value: i for i, o in enumerate(self._presets)}
        self.options = list(self._presets)
        if value in known:
            place = known[value]
        else:
            place = sum(1 for o in self._presets if isinstance(o.value, int) and o.value < value)
            self.options.insert(place, Option(value, f"{value:,}", "a number of your own"))
        if place == self.chosen:
            self.refresh(layout=True)
            if self.is_mounted:
                self.post_message(self.Changed(self))
        self.chosen = place
