"""What a measurement would score of a text, by the model's tokenizer alone: no weights are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mqf_tui.fidelity.text.tokenizer_fit import Fit

if TYPE_CHECKING:
    from mqf_tui.fidelity.model.facts import ModelFacts
    from mqf_tui.fidelity.settings import KVSettings
    from mqf_tui.fidelity.text.chunking import Chunks, TokenStore
    from mqf_tui.fidelity.text.corpus import Document
    from mqf_tui.reports.schema import CorpusProvenance

MOST_CHUNKS = 2000  # that are cut to count them; where there are more, only that is said


@dataclass(frozen=True)
class ChunkPreview:
    """``n_tokens`` in ``n_chunks`` chunks are there to be scored, or more where it is not ``whole``.

    ``n_scored``: of them those whose prediction is scored. ``first_text``: the first chunk as its tokens
    spell it. ``parts``: names with their numbers of chunks. ``fit``: how well the tokenizer handles it.
    ``first``: the same text in stretches, and whether what they spell is scored. ``conversations``: some of
    what was read are.
    """

    n_tokens: int
    n_chunks: int
    n_scored: int
    first_text: str
    parts: tuple[tuple[str, int], ...]
    fit: Fit
    provenance: CorpusProvenance
    warnings: tuple[str, ...] = ()
    whole: bool = True
    first: tuple[tuple[str, bool], ...] = ()
    conversations: bool = False


def chunk_preview(
    settings: KVSettings, facts: ModelFacts, store: TokenStore | None = None, *, most: int = MOST_CHUNKS
) -> ChunkPreview:
    """Cut a text as ``settings`` say, as far as ``most`` chunks; raises FidelityError.

    ``settings.max_chunks`` is not looked at: it says how many are taken of what there is.
    """
    from mqf_tui.fidelity.libraries import imported
    from mqf_tui.fidelity.text.chunking import make_chunks
    from mqf_tui.fidelity.text.corpora import read_corpus
    from mqf_tui.fidelity.text.cutting import most_chunks

    settings.check()
    imported()  # the app looks at a text beside the thread that measures
    from mqf_tui.fidelity.model.loading import load_tokenizer

    # One more is cut, to know whether there are more; of long chunks memory does not hold so many.
    most = min(most, max(1, most_chunks(settings.chunk_length) - 1))
    corpus = read_corpus(settings.corpus, settings.text, settings.mixture)
    seen = [_Seen(part.documents) for part in corpus.parts]
    parts = zip(corpus.parts, seen, strict=True)
    corpus = replace(corpus, parts=tuple(replace(part, documents=one) for part, one in parts))
    tokenizer = load_tokenizer(facts, trust_remote_code=settings.trust_remote_code)
    chunks = make_chunks(
        *(corpus, tokenizer, settings.chunk_length, most + 1),
        tokenizer_id=facts.name,
        options=settings.text,
        vocab_size=facts.vocab_size,
        store=store,
    )
    first = _stretches(chunks, settings.first_scored)
    assert chunks.lengths is not None  # it was cut just now
    assert chunks.fit is not None
    n_chunks = min(most, len(chunks.tokens))
    counts = [int((chunks.part[:n_chunks] == part).sum()) for part in range(len(chunks.part_names))]
    return ChunkPreview(
        n_tokens=int(chunks.lengths[:n_chunks].sum()),
        n_chunks=n_chunks,
        n_scored=int(chunks.positions(settings.first_scored)[:n_chunks].sum()),
        first_text=_readable("".join(text for text, _ in first)),
        parts=tuple(zip(chunks.part_names, counts, strict=True)),
        fit=chunks.fit,
        provenance=chunks.provenance,
        warnings=chunks.warnings,
        whole=len(chunks.tokens) <= most,
        first=tuple((_readable(text), scored) for text, scored in first),
        conversations=any(one.messages for one in seen),
    )


@dataclass
class _Seen:
    """Documents as they are, and whether any of those that were read is a conversation."""

    documents: Iterable[Document]
    messages: bool = False

    def __iter__(self) -> Iterator[Document]:
        for document in self.documents:
            self.messages = self.messages or bool(document.messages)
            yield document


def _stretches(chunks: Chunks, first_scored: int) -> list[tuple[str, bool]]:
    """The first chunk's text, cut where it begins or ceases to be scored."""
    length = chunks.tokens.shape[1] if chunks.lengths is None else int(chunks.lengths[0])
    tokens = chunks.tokens[0, :length]
    scored = np.ones(length, bool) if chunks.scored is None else chunks.scored[0, :length].copy()
    scored[: first_scored + 1] = False
    texts = chunks.vocabulary.texts(tokens)
    edges = [0, *(np.flatnonzero(np.diff(scored)) + 1).tolist(), length]
    return [
        ("".join(texts.get(token, "") for token in tokens[start:end].tolist()), bool(scored[start]))
        for start, end in pairwise(edges)
    ]


def _readable(text: str) -> str:
    """Text whose bytes that are no whole character are the replacement character."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
