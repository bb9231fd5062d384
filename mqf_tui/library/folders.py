"""Where this user's data lives."""

from __future__ import annotations

import os
from pathlib import Path


def data_dir() -> Path:
    """The folder of runs, sweeps, recipes and themes; ``MQF_TUI_DATA_DIR`` overrides."""
    import platformdirs

    override = os.environ.get("MQF_TUI_DATA_DIR")
    return (
        Path(os.path.expanduser(override))
        if override
        else Path(platformdirs.user_data_dir("mqf-tui", appauthor=False))
    )
