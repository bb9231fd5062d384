"""Themes as TOML files: those that come with the package, and the user's own."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from textual.color import Color, ColorParseError
from textual.theme import BUILTIN_THEMES, Theme

from mqf_tui.fidelity.errors import brief
from mqf_tui.library.folders import data_dir
from mqf_tui.library.settings import config_dir
from mqf_tui.library.settings_file import place_of
from mqf_tui.reports.text import inert

DEFAULT = "mqf-dusk"
STYLES = {
    "none",
    "not",
    "bold",
    "b",
    "italic",
    "i",
    "underline",
    "u",
    "underline2",
    "strike",
    "s",
    "reverse",
    "r",
}
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
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_SHARE = re.compile(r"^(?P<colour>.+?)(?:\s+(?P<percent>\d+(?:\.\d+)?)%)?$")

Stamp = tuple[tuple[str, int, int], ...]


def themes() -> tuple[list[Theme], list[str]]:
    """All themes, the user's after the package's, and a sentence for each file that could not be used."""
    found: list[Theme] = []
    problems: list[str] = []
    for path in (*_bundled(), *_users()):
        try:
            found.append(read_theme(path))
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"theme {inert(path.name)} cannot be used: {brief(error)}")
    return found, problems


def unknown_theme(wanted: str, known: Collection[str]) -> str:
    """A sentence where there is no theme ``wanted`` among the ``known``; else ""."""
    if not wanted or wanted in known:
        return ""
    ours = ", ".join(sorted(name for name in known if name not in BUILTIN_THEMES))
    where = place_of("app", "theme")
    return f"{where}there is no theme {inert(wanted)}; {DEFAULT} is used. There are {ours}, and Textual's."


def known_themes() -> set[str]:
    """The names of all themes that can be chosen."""
    return {theme.name for theme in themes()[0]} | set(BUILTIN_THEMES)


def stamp() -> Stamp:
    """Names, times and sizes of the user's files: differs as soon as one of them was changed."""
    found: list[tuple[str, int, int]] = []
    for path in _users():
        try:
            state = path.stat()
        except OSError:
            continue
        found.append((str(path), state.st_mtime_ns, state.st_size))
    return tuple(found)


def read_theme(path: Path) -> Theme:
    """One theme; raises ValueError where it is wrong, OSError where it cannot be read."""
    data = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    unknown = set(data) - {*_KEYS, "name", "dark", "variables"}
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}")
    name, dark = data.get("name"), data.get("dark", True)
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ValueError("it has no name of letters, digits, - and _")
    if not isinstance(dark, bool):
        raise ValueError("dark is neither true nor false")
    if "primary" not in data:
        raise ValueError("it has no colour 'primary'")
    colours: dict[str, Any] = {key: _colour(key, data[key]) for key in _KEYS if key in data}
    return Theme(name=name, dark=dark, variables=_variables(data.get("variables", {})), **colours)


def _colour(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key} is no text")
    try:
        colour = Color.parse(value)
    except ColorParseError as error:
        raise ValueError(f"{key}: {error}") from error
    if colour.ansi is not None or colour.a < 1:
        raise ValueError(f"{key} must be a full colour such as '#7aa2f7'")
    return value


def _variables(table: Any) -> dict[str, str]:
    """Textual's names for single uses of colours, such as ``block-cursor-background``."""
    if not isinstance(table, dict):
        raise ValueError("variables is no table")
    for key, value in table.items():
        if key not in _known_variables():
            raise ValueError(f"unknown variable {key!r}")
        fits = _is_style(value) if "-style" in key else _is_colour(value)
        if not fits:
            raise ValueError(f"{key} is {value!r}")
    return table


@cache
def _known_variables() -> frozenset[str]:
    return frozenset(Theme(name="any", primary="#000000").to_color_system().generate())


def _is_style(value: Any) -> bool:
    return isinstance(value, str) and bool(value.split()) and set(value.split()) <= STYLES


def _is_colour(value: Any) -> bool:
    parts = _SHARE.match(value) if isinstance(value, str) else None
    if parts is None:
        return False
    if parts["colour"] == "auto":
        return True
    try:
        Color.parse(parts["colour"])
    except ColorParseError:
        return False
    return True


def _bundled() -> Iterator[Path]:
    package = Path(__file__).parents[1]
    # In a checkout the folder lies beside the package, in a wheel inside it.
    folder = next((p for p in (package / "themes", package.parent / "themes") if p.is_dir()), None)
    if folder is not None:
        yield from sorted(folder.glob("*.toml"))


def _users() -> Iterator[Path]:
    for folder in dict.fromkeys((data_dir() / "themes", config_dir() / "themes")):
        try:
            yield from sorted(folder.glob("*.toml"))
        except OSError:
            continue
