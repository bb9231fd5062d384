"""The first lines of a text that may be measured on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from mqf_tui.reports.text import inert

if TYPE_CHECKING:
    from mqf_tui.fidelity.text.corpus import Document, Part
    from mqf_tui.fidelity.text.mixtures import Mixture
    from mqf_tui.fidelity.text.options import TextOptions

LONGEST = 400  # characters of a line that are shown at most
MOST_READ = 2_000_000  # characters of a part that are looked at for its first lines
MOST_DOCUMENTS = 1000
FETCH_NOTE = "fetched from the Hugging Face hub where it is not on this machine yet"


@dataclass(frozen=True)
class CorpusPreview:
    """``lines``: the first ones that are not empty, inert; of a text in parts one for each, named.

    ``n_characters`` is None where the text was not read to its end. ``note`` says why there are no lines,
    ``warnings`` what was noticed.
    """

    lines: tuple[str, ...]
    n_characters: int | None = None
    note: str = ""
    warnings: tuple[str, ...] = ()


def corpus_preview(
    name: str, n_lines: int, options: TextOptions | None = None, mixture: Mixture | None = None
) -> CorpusPreview:
    """The beginning of a corpus by its word, or of the mixture it stands for. Raises BadCorpusError.

    A text file of some size is read and decoded whole, so that what is wrong with it is told; of anything
    large only the beginning. Nothing is fetched: of a data set there are lines where it is on this machine.
    """
    # Late: NumPy comes with it.
    from mqf_tui.fidelity.text.corpora import corpus_words
    from mqf_tui.fidelity.text.options import TextOptions
    from mqf_tui.library.corpora_file import mixture_named

    mixture = mixture or mixture_named(name, options)
    if mixture is not None:
        asked = [(part.name, part.corpus, part.options) for part in mixture.parts]
    else:
        asked = [("", word, options or TextOptions()) for word in corpus_words(name)]
    parts: list[_Begun] = []
    warnings: list[str] = []
    for label, word, own in asked:
        begun, told = _read(word, own)
        warnings += told
        # All of a part of a mixture bears that part's name.
        parts += [replace(one, name=label) for one in begun] if label else begun
    known = [one.n_characters for one in parts]
    whole = sum(n or 0 for n in known) if None not in known else None
    note = FETCH_NOTE if any(one.text is None for one in parts) else ""
    if len(parts) == 1:
        return CorpusPreview(tuple(_first(parts[0].text or "", n_lines)), whole, note, tuple(warnings))
    named = (f"{inert(one.name)}: {line}" for one in parts for line in _first(one.text or "", 1))
    return CorpusPreview(tuple(islice(named, n_lines)), whole, note, tuple(warnings))


@dataclass(frozen=True)
class _Begun:
    """The beginning of a part; ``text`` None: it would have to be fetched."""

    name: str
    text: str | None
    n_characters: int | None


def _read(word: str, options: TextOptions) -> tuple[list[_Begun], tuple[str, ...]]:
    """The parts of one text, and what was noticed."""
    from mqf_tui.fidelity.errors import BadCorpusError
    from mqf_tui.fidelity.text.corpora import is_stream, read_corpus
    from mqf_tui.fidelity.text.sources.hub_kept import kept_part
    from mqf_tui.fidelity.text.sources.hub_words import NAMED, PREFIX, hub_word

    if is_stream(word):
        raise BadCorpusError(
            "standard input cannot be looked at beforehand; name a file, or measure it on the command line."
        )
    if word in NAMED or word.startswith(PREFIX):
        kept = kept_part(hub_word(word), options)
        return [_Begun(word, None, None) if kept is None else _begun(kept)], ()
    corpus = read_corpus(word, options)
    return [_begun(part) for part in corpus.parts], corpus.warnings


def _begun(part: Part) -> _Begun:
    """What is read of a part; its characters are known where that is all."""
    pieces: list[str] = []
    size = 0
    for n, document in enumerate(part.documents):
        if size >= MOST_READ or n >= MOST_DOCUMENTS:
            return _Begun(part.name, "".join(pieces), None)
        piece = (part.separator if n else "") + "\n".join(_spoken(document))
        pieces.append(piece)
        size += len(piece)
    return _Begun(part.name, "".join(pieces), size)


def _spoken(document: Document) -> Iterator[str]:
    """A text, or who says what."""
    if not document.messages:
        yield document.text
    for message in document.messages:
        yield f"{message.get('role')}: {message.get('content')}"


def _first(text: str, n: int) -> list[str]:
    found: list[str] = []
    start = 0
    while len(found) < n and start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = " ".join(inert(text[start : min(end, start + LONGEST)]).split())
        found += [line] if line else []
        start = end + 1
    return found
