"""Models: what is on this machine, and what can be measured on it."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from mqf_tui.app.actions import bindings
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.library.models import LocalModel, describe_folder, is_folder, local_models
from mqf_tui.reports.text import inert, size


class Filter(Input):
    """The line that is typed into; arrows move in the list below it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Set up"),
        Binding("down", "screen.move('cursor_down')", "Model", key_display="↑↓"),
        Binding("up", "screen.move('cursor_up')", "Model", show=False),
        Binding("pagedown", "screen.move('page_down')", "Page down", show=False),
        Binding("pageup", "screen.move('page_up')", "Page up", show=False),
    ]


class ModelsScreen(BaseScreen):
    """A list that typing filters; a path typed there is a model too."""

    TITLE: ClassVar[str | None] = "Models"
    HELP = (
        "# Models\n\nThe bundled demo and the models of the local Hugging Face cache. "
        "Type to filter, or type the path of a model folder; ↑ and ↓ move. Enter sets up a measurement."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("models")

    def __init__(self) -> None:
        super().__init__()
        self._models: tuple[LocalModel, ...] = ()
        self._shown: list[LocalModel] = []

    def compose(self) -> ComposeResult:
        """Filter and list on the left, facts on the right."""
        yield TitleBar(str(self.TITLE))
        with Horizontal():
            with Vertical(id="left"):
                hint = "filter, or a folder's path"
                yield Filter(placeholder=hint, id="filter", select_on_focus=False)
                listing = OptionList(id="models")
                listing.can_focus = False
                yield listing
            with Vertical(id="facts"):
                yield Static("looking for models …", id="facts-text")
        yield Footer()

    def on_mount(self) -> None:
        """Scan in the background."""
        self.action_reload()

    def on_screen_resume(self) -> None:
        """Letters always filter, so keys go to the filter; arrows move in the list."""
        self.query_one("#filter", Input).focus()

    @property
    def listed(self) -> bool:
        """Whether any model is listed yet."""
        return bool(self._shown)

    @work(thread=True, exclusive=True)
    def action_reload(self) -> None:
        """Scan the machine again."""
        found = local_models()
        self.app.call_from_thread(self._loaded, found)

    def _loaded(self, found: tuple[LocalModel, ...]) -> None:
        self._models = found
        self._refill()

    @on(Input.Changed, "#filter")
    def _refill(self) -> None:
        typed = self.query_one("#filter", Input).value.strip()
        shown = [m for m in self._models if typed.lower() in m.name.lower()]
        if is_folder(typed):
            shown.insert(0, describe_folder(typed))
        self._shown = shown
        listing = self.query_one(OptionList)
        listing.clear_options()
        listing.add_options([Option(_line(m), id=str(i)) for i, m in enumerate(shown)])
        if shown:
            listing.highlighted = 0
        else:
            self.query_one("#facts-text", Static).update(Text(_nothing(typed)))

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        # The list may have been refilled since the event was sent.
        if event.option_index < len(self._shown):
            self.query_one("#facts-text", Static).update(_facts(self._shown[event.option_index]))

    def action_move(self, how: str) -> None:
        """Move in the list."""
        getattr(self.query_one(OptionList), f"action_{how}")()

    @on(OptionList.OptionSelected)
    @on(Input.Submitted)
    def choose(self) -> None:
        """Set up a measurement of the highlighted model."""
        place = self.query_one(OptionList).highlighted
        if place is None or not self._shown:
            return
        model = self._shown[place]
        if model.problem or model.facts is None:
            self.notify(
                model.problem or "it cannot be read",
                title="Cannot be measured",
                severity="warning",
                markup=False,
            )
        else:
            self.mqf.set_up((model,))

    def leave(self) -> None:
        """Empty the filter; there is nothing behind this screen."""
        self.query_one("#filter", Input).value = ""


def _line(model: LocalModel) -> Text:
    text = Text(inert(model.name), no_wrap=True, overflow="ellipsis")
    if model.problem:
        text.stylize("dim")
        text.append("  cannot be measured", style="italic dim")
    return text


def _nothing(typed: str) -> str:
    if typed:
        return f"No model matches {typed!r} and there is no such folder. Escape clears the filter."
    return "No models found."


def _facts(model: LocalModel) -> Text:
    text = Text()
    text.append(inert(model.name) + "\n", style="bold")
    text.append(f"{model.source}\n\n", style="dim")
    if model.facts is not None:
        f = model.facts
        rows = (
            ("architecture", f.architecture),
            ("weights", f.weights),
            ("parameters", f"{f.n_parameters / 1e6:,.1f} million"),
            ("size", size(f.size_bytes)),
            ("layers", str(f.n_layers)),
            ("heads", f"{f.n_heads}, {f.n_kv_heads} of keys and values"),
            ("head size", str(f.head_dim)),
            ("groups", ", ".join(map(str, f.valid_groups)) or "none fits"),
            ("vocabulary", f"{f.vocab_size:,}"),
            ("context", f"{f.context:,}" if f.context else "not stated"),
        )
        for name, value in rows:
            text.append(f"{name:<13}", style="dim")
            text.append(f"{value}\n")
    if model.problem:
        text.append("\nCannot be measured: ", style="bold")
        text.append(inert(model.problem))
    return text
