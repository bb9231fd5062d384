"""What is known of one model: its headers' facts, its cache at each width, its last runs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from mqf_tui.app.capabilities import bar, mark
from mqf_tui.app.model_rows import ModelRow
from mqf_tui.app.row_words import kl_words, local_time
from mqf_tui.app.trusting import in_app
from mqf_tui.app.verdict_colours import COLOURS
from mqf_tui.fidelity.model.about import FULL, About
from mqf_tui.fidelity.quantizers import Quantizer
from mqf_tui.fidelity.recipes import BOUNDED
from mqf_tui.fidelity.settings import KV_BITS
from mqf_tui.library.index import RunRow
from mqf_tui.library.model_places import FOLDER, LM_STUDIO
from mqf_tui.reports.text import counted, inert, size

USUAL_GROUP = 64
BAR = 8  # columns
MOST_RUNS = 6
TITLES = 14  # columns that the names of facts take
LEAST_VALUE = 12
USUAL_WIDTH = 60


class ModelFactsPane(VerticalScroll):
    """The facts of the model under the cursor. Tab goes there, for windows too low for all of them."""

    DEFAULT_CSS = """
    ModelFactsPane { padding: 0 1 0 2; background: $surface; scrollbar-size-vertical: 1; }
    ModelFactsPane:focus { background-tint: $foreground 5%; }
    ModelFactsPane #facts-text { height: auto; }
    """

    _shown = ""  # the key of the model whose facts these are

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static(id="facts-text")

    def say(self, words: str) -> None:
        """A sentence in place of facts."""
        self._shown = ""
        self.query_one("#facts-text", Static).update(Text(words))

    def show(self, row: ModelRow) -> None:
        """The facts of a model; of the same one again where they were scrolled to."""
        colours = {verdict: self.app.theme_variables[name] for verdict, name in COLOURS.items()}
        unicode: bool = self.app.capabilities.unicode  # pyright: ignore[reportAttributeAccessIssue]
        # A column for the bar that scrolls, which may come.
        width = self.content_size.width - 1 if self.content_size.width > 1 else USUAL_WIDTH
        text = facts_text(row, unicode=unicode, colours=colours, width=width)
        self.query_one("#facts-text", Static).update(text)
        if row.key != self._shown:
            self._shown = row.key
            self.scroll_home(animate=False)


def facts_text(row: ModelRow, *, unicode: bool, colours: Mapping[str, str], width: int = USUAL_WIDTH) -> Text:
    """Everything that is known, the reason first where it cannot be measured; ``width`` in columns."""
    model, facts = row.model, row.model.facts
    text = Text()
    text.append(inert(model.name) + "\n", style="bold")
    told = model.source in (FOLDER, LM_STUDIO) and model.folder
    where = f"{model.source} {inert(str(model.folder))}" if told else model.source
    text.append(f"{where}\n", style="dim")
    if row.pending:
        text.append("\nreading its headers …\n")
    if model.problem:
        text.append(f"\n{mark('no', unicode)} Cannot be measured: ", style=f"bold {colours['bad']}")
        text.append(inert(in_app(model.problem)) + "\n")
    if facts is not None:
        about = About.of(facts)
        text.append("\n")
        for title, value in about.rows():
            if not (model.problem and title == "measurable"):
                text.append_text(_named(title, value, width))
        if not model.problem:
            text.append_text(_cache(about, unicode))
    if row.runs:
        text.append(f"\n{counted(len(row.runs), 'run')} of it so far, newest first\n", style="bold")
        for run in row.runs[:MOST_RUNS]:
            text.append_text(_run(run, unicode, colours))
    return text


def _named(title: str, value: str, width: int) -> Text:
    """A value in lines of ``width`` columns, beside its name."""
    text = Text()
    for i, line in enumerate(textwrap.wrap(value, max(LEAST_VALUE, width - TITLES)) or [""]):
        text.append(f"{'' if i else title:<{TITLES}}", style="dim")
        text.append(f"{line}\n")
    return text


def _cache(about: About, unicode: bool) -> Text:
    """Bytes of one token at each width, for keys and values alike."""
    groups = about.facts.valid_groups
    group = USUAL_GROUP if USUAL_GROUP in groups or not groups else groups[0]
    full = about.cost(None).n_bytes
    if not full:
        return Text("\nNo layer's cache grows with the text.\n")
    bounded = " (layers that grow)" if any(kind in BOUNDED for kind in about.kinds) else ""
    text = Text()
    text.append(f"\nKV cache per token, group {group}{bounded}\n", style="bold")
    for bits in (FULL, *sorted(KV_BITS, reverse=True)):
        taken = full if bits == FULL else about.cost(Quantizer(bits, group)).n_bytes
        text.append(f"{bits:>2}-bit {size(taken):>7}  ")
        text.append(bar(taken / full, BAR, unicode))
        text.append(f" {taken / full:>4.0%}\n".replace("%", " %"), style="dim")
    return text


def _run(run: RunRow, unicode: bool, colours: Mapping[str, str]) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{mark(run.verdict, unicode)} {run.verdict:<9}", style=colours[run.verdict])
    text.append(f"{inert(run.short_setting):<10} ")
    text.append(f"KL {kl_words(run.kl, run.kl_ci)} ")
    text.append(f"{local_time(run.created)[:10]}\n", style="dim")
    return text
