"""Themes as TOML files: those that come with the package, and the user's own."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from textual.color import Color, ColorParseError
from textual.theme import Theme

from mqf_tui.library.runs import data_dir

DEFAULT = "mqf-dusk"
_KEYS = (
    "primary",
    "secondary",
    "accent",
    "success",
    "warning",
    "error",
    "foreground",
    "background",
    "surface",
    "panel",
)


def themes() -> tuple[list[Theme], list[str]]:
    """All themes, and a sentence for each file that could not be read."""
    found: list[Theme] = []
    problems: list[str] = []
    for path in _files():
        try:
            found.append(read_theme(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(f"theme {path.name} cannot be used: {error}")
    return found, problems


def read_theme(path: Path) -> Theme:
    """One theme; raises ValueError where a colour or key is wrong."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    unknown = set(data) - {*_KEYS, "name", "dark", "variables"}
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}")
    for key in _KEYS:
        if key in data and not isinstance(data[key], str):
            raise ValueError(f"{key} is no text")
        if key in data:
            try:
                Color.parse(data[key])
            except ColorParseError as error:
                raise ValueError(f"{key}: {error}") from error
    colours = {key: data[key] for key in _KEYS if key in data}
    return Theme(
        name=str(data["name"]),
        dark=bool(data.get("dark", True)),
        variables=data.get("variables", {}),
        **colours,
    )


def _files() -> Iterator[Path]:
    package = Path(__file__).parents[1]
    # In a checkout the folder lies beside the package, in a wheel inside it.
    bundled = next((p for p in (package / "themes", package.parent / "themes") if p.is_dir()), None)
    for folder in (bundled, data_dir() / "themes"):
        if folder is not None and folder.is_dir():
            yield from sorted(folder.glob("*.toml"))
