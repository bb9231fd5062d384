"""Recipes on disk."""

from __future__ import annotations

from pathlib import Path

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.recipe_files import from_toml
from mqf_tui.fidelity.recipes import Recipe

MAX_BYTES = 10**6


def read_recipe(path: str) -> Recipe:
    """The recipe in a TOML file; raises BadSettingError."""
    try:
        with Path(path).expanduser().open("rb") as file:
            text = file.read(MAX_BYTES).decode("utf-8")
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise BadSettingError(f"the recipe {path!r} cannot be read ({why}); check its path.") from error
    return from_toml(text)
