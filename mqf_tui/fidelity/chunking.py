"""Text in parts -> chunks of token ids, which of them are scored, and where they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.chat import RefusedConversationError
from mqf_tui.fidelity.corpus import ContentHash, Corpus, Document, Part
from mqf_tui.fidelity.encoding import Encoded, Encoder
from mqf_tui.fidelity.errors import BadCorpusError, BrokenWeightsError
from mqf_tui.fidelity.mixtures import Order, mixed_order, pool
from mqf_tui.fidelity.text_options import TextOptions
from mqf_tui.fidelity.tokenizer_fit import fit_of
from mqf_tui.fidelity.vocabulary import Vocabulary
from mqf_tui.reports.schema import CorpusProvenance, TextReading
from mqf_tui.reports.text import counted

BLOCK = 4_000_000  # characters that are encoded at once; longer texts are split at line ends
MOST_TEXT = 64_000_000  # characters of a part that are read at most: weeks of scoring
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


@dataclass(frozen=True)
class _Row:
    """One chunk of a part."""

    tokens: NDArray[np.int32]
    scored: NDArray[np.bool_]
    length: int


@dataclass(frozen=True)
class _Cut:
    """A part that was cut. ``n_documents``, ``n_tokens``: read of it; ``n_short``: documents that gave no
    chunk."""

    rows: list[_Row]
    n_documents: int
    n_tokens: int
    n_short: int
    apart: bool
    pads: bool
    clipped: bool
    refusals: tuple[RefusedConversationError, ...]


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
    Raises BadCorpusError where not one chunk comes out, BrokenWeightsError where a token id lies
    outside the model's vocabulary.
    """
    options = options or TextOptions()
    encoder, content = Encoder(tokenizer, store, options), ContentHash()
    own = {part.options: Encoder(tokenizer, store, part.options) for part in corpus.parts if part.options}
    cuts = [
        _cut(
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
        raise _too_short(corpus, max((cut.n_tokens for cut in cuts), default=0), chunk_length)
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
            reading=_reading(options),
        ),
        vocabulary,
        (
            *corpus.warnings,
            *dict.fromkeys(words for one in (encoder, *own.values()) for words in one.warnings),
            *_warnings(corpus, cuts),
            *order.warnings,
            *fit_of(tokens, lengths, tokenizer, vocabulary).warnings,
        ),
        lengths,
        None if plain else scored,
        order.round_length,
    )


def _cut(part: Part, encoder: Encoder, content: ContentHash, length: int, max_chunks: int | None) -> _Cut:
    reader = _Reader(part, content)
    documents = iter(reader)
    first = next(documents, None)
    apart = encoder.keeps_apart(first)
    pads = encoder.pads(apart)
    rows: list[_Row] = []
    refusals: list[RefusedConversationError] = []
    n_tokens = n_short = 0
    if first is not None:
        everything = chain((first,), documents)
        need = None if max_chunks is None else max_chunks * length
        streams = (
            _apart(everything, encoder, refusals)
            if apart
            else (_joined(part, everything, encoder, need, refusals),)
        )
        for place, stream in enumerate(streams):
            n_tokens += len(stream.tokens)
            found = list(_rows(encoder.begun(stream, place), encoder, length, pads=pads))
            n_short += not found
            rows += found
            if max_chunks is not None and len(rows) >= max_chunks:
                break
    reader.finish()
    if refusals and not rows:
        raise refusals[0]
    return _Cut(
        rows[:max_chunks], reader.n_documents, n_tokens, n_short, apart, pads, reader.clipped, tuple(refusals)
    )


def _apart(
    documents: Iterator[Document], encoder: Encoder, refusals: list[RefusedConversationError]
) -> Iterator[Encoded]:
    """Each document; what a template refuses is left out and noted."""
    for document in documents:
        try:
            yield encoder.document(document)
        except RefusedConversationError as error:
            refusals.append(error)


class _Reader:
    """The documents of a part, each into the hash as it is read; at most MOST_TEXT characters of them."""

    def __init__(self, part: Part, content: ContentHash) -> None:
        self._part, self._content = part, content
        self._documents: Iterator[Document] = iter(part.documents)
        self._read = self.n_documents = 0
        self.clipped = False
        content.part(part.name)

    def __iter__(self) -> Iterator[Document]:
        for document in self._documents:
            if self._read >= MOST_TEXT:
                self.clipped = True
                return
            content = document.content
            self._read += len(content)
            self.n_documents += 1
            self._content.document(content, self._part.separator)
            yield document

    def finish(self) -> None:
        """The hash of a part that is complete does not depend on how much of it was needed."""
        if self._part.complete:
            for _ in self:
                pass


def _joined(
    part: Part,
    documents: Iterator[Document],
    encoder: Encoder,
    need: int | None,
    refusals: list[RefusedConversationError],
) -> Encoded:
    """One behind the other, as far as ``need`` tokens ask for."""
    first = next(documents)
    everything = chain((first,), documents)
    found = (
        _apart(everything, encoder, refusals)
        if first.messages
        else map(encoder.text, _blocks(everything, part.separator))
    )
    pieces: list[Encoded] = []
    n_tokens = 0
    for piece in found:
        pieces.append(piece)
        n_tokens += len(piece.tokens)
        if need is not None and n_tokens >= need:
            break
    return Encoded.concatenate(pieces)


def _blocks(documents: Iterator[Document], separator: str) -> Iterator[str]:
    """Texts put together, in pieces that are encoded at once; long ones are split at line ends."""
    held: list[str] = []
    size = 0
    for place, document in enumerate(documents):
        text = (separator if place else "") + document.text
        while size + len(text) > BLOCK:
            end = text.rfind("\n", 0, BLOCK - size) + 1 or BLOCK - size
            yield "".join((*held, text[:end]))
            held, size, text = [], 0, text[end:]
        held.append(text)
        size += len(text)
    if size:
        yield "".join(held)


def _rows(stream: Encoded, encoder: Encoder, length: int, *, pads: bool) -> Iterator[_Row]:
    """The chunks of one stream; what an earlier one has scored is context to the next."""
    head, n = encoder.head(stream), len(stream.tokens)
    room = length - len(head)
    overlap = room - encoder.step(room)
    start = done = 0
    while done < n:
        own = head if stream.tokens[start] not in head else head[:0]  # never twice
        end = min(start + length - len(own), n)
        filled = len(own) + end - start
        if filled < 2 or (filled < length and not pads):
            return
        tokens, scored = np.zeros(length, np.int32), np.zeros(length, bool)
        tokens[: len(own)] = own
        tokens[len(own) : filled] = stream.tokens[start:end]
        scored[len(own) : filled] = stream.scored[start:end]
        scored[: max(1, len(own) + done - start)] = False
        start, done = end - overlap, end
        if scored.any():
            yield _Row(tokens, scored, filled)


def _pool(part: Part, max_chunks: int | None) -> int | None:
    """How many chunks of a part are cut; of a mixture's more than are taken, to draw from."""
    return max_chunks if part.weight is None else pool(max_chunks, whole=part.complete)


def _order(corpus: Corpus, cuts: Sequence[_Cut], options: TextOptions, most: int | None) -> Order:
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


def _reading(options: TextOptions) -> TextReading:
    given = asdict(options)
    return TextReading.model_validate({name: given[name] for name in TextReading.model_fields})


def _token_hash(tokens: NDArray[np.int32], scored: NDArray[np.bool_] | None) -> str:
    digest = hashlib.sha256(tokens.astype("<i4").tobytes())
    if scored is not None:
        digest.update(np.packbits(scored).tobytes())
    return digest.hexdigest()[:16]


def _join_words(corpus: Corpus, cuts: Sequence[_Cut]) -> str:
    words = ["each document in chunks of its own"] if any(cut.apart for cut in cuts) else []
    pairs = zip(corpus.parts, cuts, strict=True)
    if any(part.separator == "\n\n" for part, cut in pairs if not cut.apart and cut.n_documents > 1):
        words.append("documents joined by blank lines")
    if len(corpus.parts) > 1:
        words.append("parts encoded apart, chunks taken in turn")
    return "; ".join(words) or "none"


def _warnings(corpus: Corpus, cuts: Sequence[_Cut]) -> Iterator[str]:
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


def _too_short(corpus: Corpus, longest: int, chunk_length: int) -> BadCorpusError:
    what = "the longest part of the built-in corpus" if corpus.name == "builtin" else corpus.name
    fits = 1 << max(4, longest.bit_length() - 1)
    hint = f"use --chunk-length {fits} or a longer text" if longest >= 16 else "use a longer text"
    return BadCorpusError(f"{what} has {longest} tokens, fewer than one chunk of {chunk_length}; {hint}.")
