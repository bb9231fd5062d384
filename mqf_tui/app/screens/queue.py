"""What was asked for since the app began: what runs, what waits, what has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Label, OptionList
from textual.widgets.option_list import Option

from mqf_tui.app.actions import bindings
from mqf_tui.app.capabilities import mark
from mqf_tui.app.live_words import measured_name
from mqf_tui.app.measurement import Measurement
from mqf_tui.app.snapshots import Snapshot
from mqf_tui.app.widgets.signs import unicode_of
from mqf_tui.reports.text import inert, percent

if TYPE_CHECKING:
    from mqf_tui.app.bridge import Bridge

SECONDS = 0.5  # between two looks
MARKS = {"waiting": "waiting", "failed": "no", "finished": "chosen", "stopped": "partial"}


class QueueScreen(ModalScreen["Measurement | None"]):
    """Dismissed with the measurement to show, or None; one that waits can be cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("queue")
    DEFAULT_CSS = """
    QueueScreen { align: center middle; }
    QueueScreen #dialog { width: 90%; max-width: 90; height: auto; max-height: 80%; border: round $primary; }
    QueueScreen OptionList { height: auto; max-height: 16; border: none; background: $surface; padding: 0; }
    QueueScreen #keys { margin-top: 1; color: $secondary; }
    """

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        self._shown: list[tuple[Measurement, str]] = []

    def compose(self) -> ComposeResult:
        """The list, the newest last."""
        with Vertical(id="dialog"):
            yield Label("Measurements since the start", classes="strong")
            yield OptionList()
            yield Label("Enter shows one, x cancels one that waits, Escape goes back.", id="keys")

    def on_mount(self) -> None:
        """Fill it in, and keep it as it is."""
        self._look()
        current = self._bridge.current
        at = [one for one, _ in self._shown].index(current) if current is not None else None
        self.query_one(OptionList).highlighted = at
        self.query_one(OptionList).focus()
        self.set_interval(SECONDS, self._look)

    def _look(self) -> None:
        found = [(one, self._line(one.snapshot())) for one in self._bridge.measurements]
        if [(one, text.plain) for one, text in found] == self._shown:
            return
        listing = self.query_one(OptionList)
        at = listing.highlighted
        self._shown = [(one, text.plain) for one, text in found]
        listing.set_options([Option(text) for _, text in found])
        listing.highlighted = at

    def _line(self, s: Snapshot) -> Text:
        name = MARKS.get(s.state, "paused" if s.paused else "running")
        text = Text(f"{mark(name, unicode_of(self))} {measured_name(s)}  ")
        return text.append(state_words(s), style=self.app.theme_variables["secondary"])

    @on(OptionList.OptionSelected)
    def open(self, event: OptionList.OptionSelected) -> None:
        """Show it."""
        self.dismiss(self._shown[event.option_index][0])

    def action_cancel(self) -> None:
        """Take one that waits out of the queue."""
        at = self.query_one(OptionList).highlighted
        if at is None:
            return
        chosen = self._shown[at][0]
        if chosen.snapshot().state == "waiting":
            chosen.stop()
            self._look()
        else:
            self.notify("Only what waits can be cancelled; s in its own screen stops what runs.")

    def action_close(self) -> None:
        """Back to the screen below."""
        self.dismiss(None)


def state_words(s: Snapshot) -> str:
    """How far a measurement is, or how it ended."""
    if s.state == "scoring" and s.n_planned:
        share = f"{s.n_positions / s.n_planned:.0%}".replace("%", " %")
        return f"paused at {share}" if s.paused else f"running, {share}"
    if s.state in ("waiting", "loading", "scoring"):
        return inert(s.doing)
    if s.state == "failed":
        return f"failed: {inert(s.problem or '')}"
    if s.sweep is None and s.reports:
        report = s.reports[0]
        return f"{report.verdict}, {percent(report.flip_rate)} flips" + (
            ", partial" if report.partial else ""
        )
    return "cancelled" if s.doing == "cancelled" else s.state
