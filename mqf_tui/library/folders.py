"""Where what belongs to this user lives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal


def data_dir() -> Path:
    """The folder of runs, sweeps, recipes and themes; ``MQF_TUI_DATA_DIR`` overrides."""
    return user_dir("data")


def user_dir(kind: Literal["data", "config", "cache", "state"]) -> Path:
    """The folder that ``MQF_TUI_<KIND>_DIR`` names, else the one that this system keeps such files in."""
    import platformdirs

    if override := os.environ.get(f"MQF_TUI_{kind.upper()}_DIR"):
        return Path(os.path.expanduser(override))
    own = platformdirs.PlatformDirs("mqf-tui", appauthor=False)
    return Path(getattr(own, f"user_{kind}_dir"))
