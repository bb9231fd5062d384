"""The text in the lines of the set-up: its word, how it is read and cut, and what is kept of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from mqf_tui.app.setup_options import FILE
from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.library.last_used import Choices, Value

if TYPE_CHECKING:
    from mqf_tui.fidelity.text.options import Bos, Documents, Rest, TextOptions

Lines = Mapping[str, tuple[Value, ...]]
KEEP: dict[Value, bool | None] = {None: None, "yes": True, "no": False}
# The lines of the text's own screen; the set-up holds those that are not as here.
TEXT_DEFAULTS: Choices = {
    "documents": ("auto",),
    "bos": ("auto",),
    "stride": (None,),
    "rest": ("auto",),
    "scored": (0,),
    "field": ("",),
    "glob": ("",),
    "keep": (None,),
    "seed": (0,),
}
MOST_TEXTS = 12  # that are remembered


def text_lines(lines: Lines) -> Choices:
    """Those of the lines that say how a text is read, where they are not as usual."""
    return {
        name: lines[name] for name, usual in TEXT_DEFAULTS.items() if name in lines and lines[name] != usual
    }


def options_of_lines(lines: Lines) -> TextOptions:
    """The choices that the lines hold; what is damaged counts as not chosen, or is refused when checked."""
    from mqf_tui.fidelity.text.options import TextOptions

    held = {name: next(iter(lines.get(name, ())), usual[0]) for name, usual in TEXT_DEFAULTS.items()}
    stride, seed = held["stride"], held["seed"]
    return TextOptions(
        field=str(held["field"] or "").strip() or None,
        glob=str(held["glob"] or "").strip() or None,
        documents=cast("Documents", held["documents"]),
        bos=cast("Bos", held["bos"]),
        stride=stride if isinstance(stride, int) else None,
        rest=cast("Rest", held["rest"]),
        assistant_only=bool(held["scored"]),
        keep_text=KEEP.get(held["keep"]),
        seed=seed if isinstance(seed, int) else 0,
    )


def lines_of_options(options: TextOptions) -> Choices:
    """The lines that hold these choices, each of them."""
    return {
        "documents": (options.documents,),
        "bos": (options.bos,),
        "stride": (options.stride,),
        "rest": (options.rest,),
        "scored": (int(options.assistant_only),),
        "field": (options.field or "",),
        "glob": (options.glob or "",),
        "keep": (next(word for word, kept in KEEP.items() if kept is options.keep_text),),
        "seed": (options.seed,),
    }


def corpus_of(lines: Lines) -> str:
    """The corpus by its word, paths made whole; empty where none was typed yet."""
    corpus = str(next(iter(lines["corpus"])))
    return whole_word(str(next(iter(lines.get("file", ())), ""))) if corpus == FILE else corpus


def whole_word(typed: str) -> str:
    """A word as it was typed, with whole paths; names and data sets stay what they are."""
    from mqf_tui.fidelity.text.corpora import AND, corpus_words

    return AND.join(map(_whole, corpus_words(typed.strip())))


def _whole(word: str) -> str:
    from mqf_tui.fidelity.text.corpora import STANDARD_INPUT, is_public

    if not word or is_public(word) or word == STANDARD_INPUT or (os.sep not in word and word in _mixtures()):
        return word
    try:
        return os.path.abspath(os.path.expanduser(word))
    except ValueError:  # a zero byte
        return word


def check_word(word: str) -> None:
    """Raise BadCorpusError where a word cannot be looked up again and again, as the app does."""
    from mqf_tui.fidelity.text.corpora import corpus_words, is_stream

    for one in corpus_words(word):
        if is_stream(one):
            raise BadCorpusError(
                "standard input cannot be read while the app has the terminal; name a file, or measure it on "
                "the command line."
            )
        if not one:
            raise BadCorpusError("no text is named; type a path, hf:owner/name, or the name of a mixture.")


def mixtures() -> tuple[tuple[str, ...], str]:
    """The names of the user's mixtures, and what is wrong with their file (empty: nothing)."""
    from mqf_tui.library.corpora_file import corpora_names

    try:
        return corpora_names(), ""
    except BadCorpusError as error:
        return (), str(error)


def _mixtures() -> tuple[str, ...]:
    return mixtures()[0]


def remembered_texts(*kept: Lines) -> tuple[str, ...]:
    """The words that were used last, the latest first; no word twice."""
    words = (
        str(word) for lines in kept for word in (*lines.get("file", ()), *lines.get("texts", ())) if word
    )
    return tuple(dict.fromkeys(" ".join(word.split()) for word in words))[:MOST_TEXTS]


def with_text(word: Value, before: Sequence[str]) -> tuple[Value, ...]:
    """What is remembered after ``word`` was used."""
    words = (*([str(word).strip()] if word and str(word).strip() else []), *before)
    return tuple(dict.fromkeys(words))[:MOST_TEXTS]
