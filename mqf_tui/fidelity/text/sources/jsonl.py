"""JSON lines, and JSON files with a list of objects or one object, as rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.text.sources.bytes_of import LARGE, Source
from mqf_tui.fidelity.text.sources.decoding import decoded
from mqf_tui.reports.text import inert

LONGEST = 64_000_000  # characters of a line; beyond it is not read into memory
KINDS = {
    **{list: "a list", str: "a string", bool: "a truth value", int: "a number", float: "a number"},
    type(None): "null",
}


@dataclass(frozen=True)
class JsonLines:
    """One object a line; empty lines are skipped."""

    source: Source

    def __iter__(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Where each object stands, and the object; raises BadCorpusError, naming the line."""
        shown = self.source.shown
        for number, line in lines(decoded(self.source.blocks(), shown), shown):
            where = f"line {number:,}"
            yield where, _object(_loaded(line, f"{where} of {shown}"), f"{where} of {shown}")


@dataclass(frozen=True)
class JsonFile:
    """A list of objects, or one object; or JSON lines by another name."""

    source: Source

    def __iter__(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Where each object stands, and the object; raises BadCorpusError."""
        if is_json_lines(self.source):
            yield from JsonLines(self.source)
            return
        shown = self.source.shown
        if self.source.large:
            raise BadCorpusError(
                f"{shown} is one JSON value of more than {LARGE // 10**6} MB; save it as JSON lines (.jsonl)."
            )
        text = "".join(decoded(self.source.blocks(), shown))
        if not text.strip():
            return
        value = _loaded(text, shown)
        for number, row in enumerate(value if isinstance(value, list) else [value], 1):
            where = f"entry {number:,}"
            yield where, _object(row, f"{where} of {shown}")


def is_json_lines(source: Source) -> bool:
    """Whether the first line that is not empty is an object for itself."""
    try:
        _, line = next(lines(decoded(source.blocks(), source.shown), source.shown))
        return isinstance(json.loads(line), dict)
    except (StopIteration, ValueError, RecursionError):
        return False


def lines(texts: Iterable[str], shown: str) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers; they end at line feeds alone.

    JSON may hold the other characters at which Python's splitlines ends a line.
    """
    held: list[str] = []
    size, number = 0, 0
    for text in texts:
        *whole, rest = text.split("\n")
        for line in whole:
            number += 1
            line = "".join((*held, line))
            held, size = [], 0
            if line.strip():
                yield number, line
        held.append(rest)
        size += len(rest)
        if size > LONGEST:
            raise BadCorpusError(
                f"line {number + 1:,} of {shown} is longer than {LONGEST:,} characters; break it up."
            )
    line = "".join(held)
    if line.strip():
        yield number + 1, line


def _loaded(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = (
            f"{error.msg}, column {error.colno:,}"
            if error.lineno == 1
            else f"{error.msg}, line {error.lineno:,}"
        )
        raise BadCorpusError(f"{where} is not valid JSON ({inert(place)}); mend or remove it.") from error
    except (ValueError, RecursionError) as error:
        why = "too deeply nested" if isinstance(error, RecursionError) else "a number too long"
        raise BadCorpusError(f"{where} is no JSON that can be read ({why}); mend or remove it.") from error


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    kind = KINDS.get(type(value), "something else")
    raise BadCorpusError(f'{where} is {kind}, not an object; write {{"text": "…"}}.')
