"""The tracker that the last issue was written for."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mqf_tui.library.files import replace_synced
from mqf_tui.library.runs import data_dir
from mqf_tui.reports.text import inert

MAX_LENGTH = 200


def remembered_tracker(root: Path | None = None) -> str:
    """What was remembered, "" where nothing was. Never raises."""
    with contextlib.suppress(OSError):
        return inert(_file(root).read_text(encoding="utf-8", errors="replace")[:MAX_LENGTH]).strip()
    return ""


def remember_tracker(words: str, root: Path | None = None) -> None:
    """Keep it for the next issue; a disk that does not take it is no reason to stop."""
    with contextlib.suppress(OSError):
        _file(root).parent.mkdir(parents=True, exist_ok=True)
        replace_synced(_file(root), f"{words}\n".encode())


def _file(root: Path | None) -> Path:
    return (root or data_dir()) / "tracker"
