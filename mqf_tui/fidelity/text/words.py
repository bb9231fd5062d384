"""The options of a command line that name a text and how it was read and cut."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mqf_tui.fidelity.text.corpora import STANDARD_INPUT, corpus_names, corpus_words, is_stream
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.fidelity.text.sources.folders import split_glob
from mqf_tui.fidelity.text.sources.hub_words import PREFIX
from mqf_tui.reports.text import readable


def text_words(corpus: str, options: TextOptions) -> list[str]:
    """The options that name a text, files and folders by their last part only, and what is not default."""
    named = [word for one in corpus_words(corpus) for word in ("--corpus", _short(one))]
    return [*named, *choice_words(options)]


def as_path(word: str, given: str, names: tuple[str, ...]) -> str:
    """``word``, made a path where it would be read as one of ``names`` or as an option."""
    return f"./{word}" if (word in names and given != word) or word.startswith("-") else word


def _short(word: str) -> str:
    if word.startswith(PREFIX):
        return readable(word)
    if is_stream(word):
        return STANDARD_INPUT
    there = os.path.lexists(os.path.expanduser(word))
    root, pattern = (word, "") if there else split_glob(word)
    last = readable(root).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or "/"
    if last.startswith(PREFIX):
        last = f"./{last}"
    return as_path(last, word, corpus_names()) + (pattern[1:] if last == "/" else pattern)


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
