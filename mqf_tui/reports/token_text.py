"""Token ids -> what to show of each, so that the tokens of a text read as the text.

A tokenizer may cut a character between tokens; the stored texts keep such bytes as lone surrogates
(Python's ``surrogateescape``), and only in a row do they make characters again.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

REPLACEMENT = "\ufffd"
_JOINERS = "\u200c\u200d"
_MARKS = {"\n": "↵\n", "\t": "⇥\t", "\r": "␍", "\x7f": "␡", "\u2028": "↵\n", "\u2029": "↵\n", "\x0b": "␋"}


def shown(ids: Iterable[int], texts: Mapping[int, str]) -> list[str]:
    """What to show of each of consecutive tokens: n ids, n strings.

    The token that completes a character shows it, the ones that began it show ``""``. Each byte that makes
    no character is U+FFFD at its own token. Newlines and tabs keep their place and get a sign; control
    and direction characters are replaced by signs that do nothing. Ids without a text are ``#123``.
    """
    pieces = [_bytes(token, texts) for token in ids]
    joined = b"".join(pieces).decode("utf-8", "surrogateescape")
    owners = [i for i, piece in enumerate(pieces) for _ in piece]
    found: list[list[str]] = [[] for _ in pieces]
    end = 0
    for character in joined:
        end += 1 if _is_byte(character) else len(character.encode())
        found[owners[end - 1]].append(_inert(character))
    return ["".join(characters) for characters in found]


def named(token: int, texts: Mapping[int, str]) -> str:
    """One token by itself, on one line: spaces at its ends as ``␣``, stray bytes as ``<E2>``."""
    text = texts.get(token)
    if not text:
        return f"#{token}"
    inner = text.strip(" ")
    lead = len(text) - len(text.lstrip(" "))
    tail = len(text) - len(inner) - lead if inner else 0
    signs = (f"<{ord(c) - 0xDC00:02X}>" if _is_byte(c) else _inert(c).strip("\n\t") for c in inner)
    return _spaces(lead) + "".join(signs) + _spaces(tail)


def _spaces(n: int) -> str:
    return "␣" * n if n <= 4 else f"␣×{n}"


def _bytes(token: int, texts: Mapping[int, str]) -> bytes:
    text = texts.get(token) or f"#{token}"
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that stand for no byte: a damaged or hostile file
        return "".join(REPLACEMENT if _is_stray(c) else c for c in text).encode("utf-8", "surrogateescape")


def _is_byte(character: str) -> bool:
    return "\udc80" <= character <= "\udcff"


def _is_stray(character: str) -> bool:
    return "\ud800" <= character <= "\udfff" and not _is_byte(character)


def _inert(character: str) -> str:
    if character in _MARKS:
        return _MARKS[character]
    if character < " ":
        return chr(0x2400 + ord(character))
    if character in _JOINERS or unicodedata.category(character)[0] != "C":
        return character
    return REPLACEMENT
