"""Said where the window is too small for any screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

from mqf_tui.app.actions import bindings
from mqf_tui.app.capabilities import mark

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp

LEAST_WIDTH, LEAST_HEIGHT = 60, 20


class TooSmallScreen(ModalScreen[None]):
    """A plain sentence until there is room again; whatever is measured goes on."""

    DEFAULT_CSS = "TooSmallScreen { align: center middle; background: $background; }"
    BINDINGS: ClassVar[list[BindingType]] = bindings("too_small")

    def compose(self) -> ComposeResult:
        """The sentence."""
        times = mark("times", cast("MqfTuiApp", self.app).capabilities.unicode)
        least = f"{LEAST_WIDTH} {times} {LEAST_HEIGHT}"
        yield Static(f"mqf-tui needs a window of {least}; make it larger, or the text smaller.")
