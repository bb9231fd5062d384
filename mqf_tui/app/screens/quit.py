"""Quitting while a measurement runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Label, Static

if TYPE_CHECKING:
    from mqf_tui.app.bridge import Bridge

INTERRUPTED = 130


class QuitScreen(ModalScreen[None]):
    """Asks; on yes stops the measurement, waits until it is saved as partial, and leaves."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "stop", "Stop and quit"),
        Binding("n,escape", "stay", "Go on"),
    ]

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def compose(self) -> ComposeResult:
        """The question and its two answers."""
        with Vertical(id="dialog"):
            yield Label("A measurement is running.", classes="strong")
            yield Static("Stop it, keep what is scored as a partial run, and quit?", id="question")
            with Horizontal():
                yield Button("[u]Y[/u]es, stop and quit", id="yes", variant="warning")
                yield Button("[u]N[/u]o, go on", id="no")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Mouse or Enter on a button."""
        event.stop()
        if event.button.id == "yes":
            self.action_stop()
        else:
            self.action_stay()

    def action_stop(self) -> None:
        """Ask the thread to stop and wait for it by a timer, so that the screen stays alive."""
        if self._bridge.current is None or self._bridge.current.control.stopped:
            return
        self._bridge.current.control.stop()
        self.query_one("#question", Static).update("Finishing the current step, then saving …")
        for button in self.query(Button):
            button.disabled = True
        self.set_interval(0.05, self._leave_when_done)

    def action_stay(self) -> None:
        """Back to the measurement."""
        if self._bridge.current is None or not self._bridge.current.control.stopped:
            self.dismiss()

    def _leave_when_done(self) -> None:
        current = self._bridge.current
        if current is None or current.snapshot().running:
            return
        # It may have come to its end by itself while the question stood.
        snapshot = current.snapshot()
        self.app.exit(
            return_code=snapshot.exit_code if snapshot.state != "stopped" else INTERRUPTED,
            message=f"partial run saved as {snapshot.saved.id}" if snapshot.saved else snapshot.problem,
        )
