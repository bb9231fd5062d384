"""What the app remembers from one start to the next, in ``state.json``."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from mqf_tui.library.files import read_object, replace_synced
from mqf_tui.library.folders import user_dir


def state_file() -> Path:
    """The file, whether there is one or not; ``MQF_TUI_STATE_DIR`` says where, else it lies beside data
    whose folder was named, else where this system keeps such files."""
    beside_data = os.environ.get("MQF_TUI_DATA_DIR") and not os.environ.get("MQF_TUI_STATE_DIR")
    return user_dir("data" if beside_data else "state") / "state.json"


def remembered() -> dict[str, str]:
    """Everything remembered, by name; empty where there is nothing, or nothing that can be read."""
    return {name: value for name, value in read_object(state_file()).items() if isinstance(value, str)}


def remember(**values: str) -> None:
    """Put these by beside what is remembered already. Never raises: not to remember does no harm."""
    path = state_file()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_synced(path, json.dumps(remembered() | values, indent=1).encode())
