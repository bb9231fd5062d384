"""``[app]``, ``[keys]``, ``[models]`` of the settings file: what is wrong is told, the default stands."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mqf_tui.library.settings_file import SettingsFile, quoted
from mqf_tui.reports.text import inert

AUTO = "auto"
SWITCHES = ("bell", "notify", "tour")
DEFAULT_STANDS = "the default stands"


@dataclass(frozen=True)
class AppSettings:
    """How the app looks and behaves. ``theme`` "" is the app's own default.

    ``bell`` and ``notify`` (an OSC 9 notification) at the end of a measurement; ``unicode`` None: what the
    terminal seems to bear; ``tour``: whether the first start offers it.
    """

    theme: str = ""
    bell: bool = True
    notify: bool = True
    unicode: bool | None = None
    tour: bool = True


def app_settings(file: SettingsFile, problems: list[str]) -> AppSettings:
    """``[app]``; a sentence for each wrong key or value is added to ``problems``."""
    table = table_or_none(file, "app", problems)
    known = ("theme", "unicode", *SWITCHES)
    found: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            problems.append(file.told_unknown("[app]", name, known, "app"))
        elif name == "theme":
            if isinstance(value, str) and value.strip():
                found[name] = inert(value).strip()
            else:
                problems.append(_wrong(file, name, value, "a theme's name in quotes"))
        elif isinstance(value, bool):
            found[name] = value
        elif name != "unicode":
            problems.append(_wrong(file, name, value, "true or false"))
        elif value != AUTO:
            problems.append(_wrong(file, name, value, '"auto", true or false'))
    return AppSettings(**found)


def key_settings(file: SettingsFile, problems: list[str]) -> Mapping[str, tuple[str, ...]]:
    """``[keys]``: for ``scope.name`` of an action the keys that the user wants for it, perhaps none.

    Whether there are such actions and keys the app knows.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, value in _flat(table_or_none(file, "keys", problems)):
        keys = [value] if isinstance(value, str) else value
        if "." not in name:
            how = 'name an action as "screen.action", such as "runs.mark" = "x"'
            problems.append(file.told(f"[keys] has {quoted(name)}", how, "keys", key=name))
        elif isinstance(keys, list) and all(isinstance(key, str) and key.strip() for key in keys):
            found[name] = tuple(key.strip() for key in keys)
        else:
            how = 'use a key in quotes, or several in a list, such as ["x", "ctrl+x"]'
            wrong = f"the key of {inert(name)} is {quoted(value)}"
            problems.append(file.told(wrong, how, "keys", key=name))
    return found


def model_folders(file: SettingsFile, problems: list[str]) -> tuple[Path, ...]:
    """``[models] folders``: where else to look for models, whether they exist or not."""
    table = table_or_none(file, "models", problems)
    for name in table:
        if name != "folders":
            problems.append(file.told_unknown("[models]", name, ("folders",), "models"))
    value = table.get("folders", [])
    folders = [value] if isinstance(value, str) else value
    fits = isinstance(folders, list) and all(
        isinstance(one, str) and one and "\0" not in one for one in folders
    )
    if not fits:
        how = 'use paths in quotes in a list, such as ["~/models"]'
        problems.append(file.told(f"folders is {quoted(value)}", how, "models", key="folders"))
        return ()
    return tuple(dict.fromkeys(Path(os.path.abspath(os.path.expanduser(one))) for one in folders))


def table_or_none(file: SettingsFile, section: str, problems: list[str]) -> dict[str, Any]:
    """A section's keys; none where it is missing or no table, which is told."""
    found = file.data.get(section, {})
    if isinstance(found, dict):
        return found
    how = f"make it a table that begins with [{section}]"
    problems.append(file.told(f"{section} is {quoted(found)}", how, key=section))
    return {}


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """``runs.mark = "x"`` without quotes round the name is a table within a table to TOML."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _wrong(file: SettingsFile, name: str, value: Any, words: str) -> str:
    return file.told(f"{name} is {quoted(value)}", f"use {words}; {DEFAULT_STANDS}", "app", key=name)
