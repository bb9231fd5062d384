"""What the headers of this machine's models said, kept on disk, so that a list opens no model a second time.

Facts are used again while every file of the model's folder has the size and the time that it had, and the
same mlx-lm is installed. What cannot be measured is looked at anew each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from mqf_tui import __version__
from mqf_tui.fidelity.facts import ModelFacts, read_facts
from mqf_tui.library.files import replace_synced
from mqf_tui.library.tokens import cache_dir

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Kept = dict[str, tuple[str, ModelFacts]]  # by folder: the stamp of its files, and what they said


class FactsCache:
    """One file for all models; whatever is wrong with it, the models themselves are read."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or cache_dir() / "models.json"
        self._changed = False

    def facts(self, folder: Path, name: str | None) -> ModelFacts:
        """The facts of a model, as ``read_facts`` gives them; raises what that raises."""
        key, stamp = str(folder), _stamp(folder)
        entry = self._kept.get(key)
        if entry is not None and entry[0] == stamp and entry[1].folder == folder:
            facts = entry[1]
            return facts if name is None or name == facts.name else replace(facts, name=name)
        facts = read_facts(folder, name)
        # The files may have changed in between; then they are read again the next time.
        self._kept[key] = (stamp, facts)
        self._changed = True
        return facts

    def save(self, folders: Iterable[Path]) -> None:
        """Write the facts of these folders, where any are new; never raises."""
        names = {str(folder) for folder in folders}
        if not self._changed and names >= set(self._kept):
            return
        kept = {key: entry for key, entry in self._kept.items() if key in names}
        with contextlib.suppress(OSError, ValueError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            replace_synced(self._file, _adapter().dump_json((_made_by(), kept)))
            self._changed = False

    @cached_property
    def _kept(self) -> Kept:
        try:
            made_by, kept = _adapter().validate_json(self._file.read_bytes(), strict=True)
        except (OSError, ValueError):  # pydantic's errors are ValueErrors
            return {}
        return kept if made_by == _made_by() else {}


def _adapter() -> TypeAdapter[tuple[str, Kept]]:
    from pydantic import TypeAdapter

    return TypeAdapter(tuple[str, Kept])


def _made_by() -> str:
    """Facts may differ with the rules of this package and with what the installed mlx-lm knows."""
    try:
        lm = metadata.version("mlx-lm")
    except metadata.PackageNotFoundError:
        lm = "none"
    return f"mqf-tui {__version__}, mlx-lm {lm}"


def _stamp(folder: Path) -> str:
    """Changes when a file of the folder comes, goes, or is written."""
    found: list[tuple[str, int, int]] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            try:
                about = entry.stat()
                found.append((entry.name, about.st_size, about.st_mtime_ns))
            except OSError:
                found.append((entry.name, -1, -1))
    return hashlib.sha1(repr(sorted(found)).encode("utf-8", "surrogatepass")).hexdigest()
