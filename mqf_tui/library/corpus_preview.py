"""The first lines of a text that may be measured on."""

from __future__ import annotations

from dataclasses import dataclass

from mqf_tui.reports.text import inert

LONGEST = 400  # characters of a line that are shown at most
FETCHED = ("wikitext-2",)  # reading it may take a network


@dataclass(frozen=True)
class CorpusPreview:
    """``lines``: the first ones that are not empty, inert; of a text in parts one for each, named.

    ``n_characters`` is None where the text was not read.
    """

    lines: tuple[str, ...]
    n_characters: int | None = None


def corpus_preview(name: str, n_lines: int) -> CorpusPreview:
    """The beginning of a corpus; ``name`` is ``builtin``, ``wikitext-2`` or a path. Raises BadCorpusError.

    A file is read and decoded whole, so that what is wrong with it is told; nothing is fetched.
    """
    if name in FETCHED:
        return CorpusPreview(())
    # Late: NumPy comes with it.
    from mqf_tui.fidelity.corpora import read_corpus

    parts = [(part.name, "\n".join(d.text for d in part.documents)) for part in read_corpus(name).parts]
    n_characters = sum(len(text) for _, text in parts)
    if len(parts) > 1:
        named = (f"{part}: {line}" for part, text in parts for line in _first(text, 1))
        return CorpusPreview(tuple(named)[:n_lines], n_characters)
    return CorpusPreview(tuple(line for _, text in parts for line in _first(text, n_lines)), n_characters)


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
