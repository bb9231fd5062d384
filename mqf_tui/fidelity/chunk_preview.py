"""What a measurement would score of a text, by the model's tokenizer alone: no weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mqf_tui.fidelity.tokenizer_fit import Fit

if TYPE_CHECKING:
    from mqf_tui.fidelity.chunking import Chunks, TokenStore
    from mqf_tui.fidelity.facts import ModelFacts
    from mqf_tui.fidelity.settings import KVSettings
    from mqf_tui.reports.schema import CorpusProvenance

MOST_CHUNKS = 2000  # that are cut to count them; where there are more, only that is said


@dataclass(frozen=True)
class ChunkPreview:
    """``n_tokens`` in ``n_chunks`` chunks are there to be scored, or more where it is not ``whole``.

    ``n_scored``: of them those whose prediction is scored. ``first_text``: the first chunk as its tokens
    spell it. ``parts``: names with their numbers of chunks. ``fit``: how well the tokenizer handles it.
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


def chunk_preview(
    settings: KVSettings, facts: ModelFacts, store: TokenStore | None = None, *, most: int = MOST_CHUNKS
) -> ChunkPreview:
    """Cut a text as ``settings`` say, as far as ``most`` chunks; raises FidelityError.

    ``settings.max_chunks`` is not looked at: it says how many are taken of what there is.
    """
    from mqf_tui.fidelity.chunking import make_chunks
    from mqf_tui.fidelity.corpora import read_corpus
    from mqf_tui.fidelity.loading import load_tokenizer
    from mqf_tui.fidelity.tokenizer_fit import fit_of

    settings.check()
    corpus = read_corpus(settings.corpus, settings.text, settings.mixture)
    tokenizer = load_tokenizer(facts, trust_remote_code=settings.trust_remote_code)
    chunks = make_chunks(
        *(corpus, tokenizer, settings.chunk_length, most + 1),
        tokenizer_id=facts.name,
        options=settings.text,
        vocab_size=facts.vocab_size,
        store=store,
    )
    lengths = np.full(len(chunks.tokens), settings.chunk_length) if chunks.lengths is None else chunks.lengths
    n_chunks = min(most, len(chunks.tokens))
    counts = [int((chunks.part[:n_chunks] == part).sum()) for part in range(len(chunks.part_names))]
    return ChunkPreview(
        n_tokens=int(lengths[:n_chunks].sum()),
        n_chunks=n_chunks,
        n_scored=int(chunks.positions(settings.first_scored)[:n_chunks].sum()),
        first_text=_spelled(chunks, int(lengths[0])),
        parts=tuple(zip(chunks.part_names, counts, strict=True)),
        fit=fit_of(chunks.tokens, lengths.astype(np.int32), tokenizer, chunks.vocabulary),
        provenance=chunks.provenance,
        warnings=chunks.warnings,
        whole=len(chunks.tokens) <= most,
    )


def _spelled(chunks: Chunks, length: int) -> str:
    """The first chunk's text; bytes that are no whole character as the replacement character."""
    tokens = chunks.tokens[0, :length]
    texts = chunks.vocabulary.texts(tokens)
    joined = "".join(texts.get(token, "") for token in tokens.tolist())
    return joined.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
