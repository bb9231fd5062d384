"""Texts into files that the user names."""

from __future__ import annotations

import os
from pathlib import Path

from mqf_tui.fidelity.errors import SaveError
from mqf_tui.library.files import replace_synced
from mqf_tui.reports.text import inert


def export_path(words: str, name: str) -> Path:
    """The file that ``words`` mean, ``~`` and folders understood: ``name`` in a folder. Raises SaveError."""
    if not words.strip():
        raise SaveError("no file is named; write a path, such as report.md.")
    path = Path(os.path.expanduser(words.strip()))
    if "\0" in words:
        raise SaveError("a path holds no NUL; write another.")
    try:
        if path.is_dir():
            path = path / name
        elif words.rstrip().endswith("/"):
            raise SaveError(f"there is no folder {inert(words.strip())}; make it, or choose another.")
        if path.is_dir():
            raise SaveError(f"{inert(str(path))} is a folder; choose another name.")
        if not path.parent.is_dir():
            raise SaveError(f"there is no folder {inert(str(path.parent))}; make it, or choose another.")
        if path.exists() and not path.is_file():
            raise SaveError(f"{inert(str(path))} is no ordinary file; choose another.")
    except OSError as error:  # names that are too long, folders that may not be entered
        raise _refused(path, error) from error
    return path


def export(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 in place of what the file held, whole or not at all; raises SaveError."""
    # Through a link: what it points at is meant. CSV's own line ends must stay as they are.
    try:
        replace_synced(path.resolve(), text.encode("utf-8", "replace"))
    except (OSError, RuntimeError) as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError | RuntimeError) -> SaveError:
    why = getattr(error, "strerror", None) or "it links to itself"
    return SaveError(f"{inert(str(path))} cannot be written ({why}); choose another path.")
