"""Repositories in a local Hugging Face cache: read from the names of its folders, no file of a model opened.

``huggingface_hub.scan_cache_dir`` looks at every file of every repository and takes many times as long; the
layout is the same: ``models--owner--name`` with ``blobs``, ``refs`` and ``snapshots``.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mqf_tui.library.hub.names import is_repo

CONFIG = "config.json"
PREFIX = "models--"
MAIN = "main"
SHORT = 7  # characters of a commit, as the hub shows it
MAX_REF = 4096  # bytes; a ref is a commit's 40 characters
BEGINNING = re.compile(r"[0-9a-f]{4,40}")  # of a commit, as git takes it


@dataclass(frozen=True)
class Snapshot:
    """One revision of a repository; ``refs`` are the branches and tags that are known to mean it."""

    folder: str
    refs: tuple[str, ...] = ()

    @property
    def commit(self) -> str:
        """The folder's name."""
        return os.path.basename(self.folder)

    @property
    def short(self) -> str:
        """A branch or tag, or the beginning of the commit."""
        return self.refs[0] if self.refs else self.commit[:SHORT]

    @property
    def configured(self) -> bool:
        """Whether it has a configuration, be it a link to what is not there yet."""
        return os.path.lexists(os.path.join(self.folder, CONFIG))


@dataclass(frozen=True)
class Repository:
    """One model repository in a cache."""

    name: str
    folder: str

    def snapshots(self) -> list[Snapshot]:
        """Those with a configuration: main, then the newest first."""
        folders = [entry.path for entry in _folders(os.path.join(self.folder, "snapshots"))]
        if len(folders) == 1:  # its refs are looked at where somebody asks for one
            return [one for one in [Snapshot(folders[0])] if one.configured]
        refs = self.refs()
        found = [Snapshot(f, _named(refs, os.path.basename(f))) for f in folders]
        return sorted(
            (one for one in found if one.configured),
            key=lambda one: (MAIN not in one.refs, -_changed(one.folder), one.commit),
        )

    def refs(self) -> dict[str, str]:
        """Branches and tags that were asked for so far, and their commits."""
        return dict(_refs(os.path.join(self.folder, "refs"), ""))

    def meant(self, revision: str) -> list[Snapshot]:
        """The snapshots that a branch, a tag, a commit or its beginning may mean: none, one, or several."""
        refs = self.refs()
        if revision in refs:
            wanted = re.compile(re.escape(refs[revision]))
        elif BEGINNING.fullmatch(revision.lower()):
            wanted = re.compile(re.escape(revision.lower()) + ".*")
        else:
            return []
        folders = _folders(os.path.join(self.folder, "snapshots"))
        return [Snapshot(one.path, _named(refs, one.name)) for one in folders if wanted.fullmatch(one.name)]

    def known(self) -> list[str]:
        """How to ask for each revision that is here."""
        refs = self.refs()
        folders = _folders(os.path.join(self.folder, "snapshots"))
        return [Snapshot(one.path, _named(refs, one.name)).short for one in folders]

    def begun(self) -> bool:
        """Whether a download of it has begun and not ended."""
        try:
            with os.scandir(os.path.join(self.folder, "blobs")) as blobs:
                return any(blob.name.endswith(".incomplete") for blob in blobs)
        except OSError:
            return False


def hub_cache() -> Path:
    """Where huggingface_hub keeps what it downloads; the same as it says, without importing it."""
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        return Path(constants.HF_HUB_CACHE)
    cache = os.getenv("XDG_CACHE_HOME", os.path.join(os.path.expanduser("~"), ".cache"))
    home = _expanded(os.getenv("HF_HOME", os.path.join(cache, "huggingface")))
    older = os.getenv("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))
    return Path(_expanded(os.getenv("HF_HUB_CACHE", older)))


def repositories(cache: Path) -> Iterator[Repository]:
    """The model repositories in a cache, by name; none where there is no such folder.

    Folders of names that no repository has are left out: nobody could ask for one.
    """
    for entry in _folders(str(cache)):
        name = entry.name.removeprefix(PREFIX).replace("--", "/")
        if entry.name.startswith(PREFIX) and is_repo(name):
            yield Repository(name, entry.path)


def repository(cache: Path, name: str) -> Repository | None:
    """The repository of that name, where it is in the cache."""
    folder = os.path.join(cache, PREFIX + name.replace("/", "--"))
    impossible = not name or "\0" in name or "--" in name or name.count("/") > 1
    return None if impossible or not os.path.isdir(folder) else Repository(name, folder)


def _refs(folder: str, before: str) -> Iterator[tuple[str, str]]:
    """Branches may have slashes in their names, and are folders then."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.is_dir(follow_symlinks=False):
                yield from _refs(entry.path, f"{before}{entry.name}/")
            elif entry.is_file():
                with open(entry.path, "rb") as file:
                    yield before + entry.name, file.read(MAX_REF).decode("utf-8", "replace").strip()


def _named(refs: dict[str, str], commit: str) -> tuple[str, ...]:
    """Main first."""
    return tuple(
        sorted((ref for ref, of in refs.items() if of == commit), key=lambda ref: (ref != MAIN, ref))
    )


def _folders(path: str) -> list[os.DirEntry[str]]:
    """The folders in a folder, links to folders among them, by name."""
    try:
        with os.scandir(path) as entries:
            return sorted((one for one in entries if _is_folder(one)), key=lambda one: one.name)
    except (OSError, ValueError):
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, a folder that may not be looked into
        return False


def _changed(folder: str) -> float:
    try:
        return os.stat(folder).st_mtime
    except OSError:
        return 0.0


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))
