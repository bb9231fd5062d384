"""The options of a command line that name a text and how it was read and cut."""

from __future__ import annotations

from collections.abc import Iterator

from mqf_tui.fidelity.corpora import corpus_names, corpus_words
from mqf_tui.fidelity.sources.hub_words import PREFIX
from mqf_tui.fidelity.text_options import TextOptions
from mqf_tui.reports.text import readable


def text_words(corpus: str, options: TextOptions) -> list[str]:
    """The options that name a text, files and folders by their last part only, and what is not default."""
    named = [word for one in corpus_words(corpus) for word in ("--corpus", _short(one))]
    return [*named, *choice_words(options)]


def as_path(word: str, given: str, names: tuple[str, ...]) -> str:
    """``word``, made a path where it would be read as one of ``names`` or as an option."""
    return f"./{word}" if (word in names and given != word) or word.startswith("-") else word


def _short(word: str) -> str:
    if word.startswith(PREFIX) or word == "-":
        return readable(word)
    last = readable(word).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return as_path(last, word, corpus_names())


def choice_words(options: TextOptions) -> Iterator[str]:
    """The options that say how a text is read and cut, where that is not as by default."""
    default = TextOptions()
    for name in ("field", "glob", "documents", "bos", "stride", "rest"):
        value = getattr(options, name)
        if value != getattr(default, name):
            yield from (f"--{name}", str(value))
    if options.assistant_only:
        yield "--assistant-only"
    if options.keep_text is not None:
        yield "--keep-text" if options.keep_text else "--no-keep-text"
    if options.seed:
        yield from ("--seed", str(options.seed))
