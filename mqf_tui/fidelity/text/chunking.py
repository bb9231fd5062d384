"""Text in parts -> chunks of token ids, which of them are scored, and where they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.errors import BadCorpusError, BrokenWeightsError
from mqf_tui.fidelity.text.corpus import ContentHash, Corpus, Part
from mqf_tui.fidelity.text.cutting import MOST_TEXT, Cut, cut_part
from mqf_tui.fidelity.text.encoding import Encoder
from mqf_tui.fidelity.text.mixtures import Order, mixed_order, pool
from mqf_tui.fidelity.text.options import TextOptions, reading_of
from mqf_tui.fidelity.text.tokenizer_fit import Fit, fit_of
from mqf_tui.fidelity.vocabulary import Vocabulary
from mqf_tui.reports.schema import CorpusProvenance
from mqf_tui.reports.text import counted

BOS_WORDS = {
    "chunk": "at the start of each chunk",
    "part": "once at the start of each part",
    "none": "none",
}


@dataclass(frozen=True)
class Chunks:
    """``tokens`` (n, L) int32, the class of each token, and the part of each chunk (n,), an index into
    ``part_names``.

    ``lengths`` (n,): how many tokens of a row are text; what follows is padding. ``scored`` (n, L): whether a
    token's prediction is scored (the first of a row never is); None where all of all rows are.
    ``round_length``: after so many chunks each part of a mixture had its share; None in a text that is none.
    ``fit``: how well the tokenizer handles the text; None where that was not looked at.
    """

    tokens: NDArray[np.int32]
    token_class: NDArray[np.int8]
    part: NDArray[np.int16]
    part_names: tuple[str, ...]
    provenance: CorpusProvenance
    vocabulary: Vocabulary
    warnings: tuple[str, ...] = ()
    lengths: NDArray[np.int32] | None = None
    scored: NDArray[np.bool_] | None = None
    round_length: int | None = None
    fit: Fit | None = None

    def positions(self, first_scored: int = 0) -> NDArray[np.int64]:
        """How many positions of each chunk (n,) are scored from depth ``first_scored`` on."""
        if self.scored is None:
            return np.full(len(self.tokens), max(0, self.tokens.shape[1] - 1 - first_scored))
        return self.scored[:, first_scored + 1 :].sum(axis=1, dtype=np.int64)

    def begun_alike(self) -> NDArray[np.int32]:
        """The tokens (n, L), each by a number of its own where it is not scored: see ``prefixes.sharing``."""
        return self.tokens if self.scored is None else np.where(self.scored, self.tokens, -1 - self.tokens)


class TokenStore(Protocol):
    """Keeps the tokens of texts for one tokenizer from one measurement to the next.

    It must give back for a text what was put for it, or None, and raise nothing: a store that fails costs
    time and nothing else.
    """

    def get(self, text: str) -> NDArray[np.int32] | None:
        """The tokens of ``text``, shape (n,); None where they are not there."""
        ...

    def put(self, text: str, tokens: NDArray[np.int32]) -> None:
        """Keep the tokens of ``text``."""
        ...


def make_chunks(
    corpus: Corpus,
    tokenizer: Any,
    chunk_length: int,
    max_chunks: int | None,
    *,
    tokenizer_id: str,
    options: TextOptions | None = None,
    vocab_size: int = 0,
    store: TokenStore | None = None,
) -> Chunks:
    """Cut each part into chunks of ``chunk_length`` tokens and take them from the parts in turn.

    No more is read of a part that is not ``complete`` than ``max_chunks`` need. ``store`` has, and takes,
    the tokens of texts.
    Raises BadCorpusError where not one chunk comes out or more than fit into memory, BrokenWeightsError where
    a token id lies outside the model's vocabulary.
    """
    options = options or TextOptions()
    encoder, content = Encoder(tokenizer, store, options), ContentHash()
    own = {part.options: Encoder(tokenizer, store, part.options) for part in corpus.parts if part.options}
    cuts = [
        cut_part(
            part,
            own[part.options] if part.options else encoder,
            content,
            chunk_length,
            _pool(part, max_chunks),
        )
        for part in corpus.parts
    ]
    order = _order(corpus, cuts, options, max_chunks)
    if not order.chunks:
        raise _nothing(corpus, cuts, chunk_length)
    rows = [cuts[part].rows[row] for row, part in order.chunks]
    tokens = np.stack([row.tokens for row in rows])
    if vocab_size and int(tokens.max()) >= vocab_size:
        raise BrokenWeightsError(
            f"the tokenizer gives token {int(tokens.max())}, but the model knows only {vocab_size}; "
            "tokenizer and weights do not belong together, so download the model again."
        )
    lengths = np.array([row.length for row in rows], np.int32)
    scored = np.stack([row.scored for row in rows])
    plain = bool((lengths == chunk_length).all() and scored[:, 1:].all())
    vocabulary = Vocabulary(tokenizer)
    fit = fit_of(tokens, lengths, tokenizer, vocabulary)
    return Chunks(
        tokens,
        vocabulary.classes(tokens),
        np.array([part for _, part in order.chunks], np.int16),
        tuple(part.name for part in corpus.parts),
        CorpusProvenance(
            name=corpus.name,
            version=corpus.version,
            split=corpus.split,
            n_tokens=int(lengths.sum()),
            chunk_length=chunk_length,
            stride=encoder.step(chunk_length - (encoder.bos == "chunk")),
            tokenizer_id=tokenizer_id,
            bos_policy=BOS_WORDS[encoder.bos],
            final_chunk_policy="padded" if any(cut.pads for cut in cuts) else "dropped",
            normalization="none",
            join=_join_words(corpus, cuts),
            content_hash=content.value,
            token_hash=_token_hash(tokens, None if plain else scored),
            n_chunks=len(rows),
            public=corpus.public,
            reading=reading_of(options),
        ),
        vocabulary,
        (
            *corpus.warnings,
            *dict.fromkeys(words for one in (encoder, *own.values()) for words in one.warnings),
            *_warnings(corpus, cuts),
            *order.warnings,
            *fit.warnings,
        ),
        lengths,
        None if plain else scored,
        order.round_length,
        fit,
    )


def _pool(part: Part, max_chunks: int | None) -> int | None:
    """How many chunks of a part are cut; of a mixture's more than are taken, to draw from."""
    return max_chunks if part.weight is None else pool(max_chunks, whole=part.complete)


def _order(corpus: Corpus, cuts: Sequence[Cut], options: TextOptions, most: int | None) -> Order:
    counts = [len(cut.rows) for cut in cuts]
    weights = [part.weight for part in corpus.parts if part.weight is not None]
    if len(weights) < len(counts) or not weights:
        return Order(tuple(islice(_in_turn(counts), most)))
    names, whole = [part.name for part in corpus.parts], [part.complete for part in corpus.parts]
    return mixed_order(counts, weights, (corpus.seed, options.seed), most, names, whole)


def _in_turn(counts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Row and part of all chunks, the parts in turn."""
    for row in range(max(counts, default=0)):
        for part, count in enumerate(counts):
            if row < count:
                yield row, part


def _token_hash(tokens: NDArray[np.int32], scored: NDArray[np.bool_] | None) -> str:
    digest = hashlib.sha256(tokens.astype("<i4").tobytes())
    if scored is not None:
        digest.update(np.packbits(scored).tobytes())
    return digest.hexdigest()[:16]


def _join_words(corpus: Corpus, cuts: Sequence[Cut]) -> str:
    words = ["each document in chunks of its own"] if any(cut.apart for cut in cuts) else []
    joined = [
        (part, cut)
        for part, cut in zip(corpus.parts, cuts, strict=True)
        if not cut.apart and cut.n_documents > 1
    ]
    if any(cut.chats for _, cut in joined):
        words.append("conversations one behind the other")
    if any(part.separator == "\n\n" and not cut.chats for part, cut in joined):
        words.append("documents joined by blank lines")
    if len(corpus.parts) > 1:
        words.append("parts encoded apart, chunks taken in turn")
    return "; ".join(words) or "none"


def _warnings(corpus: Corpus, cuts: Sequence[Cut]) -> Iterator[str]:
    pairs = list(zip(corpus.parts, cuts, strict=True))
    for part in corpus.parts:
        yield from part.notices() if part.notices is not None else ()
    if short := [part.name for part, cut in pairs if not cut.rows]:
        yield f"shorter than a chunk and left out: {', '.join(short)}"
    for part, cut in pairs:
        if cut.rows and cut.apart and cut.n_short:
            yield f"of {part.name} {counted(cut.n_short, 'document')} gave nothing to score"
        if cut.refusals:
            n = counted(len(cut.refusals), "conversation")
            yield f"of {part.name} {n} left out, which the chat template does not take"
        if cut.clipped:
            yield f"of {part.name} only the first {MOST_TEXT:,} characters were read"


def _nothing(corpus: Corpus, cuts: Sequence[Cut], chunk_length: int) -> BadCorpusError:
    """The sentence for a text of which not one chunk comes out."""
    what = "the longest part of the built-in corpus" if corpus.name == "builtin" else corpus.name
    longest = max(cuts, key=lambda cut: cut.longest)
    if longest.longest and not any(cut.n_wanted for cut in cuts):
        return BadCorpusError(
            f"{what} has no word of an assistant's to score; leave out --assistant-only, or name "
            "conversations with answers."
        )
    if longest.longest >= chunk_length or (longest.pads and longest.longest > 1):
        return BadCorpusError(f"no chunk of {what} has anything to score; use --rest pad, or a longer text.")
    what = f"the longest document of {what}" if longest.apart and longest.n_documents > 1 else what
    fits = 1 << max(4, longest.longest.bit_length() - 1)
    hint = f"use --chunk-length {fits} or a longer text" if longest.longest >= 16 else "use a longer text"
    n_tokens = counted(longest.longest, "token")
    return BadCorpusError(f"{what} has {n_tokens}, fewer than one chunk of {chunk_length}; {hint}.")
