"""What is asked about models from elsewhere: whether to download one, and to let code of its own run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Label, Static
from textual.worker import get_current_worker

from mqf_tui.app.actions import bindings
from mqf_tui.app.hub_words import HubRow, Taken, room_words, sentence
from mqf_tui.app.trusting import in_app
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.reports.text import inert

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp

ASKING = "asking the hub for its files …"
LATER = "x cancels it at any time; what has come is kept, and R goes on from there."
MOST_FILES = 8  # named in the question; those that run first come first
LOW = [(0, "-low"), (24, "-usual")]  # lines of a window, and what its dialogs are called
BOX = """
{name} { align: center middle; }
{name} #asked {
    width: 76; max-width: 100%; height: auto; max-height: 100%; overflow-y: auto;
    padding: 1 2; background: $surface; border: round {edge};
}
{name}.-low #asked { padding: 0 1; }
{name}.-low #question { margin: 0; }
{name} #question { height: auto; margin: 1 0; }
{name} Horizontal { height: auto; }
{name} Button { margin-right: 2; }
"""


class AnsweredScreen(ModalScreen[bool]):
    """A question with two buttons, ``#yes`` and ``#no``."""

    VERTICAL_BREAKPOINTS = LOW

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Mouse or Enter on a button."""
        event.stop()
        self.dismiss(event.button.id == "yes")

    def action_yes(self) -> None:
        """Yes."""
        self.dismiss(True)

    def action_no(self) -> None:
        """No."""
        self.dismiss(False)


class YesNoScreen(AnsweredScreen):
    """A question of one screen; No has the focus, so that Enter alone does nothing."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("yes_no")
    TITLE_WORDS = ""
    YES, NO = "[u]Y[/u]es", "[u]N[/u]o"

    def compose(self) -> ComposeResult:
        """The question and its two answers."""
        with Vertical(id="asked"):
            yield Label(self.TITLE_WORDS, classes="strong", markup=False)
            yield Static(id="question", markup=False)
            with Horizontal():
                yield Button(self.NO, id="no")
                yield Button(self.YES, id="yes", variant="warning")

    def on_mount(self) -> None:
        """Put the question; No is the default."""
        self.query_one("#question", Static).update(self.question())
        self.query_one("#no", Button).focus(scroll_visible=False)  # the question is to be read first

    def question(self) -> Text:
        """What is asked."""
        raise NotImplementedError


class TrustScreen(YesNoScreen):
    """Whether Python code that lies in a model's folder may run. Names every file of it."""

    DEFAULT_CSS = BOX.replace("{name}", "TrustScreen").replace("{edge}", "$error")
    TITLE_WORDS = "This model brings Python code of its own"
    YES, NO = "[u]Y[/u]es, run its code", "[u]N[/u]o"

    def __init__(self, name: str, folder: Path, files: Sequence[str]) -> None:
        super().__init__()
        self._name, self._folder, self._files = name, folder, tuple(files)

    def question(self) -> Text:
        """The files, where they lie, and what they could do."""
        text = Text(f"{inert(self._name)} can only be loaded by running ")
        more = len(self._files) - MOST_FILES
        named = ", ".join(map(inert, self._files[:MOST_FILES])) + (f" and {more} more" if more > 0 else "")
        text.append(named, style="bold")
        text.append("\nin ").append(inert(str(self._folder)), style="bold")
        text.append(
            "\n\nIt would run with your rights: it could read, change and delete your files, and send them "
            "elsewhere. Nothing here holds it back. Say yes only if you have read it, or trust who wrote it."
            "\n\nYes holds for this time; the next time it is asked again."
        )
        return text


class DownloadScreen(AnsweredScreen):
    """Whether to download a model: its size against what is free."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("hub_download")
    DEFAULT_CSS = BOX.replace("{name}", "DownloadScreen").replace("{edge}", "$accent")

    def __init__(self, row: HubRow, page: str) -> None:
        super().__init__()
        self._row, self._page = row, page

    def compose(self) -> ComposeResult:
        """The name, what it takes, the answers."""
        with Vertical(id="asked"):
            yield Label(f"Download {inert(self._row.name)}?", classes="strong", markup=False)
            yield Static(id="question", markup=False)
            with Horizontal():
                yield Button("[u]Y[/u]es, download", id="yes", variant="primary")
                yield Button("[u]N[/u]o", id="no")

    def on_mount(self) -> None:
        """What is known at once; the rest is asked for."""
        self._show(self._known, doing=ASKING)
        self.query_one("#yes", Button).focus()
        self._look()

    @work(thread=True)
    def _look(self) -> None:
        """See what the disk has free, then ask the hub for what is to be fetched."""
        from mqf_tui.library.hub.room import free_disk, room_for

        worker, name = get_current_worker(), self._row.name

        def tell(taken: Taken, problem: str = "", doing: str = "") -> None:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._show, taken, problem, doing)

        known = replace(self._known, free_disk=free_disk())
        tell(known, doing=ASKING)
        try:
            room = room_for(
                name,
                on_waiting=lambda words: tell(known, doing=sentence(words) or ASKING),
                cancelled=lambda: worker.is_cancelled,
            )
        except FidelityError as error:
            tell(known, str(error))
        else:
            tell(Taken(room.total, room.weights, room.missing, known.free_disk))

    @property
    def _known(self) -> Taken:
        """What the search told."""
        n_bytes = self._row.model.size_bytes if self._row.model is not None else None
        return Taken(n_bytes, n_bytes)

    def _show(self, taken: Taken, problem: str = "", doing: str = "") -> None:
        if not self.query("#question"):
            return
        device, error = cast("MqfTuiApp", self.app).bridge.device, self.app.theme_variables["error"]
        text = Text(sentence(in_app(problem)), style=error)
        if not problem:
            text = Text(sentence(room_words(taken, device, self._row.name)))
            text.append(f"{chr(10) if text else ''}{doing}" if doing else "", style="dim")
            if not taken.fits:
                text.append("\n\nThere is too little room on the disk: make some first.", style=error)
            if self._row.model is not None and self._row.model.gated:
                text.append(f"\n\nGated: its authors ask to accept their terms at {self._page} (o) first.")
            text.append(f"\n\n{LATER}", style="dim")
        self.query_one("#question", Static).update(text)

    def action_page(self) -> None:
        """Open the model's page."""
        cast("MqfTuiApp", self.app).browse(self._page)
