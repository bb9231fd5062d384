"""What all screens share."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer, HelpPanel

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp


COMMON: tuple[BindingType, ...] = (
    Binding("escape", "back", "Back"),
    Binding("q", "app.leave", "Quit", show=False),
)
NARROW = 76  # columns
WIDE_FOOTER = 80  # columns that the longest footer takes


class BaseScreen(Screen[None]):
    """A screen of this app. Subclasses end their bindings with ``COMMON``, so that the footer does too."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (NARROW, "-wide")]  # noqa: RUF012 (Textual types it so)
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]  # noqa: RUF012 (Textual types it so)

    def on_resize(self) -> None:
        """Where there is little room, the footer's keys stand closer, so that the last of them are seen."""
        for footer in self.query(Footer):
            footer.compact = self.size.width < WIDE_FOOTER

    @property
    def mqf(self) -> MqfTuiApp:
        """The app, as what it is."""
        return cast("MqfTuiApp", self.app)

    @property
    def helping(self) -> bool:
        """Whether the help is open."""
        return bool(self.query(HelpPanel))

    def action_back(self) -> None:
        """Close the help where it is open; else to the screen before."""
        if self.helping:
            self.app.action_hide_help_panel()
        else:
            self.leave()

    def leave(self) -> None:
        """To the screen before."""
        self.dismiss()
