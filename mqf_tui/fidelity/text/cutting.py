"""One part of a text -> its chunks: documents read, joined or kept apart, and cut as far as is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.text.chat import RefusedConversationError
from mqf_tui.fidelity.text.corpus import ContentHash, Document, Part
from mqf_tui.fidelity.text.encoding import Encoded, Encoder

BLOCK = 4_000_000  # characters that are encoded at once; longer texts are split at line ends
MOST_TEXT = 64_000_000  # characters of a part that are read at most: weeks of scoring
MOST_TOKENS = (
    100_000_000  # in all chunks of a part; what overlaps or is padded may take far more than the text
)


def most_chunks(length: int) -> int:
    """How many chunks of ``length`` tokens memory can be expected to hold."""
    return max(1, MOST_TOKENS // length)


@dataclass(frozen=True)
class Row:
    """One chunk of a part: ``tokens`` and whether each is ``scored``, (L,); ``length``: without padding."""

    tokens: NDArray[np.int32]
    scored: NDArray[np.bool_]
    length: int


@dataclass(frozen=True)
class Cut:
    """A part that was cut.

    ``n_documents``: read of it; ``n_short``: of them those that gave no chunk; ``longest``: tokens of what
    is cut together; ``n_wanted``: tokens that may be scored. ``apart``: each document for itself;
    ``chats``: they are conversations. ``clipped``: only MOST_TEXT of it was read. ``refusals``: what the
    template did not take.
    """

    rows: list[Row]
    n_documents: int
    n_short: int
    longest: int
    n_wanted: int
    apart: bool
    pads: bool
    chats: bool
    clipped: bool
    refusals: tuple[RefusedConversationError, ...]


def cut_part(part: Part, encoder: Encoder, content: ContentHash, length: int, most: int | None) -> Cut:
    """At most ``most`` chunks of ``length`` tokens of a part, which goes into the hash of the ``content``.

    Raises BadCorpusError, also where the chunks would not fit into memory.
    """
    reader = _Reader(part, content)
    documents = iter(reader)
    first = next(documents, None)
    apart, chats = encoder.keeps_apart(first), first is not None and bool(first.messages)
    found, refusals = _Found(encoder, length, most, encoder.pads(apart)), list[RefusedConversationError]()
    if first is not None:
        everything = chain((first,), documents)
        if apart:
            found.add_apart(_each(everything, encoder, refusals))
        elif chats:
            found.add_joined(_each(everything, encoder, refusals))
        else:
            found.add_joined(map(encoder.text, _blocks(everything, part.separator)))
    reader.finish()
    if refusals and not found.rows:
        raise refusals[0]
    return Cut(
        rows=found.rows,
        n_documents=reader.n_documents,
        n_short=found.n_short,
        longest=found.longest,
        n_wanted=found.n_wanted,
        apart=apart,
        pads=found.pads,
        chats=chats,
        clipped=reader.clipped,
        refusals=tuple(refusals),
    )


@dataclass
class _Found:
    """The chunks that were cut so far; see Cut."""

    encoder: Encoder
    length: int
    most: int | None
    pads: bool
    rows: list[Row] = field(default_factory=list[Row])
    n_short: int = 0
    longest: int = 0
    n_wanted: int = 0

    def add_apart(self, streams: Iterable[Encoded]) -> None:
        """Cut each for itself, as far as is needed."""
        for place, stream in enumerate(streams):
            self._note(stream)
            rows = self._cut(self.encoder.begun(stream, place), pads=self.pads)
            self.n_short += not rows
            self.rows += rows
            if self.most is not None and len(self.rows) >= self.most:
                return

    def add_joined(self, pieces: Iterable[Encoded]) -> None:
        """Cut pieces of one stream; no more of them are encoded than are needed."""
        held: list[Encoded] = []
        n_tokens = 0
        need = None if self.most is None else self.most * self.length
        for piece in pieces:
            held.append(piece)
            n_tokens += len(piece.tokens)
            if need is not None and n_tokens >= need:
                # Chunks without anything to score are none, so there may be fewer than expected.
                stream = Encoded.concatenate(held)
                rows = self._cut(self.encoder.begun(stream, 0), pads=False)
                if len(rows) == self.most:
                    self._note(stream)
                    self.rows = rows
                    return
                need = 2 * n_tokens
        stream = Encoded.concatenate(held)
        self._note(stream)
        self.rows = self._cut(self.encoder.begun(stream, 0), pads=self.pads)

    def _note(self, stream: Encoded) -> None:
        self.longest = max(self.longest, len(stream.tokens))
        self.n_wanted += int(stream.scored.sum())

    def _cut(self, stream: Encoded, *, pads: bool) -> list[Row]:
        """The chunks of a stream that are still wanted; raises BadCorpusError where memory would not hold
        them."""
        bound = most_chunks(self.length)
        room = bound - len(self.rows) + 1
        left = room if self.most is None else min(room, self.most - len(self.rows))
        steps = (len(stream.tokens) - self.length) // self.encoder.step(self.length)
        # Counted beforehand as well: to make so many takes minutes.
        too_many = left == room and steps > room
        rows = [] if too_many else list(islice(_rows(stream, self.encoder, self.length, pads=pads), left))
        if too_many or len(rows) == room:
            raise BadCorpusError(
                f"this text makes more than {bound:,} chunks of {self.length:,} tokens, which would not fit "
                "into memory; take fewer (--max-chunks), or use shorter chunks or a longer --stride."
            )
        return rows


def _each(
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


def _rows(stream: Encoded, encoder: Encoder, length: int, *, pads: bool) -> Iterator[Row]:
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
            yield Row(tokens, scored, filled)
