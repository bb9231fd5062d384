"""Rows with named fields -> documents: which field holds the text, and what is in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.text.corpus import Document
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.fidelity.text.sources import conversations
from mqf_tui.reports.text import counted, inert

MOST_NAMED = 12  # fields that a message names
TEXT = "text"
_ABSENT = object()


@dataclass
class Notices:
    """What was left out while reading, for a warning; begun anew with each reading."""

    empty: int = 0
    shown: str = ""
    noun: str = "row"

    def __call__(self) -> tuple[str, ...]:
        """The warnings so far."""
        if not self.empty:
            return ()
        verb = "is" if self.empty == 1 else "are"
        return (f"{counted(self.empty, self.noun)} of {self.shown} without text {verb} left out",)


@dataclass(frozen=True)
class Rows:
    """Documents of rows; ``rows`` gives where each stands, such as ``line 3``, and the row.

    ``wanted``: the field that is asked for, or None. ``keeps_empty``: empty texts are documents too.
    """

    rows: Iterable[tuple[str, Mapping[str, Any]]]
    shown: str
    options: TextOptions
    wanted: str | None
    notices: Notices = field(default_factory=Notices)
    keeps_empty: bool = False

    def __iter__(self) -> Iterator[Document]:
        """Raises BadCorpusError, also from the rows themselves."""
        self.notices.empty, self.notices.shown = 0, self.shown
        name = self.wanted
        for where, row in self.rows:
            if name is None and _says_nothing(row):
                self.notices.empty += 1
                continue
            if name is None:
                name = chosen_field(row, self.options, self.shown)
            found = document(row, name, f"{where} of {self.shown}")
            if found is not None:
                yield found
            elif self.keeps_empty and isinstance(value_at(row, name), str):
                yield Document(value_at(row, name))
            else:
                self.notices.empty += 1


def chosen_field(
    row: Mapping[str, Any], options: TextOptions, shown: str, how: str = "name one with --field"
) -> str:
    """The field that holds the text, by what a row has; raises BadCorpusError where that is not clear."""
    chats = [name for name in conversations.COLUMNS if conversations.looks_like_one(row.get(name))]
    texts = [TEXT] if isinstance(row.get(TEXT), str) else []
    order = (*chats, *texts) if options.assistant_only else (*texts, *chats)
    if order:
        return order[0]
    strings = [str(name) for name, value in row.items() if isinstance(value, str)]
    if len(strings) == 1:
        return strings[0]
    known = [name for name in (TEXT, *conversations.COLUMNS) if name in row]
    what = f"nothing that is a text in {inert(known[0])}" if known else "no field text or messages"
    raise BadCorpusError(f"{shown} has {what}; {how}: {names_of(row)}.")


def document(row: Mapping[str, Any], name: str, where: str) -> Document | None:
    """The document in field ``name`` (``a.b``: b of a) of a row; None where there is no text in it.

    Raises BadCorpusError.
    """
    value = value_at(row, name)
    if value is _ABSENT:
        raise BadCorpusError(f"{where} has no field {inert(repr(name))}; there is {names_of(row)}.")
    if value is None:
        return None
    if isinstance(value, str):
        found = Document(value) if value.strip() else None
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        found = conversations.conversation(row, value, where)
    else:
        raise BadCorpusError(
            f"the field {inert(repr(name))} of {where} is neither text nor a list of messages; "
            "name another one with --field."
        )
    if found is not None and _broken(found.content):
        raise BadCorpusError(
            f"{where} holds half of a character pair (such as \\ud83d), which is no text; mend or remove it."
        )
    return found


def _says_nothing(row: Mapping[str, Any]) -> bool:
    """Whether the fields that usually hold the text are there, and empty."""
    usual = [row[name] for name in (TEXT, *conversations.COLUMNS) if name in row]
    return bool(usual) and all(value is None or value == [] for value in usual)


def value_at(row: Mapping[str, Any], name: str) -> Any:
    """The value of a field; a name with dots goes into objects unless a field is called so."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def has_field(row: Mapping[str, Any], name: str) -> bool:
    """Whether a row has a field of this name."""
    return value_at(row, name) is not _ABSENT


def names_of(row: Mapping[str, Any]) -> str:
    """The names of a row's fields for a message."""
    names = [inert(str(name))[:60] for name in row]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return (", ".join(names[:MOST_NAMED]) + more) or "none"


def _broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
