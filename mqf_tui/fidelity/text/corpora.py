"""A corpus by its word: a name, a file, a folder, a data set of the hub, standard input, or several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.text.corpus import Corpus, Document, Part
from mqf_tui.fidelity.text.mixtures import Mixture, MixturePart
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.fidelity.text.sources.bytes_of import ALTERNATIVES, LARGE, standard_input, stream
from mqf_tui.fidelity.text.sources.files import OPEN_STREAM, file_part, holds_rows, stream_part
from mqf_tui.fidelity.text.sources.folders import folder_part, split_glob
from mqf_tui.fidelity.text.sources.hub_words import NAMED, PREFIX, hub_word
from mqf_tui.reports.text import readable

BUILTIN_VERSION = "1"
BUILTIN_PARTS = ("prose", "dialogue", "code", "tables", "languages")
STANDARD_INPUT = "-"
AND = " + "  # between the words of several texts


def corpus_names() -> tuple[str, ...]:
    """The corpora that have a name; any other word is a data set (``hf:…``), ``-``, or a path."""
    return ("builtin", *NAMED)


def is_public(word: str) -> bool:
    """Whether a word names texts that anyone can have, on any machine."""
    return all(one in corpus_names() or one.startswith(PREFIX) for one in corpus_words(word))


def is_stream(word: str) -> bool:
    """Whether a word names what can be read only once: standard input or an open pipe."""
    return word == STANDARD_INPUT or OPEN_STREAM.match(word) is not None


def corpus_words(word: str) -> tuple[str, ...]:
    """The words of several texts, ``a + b``; one where there is a file that is called so."""
    found: list[str] = []
    pieces = word.split(AND)
    while pieces:
        names = ((n, AND.join(pieces[:n])) for n in range(len(pieces), 1, -1))
        n, one = next(
            ((n, name) for n, name in names if os.path.lexists(os.path.expanduser(name))), (1, pieces[0])
        )
        found.append(one if one == word else one.strip())
        pieces = pieces[n:]
    return tuple(found)


def read_corpus(name: str, options: TextOptions | None = None, mixture: Mixture | None = None) -> Corpus:
    """Open a corpus by its word; raises BadCorpusError, now or when its documents are read.

    ``mixture``: what the word stands for where it is the name of one.
    """
    options = options or TextOptions()
    if mixture is not None:
        return _mixed(mixture)
    words = corpus_words(name)
    if all(word == "builtin" for word in words):
        _check_plain(options)
    if len(words) == 1:
        return _one(words[0], options)
    corpora = [_one(word, options) for word in words]
    return Corpus(
        AND.join(corpus.name for corpus in corpora),
        AND.join(corpus.version for corpus in corpora),
        tuple(_named_apart(part for corpus in corpora for part in corpus.parts)),
        AND.join(filter(None, (corpus.split for corpus in corpora))) or None,
        public=all(corpus.public for corpus in corpora),
        warnings=tuple(warning for corpus in corpora for warning in corpus.warnings),
    )


def _one(word: str, options: TextOptions) -> Corpus:
    if word == "builtin":
        return _builtin()
    if word in NAMED or word.startswith(PREFIX):
        from mqf_tui.fidelity.text.sources.datasets_hub import hub_corpus

        return hub_corpus(word, hub_word(word), options)
    if not word:
        raise BadCorpusError(f"no corpus is named; {ALTERNATIVES}.")
    if word == STANDARD_INPUT:
        return _streamed(stream_part(standard_input(), options))
    # Path.expanduser raises where there is no such user.
    path = os.path.expanduser(word)
    if found := OPEN_STREAM.match(path):
        return _streamed(stream_part(stream(int(found[1] or 0), "the pipe"), options))
    return _at_path(path, options)


def _check_plain(options: TextOptions) -> None:
    """Raise BadCorpusError where something is chosen that the built-in texts do not have."""
    for name, what in (("field", "fields"), ("glob", "files to choose from")):
        if getattr(options, name) is not None:
            raise BadCorpusError(f"the built-in texts have no {what}; leave the {name} out.")


def _builtin() -> Corpus:
    folder = resources.files("mqf_tui.demo") / "corpus"
    parts = (Part.of(name, (folder / f"{name}.txt").read_text(encoding="utf-8")) for name in BUILTIN_PARTS)
    return Corpus("builtin", BUILTIN_VERSION, tuple(parts), public=True)


def _streamed(part: Part) -> Corpus:
    clipped = () if part.complete else (f"of {part.name} only the first {LARGE // 10**6} MB are read",)
    return Corpus(part.name, "stream", (part,), warnings=clipped)


def _at_path(path: str, options: TextOptions) -> Corpus:
    """A file, a folder, or what a pattern finds in one; raises BadCorpusError."""
    try:
        there = os.path.exists(path)
    except ValueError:  # a zero byte
        there = False
    root, pattern = (path, "") if there else split_glob(path)
    if not there and (not pattern or not os.path.isdir(root)):
        raise _absent(path)
    shown = readable(os.path.basename(os.path.normpath(os.path.abspath(root))) or root)
    if os.path.isdir(root):
        if pattern and options.glob is not None:
            raise BadCorpusError(f"{path!r} says which files to take, and so does the glob; leave out one.")
        wanted = pattern or options.glob
        part = folder_part(Path(root), shown + pattern, wanted, options)
        return Corpus(part.name, "folder", (part,))
    if options.glob is not None:
        raise BadCorpusError(f"{shown} is a file, and a glob chooses those of a folder; leave it out.")
    if options.field is not None and not holds_rows(path):
        raise BadCorpusError(f"{shown} is plain text and has no fields; leave the field out.")
    return Corpus(shown, "file", (file_part(Path(path), shown, options),))


def _absent(path: str) -> BadCorpusError:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass
    except OSError as error:
        shown = readable(os.path.basename(path) or path)
        return BadCorpusError(
            f"{shown} cannot be read ({error.strerror}); check its permissions, or {ALTERNATIVES}."
        )
    return BadCorpusError(f"there is no corpus, file or folder {path!r}; {ALTERNATIVES}.")


def _named_apart(parts: Iterable[Part]) -> Iterator[Part]:
    """The parts, with a number behind a name that there was before."""
    taken: set[str] = set()
    for part in parts:
        name, n = part.name, 1
        while name in taken:
            n += 1
            name = f"{part.name} ({n})"
        taken.add(name)
        yield replace(part, name=name)


def _mixed(mixture: Mixture) -> Corpus:
    """The corpus of a mixture; raises BadCorpusError, naming the part."""
    corpora = [(part, _part_of(part, mixture.name)) for part in mixture.parts]
    return Corpus(
        mixture.name,
        mixture.words,
        tuple(_as_part(part, corpus) for part, corpus in corpora),
        public=all(corpus.public for _, corpus in corpora),
        warnings=tuple(warning for _, corpus in corpora for warning in corpus.warnings),
        seed=mixture.seed,
    )


def _part_of(part: MixturePart, mixture: str) -> Corpus:
    try:
        return read_corpus(part.corpus, part.options)
    except BadCorpusError as error:
        raise BadCorpusError(f"the part {part.name} of {mixture} cannot be used: {error}") from error


def _as_part(given: MixturePart, corpus: Corpus) -> Part:
    """All of a corpus as one part of a mixture."""
    if len(corpus.parts) == 1:
        found = corpus.parts[0]
    elif all(part.separator == "\n\n" for part in corpus.parts):
        documents = _Chained(tuple(part.documents for part in corpus.parts))
        whole = all(part.complete for part in corpus.parts)
        found = Part(given.name, documents, complete=whole, notices=_Notices(corpus.parts))
    else:
        raise BadCorpusError(
            f"the part {given.name} names several texts of which one is large; make each a part of its own."
        )
    return replace(found, name=given.name, weight=given.weight, options=given.options)


@dataclass(frozen=True)
class _Notices:
    """The warnings of several parts."""

    parts: tuple[Part, ...]

    def __call__(self) -> tuple[str, ...]:
        return tuple(words for part in self.parts if part.notices is not None for words in part.notices())


@dataclass(frozen=True)
class _Chained:
    """The documents of several parts, one behind the other."""

    several: tuple[Iterable[Document], ...]

    def __iter__(self) -> Iterator[Document]:
        for documents in self.several:
            yield from documents
