"""Where LM Studio keeps its models."""

from __future__ import annotations

import json
import os
from pathlib import Path

POINTER = ".lmstudio-home-pointer"  # in the user's home: where LM Studio has its own
HOMES = (".lmstudio", ".cache/lm-studio")  # the usual one, and that of older versions
MODELS = "models"
SETTINGS, DOWNLOADS = "settings.json", "downloadsFolder"
MAX_BYTES = 1_000_000


def lm_studio_folders() -> tuple[Path, ...]:
    """The folders of models that its settings name, and the usual ones; those that are there, each once."""
    user = user_home()
    pointed = _text(user / POINTER).strip()
    homes = [Path(pointed)] if pointed and os.path.isabs(pointed) else []
    homes += [user / name for name in HOMES]
    found: dict[str, Path] = {}
    for home in homes:
        for folder in (_downloads(home), home / MODELS):
            if folder is not None and os.path.isdir(folder):
                found.setdefault(os.path.realpath(folder), folder)
    return tuple(found.values())


def user_home() -> Path:
    """Where LM Studio leaves word of itself."""
    return Path(os.path.expanduser("~"))


def _downloads(home: Path) -> Path | None:
    """Another folder that the user chose there."""
    try:
        chosen = json.loads(_text(home / SETTINGS))[DOWNLOADS]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    fits = isinstance(chosen, str) and "\0" not in chosen and os.path.isabs(chosen)
    return Path(chosen) if fits else None


def _text(path: Path) -> str:
    """What a small file says; nothing where there is none."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
    return "" if "\0" in text else text
