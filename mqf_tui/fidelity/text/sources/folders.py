"""A folder as text: its files in order, each a document, without what git ignores."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.text.corpus import Document, Part
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.fidelity.text.sources.bytes_of import LARGE, FileBytes, unreadable
from mqf_tui.fidelity.text.sources.decoding import decoded
from mqf_tui.fidelity.text.sources.files import file_part, holds_rows
from mqf_tui.fidelity.text.sources.ignoring import Ignored, wanted_by
from mqf_tui.reports.text import counted, readable

MOST_LISTED = 20_000  # files; a folder with more is read only as far as needed
KEPT_BY_TOOLS = (".git", ".hg", ".svn")


@dataclass(frozen=True)
class FoundFile:
    """A file that was found: where, its name from the folder on, and its size in bytes."""

    path: Path
    name: str
    n_bytes: int


@dataclass
class Skipped:
    """What of a folder was left out, for warnings; begun anew with each reading."""

    shown: str
    binary: int = 0
    unreadable: int = 0
    links: int = 0
    rows: list[str] = field(default_factory=list[str])

    def __call__(self) -> tuple[str, ...]:
        """The warnings so far."""
        kinds = (
            (self.binary, "file", "no UTF-8 text"),
            (self.unreadable, "entry", "not readable"),
            (self.links, "link to a folder", "not followed"),
        )
        said = [
            f"{_several(n, noun)} of {self.shown} {'is' if n == 1 else 'are'} {why} and left out"
            for n, noun, why in kinds
            if n
        ]
        return (*said, *self.rows)


@dataclass(frozen=True)
class Folder:
    """The documents of a folder. ``pattern``: the files to take, in gitignore's words; None: all."""

    root: Path
    shown: str
    pattern: str | None
    options: TextOptions
    skipped: Skipped

    def __iter__(self) -> Iterator[Document]:
        """Files that are no text are counted and passed over; raises BadCorpusError where rows are broken."""
        skipped = self.skipped
        skipped.binary = skipped.unreadable = skipped.links = 0
        skipped.rows.clear()
        as_rows = self.pattern is not None and holds_rows(self.pattern)
        for file in self.files(skipped):
            yield from self._rows(file) if as_rows else self._text(file)

    def files(self, skipped: Skipped | None = None) -> Iterator[FoundFile]:
        """The files in the order of their names, folder by folder; none twice."""
        wanted = None if self.pattern is None else wanted_by(self.pattern)
        ignored = Ignored(self.root)
        seen: set[tuple[int, int]] = set()
        levels = [("", iter(_listed(self.root, skipped)))]
        ignored.enter("")
        while levels:
            prefix, entries = levels[-1]
            entry = next(entries, None)
            if entry is None:
                levels.pop()
                ignored.leave()
                continue
            name = prefix + entry.name
            if entry.name in KEPT_BY_TOOLS or ignored(name, folder=_is_folder(entry)):
                continue
            if _is_folder(entry):
                levels.append((f"{name}/", iter(_listed(Path(entry.path), skipped))))
                ignored.enter(f"{name}/")
            elif wanted is None or wanted.match_file(name):
                file = _file(entry, name, seen, skipped)
                if file is not None:
                    yield file

    def _text(self, file: FoundFile) -> Iterator[Document]:
        """Its text; of a large file piece by piece."""
        shown = readable(file.name)
        pieces = decoded(FileBytes(file.path, shown).blocks(), shown)
        try:
            if file.n_bytes <= LARGE:
                text = "".join(pieces)
                if text.strip():
                    yield Document(text)
                return
            for piece in pieces:
                yield Document(piece)
        except BadCorpusError as error:
            if isinstance(error.__cause__, OSError):
                self.skipped.unreadable += 1
            else:
                self.skipped.binary += 1

    def _rows(self, file: FoundFile) -> Iterator[Document]:
        part = file_part(file.path, readable(file.name), self.options)
        yield from part.documents
        if part.notices is not None:
            self.skipped.rows.extend(part.notices())


def folder_part(root: Path, shown: str, pattern: str | None, options: TextOptions) -> Part:
    """The part that a folder is; raises BadCorpusError where it cannot be listed or holds no text."""
    try:
        os.scandir(root).close()
    except OSError as error:
        raise unreadable(shown, error) from error
    skipped = Skipped(shown)
    documents = Folder(root, shown, pattern, options, skipped)
    if next(iter(documents), None) is None:
        found = "; ".join(skipped())
        which = "no text file" if pattern is None else f"no text file that fits {pattern!r}"
        raise BadCorpusError(
            f"{shown} has {which} in it{f' ({found})' if found else ''}; name another folder, or leave out "
            "what is chosen of it."
        )
    return Part(shown, documents, complete=_is_small(documents.files()), notices=skipped)


def _is_small(files: Iterator[FoundFile]) -> bool:
    """Whether reading all files is cheap; looks at no more of them than it takes to know."""
    n_bytes = 0
    for number, file in enumerate(files, 1):
        n_bytes += file.n_bytes
        if n_bytes > LARGE or number > MOST_LISTED:
            return False
    return True


def _listed(folder: Path, skipped: Skipped | None) -> Sequence[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        if skipped is not None:
            skipped.unreadable += 1
        return ()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _file(
    entry: os.DirEntry[str], name: str, seen: set[tuple[int, int]], skipped: Skipped | None
) -> FoundFile | None:
    """A regular file that was not met before; links to folders are not followed, so there are no loops."""
    try:
        found = os.stat(entry.path)
    except OSError:  # gone, a link to nothing, or a loop of links
        if skipped is not None:
            skipped.unreadable += 1
        return None
    if stat.S_ISDIR(found.st_mode):
        if skipped is not None:
            skipped.links += 1
        return None
    key = found.st_dev, found.st_ino
    if not stat.S_ISREG(found.st_mode) or key in seen:
        return None
    if found.st_nlink > 1 or entry.is_symlink():
        seen.add(key)
    return FoundFile(Path(entry.path), name, found.st_size)


def _several(n: int, noun: str) -> str:
    plurals = {"entry": "entries", "link to a folder": "links to folders"}
    return f"{n:,} {plurals[noun]}" if n != 1 and noun in plurals else counted(n, noun)


def split_glob(word: str) -> tuple[str, str]:
    """``docs/**/*.md`` as the folder ``docs`` and the pattern ``/**/*.md`` in it; there may be no pattern."""
    parts = word.split("/")
    for n, part in enumerate(parts):
        if any(c in part for c in "*?["):
            folder = "/".join(parts[:n])
            return folder or ("/" if word.startswith("/") else "."), "/" + "/".join(parts[n:])
    return word, ""
