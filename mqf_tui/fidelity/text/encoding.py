"""Documents -> token ids, by a model's own tokenizer, with which of them are scored."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.text.chat import DATED, Conversations
from mqf_tui.fidelity.text.corpus import Document
from mqf_tui.fidelity.text.options import TextOptions

if TYPE_CHECKING:
    from mqf_tui.fidelity.text.chunking import TokenStore


@dataclass(frozen=True)
class Encoded:
    """Token ids (n,) int32, and whether each is scored (n,) where there is something before it.

    ``by_template``: a chat template wrote it, and with it the token that begins a text where it has one.
    """

    tokens: NDArray[np.int32]
    scored: NDArray[np.bool_]
    by_template: bool = False

    @classmethod
    def all(cls, tokens: NDArray[np.int32]) -> Encoded:
        """Tokens that are all scored."""
        return cls(tokens, np.ones(len(tokens), bool))

    @classmethod
    def concatenate(cls, pieces: Sequence[Encoded]) -> Encoded:
        """One behind the other."""
        if not pieces:
            return cls.all(np.empty(0, np.int32))
        tokens = np.concatenate([piece.tokens for piece in pieces])
        scored = np.concatenate([piece.scored for piece in pieces])
        return cls(tokens, scored, pieces[-1].by_template)


class Encoder:
    """What a tokenizer and the options make of documents.

    ``bos``: where the token that begins a text is put: "chunk", "part" or "none".
    """

    def __init__(self, tokenizer: Any, store: TokenStore | None, options: TextOptions) -> None:
        self._tokenizer, self._store, self._options = tokenizer, store, options
        bos = getattr(tokenizer, "bos_token_id", None)
        self._bos_id: int | None = bos if isinstance(bos, int) else None
        self.bos: Literal["chunk", "part", "none"] = self._resolved()
        self._conversations: Conversations | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was noticed in encoding."""
        return (DATED,) if self._conversations is not None and self._conversations.dated else ()

    def step(self, room: int) -> int:
        """Tokens from one chunk's start to the next one's, where a chunk has ``room`` for so many."""
        return min(self._options.stride or room, room)

    def head(self, stream: Encoded) -> NDArray[np.int32]:
        """What each chunk of a stream begins with, (0,) or (1,), unless it begins with that anyway.

        What a template writes without the token that begins a text gets none, unless that is asked for.
        """
        lacks = (
            stream.by_template
            and self._options.bos == "auto"
            and stream.tokens[:1].tolist() != [self._bos_id]
        )
        return np.array([] if self.bos != "chunk" or lacks else [self._bos_id], np.int32)

    def keeps_apart(self, first: Document | None) -> bool:
        """Whether the documents of a part that begins with this one are cut each for itself."""
        if self._options.documents == "auto":
            return first is not None and bool(first.messages)
        return self._options.documents == "apart"

    def pads(self, apart: bool) -> bool:
        """Whether what is left at an end is padded."""
        return apart if self._options.rest == "auto" else self._options.rest == "pad"

    def begun(self, stream: Encoded, place: int) -> Encoded:
        """A part's stream number ``place``, with what the part begins with."""
        if self.bos != "part" or place or stream.tokens[:1].tolist() == [self._bos_id]:
            return stream
        return Encoded.concatenate((Encoded.all(np.array([self._bos_id], np.int32)), stream))

    def document(self, document: Document) -> Encoded:
        """A text, or a conversation as the model's template writes it; raises BadCorpusError."""
        if not document.messages:
            return self.text(document.text)
        if self._conversations is None:
            self._conversations = Conversations(self._tokenizer)
        if self._options.assistant_only:
            return Encoded(*self._conversations.assistant(document), by_template=True)
        tokens = self._conversations.tokens(document)
        return Encoded(tokens, np.ones(len(tokens), bool), by_template=True)

    def text(self, text: str) -> Encoded:
        """A text with nothing put around it; raises BadCorpusError where only an assistant's words count."""
        if self._options.assistant_only:
            raise BadCorpusError(
                "only conversations have an assistant's tokens, and this is plain text; leave out "
                "--assistant-only, or name JSON lines with messages."
            )
        tokens = self._store.get(text) if self._store is not None else None
        if tokens is None:
            tokens = self._ids(text, special=False)
            if self._store is not None:
                self._store.put(text, tokens)
        return Encoded.all(tokens)

    def _resolved(self) -> Literal["chunk", "part", "none"]:
        wanted = self._options.bos
        if wanted == "none" or (wanted == "auto" and not self._puts_bos()):
            return "none"
        if self._bos_id is None:
            raise BadCorpusError(
                "this model's tokenizer has no token that begins a text; leave out --bos, or use --bos none."
            )
        return "part" if wanted == "part" else "chunk"

    def _puts_bos(self) -> bool:
        # Asked with a word of its own: a text may itself begin with the characters of that token.
        return self._bos_id is not None and self._ids("a", special=True)[:1].tolist() == [self._bos_id]

    def _ids(self, text: str, *, special: bool) -> NDArray[np.int32]:
        # "longer than the maximum length of this model" is no news here: the stream is cut into chunks.
        log = logging.getLogger("transformers.tokenization_utils_base")
        level = log.level
        log.setLevel(logging.ERROR)
        try:
            return np.asarray(self._tokenizer.encode(text, add_special_tokens=special), dtype=np.int32)
        finally:
            log.setLevel(level)
