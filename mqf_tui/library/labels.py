"""The user's tags and note of a run: ``labels.json`` in its folder, apart from the report.

    {"version": 1, "tags": ["baseline", "phone"], "note": "before the fix"}

Other keys, which a newer version may write, are kept.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mqf_tui.fidelity.errors import SaveError
from mqf_tui.library.files import replace_synced

LABELS_FILE = "labels.json"
LABELS_VERSION = 1
MAX_TAG = 40
MAX_TAGS = 32
MAX_NOTE = 2000


@dataclass(frozen=True)
class Labels:
    """Tags in the order they were given, and a note. ``problem``: why the file could not be read."""

    tags: tuple[str, ...] = ()
    note: str = ""
    problem: str | None = None


def read_labels(folder: Path) -> Labels:
    """The labels in a run's folder; a damaged file gives none and says why."""
    try:
        data = _stored(folder)
        tags, note = data.get("tags", []), data.get("note", "")
        if not isinstance(tags, list) or not isinstance(note, str):
            raise ValueError("tags must be a list and note a text")
        # A file may have been written by hand.
        return Labels(tuple(dict.fromkeys(map(checked_tag, tags))), checked_note(note))
    except OSError as error:
        return Labels(problem=error.strerror or str(error))
    except (ValueError, SaveError) as error:
        return Labels(problem=str(error).rstrip("."))


def add_tags(folder: Path, tags: Iterable[str]) -> Labels:
    """Add tags to those that are there; raises SaveError."""
    given = [checked_tag(tag) for tag in tags]
    found = list(dict.fromkeys([*_readable(folder).tags, *given]))
    if len(found) > MAX_TAGS:
        raise SaveError(f"a run takes at most {MAX_TAGS} tags; take some away with --remove first.")
    return _write(folder, {"tags": found})


def remove_tags(folder: Path, tags: Iterable[str]) -> Labels:
    """Take tags away; raises SaveError where the run does not have one of them."""
    taken, found = list(tags), _readable(folder).tags
    missing = [tag for tag in taken if tag not in found]
    if missing:
        has = f"it has {', '.join(found)}" if found else "it has none"
        raise SaveError(f"the run has no tag {missing[0]!r}; {has}.")
    return _write(folder, {"tags": [tag for tag in found if tag not in taken]})


def set_tags(folder: Path, tags: Iterable[str]) -> Labels:
    """Put these tags in the place of those that are there; raises SaveError."""
    found = list(dict.fromkeys(map(checked_tag, tags)))
    if len(found) > MAX_TAGS:
        raise SaveError(f"a run takes at most {MAX_TAGS} tags, and these are {len(found)}; leave some out.")
    _readable(folder)
    return _write(folder, {"tags": found})


def set_note(folder: Path, text: str) -> Labels:
    """Put ``text`` in the place of the note; empty: no note. Raises SaveError."""
    note = checked_note(text)
    _readable(folder)
    return _write(folder, {"note": note})


def checked_tag(tag: Any) -> str:
    """The tag; raises SaveError where it is no single word of at most MAX_TAG signs."""
    if not isinstance(tag, str) or not tag:
        raise SaveError("a tag is one word; this one is empty or no text.")
    if any(c.isspace() for c in tag):
        raise SaveError(f"a tag is one word, and {_short(tag)} holds spaces; use a hyphen or two tags.")
    # Unassigned signs may become letters with a newer Unicode; the other C… categories cannot be seen.
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co") for c in tag):
        raise SaveError(f"the tag {_short(tag)} holds control characters; use letters, digits and hyphens.")
    if tag.startswith("-"):
        raise SaveError(f"the tag {_short(tag)} begins with a hyphen, as options do; begin with a letter.")
    if len(tag) > MAX_TAG:
        raise SaveError(f"the tag {_short(tag)} has {len(tag)} signs; at most {MAX_TAG} fit.")
    return tag


def checked_note(text: str) -> str:
    """The note without space around it; raises SaveError where it is too long or holds control characters."""
    note = text.strip()
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in note):
        raise SaveError("the note holds control characters; write it as plain text.")
    if len(note) > MAX_NOTE:
        raise SaveError(f"the note has {len(note)} signs; at most {MAX_NOTE} fit.")
    return note


def _short(tag: str) -> str:
    return repr(tag if len(tag) <= MAX_TAG else tag[:MAX_TAG] + "…")


def _stored(folder: Path) -> dict[str, Any]:
    try:
        data = json.loads((folder / LABELS_FILE).read_bytes())
    except FileNotFoundError:
        return {}
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(data, dict):
        raise ValueError("it holds no object")
    return data


def _readable(folder: Path) -> Labels:
    labels = read_labels(folder)
    if labels.problem is not None:
        raise SaveError(
            f"{LABELS_FILE} of run {folder.name} cannot be read ({labels.problem}); mend or remove that file."
        )
    return labels


def _write(folder: Path, changes: dict[str, Any]) -> Labels:
    data = {"version": LABELS_VERSION, "tags": [], "note": ""}
    try:
        data |= _stored(folder) | changes
        replace_synced(folder / LABELS_FILE, (json.dumps(data, indent=2) + "\n").encode())
    except OSError as error:
        raise SaveError(
            f"the labels of run {folder.name} could not be written ({error.strerror or error}); make room "
            "there or check the permissions of its folder."
        ) from error
    return read_labels(folder)
