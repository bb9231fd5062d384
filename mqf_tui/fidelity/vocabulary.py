"""What tokens spell, and which class of token they are. Knows tokenizers; no mlx."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TOKEN_CLASSES = ("word start", "word continuation", "digit", "punctuation", "whitespace", "special")
UNKNOWN_CLASS = -1
WORD_START, CONTINUATION, DIGIT, PUNCTUATION, WHITESPACE, SPECIAL = range(len(TOKEN_CLASSES))


class Vocabulary:
    """The texts of a tokenizer's ids.

    A text is what the token adds to the text, its leading space included. Bytes that are no whole UTF-8
    character stand as lone surrogates (Python's ``surrogateescape``), so that neighbouring tokens can be
    put together again. ``special``: the ids of tokens with a role of their own.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # Added tokens stand as they are written; some are marked special though they have no role.
        added = dict(getattr(tokenizer, "added_tokens_decoder", {}))
        self._added = {int(i): str(token) for i, token in added.items()}
        self.special = special_ids(tokenizer)
        decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
        symbols = "ByteLevel" in repr(decoder) or hasattr(tokenizer, "byte_decoder")
        self._bytes = _byte_symbols() if symbols else None
        self._spelled: dict[int, str] = {}  # every step of a measurement asks for much the same ids

    def texts(self, ids: NDArray[Any]) -> dict[int, str]:
        """The text of each id that occurs in ``ids``; none where there is no tokenizer."""
        if self._tokenizer is None:
            return {}
        return {i: self._spelling(i) for i in np.unique(ids).tolist()}

    def classes(self, tokens: NDArray[np.int32]) -> NDArray[np.int8]:
        """The class of each token (an index into TOKEN_CLASSES), same shape as ``tokens`` (n, L).

        A token with a letter in it continues a word where it and the token before it in its row meet in
        letters or digits, otherwise it starts one. The first token of a row has nothing before it.
        """
        ids, place = np.unique(tokens, return_inverse=True)
        place = place.reshape(tokens.shape)
        texts = [self._spelling(i) for i in ids.tolist()]
        kind = np.array(
            [SPECIAL if i in self.special else _kind(t) for i, t in zip(ids.tolist(), texts, strict=True)],
            np.int8,
        )
        opens = np.array([bool(t) and _in_word(t[0]) for t in texts])
        closes = np.array([bool(t) and _in_word(t[-1]) for t in texts]) & (kind != SPECIAL)
        found = kind[place]
        joined = np.zeros(tokens.shape, bool)
        joined[:, 1:] = opens[place[:, 1:]] & closes[place[:, :-1]]
        return np.where((found == WORD_START) & joined, CONTINUATION, found).astype(np.int8)

    def _spelling(self, token: int) -> str:
        found = self._spelled.get(token)
        if found is None:
            found = self._spelled[token] = self._text(token)
        return found

    def _text(self, token: int) -> str:
        piece = self._added.get(token) or self._tokenizer.convert_ids_to_tokens(token)
        if isinstance(piece, bytes):  # as tokenizers around tiktoken do
            return piece.decode("utf-8", "surrogateescape")
        if not isinstance(piece, str):
            return ""  # an id that the model knows and the tokenizer does not
        if token in self.special or token in self._added:
            return piece
        if self._bytes is not None and all(c in self._bytes for c in piece):
            return bytes(self._bytes[c] for c in piece).decode("utf-8", "surrogateescape")
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)]).decode("utf-8", "surrogateescape")
        return piece.replace("▁", " ")


def special_ids(tokenizer: Any) -> frozenset[int]:
    """The ids of a tokenizer's tokens that have a role of their own."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    named = {int(i) for i in getattr(tokenizer, "all_special_ids", ())}
    return frozenset(named | {int(i) for i, token in added.items() if getattr(token, "special", False)})


def _kind(text: str) -> int:
    if not text or text.isspace():
        return WHITESPACE
    if any(c.isalpha() or _partial(c) for c in text):
        return WORD_START
    return DIGIT if any(c.isnumeric() for c in text) else PUNCTUATION


def _in_word(character: str) -> bool:
    return character.isalnum() or _partial(character)


def _partial(character: str) -> bool:
    """A byte of a character that is cut between tokens; nearly all such characters are letters."""
    return "\udc80" <= character <= "\udcff"


def _byte_symbols() -> dict[str, int]:
    """The printable stand-ins that byte-level tokenizers (GPT-2's scheme) use for the 256 bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}
