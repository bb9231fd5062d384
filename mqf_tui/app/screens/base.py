"""What all screens share."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.binding import Binding, BindingType
from textual.screen import Screen

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp


COMMON: tuple[BindingType, ...] = (
    Binding("escape", "back", "Back"),
    Binding("q", "app.leave", "Quit", show=False),
)


class BaseScreen(Screen[None]):
    """A screen of this app. Subclasses end their bindings with ``COMMON``, so that the footer does too."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (76, "-wide")]  # noqa: RUF012 (Textual types it so)
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]  # noqa: RUF012 (Textual types it so)

    @property
    def mqf(self) -> MqfTuiApp:
        """The app, as what it is."""
        return cast("MqfTuiApp", self.app)

    def action_back(self) -> None:
        """To the screen before."""
        self.dismiss()
