"""What git ignores in a folder: the .gitignore files of all levels, those above it in its repository too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mqf_tui.fidelity.errors import BadCorpusError, brief

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

NAME = ".gitignore"
LARGEST = 1_000_000  # bytes; a larger one is none that a person wrote


class Ignored:
    """Whether a file or folder of ``root`` is ignored: the deepest file that says something decides."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._specs: dict[str, GitIgnoreSpec | None] = {}
        self._above: list[tuple[str, GitIgnoreSpec]] = []
        for folder in _up_to_repository(root):
            spec = _read(folder)
            if spec is not None:
                self._above.append((os.path.relpath(root.resolve(), folder).replace(os.sep, "/"), spec))
        # A folder that is ignored and named all the same is wanted.
        if any(spec.match_file(f"{inside}/") for inside, spec in self._above):
            self._above = []

    def __call__(self, name: str, *, folder: bool) -> bool:
        """``name`` counts from ``root``, with ``/`` between; what it lies in must not be ignored itself."""
        end = "/" if folder else ""
        parts = name.split("/")
        for depth in range(len(parts) - 1, -1, -1):
            spec = self._spec("/".join(parts[:depth]))
            found = None if spec is None else spec.check_file("/".join(parts[depth:]) + end).include
            if found is not None:
                return found
        for inside, spec in self._above:
            found = spec.check_file(f"{inside}/{name}{end}").include
            if found is not None:
                return found
        return False

    def _spec(self, folder: str) -> GitIgnoreSpec | None:
        if folder not in self._specs:
            self._specs[folder] = _read(self._root / folder)
        return self._specs[folder]


def wanted_by(pattern: str) -> GitIgnoreSpec:
    """Files by a pattern in gitignore's words: one without ``/`` fits at any depth; raises BadCorpusError."""
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines([pattern])
    except (ValueError, TypeError) as error:
        raise BadCorpusError(
            f"the pattern {pattern!r} cannot be used ({brief(error)}); write it as '*.md' or 'src/**/*.py'."
        ) from error


def _up_to_repository(root: Path) -> Iterator[Path]:
    """The folders above ``root`` up to that of its repository, nearest first; none outside of one."""
    root = root.resolve()
    if (root / ".git").exists():
        return
    above: list[Path] = []
    for folder in root.parents:
        above.append(folder)
        if (folder / ".git").exists():
            yield from above
            return


def _read(folder: Path) -> GitIgnoreSpec | None:
    from pathspec import GitIgnoreSpec

    path = folder / NAME
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return None
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    except OSError:
        return None
    try:
        return GitIgnoreSpec.from_lines(lines)
    except (ValueError, TypeError):  # git passes over a line that makes no sense
        return GitIgnoreSpec.from_lines(line for line in lines if _makes_sense(line))


def _makes_sense(line: str) -> bool:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except (ValueError, TypeError):
        return False
    return True
