"""A text before it is cut: named parts of documents, read when they are asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqf_tui.fidelity.text.options import TextOptions

Message = Mapping[str, Any]  # ``role`` and ``content``, and whatever else a template may look at


@dataclass(frozen=True)
class Document:
    """One piece of a text, or one conversation (``messages``, then ``text`` is empty).

    ``tools``: what a conversation's template is told of tools, where the file has any.
    """

    text: str = ""
    messages: tuple[Message, ...] = ()
    tools: tuple[Any, ...] = ()

    @property
    def content(self) -> str:
        """What a hash is taken of."""
        if not self.messages:
            return self.text
        return json.dumps([self.messages, self.tools], ensure_ascii=False, sort_keys=True, default=str)


@dataclass(frozen=True)
class Part:
    """Documents that are cut together.

    ``documents`` may be iterated more than once; each time it reads anew and may raise BadCorpusError.
    ``separator`` stands between documents that are joined. ``complete``: reading all of it is cheap, so that
    its hash is of all of it; else of what was needed. ``weight``: its share of a mixture's chunks, against
    those of the other parts; None in a text that is no mixture. ``options``: how this part is cut, where not
    as the whole text is. ``notices`` gives warnings of what was read so far.
    """

    name: str
    documents: Iterable[Document]
    separator: str = "\n\n"
    complete: bool = True
    weight: float | None = None
    options: TextOptions | None = None
    notices: Callable[[], tuple[str, ...]] | None = None

    @classmethod
    def of(cls, name: str, text: str) -> Part:
        """A part of one text."""
        return cls(name, (Document(text),))


@dataclass(frozen=True)
class Corpus:
    """A text in named parts.

    ``public``: anyone can have it, so that reports may quote it. ``warnings``: what was noticed in opening
    it. ``seed``: of which chunks a mixture takes from its parts.
    """

    name: str
    version: str
    parts: tuple[Part, ...]
    split: str | None = None
    public: bool = False
    warnings: tuple[str, ...] = ()
    seed: int = 0


class ContentHash:
    """SHA-256 of the parts' documents as they are read; its value does not depend on how they are cut."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._first = True

    def part(self, name: str) -> None:
        """A part begins."""
        self._digest.update(b"" if self._first else b"\0")
        self._first = False
        self._digest.update(f"{name}\0".encode("utf-8", "surrogatepass"))
        self._documents = 0

    def document(self, content: str, separator: str) -> None:
        """The part's next document."""
        between = separator if self._documents else ""
        self._digest.update((between + content).encode("utf-8", "surrogatepass"))
        self._documents += 1

    @property
    def value(self) -> str:
        """The first 16 digits."""
        whole = self._digest.copy()
        whole.update(b"\0")
        return whole.hexdigest()[:16]
