"""What the headers of this machine's models said, kept on disk, so that a list opens no model a second time.

Facts are used again while every file of the model's folder has the size and the time that it had, and the
same mlx-lm is installed. What cannot be measured is looked at anew each time. A snapshot in the hub's cache
is a folder of its own, so each revision has its own facts. It is plain JSON behind a checksum, since a
library that looks at each value would take longer to import than the list may take.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib.util
import json
import os
from collections.abc import Generator, Iterable
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

from mqf_tui import __version__
from mqf_tui.fidelity.model.facts import ModelFacts, identified, read_facts
from mqf_tui.fidelity.model.weight_formats import WeightFormat
from mqf_tui.library.files import replace_synced
from mqf_tui.library.tokens import cache_dir

Kept = dict[str, tuple[str, dict[str, Any]]]  # by folder: the stamp of its files, and what they said


class FactsCache:
    """One file for all models; whatever is wrong with it, the models themselves are read."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or cache_dir() / "models.json"
        self._changed = False

    def facts(self, folder: Path, name: str | None) -> ModelFacts:
        """The facts of a model, as ``read_facts`` gives them, but for its hashes; raises what that raises."""
        key, stamp = str(folder), _stamp(folder)
        kept = self._kept.get(key)
        if kept is not None and kept[0] == stamp:
            with contextlib.suppress(TypeError, ValueError, LookupError):
                return _facts(folder, name or kept[1]["name"], kept[1])
        with _uncollected():
            facts = read_facts(folder, name, hashed=False)
        # The files may have changed in between; then they are read again the next time.
        self._keep(key, stamp, facts)
        return facts

    def identified(self, facts: ModelFacts) -> ModelFacts:
        """The facts with their hashes; raises what ``facts.identified`` raises."""
        key, stamp = str(facts.folder), _stamp(facts.folder)
        whole = identified(facts)
        if key in self._kept and self._kept[key][0] == stamp:
            self._keep(key, stamp, whole)
        return whole

    def save(self, folders: Iterable[Path]) -> None:
        """Write the facts of these folders, where any are new; never raises."""
        names = {str(folder) for folder in folders}
        if not self._changed and names >= set(self._kept):
            return
        kept = {key: entry for key, entry in self._kept.items() if key in names}
        with contextlib.suppress(OSError, ValueError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            replace_synced(self._file, _written(kept))
            self._changed = False

    def _keep(self, key: str, stamp: str, facts: ModelFacts) -> None:
        said = {name: value for name, value in vars(facts).items() if name != "folder"}
        said["formats"] = [vars(one) for one in facts.formats]
        self._kept[key] = (stamp, said)
        self._changed = True

    @cached_property
    def _kept(self) -> Kept:
        try:
            return _read(self._file.read_bytes())
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return {}


@contextlib.contextmanager
def _uncollected() -> Generator[None]:
    """A header is thousands of objects that are gone a moment later, all at once; the collector would look
    through everything else again and again for them, which takes a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _written(kept: Kept) -> bytes:
    whole = json.dumps([_made_by(), kept], separators=(",", ":")).encode("ascii")
    return hashlib.sha256(whole).hexdigest().encode() + b"\n" + whole


def _read(raw: bytes) -> Kept:
    """What was written by the same rules, nothing where it is damaged."""
    checksum, _, whole = raw.partition(b"\n")
    if hashlib.sha256(whole).hexdigest().encode() != checksum:
        return {}
    made_by, kept = json.loads(whole)
    return {key: (stamp, said) for key, (stamp, said) in kept.items()} if made_by == _made_by() else {}


def _facts(folder: Path, name: str, said: dict[str, Any]) -> ModelFacts:
    """JSON has lists where there were tuples."""
    formats = tuple(WeightFormat(**one) for one in said["formats"])
    own: dict[str, Any] = {"folder": folder, "name": name, "formats": formats, "special": (*said["special"],)}
    return ModelFacts(**said | own)


def _made_by() -> str:
    """Facts may differ with the rules of this package and with what the installed mlx-lm knows."""
    names = ",".join(field.name for field in fields(ModelFacts))
    return f"mqf-tui {__version__}, mlx-lm {_mlx_lm()}, {names}"


def _mlx_lm() -> str:
    """Its version, and when its architectures were installed."""
    spec = importlib.util.find_spec("mlx_lm")
    if spec is None or spec.origin is None:
        return "none"
    package = Path(spec.origin).parent
    with contextlib.suppress(OSError, ValueError):
        version = (package / "_version.py").read_text(encoding="utf-8")
        return f"{' '.join(version.split())} of {(package / 'models').stat().st_mtime_ns}"
    return "unknown"


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
