"""Recipes that were tuned, kept beside the runs."""

from __future__ import annotations

import re
from pathlib import Path

from mqf_tui.fidelity.errors import SaveError
from mqf_tui.library.files import replace_synced
from mqf_tui.library.runs import data_dir
from mqf_tui.reports.text import inert
from mqf_tui.reports.tuning_schema import Tuning

LONGEST_NAME = 60


def save_recipe(tuning: Tuning, root: Path | None = None) -> Path:
    """Write the recipe as TOML under the day and time of its making; raises SaveError."""
    home = (root or data_dir()) / "recipes"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", inert(tuning.model)).strip("-.")[-LONGEST_NAME:] or "model"
    when = re.sub(r"\D", "", tuning.created)[:14]
    path = home / f"{when}-{name}.toml"
    number = 2
    while path.exists():
        path, number = home / f"{when}-{name}-{number}.toml", number + 1
    try:
        home.mkdir(parents=True, exist_ok=True)
        replace_synced(path, tuning.toml.encode())
    except OSError as error:
        raise SaveError(
            f"the recipe could not be saved in {home} ({error.strerror or error}); make room there or set "
            "MQF_TUI_DATA_DIR to another folder."
        ) from error
    return path
