"""Models: what is on this machine, what can be measured on it, what came of it so far."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.timer import Timer
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from mqf_tui.app.actions import bindings
from mqf_tui.app.capabilities import mark
from mqf_tui.app.model_rows import (
    SORTS,
    ModelRow,
    Sort,
    columns_for,
    header,
    line,
    matching,
    model_rows,
    ordered,
)
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.trusting import in_app
from mqf_tui.app.verdict_colours import COLOURS
from mqf_tui.app.widgets.key_footer import KeyFooter
from mqf_tui.app.widgets.model_facts import ModelFactsPane
from mqf_tui.app.widgets.model_list import ModelList, SearchLine
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.library.index import RunRow
from mqf_tui.library.models import LocalModel
from mqf_tui.reports.text import counted, inert

SECONDS_OF_A_BATCH = 0.15  # facts come one by one, and the list is drawn anew for each batch of them
SECONDS_TO_TYPE = 0.2  # a path may still be going on
MARGIN = 3  # columns of the list that are no cells: its padding, and a scroll bar
MARKED = 2  # columns before a row
BROAD = 100  # columns of a window that has room for more words


class ModelsScreen(BaseScreen):
    """A list with facts beside it. The list has the focus; `/` goes to the line that searches."""

    TITLE: ClassVar[str | None] = "Models"
    HELP = (
        "# Models\n\nThe bundled demo, the models of the local Hugging Face cache and of LM Studio, and "
        "those in the folders that `MQF_TUI_MODELS` or `settings.toml` (`[models] folders`) name.\n\n"
        "**/** searches in names, architectures and weights; the path of a folder may be typed there too. "
        "**Space** marks several models, **Enter** sets up a measurement of them. **s** sorts by name, size, "
        "bits, last use, or best verdict. **H** searches and downloads models on the Hugging Face hub.\n\n"
        "On the right of a row each of its runs has a mark, newest first: ● good, ▲ marginal, ■ bad. ✕: the "
        "model cannot be measured; the facts say why."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("models")
    AUTO_FOCUS = "ModelList"  # from the first frame on: keys may be typed ahead
    DEFAULT_CSS = """
    ModelsScreen #left { width: 3fr; }
    ModelsScreen #told, ModelsScreen #columns { height: 1; padding: 0 2; }
    ModelsScreen #told { color: $text-muted; }
    ModelsScreen #columns { text-style: bold; padding: 0 1; }
    ModelsScreen #facts { width: 2fr; min-width: 34; max-width: 64; }
    ModelsScreen.-narrow #both { layout: vertical; }
    ModelsScreen.-narrow #left { width: 1fr; height: 3fr; }
    ModelsScreen.-narrow #facts { width: 1fr; min-width: 0; max-width: 100%; height: 2fr; }
    ModelsScreen.-tall #left { padding-top: 1; }
    ModelsScreen.-tall #facts { padding: 1 1 0 2; }
    ModelsScreen.-tall #columns { margin-top: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._models: tuple[LocalModel, ...] = ()
        self._typed: tuple[LocalModel, ...] = ()  # what a typed path leads to
        self._runs: tuple[RunRow, ...] = ()
        self._shown: list[ModelRow] = []
        self._marked: set[str] = set()
        self._sort: Sort = "name"
        self._looking, self._begun = True, False
        self._wait: Timer | None = None

    def compose(self) -> ComposeResult:
        """Search line and list on the left, facts on the right; below each other in a narrow window."""
        yield TitleBar(str(self.TITLE))
        with Horizontal(id="both"):
            with Vertical(id="left"):
                yield SearchLine(
                    placeholder="/ search, or a folder's path", id="filter", select_on_focus=False
                )
                yield Static(id="told")
                yield Static(id="columns")
                yield ModelList(id="models")
            yield ModelFactsPane(id="facts")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Look around in the background."""
        self.query_one(ModelFactsPane).say("looking for models …")
        listing = self.query_one(ModelList)
        # Shades of a background are not to be seen in few colours.
        listing.set_class(self.mqf.capabilities.colour in ("none", "16"), "-plain")
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """Not before the first frame, which the threads would hold up."""
        self._begun = True
        self.action_reload()

    def on_screen_resume(self) -> None:
        """There may be new runs."""
        if self._begun:
            self._read_runs()

    def measured(self) -> None:
        """One run more."""
        self._read_runs()

    def on_resize(self, event: events.Resize | None = None) -> None:
        """Another width may bear other columns."""
        super().on_resize()
        self.call_after_refresh(self._fill)

    @property
    def listed(self) -> bool:
        """Whether any model is listed yet."""
        return bool(self._shown)

    def action_reload(self) -> None:
        """Look for models again, and for their runs."""
        self._looking = True
        self._look_around()
        self._read_runs()

    @work(thread=True, exclusive=True, group="models")
    def _look_around(self) -> None:
        """The list first, then what the headers say, in batches."""
        from mqf_tui.library.model_places import missing_folders, places
        from mqf_tui.library.models import fully_described, listed

        worker, found = get_current_worker(), places()
        # What was known of a model stands until its headers are read again, so that nothing jumps.
        known = {(model.name, model.source, model.folder): model for model in self._models}
        models = {p.folder: known.get((p.name, p.source, p.folder)) or listed(p) for p in found}
        self._tell(worker.is_cancelled, tuple(models.values()), looking=True)
        told = time.monotonic()
        for model in fully_described(found):
            if worker.is_cancelled:
                return
            if model.folder is not None:
                models[model.folder] = model
            if time.monotonic() - told > SECONDS_OF_A_BATCH:
                self._tell(worker.is_cancelled, tuple(models.values()), looking=True)
                told = time.monotonic()
        self._tell(worker.is_cancelled, tuple(models.values()), looking=False)
        if not worker.is_cancelled and (missing := missing_folders()):
            self.app.call_from_thread(self._miss, missing)

    def _tell(self, cancelled: bool, models: tuple[LocalModel, ...], *, looking: bool) -> None:
        if not cancelled:
            self.app.call_from_thread(self._loaded, models, looking)

    def _loaded(self, models: tuple[LocalModel, ...], looking: bool) -> None:
        self._models, self._looking = models, looking
        self._fill()

    def _miss(self, missing: Sequence[Path]) -> None:
        names = ", ".join(inert(str(folder)) for folder in missing)
        self.notify(
            f"There is no folder {names}; see MQF_TUI_MODELS and [models] in settings.toml.",
            severity="warning",
            markup=False,
        )

    @work(thread=True, exclusive=True, group="runs")
    def _read_runs(self) -> None:
        from mqf_tui.fidelity.errors import FidelityError
        from mqf_tui.library.index import run_rows

        worker = get_current_worker()
        try:
            rows = run_rows().rows
        except FidelityError:
            return  # the list of runs says what is wrong there
        if not worker.is_cancelled:
            self.app.call_from_thread(self._have_runs, rows)

    def _have_runs(self, rows: tuple[RunRow, ...]) -> None:
        if rows != self._runs:
            self._runs = rows
            self._fill()

    @on(Input.Changed, "#filter")
    def _search(self) -> None:
        if self._wait is not None:
            self._wait.stop()
        self._typed = ()
        if "/" in self._line or "\\" in self._line or self._line.startswith((".", "~")):
            self._wait = self.set_timer(SECONDS_TO_TYPE, lambda: self._read_path(self._line))
        self._fill(top=True)

    @property
    def _line(self) -> str:
        return self.query_one("#filter", Input).value.strip()

    @property
    def _is_path(self) -> bool:
        """Whether what is typed can only be a path of this machine, and no name."""
        return self._line.startswith(("/", "~", ".", "\\"))

    @work(thread=True, exclusive=True, group="path")
    def _read_path(self, typed: str) -> None:
        """A folder that is typed is a model, or holds models."""
        from mqf_tui.library.model_places import CONFIG, folder_places
        from mqf_tui.library.models import describe_folder, fully_described, is_folder

        if not is_folder(typed):
            return
        worker, folder = get_current_worker(), Path(os.path.abspath(os.path.expanduser(typed)))
        inside = [] if (folder / CONFIG).exists() else list(folder_places([folder]))
        models = {model.folder: model for model in fully_described(inside, keep=False)}
        found = tuple(models.values()) or (describe_folder(typed),)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._have_path, typed, found)

    def _have_path(self, typed: str, found: tuple[LocalModel, ...]) -> None:
        if self.query("#filter") and typed == self._line:
            self._typed = found
            self._fill(top=True)

    def _fill(self, *, top: bool = False) -> None:
        """Draw the list anew; the cursor stays on its model, or goes to the top."""
        if not self.query(ModelList):
            return  # what a thread found comes when the screen is gone
        listing = self.query_one(ModelList)
        before = None if top else self._under_cursor
        known = model_rows(self._models, self._runs)
        self._shown = model_rows(self._typed, self._runs) + ordered(matching(known, self._line), self._sort)
        unicode = self.mqf.capabilities.unicode
        colours = {verdict: self.app.theme_variables[name] for verdict, name in COLOURS.items()}
        width = max(1, listing.size.width - MARGIN - MARKED)
        columns = columns_for(self._shown, width, self._sort)
        lines: list[Option] = []
        for row in self._shown:
            sign = mark("marked", unicode) if row.key in self._marked else " "
            text = Text(f"{sign} ").append_text(line(row, columns, unicode, colours))
            if not row.measurable:
                text.stylize("dim", 0, len(text) - 1)
            lines.append(Option(text))
        with self.prevent(OptionList.OptionHighlighted):
            listing.set_options(lines)
            places = {row.key: place for place, row in enumerate(self._shown)}
            listing.highlighted = places.get(before.key if before else "", 0) if lines else None
        self.query_one("#columns", Static).update(" " * MARKED + header(columns, self._sort, unicode))
        self._show_about()
        self._show_facts()

    def _show_about(self) -> None:
        marked = len(self._chosen())
        n, all_of_them = len(self._shown), len(self._models) + len(self._typed)
        words = f"{n:,} of {counted(all_of_them, 'model')}" if self._line else counted(n, "model")
        what = f", Enter sets up {'it' if marked == 1 else 'all'}" if self.size.width >= BROAD else ""
        said = f"{marked} marked{what}" if marked else ""
        parts = (words, f"by {self._sort}", said, "reading …" if self._looking else "")
        self.query_one("#told", Static).update(", ".join(part for part in parts if part))

    def _show_facts(self) -> None:
        pane, row = self.query_one(ModelFactsPane), self._under_cursor
        if row is not None:
            pane.show(row)
        elif self._is_path:
            pane.say(f"There is no folder {inert(self._line)}; go on typing, or Escape clears the line.")
        elif self._line:
            said = f"No model matches {inert(self._line)!r} here, and there is no such folder."
            pane.say(f"{said} Enter searches for it on the hub (H), Escape clears the line.")
        else:
            pane.say("looking for models …" if self._looking else "No models found.")

    @property
    def _under_cursor(self) -> ModelRow | None:
        place = self.query_one(ModelList).highlighted
        # The list may be about to be filled anew.
        return self._shown[place] if place is not None and place < len(self._shown) else None

    @on(OptionList.OptionHighlighted)
    def _moved(self) -> None:
        self._show_facts()

    def action_search(self) -> None:
        """Go to the line that is typed into."""
        self.query_one(SearchLine).focus()

    @on(SearchLine.Left)
    def _to_list(self) -> None:
        self.query_one(ModelList).focus()

    def action_hub(self) -> None:
        """Go to the hub, with what was typed where nothing here matches it."""
        if self._line and not self._shown and not self._is_path:
            self.mqf.find_on_hub(self._line)
        else:
            self.mqf.action_hub()

    def action_sort(self) -> None:
        """Sort by the next key."""
        self._sort = SORTS[(SORTS.index(self._sort) + 1) % len(SORTS)]
        self._fill()

    def action_mark(self) -> None:
        """Mark the model under the cursor, or take its mark away, and go on to the next."""
        row = self._under_cursor
        if row is None:
            return
        if not row.measurable:
            self._refuse(row)
            return
        self._marked ^= {row.key}
        self._fill()
        self.query_one(ModelList).action_cursor_down()

    def _chosen(self) -> list[ModelRow]:
        """The marked ones that can be measured, also those that the search hides."""
        typed = model_rows(self._typed, self._runs)
        known = [*typed, *ordered(model_rows(self._models, self._runs), self._sort)]
        return [row for row in known if row.key in self._marked and row.measurable]

    @on(OptionList.OptionSelected)
    def action_choose(self) -> None:
        """Set up a measurement of the marked models, or of the one under the cursor."""
        row = self._under_cursor
        if chosen := self._chosen() or ([row] if row is not None else []):
            self.mqf.choose_models([one.model for one in chosen])
        elif self._line and not self._is_path:
            self.action_hub()

    def _refuse(self, row: ModelRow) -> None:
        why = in_app(row.model.problem or "") or "its headers are still being read; try again in a moment."
        self.notify(why, title="Cannot be measured", severity="warning", markup=False)

    def leave(self) -> None:
        """Empty the search line, then the marks; there is nothing behind this screen."""
        if self._line:
            self.query_one("#filter", Input).value = ""
        elif self._marked:
            self._marked.clear()
            self._fill()
