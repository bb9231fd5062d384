"""What a measurement would find in a text: looked up beside the screen, by the model's tokenizer alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mqf_tui.app.words import without_flags
from mqf_tui.fidelity.errors import FidelityError

if TYPE_CHECKING:
    from mqf_tui.fidelity.model.facts import ModelFacts
    from mqf_tui.fidelity.settings import KVSettings
    from mqf_tui.fidelity.text.chunk_preview import ChunkPreview
    from mqf_tui.library.corpus_preview import CorpusPreview

LINES = 12  # of the text's beginning
MOST_FETCHED = 32


@dataclass(frozen=True)
class Sight:
    """``beginning``: the first lines; ``chunks``: what would be scored, None where that is not known.

    ``problem``: why the text cannot be measured so (empty: it can). ``unread``: it would have to be fetched
    first. ``kept``: whether words of it would be kept.
    """

    beginning: CorpusPreview | None = None
    chunks: ChunkPreview | None = None
    problem: str = ""
    unread: bool = False
    kept: bool = True


# What was fetched is not fetched again while the app runs.
_FETCHED: dict[tuple[KVSettings, Path], Sight] = {}


def see(settings: KVSettings, facts: ModelFacts, *, fetch: bool = False) -> Sight:
    """Look a text up, with the options of ``settings``; never raises FidelityError.

    ``fetch``: also where that asks the hub. It takes seconds: not for the app's own thread.
    """
    beginning: CorpusPreview | None = None
    unread, kept = False, bool(settings.text.keep_text)
    try:
        from mqf_tui.library.corpora_file import with_mixture

        settings.check()
        settings = with_mixture(settings)
        public = all(map(_is_public, words_of(settings)))
        kept = public if settings.text.keep_text is None else settings.text.keep_text
        from mqf_tui.library.corpus_preview import corpus_preview

        beginning = corpus_preview(settings.corpus, LINES, settings.text, settings.mixture)
        unread = any(map(_is_on_hub, words_of(settings)))
        key = (settings, facts.folder)
        if unread and not fetch:
            return _FETCHED.get(key) or Sight(beginning, unread=True, kept=kept)
        from mqf_tui.fidelity.text.chunk_preview import chunk_preview
        from mqf_tui.library.tokens import FileTokens

        chunks = chunk_preview(settings, facts, FileTokens(facts.folder))
        if unread:  # its first lines are here now
            beginning = corpus_preview(settings.corpus, LINES, settings.text, settings.mixture)
            if len(_FETCHED) >= MOST_FETCHED:
                _FETCHED.clear()
            _FETCHED[key] = Sight(beginning, chunks, kept=kept)
        return Sight(beginning, chunks, kept=kept)
    except FidelityError as error:
        return Sight(beginning, problem=without_flags(str(error)), unread=unread and not fetch, kept=kept)


def words_of(settings: KVSettings) -> tuple[str, ...]:
    """The words of all texts of a measurement, those of a mixture one by one."""
    from mqf_tui.fidelity.text.corpora import corpus_words

    of = [part.corpus for part in settings.mixture.parts] if settings.mixture else [settings.corpus]
    return tuple(one for word in of for one in corpus_words(word))


def _is_public(word: str) -> bool:
    from mqf_tui.fidelity.text.corpora import is_public

    return is_public(word)


def _is_on_hub(word: str) -> bool:
    return _is_public(word) and word != "builtin"
