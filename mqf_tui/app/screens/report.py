"""Report: a document in each of its formats; copied, saved, opened, or made into the text of an issue."""

from __future__ import annotations

import os
from asyncio import sleep
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.highlight import highlight
from textual.widgets import Markdown, Static, Tab, Tabs

from mqf_tui.app.actions import bindings
from mqf_tui.app.browsing import open_page, write_page
from mqf_tui.app.documents import Document, Form, issue_document
from mqf_tui.app.previews import MOST_MARKDOWN, MOST_SOURCE, cut, harmless, pieces, readable_markdown
from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.app.screens.report_dialogs import SaveScreen, TrackerScreen
from mqf_tui.app.widgets.key_footer import KeyFooter
from mqf_tui.app.widgets.title_bar import TitleBar
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.exporting import export
from mqf_tui.reports.issue_text import Tracker
from mqf_tui.reports.text import inert, size

TAB = "form-"
WIDE_TABLE = 6  # borders between columns


class ReportScreen(BaseScreen):
    """The formats as tabs, below them the text of the one chosen."""

    TITLE: ClassVar[str | None] = "Report"
    HELP = (
        "# Report\n\n← and → choose the format, ↑ and ↓ scroll. **y** copies the text in that format and "
        "says which way it went; **w** saves it as a file; **b** opens the HTML page in a browser. Markdown "
        "is shown as it is read, **t** shows it as it is written. Of long texts the beginning is shown; "
        "copies and files have all.\n\n"
        "**i** makes the text of an issue for a tracker, to be pasted there. Nothing is ever sent."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("report")
    DEFAULT_CSS = """
    ReportScreen #title { height: auto; padding: 0 2; text-style: bold; }
    ReportScreen #note { height: auto; padding: 0 2; color: $text-warning; }
    ReportScreen Tabs { height: 2; padding: 0 1; }
    ReportScreen #page { height: 1fr; padding: 0 2; background: $surface; }
    ReportScreen Markdown { background: $surface; padding: 0; margin: 0; }
    ReportScreen MarkdownFence { max-height: 200; }
    ReportScreen MarkdownTableContent { keyline: none; grid-gutter: 0 1; }
    ReportScreen .-ruled MarkdownTableContent { keyline: thin $foreground 20%; grid-gutter: 1 1; }
    ReportScreen #status { height: 1; padding: 0 2; color: $secondary; }
    """

    def __init__(self, document: Document) -> None:
        super().__init__()
        self._document = document
        self._form = document.forms[0]
        self._texts: dict[str, str] = {}  # by form, as they were made
        self._source = False

    def compose(self) -> ComposeResult:
        """Title, tabs, text, and what the file would be."""
        yield TitleBar(str(self.TITLE))
        yield Static(Content(inert(self._document.title)), id="title")
        if self._document.note:
            yield Static(Content(self._document.note), id="note")
        tabs = Tabs(*(Tab(Content(f.words), id=f"{TAB}{i}") for i, f in enumerate(self._document.forms)))
        tabs.can_focus = False
        yield tabs
        yield VerticalScroll(id="page")
        yield Static("", id="status")
        yield KeyFooter()

    def on_mount(self) -> None:
        """The arrows scroll from the start."""
        self.query_one("#page").focus()

    @on(Tabs.TabActivated)
    def chosen(self, event: Tabs.TabActivated) -> None:
        """Show the format of the tab."""
        self._form = self._document.forms[int((event.tab.id or "").removeprefix(TAB) or 0)]
        self._show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what this document and this format can."""
        del parameters
        if action == "source":
            return self._form.language == "markdown"
        if action == "browser":
            return "html" in self._document.formats
        return self._document.issue is not None if action == "issue" else True

    def action_previous(self) -> None:
        """The format to the left."""
        self.query_one(Tabs).action_previous_tab()

    def action_next(self) -> None:
        """The format to the right."""
        self.query_one(Tabs).action_next_tab()

    def action_source(self) -> None:
        """Markdown as it is written, or as it is read."""
        self._source = not self._source
        self._show()

    def action_copy(self) -> None:
        """Copy all of the text in this format."""
        what = self._form.words
        self._with_text(self._form, lambda text: self.mqf.copy(text, what))

    def action_save(self) -> None:
        """Ask where, then write all of the text."""
        form = self._form

        def save(path: Path | None) -> None:
            if path is not None:
                self._with_text(form, partial(self._write, path))

        self.app.push_screen(SaveScreen(self._document.file_name(form.name)), save)

    def action_browser(self) -> None:
        """Write the HTML page and open it."""
        self._with_text(self._document.form("html"), self._browse)

    def action_issue(self) -> None:
        """Ask for the tracker, then show the text of the issue as a document of its own."""

        def make(answer: tuple[Tracker, bool] | None) -> None:
            if answer is not None:
                self._make_issue(*answer)

        self.app.push_screen(TrackerScreen(self._document.text_name, quoted=self._document.text_open), make)

    def _show(self) -> None:
        self.refresh_bindings()
        self.query_one("#status", Static).update("making it …" if self._form.name not in self._texts else "")
        self._prepare(self._form, self._source)

    @work(thread=True, exclusive=True, group="preview")
    def _prepare(self, form: Form, source: bool) -> None:
        """Make the text and what is shown of it, beside the screen."""
        text = self._text(form)
        if text is None:
            return
        read = form.language == "markdown" and not source
        shown, words = cut(readable_markdown(text) if read else text, MOST_MARKDOWN if read else MOST_SOURCE)
        shown = harmless(shown)
        content = (
            Content(shown) if read or form.language == "text" else highlight(shown, language=form.language)
        )
        told = f"{self._document.file_name(form.name)}, {size(len(text.encode('utf-8', 'replace')))}"
        self.app.call_from_thread(
            self._put_up, shown if read else content, "; ".join(filter(None, (told, words)))
        )

    @work(exclusive=True, group="put")
    async def _put_up(self, shown: str | Content, told: str) -> None:
        """Show it; Markdown piece by piece, since each becomes many widgets."""
        if not self.is_mounted:
            return
        page = self.query_one("#page", VerticalScroll)
        self.query_one("#status", Static).update(Content(told))
        await page.remove_children()
        page.scroll_home(animate=False)
        if isinstance(shown, Content):
            await page.mount(Static(shown))
            return
        # The cells of wide tables fold, and lines keep the rows apart.
        page.set_class(any(line.count(" | ") >= WIDE_TABLE for line in shown.splitlines()), "-ruled")
        for piece in pieces(shown):
            await page.mount(Markdown(piece, open_links=False))
            await sleep(0)

    def _text(self, form: Form) -> str | None:
        """The text of a format, made once; None where it cannot be, which was said. Slow."""
        if form.name not in self._texts:
            try:
                self._texts[form.name] = self._document.render(form.name)
            except FidelityError as error:
                self.app.call_from_thread(self._failed, str(error))
                return None
        return self._texts[form.name]

    def _failed(self, words: str) -> None:
        self._complain(words)
        if self.is_mounted:
            self.query_one("#status", Static).update("this format cannot be made")
            self.query_one("#page").remove_children()

    @work(thread=True, group="give")
    def _with_text(self, form: Form, then: Callable[[str], None]) -> None:
        text = self._text(form)
        if text is not None:
            self.app.call_from_thread(then, text)

    @work(thread=True, group="give")
    def _write(self, path: Path, text: str) -> None:
        try:
            export(path, text)
        except FidelityError as error:
            self.app.call_from_thread(self._complain, str(error))
        else:
            self.app.call_from_thread(self.notify, f"Saved as {inert(str(path))}", markup=False)

    def _complain(self, words: str) -> None:
        self.notify(words[:1].upper() + words[1:], severity="error", timeout=15, markup=False)

    @work(thread=True, group="give")
    def _browse(self, text: str) -> None:
        try:
            words, opened = open_page(write_page(self._document.file_name("html"), text), os.environ)
        except FidelityError as error:
            self.app.call_from_thread(self._complain, str(error))
        else:
            severity = "information" if opened else "warning"
            self.app.call_from_thread(self.notify, words, severity=severity, timeout=15, markup=False)

    @work(thread=True, group="give")
    def _make_issue(self, tracker: Tracker, quoted: bool) -> None:
        try:
            document = issue_document(self._document, tracker, quoted=quoted)
        except FidelityError as error:
            self.app.call_from_thread(self._complain, str(error))
        else:
            self.app.call_from_thread(self.app.push_screen, IssueScreen(document))


class IssueScreen(ReportScreen):
    """The text of an issue."""

    TITLE: ClassVar[str | None] = "Issue"
