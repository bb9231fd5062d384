"""Which text: the line of corpora, the line to type one's own into, and what it may become."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, Static
from textual.worker import get_current_worker

from mqf_tui.app import setup_options as offered
from mqf_tui.app.actions import bindings
from mqf_tui.app.completing import common, completions
from mqf_tui.app.setup_options import FILE
from mqf_tui.app.setup_texts import mixtures
from mqf_tui.app.widgets.choice import Choice
from mqf_tui.app.widgets.setting_line import INDENT
from mqf_tui.app.widgets.text_sight import TextSight
from mqf_tui.reports.text import inert

HINT = "a path, hf:owner/name, a mixture; several with +"


class CorpusChoice(Choice):
    """The line of corpora; Enter looks into the text."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("corpus_line")


class FileLine(Input):
    """A word for a text; arrows go to the settings around it, Tab completes it.

    ``used``: words of before, the latest first; ``names``: those of mixtures.
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings("file_line")

    class Offered(Message):
        """What the line may become has changed."""

        def __init__(self, words: tuple[str, ...], chosen: int | None) -> None:
            super().__init__()
            self.words, self.chosen = words, chosen

    def __init__(self, names: tuple[str, ...], *, id: str) -> None:
        super().__init__(placeholder=HINT, id=id)
        self.used: tuple[str, ...] = ()
        self._names = names
        self._offered: tuple[str, tuple[str, ...]] = ("", ())  # what was typed, what it may become
        self._chosen: int | None = None  # which of these stands in the line
        self._awaited = False  # Tab was pressed before it was known

    def on_focus(self) -> None:
        """See what there is."""
        self._offer()

    def on_blur(self) -> None:
        """Nothing is offered any more."""
        self._awaited = False
        self.post_message(self.Offered((), None))

    def watch_value(self) -> None:
        """Look anew, unless what stands there was taken from what was offered."""
        if not self.is_mounted or (self._chosen is not None and self.value == self._taken):
            return
        self._chosen = None
        self._offer()

    @property
    def _taken(self) -> str | None:
        words = self._offered[1]
        return words[self._chosen] if self._chosen is not None and self._chosen < len(words) else None

    @work(thread=True, exclusive=True, group="completions")
    def _look(self, typed: str) -> None:
        worker = get_current_worker()
        words = completions(typed, self.used, self._names)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._have, typed, words)

    def _offer(self) -> None:
        if self.has_focus:
            self._look(self.value)

    def _have(self, typed: str, words: tuple[str, ...]) -> None:
        if not self.is_attached or typed != self.value:
            return
        self._offered, self._chosen = (typed, words), None
        self.post_message(self.Offered(words if self.has_focus else (), None))
        if self._awaited:
            self._awaited = False
            self.action_complete()

    def action_complete(self) -> None:
        """Add what all that is offered has in common; else take the first, then the next; else go on."""
        typed, words = self._offered
        if self._chosen is None and typed != self.value:
            self._awaited = True
            return
        if not words:
            self.app.action_focus_next()
            return
        more = common(words)
        if self._chosen is None and len(more) > len(typed) and more.startswith(typed):
            self._take(more)
            return
        self._chosen = 0 if self._chosen is None else (self._chosen + 1) % len(words)
        self._take(words[self._chosen])
        self.post_message(self.Offered(words, self._chosen))

    def _take(self, word: str) -> None:
        self.value = word
        self.cursor_position = len(word)


class CorpusLines(Vertical):
    """The corpus, a line for one's own, what the line may become, and what is known of the text."""

    DEFAULT_CSS = """
    CorpusLines { height: auto; }
    CorpusLines #file { border: none; height: 1; margin: 0 1 0 15; padding: 0; background: $panel; }
    CorpusLines #matches {
        height: 1; padding: 0 1 0 15; color: $secondary; display: none;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    """

    def compose(self) -> ComposeResult:
        """All of it; the user's mixtures are read once."""
        names, problem = mixtures()
        options = offered.corpora(names, inert(problem))
        yield CorpusChoice("corpus", options, "builtin", id="corpus")
        yield FileLine(names, id="file")
        yield Static(id="matches", markup=False)
        yield TextSight(id="preview")

    @property
    def own(self) -> bool:
        """Whether the text is one that is typed."""
        return self.query_one(CorpusChoice).value == FILE

    def show_own(self) -> None:
        """The line to type into is there where it is needed."""
        self.query_one(FileLine).display = self.own

    @on(FileLine.Offered)
    def _show_offered(self, event: FileLine.Offered) -> None:
        line = self.query_one("#matches", Static)
        line.display = bool(event.words)
        line.update(offered_words(event.words, event.chosen, self.size.width - INDENT - 4))


def offered_words(words: tuple[str, ...], chosen: int | None, width: int) -> Text:
    """As many of the words as fit, by their last parts, from the chosen one on; it is underlined."""
    text = Text("Tab: ", no_wrap=True, overflow="ellipsis")
    start = chosen or 0
    for n, word in enumerate(words[start:], start):
        name = inert(_last_part(word))
        if n > start and len(text) + len(name) > width - 12:
            text.append(f"… {len(words) - n} more")
            break
        text.append(name, style="underline" if n == chosen else "")
        text.append("  ")
    return text


def _last_part(word: str) -> str:
    bare = word.rstrip("/")
    return bare.rpartition("/")[2] + word[len(bare) :] if bare and not word.startswith("hf:") else word
