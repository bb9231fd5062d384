"""Writing that is whole or not there at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any, cast

from mqf_tui.fidelity.errors import SaveError

TEMPORARY = ".writing-"


def write_synced(path: Path, content: bytes) -> None:
    """Write and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_synced(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of ``path``; whatever fails, the old or the new content is there whole."""
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(6)}")
    try:
        write_synced(temporary, content)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file that is not needed; empty where there is none that can be read."""
    try:
        data: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def sync_folder(folder: Path) -> None:
    """Make what was renamed in the folder last."""
    # Some file systems cannot sync a folder; the run is there all the same.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder by name, hidden ones left out, none where it is missing; raises SaveError."""
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SaveError(f"{folder} cannot be read ({error.strerror}); check its permissions.") from error
