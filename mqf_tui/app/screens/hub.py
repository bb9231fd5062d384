"""Hub: search models there, download them, see how that goes."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.timer import Timer
from textual.widgets import Input, Label, OptionList, Static

from mqf_tui.app.actions import bindings
from mqf_tui.app.hub_downloads import Standing
from mqf_tui.app.hub_searches import MOST, Answer, Query, Searches
from mqf_tui.app.hub_words import (
    HubRow,
    about_download,
    about_words,
    cells_of,
    columns_for,
    fitting_models,
    found_words,
    nothing_words,
    page_of,
    query_of,
    rows_of,
    sentence,
)
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.screens.hub_dialogs import DownloadScreen
from mqf_tui.app.trusting import in_app
from mqf_tui.app.widgets.download_list import DownloadList
from mqf_tui.app.widgets.key_footer import KeyFooter
from mqf_tui.app.widgets.model_list import SearchLine
from mqf_tui.app.widgets.row_list import RowList
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.library.hub.search import AUTHOR

SECONDS = 0.25  # between two looks at the answer and at the downloads
SECONDS_TO_TYPE = 0.35  # a word may still be going on


class AuthorLine(SearchLine):
    """Whose models are searched; empty: everyone's. What was changed can be taken back."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("author")

    def on_focus(self) -> None:
        """Remember what it was."""
        self._before = self.value

    def action_as_before(self) -> None:
        """Change nothing, and go back to the list."""
        self.value = self._before
        self.post_message(self.Left())


class HubScreen(BaseScreen):
    """A line to type into, what the hub has, and the downloads below."""

    TITLE: ClassVar[str | None] = "Hub"
    HELP = (
        "# Hub\n\nModels on the Hugging Face hub. Type words of a name; **a** goes to the author, whose "
        "models are searched: *mlx-community* holds those that were made for MLX. An empty line there "
        "searches those of everyone.\n\n"
        "**Enter** downloads the model under the cursor, and sets it up once it is here (✓). A whole "
        "`owner/name`, or `owner/name@revision`, can be downloaded though it is no hit.\n\n"
        "One model comes after the other, below the list, and goes on while other screens are seen. **x** "
        "cancels; what has come is kept, and **R** goes on from there. Tab goes to the downloads.\n\n"
        "*gated*: its authors ask you to accept their terms first; **o** opens the model's page. Then sign "
        "in once with `hf auth login`. Only weights in safetensors and the files beside them are fetched: no "
        "code, no pickles."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("hub")
    LESS: ClassVar[tuple[str, ...]] = ("hub.page", "hub.again", "hub.author")
    DEFAULT_CSS = """
    HubScreen #lines { height: 1; }
    HubScreen #text { width: 3fr; }
    HubScreen #author { width: 1fr; min-width: 15; }
    HubScreen #by { padding: 0; color: $text-muted; }
    HubScreen #told { height: 1; padding: 0 2; color: $text-muted; }
    HubScreen #said { height: auto; padding: 1 2; }
    HubScreen #said.-wrong { color: $error; }
    HubScreen #about { height: 2; padding: 0 2; color: $text-muted; }
    HubScreen.-tall #lines, HubScreen.-tall #about, HubScreen.-tall DownloadList { margin-top: 1; }
    HubScreen.-tall #told { margin-bottom: 1; }
    """

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self._text = text
        self._searches = Searches()
        self._answer: Answer | None = None
        self._standings: tuple[Standing, ...] = ()
        self._rows: list[HubRow] = []
        self._wait: Timer | None = None
        self._drawn = 0  # columns for which the list was drawn

    def compose(self) -> ComposeResult:
        """Two lines to type into, the list, the downloads."""
        yield TitleBar(str(self.TITLE))
        with Horizontal(id="lines"):
            yield SearchLine(
                self._text, placeholder="words of a name, or owner/name", id="text", select_on_focus=False
            )
            yield Label("by", id="by")
            yield AuthorLine(AUTHOR, placeholder="anyone", id="author", select_on_focus=False)
        yield Static(id="told", markup=False)
        yield Static(id="said", markup=False)
        yield RowList(id="hits")
        yield Static(id="about", markup=False)
        yield DownloadList(id="downloads")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Search at once: without words for what is downloaded most."""
        self._standings = self._standing()
        # Shades of a background are not to be seen in few colours.
        self.query_one(DownloadList).set_class(self.mqf.capabilities.colour in ("none", "16"), "-plain")
        self._show()
        # Who comes back while something is downloaded wants to see to that; who has typed already, the hits.
        first = "#hits" if self._text else "#downloads" if self.mqf.downloads.busy else "#text"
        self.query_one(first).focus()
        self.call_after_refresh(self._ask)
        self.set_interval(SECONDS, self._look)

    def on_screen_resume(self) -> None:
        """What has happened meanwhile."""
        self._look()

    def on_unmount(self) -> None:
        """Ask no more; downloads go on."""
        self._searches.close()

    def on_resize(self, event: events.Resize | None = None) -> None:
        """Another width may bear other columns."""
        super().on_resize()
        self.call_after_refresh(self._show)

    @property
    def rows(self) -> tuple[HubRow, ...]:
        """What is listed."""
        return tuple(self._rows)

    def find(self, text: str) -> None:
        """Search for this."""
        self.query_one("#text", Input).value = text

    # Searching

    @on(Input.Changed)
    def _typed(self) -> None:
        if self._wait is not None:
            self._wait.stop()
        self._wait = self.set_timer(SECONDS_TO_TYPE, self._ask)
        self._show(top=True)

    def _ask(self) -> None:
        self._searches.ask(self._query)
        self._show()

    @property
    def _query(self) -> Query:
        """What is typed now, whether it was asked or not."""
        return query_of(self._value("#text"), self._value("#author"))

    def _value(self, line: str) -> str:
        return self.query_one(line, Input).value

    def _look(self) -> None:
        """Draw anew where there is an answer, or a download is further."""
        if not self.is_current:
            return  # it is done when the screen is seen again
        answer, standings = self._searches.answer, self._standing()
        if answer is not self._answer:
            self._answer, self._standings = answer, standings
            self._show(top=True)
        elif standings != self._standings or self._drawn != self._room:
            self._standings = standings
            self._show()
        else:
            self._show_told()

    def _standing(self) -> tuple[Standing, ...]:
        """What runs, what waits in the order of its turn, then what has ended, the last one first."""
        found = [one.standing() for one in self.mqf.downloads.all]
        going = [s for s in found if not s.ended]
        return (
            *sorted(going, key=lambda s: s.state == "waiting"),
            *(s for s in reversed(found) if s.ended),
        )

    # What is shown

    def _show(self, *, top: bool = False) -> None:
        if not self.query("#hits"):
            return
        listing, answer = self.query_one(RowList), self._answer
        under = None if top else self._under_cursor
        models = answer.models if answer else ()
        if answer is not None and answer.query != self._query:
            models = fitting_models(self._query, models)
        self._rows = rows_of(self._value("#text"), models, self._standings)
        columns = columns_for(listing.size.width) if self._rows else []
        unicode = self.mqf.capabilities.unicode
        names = [row.name for row in self._rows]
        cursor = names.index(under.name) if under is not None and under.name in names else 0
        listing.show(columns, len(self._rows), lambda n: cells_of(self._rows[n], columns, unicode), cursor)
        self.query_one(DownloadList).show(self._standings)
        self._drawn = self._room
        self._show_told()
        self._show_said()
        self._show_about()

    @property
    def _room(self) -> int:
        """Columns of the list; the help takes some of them."""
        return self.query_one(RowList).size.width

    def _show_told(self) -> None:
        answer, searches = self._answer, self._searches
        coming = searches.busy or answer is None or answer.query != self._query
        found = ""
        if answer is not None and not answer.problem and answer.query == self._query:
            found = found_words(answer.query, len(answer.models), MOST)
        doing = searches.waiting or ("searching …" if coming else "")
        told = ", ".join(part for part in (found, doing) if part)
        line = self.query_one("#told", Static)
        if str(line.content) != told:
            line.update(told)

    def _show_said(self) -> None:
        """In place of the list where there is nothing in it."""
        answer, words = self._answer, ""
        if answer is not None and answer.problem:
            words = f"{sentence(in_app(answer.problem))} F5 tries again."
        elif answer is not None and not answer.models and answer.query == self._query:
            words = nothing_words(answer.query, self._value("#text"))
        said = self.query_one("#said", Static)
        said.set_class(bool(answer is not None and answer.problem), "-wrong")
        said.display = bool(words)
        said.update(words)

    def _show_about(self) -> None:
        chosen, row, words = self._chosen_download, self._under_cursor, ""
        if chosen is not None:
            words = about_download(chosen)
        elif row is not None:
            words = about_words(row, page_of(row.name))
        self.query_one("#about", Static).update(words)

    @property
    def _under_cursor(self) -> HubRow | None:
        row = self.query_one(RowList).cursor_row
        return self._rows[row] if row < len(self._rows) else None

    @on(RowList.Moved)
    @on(OptionList.OptionHighlighted)
    @on(events.DescendantFocus)
    @on(events.DescendantBlur)
    def _moved(self) -> None:
        self._show_about()

    # Keys

    @on(SearchLine.Left)
    def _to_list(self) -> None:
        self.query_one(RowList).focus()

    def action_search(self) -> None:
        """Go to the line that is typed into."""
        self.query_one("#text").focus()

    def action_author(self) -> None:
        """Go to the author's line."""
        self.query_one("#author").focus()

    def action_reload(self) -> None:
        """Ask again."""
        self._ask()

    @on(RowList.Chosen)
    @on(OptionList.OptionSelected)
    def action_choose(self) -> None:
        """Download what is under the cursor, or set it up."""
        chosen = self._chosen_download
        if chosen is not None:
            if chosen.state == "finished":
                self.mqf.set_up_downloaded(chosen.name, chosen.folder)
            elif chosen.ended:
                self.mqf.download(chosen.name)
            return
        row = self._under_cursor
        if row is None:
            return
        if row.here:
            self.mqf.set_up_downloaded(row.name, row.standing.folder if row.standing else None)
        elif row.going:
            self.notify("It is on its way; x cancels it.")
        else:
            self._offer(row)

    def _offer(self, row: HubRow) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self.mqf.download(row.name)
                self._look()

        self.app.push_screen(DownloadScreen(row, page_of(row.name)), answered)

    @property
    def _chosen_download(self) -> Standing | None:
        """The one under the cursor of the downloads, where the focus is there."""
        listing = self.query_one(DownloadList)
        return listing.chosen if listing.has_focus else None

    def action_cancel(self) -> None:
        """Cancel the download under the cursor; from elsewhere the one that runs."""
        downloads = self.mqf.downloads
        chosen, row = self._chosen_download, self._under_cursor
        name = chosen.name if chosen is not None else row.name if row is not None and row.going else ""
        one = downloads.of(name) if name else downloads.current
        if one is None or one.standing().ended:
            self.notify("Nothing is being downloaded." if chosen is None else "It has ended already.")
        else:
            one.cancel()
            self._look()

    def action_again(self) -> None:
        """Go on with the download under the cursor; from elsewhere with the newest that did not come."""
        chosen, row = self._chosen_download, self._under_cursor
        broken = [s for s in self._standings if s.state in ("failed", "cancelled")]
        named = [s for s in broken if row is not None and s.name == row.name]
        one = chosen if chosen in broken else next(iter([*named, *broken]), None)
        if one is None or (chosen is not None and chosen not in broken):
            self.notify("There is no download to go on with.")
        else:
            self.mqf.download(one.name)
            self._look()

    def action_page(self) -> None:
        """Open the page of the model under the cursor."""
        chosen, row = self._chosen_download, self._under_cursor
        name = chosen.name if chosen is not None else row.name if row is not None else ""
        if name:
            self.mqf.browse(page_of(name))
