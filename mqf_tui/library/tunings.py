"""Tunings, kept beside the runs: the recipe as a file of its own, and all that is known of it."""

from __future__ import annotations

import re
from pathlib import Path

from mqf_tui.fidelity.errors import SaveError
from mqf_tui.library.files import replace_synced
from mqf_tui.library.runs import data_dir
from mqf_tui.reports.text import inert
from mqf_tui.reports.tuning_report import to_json
from mqf_tui.reports.tuning_schema import Tuning

LONGEST_NAME = 60


def save_recipe(tuning: Tuning, root: Path | None = None) -> Path:
    """Write the recipe as TOML under the day and time of its making; raises SaveError."""
    return _written("recipe", (root or data_dir()) / "recipes", tuning, ".toml", tuning.toml)


def save_tuning(tuning: Tuning, root: Path | None = None) -> Path:
    """Write all of it as JSON, beside other tunings; raises SaveError."""
    return _written("tuning", _home(root), tuning, ".json", to_json(tuning))


def list_tunings(root: Path | None = None) -> list[str]:
    """The ids of all saved tunings, newest first."""
    home = _home(root)
    return sorted((path.stem for path in home.glob("*.json")), reverse=True) if home.is_dir() else []


def load_tuning(name: str, root: Path | None = None) -> Tuning:
    """The tuning of this id; raises SaveError."""
    if name not in list_tunings(root):
        raise SaveError(f"there is no tuning {name!r}; `mqf-tui tune MODEL` makes one.")
    try:
        return Tuning.model_validate_json((_home(root) / f"{name}.json").read_bytes())
    except (OSError, ValueError) as error:
        raise SaveError(f"tuning {name} cannot be read; measure it again.") from error


def _home(root: Path | None) -> Path:
    return (root or data_dir()) / "tunings"


def _written(what: str, home: Path, tuning: Tuning, ending: str, content: str) -> Path:
    """Write it under the day and time of its making and the model's name, over nothing that is there."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", inert(tuning.model)).strip("-.")[-LONGEST_NAME:] or "model"
    when = re.sub(r"\D", "", tuning.created)[:14]
    path = home / f"{when}-{name}{ending}"
    number = 2
    while path.exists():
        path, number = home / f"{when}-{name}-{number}{ending}", number + 1
    try:
        home.mkdir(parents=True, exist_ok=True)
        replace_synced(path, content.encode())
    except OSError as error:
        raise SaveError(
            f"the {what} could not be saved in {home} ({error.strerror or error}); make room there or set "
            "MQF_TUI_DATA_DIR to another folder."
        ) from error
    return path
