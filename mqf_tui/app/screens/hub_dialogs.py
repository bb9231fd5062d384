"""What is asked about models from elsewhere: whether to download one, and to let code of its own run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Label, Static

from mqf_tui.app.actions import bindings
from mqf_tui.app.hub_downloads import free_disk
from mqf_tui.app.hub_words import HubRow, room_words, sentence
from mqf_tui.reports.text import inert

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp

BOX = """
{name} { align: center middle; }
{name} #asked {
    width: 76; max-width: 100%; height: auto; padding: 1 2; background: $surface; border: round {edge};
}
{name} #question { height: auto; margin: 1 0; }
{name} Horizontal { height: auto; }
{name} Button { margin-right: 2; }
"""


class YesNoScreen(ModalScreen[bool]):
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
        self.query_one("#no", Button).focus()

    def question(self) -> Text:
        """What is asked."""
        raise NotImplementedError

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
        text.append(", ".join(map(inert, self._files)) or "code that its configuration names", style="bold")
        text.append("\nin ").append(inert(str(self._folder)), style="bold")
        text.append(
            "\n\nIt would run with your rights: it could read, change and delete your files, and send them "
            "elsewhere. Nothing here has looked at it or holds it back. Read it first, and say yes only if "
            "you trust who wrote it.\n\nYes holds for what is set up now; the next time it is asked again."
        )
        return text


class DownloadScreen(ModalScreen[bool]):
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
        self._show(None)
        self.query_one("#yes", Button).focus()
        self._look()

    @work(thread=True)
    def _look(self) -> None:
        self.app.call_from_thread(self._show, free_disk())

    def _show(self, free: int | None) -> None:
        if not self.query("#question"):
            return
        model, device = self._row.model, cast("MqfTuiApp", self.app).bridge.device
        n_bytes = model.size_bytes if model is not None else None
        words = sentence(room_words(n_bytes, free, device, self._row.name))
        if model is not None and model.gated:
            words += f"\n\nIts authors ask you to accept their terms first, at {self._page} (o opens it)."
        words += (
            "\n\nWhat is here already is not fetched again. x cancels at any time, and R goes on from there."
        )
        self.query_one("#question", Static).update(words)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Mouse or Enter on a button."""
        event.stop()
        self.dismiss(event.button.id == "yes")

    def action_yes(self) -> None:
        """Download it."""
        self.dismiss(True)

    def action_no(self) -> None:
        """Leave it."""
        self.dismiss(False)

    def action_page(self) -> None:
        """Open the model's page."""
        cast("MqfTuiApp", self.app).browse(self._page)
