"""What is known of one model: its headers' facts, its cache at each width, its last runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from mqf_tui.app.capabilities import bar, mark
from mqf_tui.app.model_rows import ModelRow, count_words
from mqf_tui.app.row_words import kl_words, local_time
from mqf_tui.app.verdict_colours import COLOURS
from mqf_tui.fidelity.facts import ModelFacts, recipe_bytes_per_token
from mqf_tui.fidelity.quantizers import LayerQuantizers, Quantizer
from mqf_tui.fidelity.recipes import BOUNDED, KIND_WORDS, LayerKind, Recipe
from mqf_tui.fidelity.settings import KV_BITS
from mqf_tui.fidelity.shapes import read_shape
from mqf_tui.library.index import RunRow
from mqf_tui.library.model_places import FOLDER
from mqf_tui.reports.text import counted, inert, size

FULL = 16  # bits of a cache that is not quantized, as it is counted here
USUAL_GROUP = 64
BAR = 8  # columns
MOST_RUNS = 6
TITLES = 13  # columns that the names of facts take


class ModelFactsPane(VerticalScroll):
    """The facts of the model under the cursor. Tab goes there, for windows too low for all of them."""

    DEFAULT_CSS = """
    ModelFactsPane { padding: 0 1 0 2; background: $surface; scrollbar-size-vertical: 1; }
    ModelFactsPane:focus { background-tint: $foreground 5%; }
    ModelFactsPane #facts-text { height: auto; }
    """

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static(id="facts-text")

    def say(self, words: str) -> None:
        """A sentence in place of facts."""
        self.query_one("#facts-text", Static).update(Text(words))

    def show(self, row: ModelRow) -> None:
        """The facts of a model."""
        colours = {verdict: self.app.theme_variables[name] for verdict, name in COLOURS.items()}
        unicode: bool = self.app.capabilities.unicode  # pyright: ignore[reportAttributeAccessIssue]
        self.query_one("#facts-text", Static).update(facts_text(row, unicode=unicode, colours=colours))
        self.scroll_home(animate=False)


def facts_text(row: ModelRow, *, unicode: bool, colours: Mapping[str, str]) -> Text:
    """Everything that is known, the reason first where it cannot be measured."""
    model, facts = row.model, row.model.facts
    text = Text()
    text.append(inert(model.name) + "\n", style="bold")
    where = f"folder {inert(str(model.folder))}" if model.source == FOLDER and model.folder else model.source
    text.append(f"{where}\n", style="dim")
    if row.pending:
        text.append("\nreading its headers …\n")
    if model.problem:
        text.append(f"\n{mark('no', unicode)} Cannot be measured: ", style=f"bold {colours['bad']}")
        text.append(inert(model.problem) + "\n")
    if facts is not None:
        text.append("\n")
        for name, value in _facts(facts):
            text.append(f"{name:<{TITLES}}", style="dim")
            text.append(f"{value}\n")
    if facts is not None and not model.problem:
        text.append_text(_cache(facts, unicode))
    if row.runs:
        text.append(f"\n{counted(len(row.runs), 'run')} of it so far, newest first\n", style="bold")
        for run in row.runs[:MOST_RUNS]:
            text.append_text(_run(run, unicode, colours))
    return text


def _facts(f: ModelFacts) -> Iterator[tuple[str, str]]:
    yield "architecture", inert(f.architecture)
    yield "weights", f.weights
    yield "parameters", count_words(f.n_parameters)
    yield "size on disk", size(f.size_bytes)
    yield "layers", f"{f.n_layers}{_kinds(_kinds_of(f))}"
    yield "heads", f"{f.n_heads}, {f.n_kv_heads} of K and V"
    own = f", values {f.v_head_dim}" if f.v_head_dim != f.head_dim else ""
    yield "head size", f"{f.head_dim}{own}"
    yield "groups", ", ".join(map(str, f.valid_groups)) or "none fits"
    yield "vocabulary", f"{f.vocab_size:,}"
    yield "context", f"{f.context:,} tokens" if f.context else "not stated"


def _kinds_of(facts: ModelFacts) -> tuple[LayerKind, ...]:
    return read_shape(facts).kinds


def _kinds(kinds: tuple[LayerKind, ...]) -> str:
    others: dict[LayerKind, int] = {kind: kinds.count(kind) for kind in kinds if kind != "full"}
    return "".join(f", {n} {KIND_WORDS[kind]}" for kind, n in others.items())


def _cache(facts: ModelFacts, unicode: bool) -> Text:
    """Bytes of one token at each width, for keys and values alike."""
    kinds = _kinds_of(facts)
    group = USUAL_GROUP if USUAL_GROUP in facts.valid_groups or facts.latent else facts.valid_groups[0]

    def taken(bits: int) -> float:
        one = None if bits == FULL else Quantizer(bits, group)
        recipe = Recipe.uniform(len(kinds), LayerQuantizers(one, one))
        return recipe_bytes_per_token(facts, recipe, kinds, FULL // 8)

    full = taken(FULL)
    if not full:
        return Text("\nNo layer's cache grows with the text.\n")
    bounded = " (layers that grow)" if any(kind in BOUNDED for kind in kinds) else ""
    text = Text()
    text.append(f"\nKV cache per token, group {group}{bounded}\n", style="bold")
    for bits in (FULL, *sorted(KV_BITS, reverse=True)):
        share = taken(bits) / full
        text.append(f"{bits:>2}-bit {size(taken(bits)):>7}  ")
        text.append(bar(share, BAR, unicode))
        text.append(f" {share:>4.0%}\n".replace("%", " %"), style="dim")
    return text


def _run(run: RunRow, unicode: bool, colours: Mapping[str, str]) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{mark(run.verdict, unicode)} {run.verdict:<9}", style=colours[run.verdict])
    text.append(f"{inert(run.short_setting):<10} ")
    text.append(f"KL {kl_words(run.kl, run.kl_ci)} ")
    text.append(f"{local_time(run.created)[:10]}\n", style="dim")
    return text
