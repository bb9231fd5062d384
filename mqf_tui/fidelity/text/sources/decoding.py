"""Bytes -> text, block by block: UTF-8, and UTF-16 and UTF-32 where they are recognised."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterable, Iterator

from mqf_tui.fidelity.errors import BadCorpusError

SAMPLE = 4096  # bytes from which the encoding is recognised
LEAST_ZEROS = 0.1  # of the characters: text without a mark that is UTF-16 has zero bytes, all on one side
# UTF-32 goes before UTF-16, whose mark its own begins with.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
WORDS = {"utf-8": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}


def decoded(blocks: Iterable[bytes], shown: str) -> Iterator[str]:
    """The text of ``blocks``, without its byte order mark, in pieces; line ends stay as they are.

    Raises BadCorpusError, naming byte and line, where it is in another encoding or binary.
    """
    rest = iter(blocks)
    head = b""
    for block in rest:
        head += block
        if len(head) >= SAMPLE:
            break
    if not head:
        return
    encoding, start = recognised(head, shown)
    decoder = _Decoder(encoding, start, shown)
    yield from decoder.text(head[start:])
    for block in rest:
        yield from decoder.text(block)
    yield from decoder.text(b"", final=True)


def recognised(head: bytes, shown: str) -> tuple[str, int]:
    """The encoding of what begins with ``head``, and the length of its mark; raises BadCorpusError."""
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    zeros = [head[:SAMPLE][side::2].count(0) for side in (0, 1)]
    if not any(zeros):
        return "utf-8", 0
    n_zeros, n_characters = max(zeros), len(head[:SAMPLE]) // 2
    # A zero or two in a short text are a stray byte, unless they are nearly all that there is.
    share = LEAST_ZEROS if n_zeros >= 8 else 0.5
    if not all(zeros) and n_zeros >= share * n_characters:
        encoding = "utf-16-be" if zeros[0] else "utf-16-le"
        if _is_plain(head[: len(head[:SAMPLE]) // 2 * 2], encoding):
            return encoding, 0
    raise _binary(shown, head.index(0))


class _Decoder:
    """One encoding, with what is needed to say where something is wrong."""

    def __init__(self, encoding: str, offset: int, shown: str) -> None:
        self._encoding, self._shown = encoding, shown
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._offset, self._line = offset, 1

    def text(self, block: bytes, *, final: bool = False) -> Iterator[str]:
        """The block's text as far as its characters are whole."""
        held = len(self._decoder.getstate()[0])
        try:
            found = self._decoder.decode(block, final)
        except UnicodeDecodeError as error:
            begin = error.object[: error.start].decode(self._encoding, "ignore")
            line = self._line + begin.count("\n")
            place = f"byte {self._offset - held + error.start:,}, line {line:,}"
            words = WORDS.get(self._encoding, "UTF-32")
            raise BadCorpusError(
                f"{self._shown} is not {words} text ({place}); save it as UTF-8, or name another file."
            ) from error
        if "\0" in found:
            before = found[: found.index("\0")].encode(self._encoding)
            raise _binary(self._shown, self._offset - held + len(before))
        self._offset += len(block)
        self._line += found.count("\n")
        if found:
            yield found


def _binary(shown: str, offset: int) -> BadCorpusError:
    return BadCorpusError(
        f"{shown} is a binary file, not text (byte {offset:,} is zero); name a UTF-8 text file."
    )


def _is_plain(head: bytes, encoding: str) -> bool:
    """Whether it decodes into characters that texts are made of; the last may be cut."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return all(c in "\t\n\r\f" or unicodedata.category(c) not in ("Cc", "Cn", "Co", "Cs") for c in text)
