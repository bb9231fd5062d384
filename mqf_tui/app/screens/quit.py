"""Quitting while a measurement or a download runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Label, Static

from mqf_tui.app.actions import bindings
from mqf_tui.fidelity.errors import INTERRUPTED
from mqf_tui.library.spooling import resume_words
from mqf_tui.reports.text import counted, inert

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp
    from mqf_tui.app.bridge import Bridge
    from mqf_tui.app.measurement import Measurement
    from mqf_tui.app.snapshots import Snapshot


class LeavingScreen(ModalScreen[None]):
    """A question with two buttons, ``#yes`` and ``#no``, and what is awaited once it is answered by yes."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("quit")

    _leaving = False

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Mouse or Enter on a button."""
        event.stop()
        if event.button.id == "yes":
            self.action_stop()
        else:
            self.action_stay()

    def action_stop(self) -> None:
        """Leave as soon as that can be."""
        raise NotImplementedError

    def action_stay(self) -> None:
        """Go on."""
        if not self._leaving:
            self.dismiss()

    def _wait(self, words: str) -> None:
        """Nothing is left to be answered."""
        self._leaving = True
        self.query_one("#question", Static).update(words)
        for button in self.query(Button):
            button.disabled = True


class QuitScreen(LeavingScreen):
    """Asks; on yes stops the measurement, waits until it is saved as partial, and leaves."""

    def __init__(self, measurement: Measurement) -> None:
        super().__init__()
        self._measurement = measurement
        self._fetched: list[str] = []  # what is downloaded while the user leaves

    def on_mount(self) -> None:
        """Watch the measurement by a timer, so that the screen stays alive."""
        self.set_interval(0.05, self._watch)

    def compose(self) -> ComposeResult:
        """The question and its two answers."""
        with Vertical(id="dialog"):
            yield Label("A measurement is running.", classes="strong")
            yield Static(self._question(), id="question")
            with Horizontal():
                yield Button("[u]Y[/u]es, stop and quit", id="yes", variant="warning")
                yield Button("[u]N[/u]o, go on", id="no")

    def _question(self) -> str:
        runs = "partial runs" if self._measurement.snapshot().several else "a partial run"
        waiting = sum(one is not self._measurement for one in self._bridge.waiting)
        lost = f", forget {counted(waiting, 'measurement')} that {'wait' if waiting > 1 else 'waits'}"
        broken = ", break off the download" if cast("MqfTuiApp", self.app).downloads.busy else ""
        return f"Stop it, keep what is scored as {runs}{lost if waiting else ''}{broken}, and quit?"

    @property
    def _bridge(self) -> Bridge:
        return cast("MqfTuiApp", self.app).bridge

    def action_stop(self) -> None:
        """Ask the thread to stop; the timer leaves when it has."""
        self._fetched = cast("MqfTuiApp", self.app).downloads.going
        self._bridge.stop()
        scoring = self._measurement.snapshot().state == "scoring"
        words = "Finishing the current step, then saving …" if scoring else "Stopping …"
        self._wait(words)

    def _watch(self) -> None:
        snapshot = self._measurement.snapshot()
        if snapshot.running:
            return
        if not self._leaving:
            # It came to its end by itself: nothing is left to ask, and the result is there to be read.
            self.dismiss()
            return
        words = [kept_words(snapshot) or snapshot.problem or "", going_on_words(self._fetched)]
        self.app.exit(return_code=snapshot.exit_code, message="\n".join(filter(None, words)) or None)


class QuitDownloadsScreen(LeavingScreen):
    """Asks whether to leave while something is downloaded; on yes breaks it off, waits, and leaves."""

    DEFAULT_CSS = "QuitDownloadsScreen { align: center middle; }"

    def compose(self) -> ComposeResult:
        """The question and its two answers."""
        going = self._mqf.downloads.going
        more = f", and {counted(len(going) - 1, 'more model')}" if len(going) > 1 else ""
        with Vertical(id="dialog"):
            yield Label("A download is running.", classes="strong")
            yield Static(
                f"Break off {inert(going[0]) if going else 'it'}{more}, and quit? What has come is kept, and "
                "the next download goes on from there.",
                id="question",
                markup=False,
            )
            with Horizontal():
                yield Button("[u]Y[/u]es, quit", id="yes", variant="warning")
                yield Button("[u]N[/u]o, go on", id="no")

    def on_mount(self) -> None:
        """Watch by a timer, so that the screen stays alive."""
        self.set_interval(0.1, self._watch)

    @property
    def _mqf(self) -> MqfTuiApp:
        return cast("MqfTuiApp", self.app)

    def action_stop(self) -> None:
        """Break it off; the timer leaves when that is done."""
        if self._leaving:  # y, pressed twice
            return
        self._names = self._mqf.downloads.going
        self._mqf.downloads.cancel()
        self._wait("Breaking off …")

    def _watch(self) -> None:
        if self._mqf.downloads.busy:
            return
        if not self._leaving:
            self.dismiss()  # it came to its end by itself
            return
        self.app.exit(return_code=INTERRUPTED, message=going_on_words(self._names))


def going_on_words(names: Sequence[str]) -> str:
    """How to go on with downloads that were broken off, a line each."""
    return "\n".join(f"`mqf-tui models download {inert(name)}` goes on with it" for name in names)


def kept_words(snapshot: Snapshot) -> str:
    """What is on disk now, and how to go on from it; empty where nothing is."""
    return "\n".join(filter(None, (_saved(snapshot), resume_words(snapshot.settings.sweep_id))))


def _saved(snapshot: Snapshot) -> str:
    if not snapshot.saved:
        return ""
    n, partial = len(snapshot.saved), sum(run.report.partial for run in snapshot.saved)
    if n == 1:
        return f"{'partial run' if partial else 'run'} saved as {snapshot.saved[0].id}"
    kind = "partial runs" if partial == n else "runs"
    some = f" ({partial} of them partial)" if 0 < partial < n else ""
    return f"{n} {kind}{some} saved as sweep {snapshot.settings.sweep_id}"
