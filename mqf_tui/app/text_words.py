"""What the text's screen says: what there is of a text, and its first chunk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from rich.text import Text

from mqf_tui.app.previews import harmless
from mqf_tui.app.setup_texts import mixtures
from mqf_tui.app.setup_words import sight_words
from mqf_tui.app.text_sight import Sight
from mqf_tui.library.last_used import Value
from mqf_tui.reports.text import counted, inert

VERSIONS = {"file": "a file", "folder": "a folder", "1": "comes with the program"}
MOST_SHOWN = 20_000  # characters of the first chunk


def source_words(word: str, model: str) -> str:
    """Which text, with which model's tokenizer."""
    return f"{inert(word) if word else 'no text'}   with the tokenizer of {inert(model)}"


def facts_text(sight: Sight | None, length: Value, warning: str) -> Text:
    """How much there is, where it comes from, how it is cut, what should be known."""
    if sight is None:
        return Text("looking at the text …")
    if sight.problem:
        return Text(f"{sight.problem[:1].upper()}{sight.problem[1:]}")
    if sight.chunks is None or not isinstance(length, int):
        return Text(
            "The text is fetched from the Hugging Face hub when the measurement begins; f fetches it now and "
            "counts its tokens and chunks."
        )
    text = Text(sight_words(sight, "", length), style="bold")
    for line in _facts(sight):
        text.append(f"\n{line}", style="not bold")
    for one in sight.chunks.warnings:
        text.append(f"\n{inert(one)[:1].upper()}{inert(one)[1:]}.", style=f"not bold {warning}")
    return text


def _facts(sight: Sight) -> Iterator[str]:
    found = sight.chunks
    assert found is not None
    text, per = found.provenance, found.fit.tokens_per_character
    split = f", split {inert(text.split)}" if text.split else ""
    least = "" if found.whole else "at least "
    words = [
        f"{VERSIONS.get(text.version) or inert(text.version)}{split}",
        f"{least}{counted(found.n_scored, 'position')} scored",
        *([f"{1 / per:.2f} characters a token"] if per else []),
    ]
    yield "; ".join(words)
    joined = "" if text.join == "none" else f"{inert(text.join)}; "
    yield f"{joined}BOS {inert(text.bos_policy)}; rest {inert(text.final_chunk_policy)}"
    if len(found.parts) > 1:
        total = sum(n for _, n in found.parts)
        yield "chunks of each part: " + ", ".join(
            f"{inert(name)} {n:,} ({100 * n / total:.0f} %)" for name, n in found.parts
        )


def chunk_text(sight: Sight, colours: Mapping[str, str]) -> Text:
    """The first chunk, what is not scored dim; or how the text begins, where it is not cut yet."""
    found = sight.chunks
    if found is None:
        lines = sight.beginning.lines if sight.beginning is not None else ()
        return Text("\n" + "\n".join(lines)) if lines else Text()
    some = any(not scored for _, scored in found.first[1:])
    dim = "; what is dim is seen and not scored" if some else ""
    text = Text(f"\nThe first chunk{dim}:\n", style=colours["secondary"])
    left = MOST_SHOWN
    for words, scored in found.first:
        shown = harmless(words)[:left]
        left -= len(shown)
        # A text's first token has nothing before it to be told from.
        text.append(
            shown, style=colours["foreground"] if scored or not some else f"dim {colours['secondary']}"
        )
    return text.append("…") if left <= 0 else text


def assistant_refusal(sight: Sight, chosen: bool) -> str | None:
    """Why there is no assistant whose tokens could be scored; None where there may be one."""
    if chosen or sight.chunks is None or sight.chunks.conversations:
        return None
    return "this text has no conversations; JSON lines with messages have"


def has_fields(word: str) -> bool:
    """Whether some of the texts have fields to choose from."""
    from mqf_tui.fidelity.text.corpora import corpus_words
    from mqf_tui.fidelity.text.sources.files import holds_rows

    return any(one.startswith("hf:") or holds_rows(one) or os.path.isdir(one) for one in corpus_words(word))


def may_be_folder(word: str) -> bool:
    """Whether some of the texts are folders, of which files may be chosen."""
    from mqf_tui.fidelity.text.corpora import corpus_words

    return any(os.path.isdir(one) for one in corpus_words(word))


def is_mixture(word: str) -> bool:
    """Whether the chunks are drawn."""
    return word in mixtures()[0] or word.lower().partition("#")[0].endswith(".toml")
