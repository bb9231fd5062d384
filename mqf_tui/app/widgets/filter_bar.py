"""The line that filters runs, what it found, and what is wrong with it."""

from __future__ import annotations

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input, Static

from mqf_tui.app.widgets.model_list import SearchLine
from mqf_tui.library.filtering import BadFilterError, Filter, parse

KEYS = (
    "Words and model: setting: kv: bits: verdict: tag: note: corpus: sweep: is:\n"
    "after: before: kl< p99< flips>  such as  smol bits:4,8 -verdict:good kl<0.01"
)
EXAMPLE = "/ filters: smol bits:4 kl<0.01"


class FilterBar(Vertical):
    """Tells of each filter that is understood; while one is not, the last one holds."""

    DEFAULT_CSS = """
    FilterBar { height: auto; }
    FilterBar Horizontal { height: 1; }
    FilterBar SearchLine { width: 1fr; }
    FilterBar #count { width: auto; padding: 0 2 0 1; color: $secondary; }
    FilterBar #problem { height: auto; padding: 0 2; color: $secondary; }
    FilterBar #problem.-wrong { color: $warning; }
    """

    class Filtered(Message):
        """Another filter holds."""

        def __init__(self, filter: Filter) -> None:
            super().__init__()
            self.filter = filter

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """The line, with what it found behind it; below it a sentence where there is something to say."""
        with Horizontal():
            yield SearchLine(self._text, placeholder=EXAMPLE, id="filter", select_on_focus=False)
            yield Static("", id="count", markup=False)
        yield Static("", id="problem", markup=False)

    def on_mount(self) -> None:
        """Nothing to say yet."""
        self._understand()

    @property
    def text(self) -> str:
        """What is typed."""
        return self.query_one(SearchLine).value

    @text.setter
    def text(self, text: str) -> None:
        self._text = text
        for line in self.query(SearchLine):
            line.value = text

    def type(self) -> None:
        """Go to the line."""
        self.query_one(SearchLine).focus()

    def count(self, words: str) -> None:
        """Say what was found."""
        self.query_one("#count", Static).update(words)

    @on(Input.Changed)
    def changed(self, event: Input.Changed) -> None:
        """Understand it as it is typed."""
        event.stop()
        self._understand()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """In an empty line one is told what can be typed."""
        del event
        self._understand()

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        """The hint goes with the cursor."""
        del event
        self._understand()

    def _understand(self) -> None:
        problem = ""
        try:
            self.post_message(self.Filtered(parse(self.text)))
        except BadFilterError as error:
            problem = str(error)
        line = self.query_one("#problem", Static)
        line.set_class(bool(problem), "-wrong")
        line.update(problem[:1].upper() + problem[1:] or KEYS)
        line.display = bool(problem) or (self.query_one(SearchLine).has_focus and not self.text.strip())
