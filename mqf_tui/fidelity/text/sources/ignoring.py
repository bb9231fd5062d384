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
FOLDER_MARK = "ps_d"  # pathspec's name for the slash behind a folder that a pattern means
LARGEST = 1_000_000  # bytes; a larger one is none that a person wrote


class Ignored:
    """Whether a file or folder of ``root`` is ignored: the deepest file that says something decides."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._entered: list[tuple[str, GitIgnoreSpec | None]] = []
        self._above: list[tuple[str, GitIgnoreSpec]] = []
        for folder in _up_to_repository(root):
            spec = _read(folder)
            if spec is not None:
                self._above.append((os.path.relpath(root.resolve(), folder).replace(os.sep, "/"), spec))
        # A folder that is ignored and named all the same is wanted.
        if any(spec.match_file(f"{inside}/") for inside, spec in self._above):
            self._above = []

    def enter(self, prefix: str) -> None:
        """What follows lies in the folder ``prefix`` of ``root``: "", or with ``/`` behind it."""
        self._entered.append((prefix, _read(self._root / prefix)))

    def leave(self) -> None:
        """What follows lies in the folder that was entered before."""
        self._entered.pop()

    def __call__(self, name: str, *, folder: bool) -> bool:
        """``name`` lies in the folder that was entered last and counts from ``root``."""
        end = "/" if folder else ""
        for prefix, spec in reversed(self._entered):
            if spec is None:
                continue
            found = _said(spec, name[len(prefix) :] + end)
            if found is not None:
                return found
        for inside, spec in self._above:
            found = _said(spec, f"{inside}/{name}{end}")
            if found is not None:
                return found
        return False


def _said(spec: GitIgnoreSpec, name: str) -> bool | None:
    """Whether the last pattern that means just ``name`` ignores it; None where none does.

    pathspec lets a pattern that means a folder decide on all that lies in it as well; to git what lies in a
    folder that is not ignored is a matter of its own.
    """
    for pattern in reversed(list(spec.patterns)):
        found = pattern.regex.match(name) if pattern.include is not None and pattern.regex else None
        if found is not None:
            inside = found.re.groupindex.get(FOLDER_MARK)
            if inside is None or found.end(inside) in (-1, len(name)):
                return pattern.include
    return None


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
    # What lies in a folder, and not the folder itself, which pathspec takes "a/**" for as well.
    lines = [line + "/*" if line.endswith("/**") else line for line in lines]
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
