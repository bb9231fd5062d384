"""What the app remembers from one start to the next, in ``state.json``."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from mqf_tui.library.files import read_object, replace_synced
from mqf_tui.library.folders import data_dir


def state_file() -> Path:
    """The file, whether there is one or not; ``MQF_TUI_STATE_DIR`` says where, else it lies beside data
    whose folder was named, else where this system keeps such files."""
    import platformdirs

    if override := os.environ.get("MQF_TUI_STATE_DIR"):
        return Path(os.path.expanduser(override)) / "state.json"
    if os.environ.get("MQF_TUI_DATA_DIR"):
        return data_dir() / "state.json"
    return Path(platformdirs.user_state_dir("mqf-tui", appauthor=False)) / "state.json"


def remembered() -> dict[str, str]:
    """Everything remembered, by name; empty where there is nothing, or nothing that can be read."""
    return {name: value for name, value in read_object(state_file()).items() if isinstance(value, str)}


def remember(**values: str) -> None:
    """Put these by beside what is remembered already. Never raises: not to remember does no harm."""
    path = state_file()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_synced(path, json.dumps(remembered() | values, indent=1).encode())
