"""Where models and texts lay that were measured, by what is in them.

A report says what a model and a text are and never where: it is shared. To look at a run again one has to
find both, so their places are noted here, on this machine alone. What is noted may be wrong by now: whoever
uses a place compares the contents.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Literal

from mqf_tui.library.files import read_object, replace_synced
from mqf_tui.library.tokens import cache_dir

Kind = Literal["models", "texts"]
MOST = 1000  # of each kind; the ones noted first go first


def note(kind: Kind, content_hash: str, path: str | Path) -> None:
    """Note where something lies, as far as the disk takes it; raises nothing."""
    with contextlib.suppress(OSError, ValueError):
        whole = os.path.abspath(os.path.expanduser(path))
        places = _read()
        if not content_hash or places[kind].get(content_hash) == whole:
            return
        places[kind].pop(content_hash, None)
        places[kind][content_hash] = whole
        places[kind] = dict(list(places[kind].items())[-MOST:])
        _file().parent.mkdir(parents=True, exist_ok=True)
        replace_synced(_file(), (json.dumps(places, indent=1) + "\n").encode())


def find(kind: Kind, content_hash: str) -> str | None:
    """Where something with these contents lay, if there still is anything; raises nothing."""
    path = _read()[kind].get(content_hash)
    try:
        return path if path is not None and os.path.exists(path) else None
    except ValueError:
        return None


def _file() -> Path:
    return cache_dir() / "places.json"


def _read() -> dict[Kind, dict[str, str]]:
    whole = read_object(_file())
    return {"models": _entries(whole.get("models")), "texts": _entries(whole.get("texts"))}


def _entries(found: object) -> dict[str, str]:
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
