"""One file as a part of a corpus, by what its name says it holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.text.corpus import Document, Part
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.fidelity.text.sources.bytes_of import ALTERNATIVES, Source, source_of
from mqf_tui.fidelity.text.sources.decoding import decoded
from mqf_tui.fidelity.text.sources.jsonl import JsonFile, JsonLines, is_json_lines
from mqf_tui.fidelity.text.sources.parquet import ParquetRows
from mqf_tui.fidelity.text.sources.rows import Notices, Rows

LINES = (".jsonl", ".ndjson", ".jsonlines")
ROWS = re.compile(r"\.(?:(?:jsonl|ndjson|jsonlines|json)(?:\.gz)?|parquet)$", re.IGNORECASE)
OPEN_STREAM = re.compile(r"(?:/dev/fd|/proc/self/fd)/(\d+)$|/dev/stdin$")


@dataclass(frozen=True)
class LargeText:
    """A large text in pieces, which follow each other with nothing between."""

    source: Source

    def __iter__(self) -> Iterator[Document]:
        """Raises BadCorpusError where the text read so far is no text."""
        return map(Document, decoded(self.source.blocks(), self.source.shown))


def holds_rows(name: str) -> bool:
    """Whether a file of this name holds rows with fields, not text."""
    return ROWS.search(name) is not None


def file_part(path: Path, shown: str, options: TextOptions) -> Part:
    """The part that a regular file is; raises BadCorpusError, now or when it is read."""
    source = source_of(path, shown)
    if not holds_rows(path.name):
        return text_part(source)
    if path.suffix.lower() == ".parquet":
        notices = Notices()
        rows = Rows(ParquetRows(path, shown), shown, options, options.field, notices)
        return _begun(Part(shown, rows, complete=not source.large, notices=notices))
    stem = path.name.lower().removesuffix(".gz")
    return lines_part(source, options, JsonLines(source) if stem.endswith(LINES) else JsonFile(source))


def stream_part(source: Source, options: TextOptions) -> Part:
    """The part that a stream is: JSON lines where its first line is an object or a field is named."""
    if options.field is not None or is_json_lines(source):
        return lines_part(source, options, JsonLines(source))
    return text_part(source)


def lines_part(source: Source, options: TextOptions, rows: JsonLines | JsonFile) -> Part:
    """The part that the objects of a source are; its first one is looked at."""
    notices = Notices(noun="line" if isinstance(rows, JsonLines) else "entry")
    documents = Rows(rows, source.shown, options, options.field, notices)
    return _begun(Part(source.shown, documents, complete=not source.large, notices=notices))


def text_part(source: Source) -> Part:
    """The part that plain text is: read now, or as it is needed where it is large."""
    if source.large:
        return _begun(Part(source.shown, LargeText(source), separator="", complete=False))
    text = "".join(decoded(source.blocks(), source.shown))
    if not text.strip():
        raise empty(source.shown)
    return Part.of(source.shown, text)


def empty(shown: str) -> BadCorpusError:
    """The sentence for what holds nothing."""
    return BadCorpusError(f"{shown} has no text in it; {ALTERNATIVES}.")


def _begun(part: Part) -> Part:
    """The part, where its first document can be read."""
    if next(iter(part.documents), None) is None:
        raise empty(part.name)
    return part
