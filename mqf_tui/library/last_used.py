"""What was chosen in the set-up the last time, for each model and for all: a small file of the data folder.

A file that is missing, damaged or from another version counts as none; nothing of it is ever needed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from mqf_tui.library.files import read_object, replace_synced
from mqf_tui.library.folders import data_dir

Value = int | str | None
# The values of each line of the set-up by its id.
Choices = dict[str, tuple[Value, ...]]

VERSION = 1
MOST_MODELS = 100  # the longest unused go first
ALL = ""  # the entry that every model's choices also go to
LONGEST = 4096  # characters of one value: paths are the longest


def last_used(model: str, root: Path | None = None) -> Choices:
    """What was chosen last for this model (its content hash), or else for any; empty where nothing was."""
    kept = _read(_file(root))
    return kept.get(model) or kept.get(ALL) or {}


def keep_used(model: str, choices: Mapping[str, tuple[Value, ...]], root: Path | None = None) -> None:
    """Remember ``choices`` for this model and for models that have none; never raises."""
    file = _file(root)
    kept = _read(file)
    for name in (model, ALL):
        kept.pop(name, None)
        kept[name] = dict(choices)
    newest = dict(list(kept.items())[-(MOST_MODELS + 1) :])
    content = json.dumps({"version": VERSION, "choices": newest}, indent=1)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_synced(file, content.encode("ascii"))


def _file(root: Path | None) -> Path:
    return (root or data_dir()) / "last-used.json"


def _read(file: Path) -> dict[str, Choices]:
    data = read_object(file)
    entries = data.get("choices") if data.get("version") == VERSION else None
    found = cast("dict[str, Any]", entries) if isinstance(entries, dict) else {}
    return {model: _choices(entry) for model, entry in found.items()}


def _choices(entry: Any) -> Choices:
    """The usable lines of an entry."""
    lines = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    return {
        name: tuple(values)
        for name, values in lines.items()
        if isinstance(values, list) and all(map(_usable, cast("list[Any]", values)))
    }


def _usable(value: Any) -> bool:
    return value is None or type(value) is int or (isinstance(value, str) and len(value) <= LONGEST)
